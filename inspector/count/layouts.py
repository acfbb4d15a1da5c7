"""Where the channels of each value lie, as the operators around it tell.

ONNX's convolutions, poolings and normalisations take channels first; whoever has them last
transposes before and after. What neither touches has no channels that could lie anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from inspector.facts.model import Dim, Graph, Node
from inspector.facts.summary import Layout

_CHANNELS_FIRST = frozenset(
    "Conv ConvTranspose ConvInteger QLinearConv FusedConv MaxPool AveragePool LpPool "
    "GlobalAveragePool GlobalMaxPool GlobalLpPool BatchNormalization InstanceNormalization "
    "DepthToSpace SpaceToDepth DeformConv LRN".split()
)
_SAME_AXES = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Clip Softplus Softsign "
    "Gelu Mish Erf Add Sub Mul Div Pow Sum Mean Min Max Sqrt Exp Neg Abs Identity Cast Dropout Pad "
    "Concat Resize Upsample Slice Split QuantizeLinear DequantizeLinear ReduceMean ReduceMax "
    "ReduceSum Where".split()
)
"""Operators that keep each axis where it is, if what they give has as many."""

Dims = Mapping[str, "tuple[Dim, ...] | None"]


def layouts(graph: Graph, dims: Dims) -> dict[str, Layout]:
    """The layout of every value that any operator tells one of; dims of rank 3 to 5 alone."""
    found: dict[str, Layout] = {}
    pending: list[str] = []

    def tell(value: str, layout: Layout) -> None:
        if value and value not in found and len(dims.get(value) or ()) in (3, 4, 5):
            found[value] = layout
            pending.append(value)

    for node in graph.nodes:
        if node.op_type in _CHANNELS_FIRST:
            for value in (*node.inputs[:1], *node.outputs[:1]):
                tell(value, Layout.FIRST)
    wiring = graph.wiring
    while pending:
        value = pending.pop()
        near = [node for node, _ in wiring.users.get(value, ())]
        producer = wiring.producers.get(value)
        for node in near if producer is None else (*near, producer):
            for other in (*node.inputs, *node.outputs):
                layout = _passed(node, value, other, found[value], dims)
                if layout is not None:
                    tell(other, layout)
    return found


def _passed(node: Node, value: str, other: str, layout: Layout, dims: Dims) -> Layout | None:
    """The layout of another value of a node, where that of one is known."""
    if value == other:
        return None
    if node.op_type == "Transpose":
        return _moved(node, layout)
    same = len(dims.get(value) or ()) == len(dims.get(other) or ())
    return layout if node.op_type in _SAME_AXES and same else None


def _moved(node: Node, layout: Layout) -> Layout | None:
    """The layout behind a Transpose, or in front of it, given the other."""
    perm = node.ints_attribute("perm") or ()
    rank = len(perm)
    to_last = (0, *range(2, rank), 1)
    to_first = (0, rank - 1, *range(1, rank - 1))
    if perm not in (to_last, to_first):
        return None
    return Layout.LAST if layout is Layout.FIRST else Layout.FIRST
