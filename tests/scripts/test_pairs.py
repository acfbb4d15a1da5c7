"""The benchmark of comparing is itself right: truths are shown, scores are counted as they say."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from pairs import bases, judge, make, table
from pairs.edit import Graph, order, reads
from pairs.kinds import KINDS, Fault
from pairs.truth import show

from inspector.facts.comparison import CauseKind

SEED = 3
CHOSEN = {
    "renamed": "resnet",
    "reordered": "unet",
    "nhwc_input": "stack",
    "nhwc_output": "unet",
    "bn_folded": "signal",
    "bn_as_arithmetic": "volume",
    "channels_permuted": "deep",
    "in_if": "table",
    "in_function": "table",
    "summed_in_halves": "groups",
    "epsilon_one": "question_torch",
    "mean_and_bias_swapped": "mobile",
    "relu_missing": "resnet",
    "concat_swapped": "densenet",
    "sub_swapped": "two",
    "flatten_order": "question_keras",
    "gru_reset": "gru",
    "recurrent_gates": "lstm",
    "gelu_by_tanh": "attention",
    "embedding_row": "embedding",
    "branches_swapped": "branch",
    "loop_turns": "loop",
    "two_faults": "decoder",
}


def pair_of(kind: str, net: str) -> make.Pair:
    base = bases.base_of(net, SEED, None, None)
    assert base is not None
    pair = make.make(make.Plan(net=net, kind=kind, turn=0), base, SEED)
    assert pair is not None
    return pair


def test_there_are_as_many_kinds_and_networks_as_the_issue_asks_for() -> None:
    assert len(make.names(KINDS, harmful=False)) >= 20
    assert len(make.names(KINDS, harmful=True)) >= 25
    assert len(bases.HAND) >= 12


@pytest.mark.parametrize("kind", CHOSEN)
def test_a_pair_is_what_its_kind_says(kind: str) -> None:
    pair = pair_of(kind, CHOSEN[kind])
    shown = show(pair.plain, pair.changed, pair.bounds, SEED)
    assert (shown.harmful, shown.harmless) == (KINDS[kind].harmful, not KINDS[kind].harmful)
    assert bool(pair.faults) is KINDS[kind].harmful


def test_every_word_for_a_cause_is_one_that_comparing_has() -> None:
    known = {each.value for each in CauseKind}
    for net in ("resnet", "question_keras", "two", "pools", "attention"):
        base = bases.base_of(net, SEED, None, None)
        assert base is not None
        for kind in make.names(KINDS, harmful=True):
            pair = make.make(make.Plan(net=net, kind=kind, turn=0), base, SEED)
            for fault in pair.faults if pair else ():
                assert fault.causes <= known
                assert fault.where
                assert fault.first


def test_a_pair_is_made_again_from_its_name() -> None:
    plan = make.Plan.of("weight_element.stack.0")
    models = [pair_of(plan.kind, plan.net) for _ in range(2)]
    one, other = (each.changed.model.SerializeToString(deterministic=True) for each in models)
    assert one == other
    assert plan.name == "weight_element.stack.0"


def test_every_kind_comes_before_any_comes_twice() -> None:
    kinds = ["renamed", "gelu_by_tanh", "epsilon_one"]

    def fits(plan: make.Plan) -> bool:
        return plan.kind != "gelu_by_tanh" or plan.net == "c"

    made = make.plans(["a", "b", "c"], kinds, np.random.default_rng(0), 1, fits)
    assert [each.kind for each in made][:3] == kinds


def test_an_order_is_one_in_which_nodes_come_behind_what_they_read() -> None:
    base = bases.base_of("resnet", SEED, None, None)
    assert base is not None
    graph = Graph(base.model).graph
    order(graph, np.random.default_rng(1))
    made = {node.name: at for at, node in enumerate(graph.node)}
    assert list(made) != [node.name for node in base.model.graph.node]
    outputs = {name: node.name for node in graph.node for name in node.output}
    for node in graph.node:
        assert all(made[outputs[each]] < made[node.name] for each in reads(node) & set(outputs))
    onnx.checker.check_graph(graph)


def cause(kind: CauseKind, where: str) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, left_where="after input 'x'", right_where=where)


def test_a_cause_has_to_have_the_kind_and_the_place() -> None:
    names = frozenset({"conv_01", "conv_01_out"})
    fault = Fault(causes=frozenset({"parameter"}), where=names, first=names)
    right = cause(CauseKind.PARAMETER, "Conv 'conv_01'")
    elsewhere = cause(CauseKind.PARAMETER, "Conv 'conv_012'")
    other = cause(CauseKind.EPSILON, "Conv 'conv_01'")
    named = judge._named
    assert named((fault,), (right,)) == {"named": True, "named_any": True, "spurious": 0}
    assert named((fault,), (other, right)) == {"named": False, "named_any": True, "spurious": 1}
    assert not named((fault,), (elsewhere,))["named_any"]
    assert not named((fault, fault), ())["named_any"]


def row(name: str, *, harmful: bool, verdict: str, **known: object) -> judge.Row:
    return judge.Row(
        name=name,
        kind=name,
        harmful=harmful,
        coarse=False,
        companion="",
        turned=False,
        state="judged",
        verdict=verdict,
        **known,  # type: ignore[arg-type]  # what is known differs from test to test
    )


def test_the_print_names_what_went_wrong() -> None:
    rows = [
        row("right", harmful=True, verdict="different", named=True),
        row("hidden", harmful=True, verdict="equivalent"),
        row("alarm", harmful=False, verdict="different"),
        row("fine", harmful=False, verdict="identical"),
    ]
    said = "\n".join(table.lines(rows))
    assert "false equivalents                         1 of 2 (50.0 %)" in said
    assert "false alarms                              1 of 2 (50.0 %)" in said
    assert "cause named rightly, listed first         1 of 2 (50.0 %)" in said
    assert "first diverging point right               n/a" in said
    assert "false equivalents:\n  hidden" in said
    assert "false alarms:\n  alarm" in said
