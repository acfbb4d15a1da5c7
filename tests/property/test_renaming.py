"""Names are names: renaming every node and value changes nothing but the names."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_text import FEW, parsed

from inspector.facts.inspection import Inspection
from inspector.flows import inspect_file

NETS = (
    f"""agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
    <float[2, 2, 1, 1] w = {{1.0, 2.0, 3.0, 4.0}}, {FEW[1:-1]}>
    {{ c = Conv (x, w)
       r = Relu (c)
       i = Identity (s)
       n = BatchNormalization <epsilon = 0.25> (c, i, b, m, v)
       a = Mul (n, b)
       y = BatchNormalization (a, s, b, r, v) }}""",
    f"""agraph (float[N, 2] x, bool k) => (float[N, 2] y) {FEW}
    {{ y = If (k) <
         then_branch = yes () => (float[N, 2] t)
           {{ t = BatchNormalization (x, s, b, m, v) }},
         else_branch = no () => (float[N, 2] e)
           {{ own = Constant <value_floats = [1.0, 1.0]> ()
              e = BatchNormalization (x, own, b, m, v) }}
       > }}""",
)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


class Renamer:
    """Gives each name of a model another, the same one each time."""

    def __init__(self, fresh: list[str]) -> None:
        self._fresh = fresh
        self._given: dict[str, str] = {}

    def name(self, old: str) -> str:
        if not old:
            return old
        if old not in self._given:
            at = len(self._given)
            self._given[old] = f"{self._fresh[at % len(self._fresh)]}{at}"
        return self._given[old]

    def graph(self, graph: onnx.GraphProto) -> None:
        for named in (*graph.initializer, *graph.input, *graph.output):
            named.name = self.name(named.name)
        for node in graph.node:
            node.name = self.name(node.output[0] + "/node")
            node.input[:] = [self.name(each) for each in node.input]
            node.output[:] = [self.name(each) for each in node.output]
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    self.graph(attribute.g)


def inspected(proto: onnx.ModelProto) -> Inspection:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(proto.SerializeToString())
        return inspect_file(path)


def nameless(fact: Inspection) -> tuple[object, ...]:
    """Everything an inspection says, without the names."""
    return (
        [
            (
                each.norm.form,
                each.norm.channels,
                each.norm.epsilon,
                each.norm.momentum,
                each.norm.training,
                each.norm.after,
                each.norm.before,
                each.norm.foldable_into is None,
                [(p.certainty, p.origin) for _, p in each.norm.parameters],
                len(each.norm.scope),
                each.values,
            )
            for each in fact.norms
        ],
        [(each.role, each.why, each.tensor.dims) for each in fact.count.tensors],
        fact.count.keras,
        fact.count.torch,
        fact.count.onnx,
    )


@settings(max_examples=30, deadline=None)
@given(net=st.sampled_from(NETS), fresh=st.lists(NAMES, min_size=1, max_size=40))
def test_renaming_changes_nothing(net: str, fresh: list[str]) -> None:
    proto = parsed(net)
    before = nameless(inspected(proto))
    Renamer(fresh).graph(proto.graph)
    assert nameless(inspected(proto)) == before


@settings(max_examples=30, deadline=None)
@given(net=st.sampled_from(NETS), seed=st.randoms(use_true_random=False))
def test_the_order_of_initializers_changes_nothing(net: str, seed) -> None:
    proto = parsed(net)
    before = inspected(proto)
    stored = list(proto.graph.initializer)
    seed.shuffle(stored)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(stored)
    after = inspected(proto)
    assert nameless(after)[0] == nameless(before)[0]
    assert after.count.keras == before.count.keras
