"""Where it shows whether integers have 32 or 64 bits.

Exporters choose either for what counts, names axes or points into a table, and operators take
either there. In arithmetic the one overflows where the other does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from inspector.facts.graphs import subgraphs
from inspector.facts.model import Graph, Node

WIDTHS = frozenset({"int32", "int64"})

_ALL = range(2**31)

_TAKES_EITHER: Mapping[str, Sequence[int]] = {
    # What comes out has a type of its own.
    **dict.fromkeys("Cast CastLike Shape Size NonZero ArgMax ArgMin".split(), (0,)),
    **dict.fromkeys("Equal Greater GreaterOrEqual Less LessOrEqual".split(), (0, 1)),
    "Pow": (1,),
    # Axes, lengths and counts.
    **dict.fromkeys(
        "Reshape Expand Squeeze Unsqueeze Split SplitToSequence TopK CumSum Trilu CenterCropPad "
        "AffineGrid SequenceAt SequenceErase ReverseSequence ReduceL1 ReduceL2 ReduceLogSum "
        "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare "
        "Gather GatherElements GatherND Scatter ScatterElements ScatterND".split(),
        (1,),
    ),
    **dict.fromkeys(
        "ConstantOfShape Loop BlackmanWindow HammingWindow HannWindow".split(),
        (0,),
    ),
    **dict.fromkeys("NonMaxSuppression SequenceInsert".split(), (2,)),
    **dict.fromkeys("RNN GRU LSTM".split(), (4,)),
    **dict.fromkeys("Tile Col2Im MaxUnpool DFT TensorScatter".split(), (1, 2)),
    "MelWeightMatrix": (0, 1, 2),
    "OneHot": (0, 1),
    "Pad": (1, 3),
    "Resize": (3,),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
}
"""At which inputs an operator does the same with either width."""

_HANDS_ON: Mapping[str, Sequence[int]] = {
    **dict.fromkeys(
        "Identity Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Slice Split Compress "
        "Gather GatherElements GatherND ReverseSequence TopK ReduceMax ReduceMin".split(),
        (0,),
    ),
    **dict.fromkeys("Concat Max Min Clip Range".split(), _ALL),
    **dict.fromkeys("Pad ScatterElements ScatterND".split(), (0, 2)),
    "Where": (1, 2),
}
"""Of which inputs an operator gives out the numbers, or none beyond them."""


class Widths:
    """Where in a graph the width of integers shows."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._shown: set[str] | None = None

    def show_at(self, node: Node, position: int) -> bool:
        """Whether the width of what a node reads at `position` shows."""
        beyond = _beyond(node, position)
        return beyond is None or any(self.show(each) for each in beyond)

    def show(self, value: str) -> bool:
        """Whether the width of a value shows in anything that is computed of it."""
        if self._shown is None:
            self._shown = _find_shown(self._graph)
        return value in self._shown


def _find_shown(graph: Graph) -> set[str]:
    shown: set[str] = set()
    handed_on: dict[str, list[str]] = {}
    # A name that two branches give to values of their own shows where either does.
    for each in _with_inner(graph):
        shown |= {value.name for value in each.outputs}
        for value, users in each.wiring.users.items():
            for node, position in users:
                beyond = _beyond(node, position)
                if beyond is None:
                    shown.add(value)
                    break
                for name in beyond:
                    handed_on.setdefault(name, []).append(value)
    pending = list(shown)
    while pending:
        more = [name for name in handed_on.get(pending.pop(), ()) if name not in shown]
        shown.update(more)
        pending += more
    return shown


def _with_inner(graph: Graph) -> Iterator[Graph]:
    pending = [graph]
    while pending:
        graph = pending.pop()
        yield graph
        pending += (inner for node in graph.wiring.nesting for inner in subgraphs(node))


def _beyond(node: Node, position: int) -> list[str] | None:
    """The values to which a node hands what it reads; None where it shows in the node itself."""
    if not node.is_standard:
        return None
    if position in _TAKES_EITHER.get(node.op_type, ()):
        return []
    if position in _HANDS_ON.get(node.op_type, ()):
        return [name for name in node.outputs if name]
    return None
