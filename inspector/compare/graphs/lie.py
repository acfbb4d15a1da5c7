"""How the axes of a value that an operator reads lie to those of the value it was moved from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inspector.compare.graphs.broadcast import spreads
from inspector.compare.pairing.layout import Axes
from inspector.facts.model import Dim, Node

Fixed = tuple[int | None, ...]
"""Dims, with None for those that are not fixed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """Axes in the order in which they are read; of what is reshaped on the way, behind that.

    `order` is () for the plain one, and None where it is not known. `shapes` are the dims that it
    was reshaped to, each with the order before; `dims` those that are read. `stretched` says of
    axes of an operator's result whether this operand is repeated along them, where that is known,
    and `told` whether those axes are counted channels first. `exact` is what a subgraph reads:
    its operators are held together as they are written.
    """

    order: Axes | None = ()
    shapes: tuple[tuple[Axes | None, Fixed | None], ...] = ()
    dims: Fixed | None = None
    stretched: Mapping[int, bool] | None = None
    told: bool = False
    rank: int = 0
    exact: bool = False

    def differs(self, other: Lie) -> bool:
        """Whether two surely lie otherwise."""
        if self.exact and not _may_be_one(self.dims, other.dims):
            return True
        return self._is_turned(other) or self._is_put_otherwise(other)

    def _is_turned(self, other: Lie) -> bool:
        if len(self.shapes) != len(other.shapes):
            return False
        for (one, dims), (two, others) in zip(self.shapes, other.shapes, strict=True):
            if one != two or None in (dims, others) or not _may_be_one(dims, others):
                return False
        return turned(self.order, self.dims, other.order, other.dims)

    def _is_put_otherwise(self, other: Lie) -> bool:
        if self.stretched is None or other.stretched is None:
            return False
        if self.rank != other.rank or self.told != other.told:
            return False
        both = self.stretched.keys() & other.stretched.keys()
        return any(self.stretched[axis] != other.stretched[axis] for axis in both)

    @property
    def shown(self) -> str:
        """How messages say it."""
        order = str(list(self.order)) if self.order else "plain"
        along = [axis for axis, repeated in sorted((self.stretched or {}).items()) if repeated]
        return order + (f", repeated along {along}" if along else "")


def fixed(dims: Sequence[Dim]) -> Fixed:
    return tuple(dim if isinstance(dim, int) else None for dim in dims)


def turned(one: Axes | None, dims: Fixed | None, other: Axes | None, others: Fixed | None) -> bool:
    """Whether two orders differ in more than where axes of length 1 stand."""
    if one is None or other is None or one == other:
        return False
    first, second = _long(one, dims), _long(other, others)
    if first is None or second is None:
        # One of them is plain, of a rank that is not known.
        rest = first or second or []
        return rest != sorted(rest)
    return [at for at in first if at in second] != [at for at in second if at in first]


def _long(order: Axes, dims: Fixed | None) -> list[int] | None:
    """The axes in their order without those that are 1."""
    if dims is None:
        return list(order) or None
    axes = order or range(len(dims))
    if len(axes) != len(dims):
        return list(order) or None
    return [axis for axis, dim in zip(axes, dims, strict=True) if dim != 1]


def _may_be_one(one: Fixed | None, other: Fixed | None) -> bool:
    """Whether dims are the same, as far as they are known."""
    if one is None or other is None:
        return True
    return len(one) == len(other) and all(
        a is None or b is None or a == b for a, b in zip(one, other, strict=True)
    )


def stretched(
    node: Node, read: Sequence[Dim] | None, result: Sequence[Dim] | None, axes: Axes | None
) -> dict[int, bool] | None:
    """Along which axes of its result a node that broadcasts repeats an operand.

    Parameters
    ----------
    read, result
        Dims of the operand and the result.
    axes
        Layout of the result where it is known.
    """
    if not spreads(node, 0) or node.op_type == "Concat" or "broadcast" in node.attributes:
        return None
    if read is None or result is None or len(read) > len(result):
        return None
    axes = axes or tuple(range(len(result)))
    if len(axes) != len(result):
        return None
    first = len(result) - len(read)
    found = {}
    for at, (axis, length) in enumerate(zip(axes, result, strict=True)):
        own = read[at - first] if at >= first else 1
        # Where the result is 1 on one side, the other side's says nothing about it.
        if length not in (1, None) and own in (1, length):
            found[axis] = own == 1
    return found
