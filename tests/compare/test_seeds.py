"""What no single draw of inputs shows, shown with every seed: bounds out of reach, and branches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compare.read import model_of
from inspector.compare.feeding.feeds import MORE_SIZES, Plan, make_batches
from inspector.compare.pairing.layout import Layouts
from inspector.compare.pairing.pair import pair_inputs
from inspector.facts.comparison import CauseKind, Verdict
from tests.compare.branches import changed, network, node
from tests.compare.conftest import Compare

SEEDS = range(10)
NONE = Layouts(axes={}, flat={}, told_by={})


def _stored(model: onnx.ModelProto, name: str, value: float) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    return name


def _cut_far_up(model: onnx.ModelProto) -> None:
    relu = node(model, "relu1")
    relu.op_type = "Clip"
    relu.input.extend([_stored(model, "zero", 0.0), _stored(model, "top", 35.0)])


def _as_clip(model: onnx.ModelProto) -> None:
    relu = node(model, "relu1")
    relu.op_type = "Clip"
    relu.input.append(_stored(model, "zero", 0.0))


def _sign_of_sum(bound: float) -> onnx.ModelProto:
    """y is x, and −x where the sum of all of a batch is above `bound`."""
    bodies = {
        side: helper.make_graph(
            [helper.make_node(op, ["h"], [f"{side}_y"], name=side)],
            side,
            [],
            [helper.make_tensor_value_info(f"{side}_y", TensorProto.FLOAT, ["N", 4])],
        )
        for side, op in (("then", "Neg"), ("else", "Identity"))
    }
    nodes = [
        helper.make_node("Tanh", ["x"], ["h"], name="tanh"),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0, name="total"),
        helper.make_node("Greater", ["total", "bound"], ["above"], name="above"),
        helper.make_node(
            "If",
            ["above"],
            ["y"],
            name="if",
            then_branch=bodies["then"],
            else_branch=bodies["else"],
        ),
    ]
    return _model(nodes, [numpy_helper.from_array(np.float32(bound), "bound")])


def _model(nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["N", 4]) for each in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bound_out_of_the_reach_of_ordinary_inputs(compare: Compare, seed: int) -> None:
    found = compare(network(), changed(network(), _cut_far_up), seed=seed)

    assert found.verdict is Verdict.DIFFERENT
    assert {each.kind for each in found.causes} <= {CauseKind.OPERATOR, CauseKind.ATTRIBUTE}
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert "relu1" in found.localisation.first.right


@pytest.mark.parametrize("seed", SEEDS)
def test_another_way_of_writing_it_is_no_difference(compare: Compare, seed: int) -> None:
    found = compare(network(), changed(network(), _as_clip), seed=seed)

    assert found.verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("seed", SEEDS)
def test_a_branch_on_the_sign_of_a_sum(compare: Compare, seed: int) -> None:
    tanh = _model([helper.make_node("Tanh", ["x"], ["y"], name="tanh")], [])

    assert compare(tanh, _sign_of_sum(0.0), seed=seed).verdict is Verdict.DIFFERENT


def test_ordinary_inputs_alone_do_not_reach_the_bound() -> None:
    """The premise: without larger inputs there is nothing to be seen."""
    batches = _batches(seed=0)
    sessions = [
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        for each in (network(), changed(network(), _cut_far_up))
    ]
    for each in batches:
        one, other = (session.run(None, {"x": each})[0] for session in sessions)
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_what_overflows_on_the_way_says_nothing(compare: Compare) -> None:
    """A softmax that is written out overflows where the operator does not: they are one function
    of what networks are fed."""
    plain = _model([helper.make_node("Softmax", ["x"], ["y"], axis=-1, name="softmax")], [])
    written = _model(
        [
            helper.make_node("Exp", ["x"], ["e"], name="exp"),
            helper.make_node("ReduceSum", ["e", "axes"], ["sum"], keepdims=1, name="sum"),
            helper.make_node("Div", ["e", "sum"], ["y"], name="div"),
        ],
        [numpy_helper.from_array(np.array([-1], np.int64), "axes")],
    )

    assert compare(plain, written).verdict in (Verdict.AGREES, Verdict.EQUIVALENT)


def test_some_batches_are_others_with_their_signs_turned() -> None:
    batches = _batches(seed=3)

    turned = [
        (one, other)
        for one in range(len(batches))
        for other in range(one)
        if batches[one].shape == batches[other].shape
        and np.array_equal(batches[one], -batches[other])
    ]
    assert len(turned) == 2
    assert not any(np.array_equal(one, other) for one, other in pairwise(batches))


def _batches(seed: int) -> list[np.ndarray]:
    model = model_of("(float[N, 3, 12, 12] x) => (float[1] y) { }")
    pairs = pair_inputs(model, model, (NONE, NONE))
    orders = [each.permutations[0] for each in pairs]
    made = make_batches(pairs, orders, (model, model), seed=seed, plan=Plan(sizes=MORE_SIZES))
    return [each.left.values["x"] for each in made]
