"""Where it shows whether integers have 32 or 64 bits.

Exporters choose either for what counts, names axes or points into a table, and operators take
either there. In arithmetic the one overflows where the other does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inspector.facts.graphs import captured
from inspector.facts.model import Graph, Node

WIDTHS = frozenset({"int32", "int64"})

_ALL = tuple(range(64))

_TAKES_EITHER: Mapping[str, tuple[int, ...]] = {
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

_HANDS_ON: Mapping[str, tuple[int, ...]] = {
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
        self._users = graph.wiring.users
        self._given = {each.name for each in graph.outputs}
        self._captured = {name for node in graph.wiring.nesting for name in captured(node)}

    def show_at(self, node: Node, position: int) -> bool:
        """Whether the width of what a node reads at `position` shows."""
        return self._show(self._beyond(node, position))

    def show(self, value: str) -> bool:
        """Whether the width of a value shows in anything that is computed of it."""
        return self._show([value])

    def _show(self, values: Iterable[str] | None) -> bool:
        if values is None:
            return True
        pending = list(values)
        seen = set(pending)
        while pending:
            value = pending.pop()
            if value in self._given or value in self._captured:
                return True
            for node, position in self._users.get(value, ()):
                beyond = self._beyond(node, position)
                if beyond is None:
                    return True
                pending += [each for each in beyond if each not in seen]
                seen.update(beyond)
        return False

    @staticmethod
    def _beyond(node: Node, position: int) -> list[str] | None:
        """The values to which a node hands it on; None where it shows in the node itself."""
        if not node.is_standard:
            return None
        if position in _TAKES_EITHER.get(node.op_type, ()):
            return []
        if position in _HANDS_ON.get(node.op_type, ()):
            return [name for name in node.outputs if name]
        return None
