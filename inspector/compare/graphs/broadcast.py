"""Where a stored tensor lies along the axes of what a layer gives.

An operator that broadcasts puts a tensor to the axes of its result by the tensor's dims alone:
[C] and [C, 1, 1] hold one vector and do not do the same with it, save in two layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from inspector.compare.pairing.layout import Axes
from inspector.facts.model import Dim, Node, Tensor

# Concat does not broadcast, but its tensors have their axes by their dims in the same way.
_BY_DIMS = frozenset(
    "Add Sub Mul Div Pow Mod Max Min Mean Sum PRelu Where And Or Xor Equal Greater GreaterOrEqual "
    "Less LessOrEqual BitShift BitwiseAnd BitwiseOr BitwiseXor Concat".split()
)
_SCALED = frozenset({"LayerNormalization", "RMSNormalization"})
_PRELU_BROADCASTS = 7
"""The opset from which on it does; before, a vector of slopes had one for each channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Along which axes of a value a tensor lies; it is the same along the others.

    `axes` are those of its dims that are not 1, in the order of its dims, channels first where the
    layout is known. `rank` is the value's, `length` the same without the axes of length 1 at its
    end.
    """

    axes: tuple[int, ...]
    rank: int
    length: int

    def is_of(self, other: Place) -> bool:
        """Whether both lie along the same axes."""
        if self.rank == other.rank:
            return self.axes == other.axes
        # [N, C] and [N, C, 1, 1] are one value, and so are [N, T, C] and [N * T, C].
        ends = [[at - each.length for at in each.axes] for each in (self, other)]
        return ends[0] == ends[1]


def spreads(node: Node, position: int) -> bool:
    """Whether a node puts what it reads at `position` to axes by its dims."""
    if not node.is_standard:
        return False
    return node.op_type in _BY_DIMS or (node.op_type in _SCALED and position > 0)


def place_of(
    node: Node,
    dims: Sequence[int] | None,
    *,
    axes: Axes | None,
    result: Sequence[Dim] | None,
    opset: int,
) -> Place | None:
    """To which axes of its result a node that `spreads` puts a tensor that it reads in `dims`.

    Parameters
    ----------
    axes, result
        Layout and lengths of the result, where they are known.
    """
    by_attribute = "broadcast" in node.attributes  # before opset 7
    if dims is None or result is None or len(dims) > len(result) or by_attribute:
        return None
    rank = len(result)
    axes = axes or tuple(range(rank))
    if len(axes) != rank:
        return None
    first = rank - len(dims)
    if node.op_type == "PRelu" and len(dims) == 1 and opset < _PRELU_BROADCASTS:
        first = min(1, rank - 1)
    return Place(
        axes=tuple(axes[first + at] for at, dim in enumerate(dims) if dim != 1),
        rank=rank,
        length=_length(axes, result),
    )


def lengthened(node: Node, tensor: Tensor) -> tuple[int, ...] | None:
    """The dims of a stored tensor behind an Unsqueeze; None behind anything else.

    Inference does not say before IR 4, where it looks for a tensor among the inputs.
    """
    axes = node.ints_attribute("axes")
    if node.op_type != "Unsqueeze" or not node.is_standard or axes is None:
        return None
    rank = len(tensor.dims) + len(axes)
    ones = {at + rank if at < 0 else at for at in axes}
    if len(ones) != len(axes) or not ones <= set(range(rank)):
        return None
    rest = iter(tensor.dims)
    return tuple(1 if at in ones else next(rest) for at in range(rank))


def _length(axes: Axes, dims: Sequence[Dim]) -> int:
    """The rank without the axes of length 1 at the end, channels first."""
    lengths = [dim for _, dim in sorted(zip(axes, dims, strict=True), key=itemgetter(0))]
    while lengths and lengths[-1] == 1:
        lengths.pop()
    return len(lengths)
