"""Which given array goes to which input, in which layout, and how its rows make batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import lcm, prod

from inspector.compare.feeding.draw import common_type
from inspector.compare.feeding.exact import dtype_name
from inspector.compare.feeding.feeds import ENOUGH, MOST_ELEMENTS, MOST_ROWS
from inspector.compare.feeding.stored import Stored
from inspector.compare.pairing.pair import Pair, shown_dims
from inspector.errors import UndecidedError, UsageError
from inspector.facts.model import Dim, Value

MOST_NAMED = 6
"""Names that one message lists."""

Arrays = Mapping[str, Callable[[], Stored]]
"""What opens each array: one that goes to no input may be anything (labels, Python objects)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """An array and the pair of inputs that it is fed to.

    `turned` says that its axes are in the right side's order, `whole` that it goes into every
    batch as it is.
    """

    pair: Pair
    stored: Stored
    turned: bool
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Arrays that belong together: rows of each, and how many make up a batch.

    `fixed` is how many rows each side takes at a time; 0 where that is open.
    """

    arrays: tuple[Fitted, ...]
    rows: int
    fixed: tuple[int, int]
    intact: bool

    @property
    def step(self) -> int:
        """Rows that both sides' fixed batches divide."""
        return lcm(*(each or 1 for each in self.fixed))

    def cut(self, most: int, at_most: int) -> list[tuple[int, int]]:
        """Batches: from which row to below which, of the first `at_most` rows."""
        if all(each.whole for each in self.arrays):
            return [(0, self.rows)]
        if any(self.fixed):
            size = self.step
            # What is asked for is reached where it can be: the last batch is a whole one.
            ends = -(-min(at_most, self.rows) // size) * size
            return [(at, at + size) for at in range(0, min(ends, self.rows // size * size), size)]
        largest = max(prod(each.stored.shape[1:]) for each in self.arrays if not each.whole)
        size = self.rows
        if most == 1 or not self.intact or self.rows * largest > ENOUGH:
            size = min(most, max(2, MOST_ELEMENTS // max(1, largest)))
        rows = min(at_most, self.rows)
        return [(at, min(at + size, rows)) for at in range(0, rows, size)]


def group_of(arrays: Arrays, pairs: Sequence[Pair], *, where: str, intact: bool) -> Group:
    """Arrays fitted to pairs of inputs.

    Parameters
    ----------
    intact
        Whether their rows are a batch already.

    Raises
    ------
    inspector.errors.UsageError
        The arrays do not fit the inputs.
    inspector.errors.UndecidedError
        An input takes what cannot be fed, or the models fix batches that cannot be reconciled.
    """
    matched = _matched(arrays, pairs, where)
    fitted = tuple(_fitted(pair, matched[at], pairs, where=where) for at, pair in enumerate(pairs))
    in_rows = [each for each in fitted if not each.whole]
    counts = {each.stored.shape[0] for each in in_rows} or {
        max((each.stored.shape[0] for each in fitted if each.stored.shape), default=1)
    }
    if len(counts) > 1:
        shown = ", ".join(f"{each.stored.name!r} has {each.stored.shape[0]}" for each in in_rows)
        raise UsageError(
            f"arrays have rows of different number: {shown}",
            where=where,
            hint="give one row of each input for each sample",
        )
    rows = counts.pop()
    fixed = _fixed([each.pair for each in in_rows])
    group = Group(arrays=fitted, rows=rows, fixed=fixed, intact=intact)
    if not rows or (any(fixed) and rows < group.step):
        short = f"the models take {group.step} at a time" if rows else "there is nothing to feed"
        raise UsageError(f"it holds {count_of_rows(rows)}, and {short}", where=where)
    return group


def _matched(arrays: Arrays, pairs: Sequence[Pair], where: str) -> list[Stored]:
    """The array of each pair: by the left input's name, the right's, or where there is one only."""
    found: dict[int, Stored] = {}
    free = dict(arrays)
    for names in (
        [each.left.name for each in pairs],
        [each.right.name for each in pairs],
        [_as_file(each.left.name) for each in pairs],
        [_as_file(each.right.name) for each in pairs],
        [f"arr_{at}" for at in range(len(pairs))],  # as numpy.savez names what has no name
    ):
        for at, name in enumerate(names):
            if at not in found and name in free:
                found[at] = free.pop(name)()
    if not found and len(pairs) == len(arrays) == 1:
        return [each() for each in arrays.values()]
    if len(found) < len(pairs):
        raise _missing([each for at, each in enumerate(pairs) if at not in found], free, where)
    return [found[at] for at in range(len(pairs))]


def _as_file(name: str) -> str:
    """An input's name without what no file name may hold (``x:0``, ``model/x``)."""
    return re.sub(r"[^\w.-]", "_", name)


def _missing(pairs: Sequence[Pair], free: Arrays, where: str) -> UsageError:
    pair = pairs[0]
    names = [pair.left.name, pair.right.name]
    called = repr(names[0]) if names[0] == names[1] else f"{names[0]!r} ({names[1]!r} on the right)"
    shown = ", ".join(repr(each) for each in list(free)[:MOST_NAMED]) or "none"
    near = [each for name in names for each in get_close_matches(name, free, n=1)]
    return UsageError(
        f"no array for input {called}",
        where=where,
        hint=f"name one so; arrays that go to no input: {shown}"
        + (f"; did you mean {near[0]!r}?" if near else ""),
    )


def _fitted(pair: Pair, stored: Stored, pairs: Sequence[Pair], *, where: str) -> Fitted:
    shape = stored.shape
    turned = not _fits(shape, pair.left)
    if turned and not _fits(shape, pair.right):
        one = " (the first dimension counts rows)" if _lackscount_of_rows(shape, pair) else ""
        raise UsageError(
            f"array {stored.name!r} has shape {list(shape)}, and input {pair.left.name!r} is "
            f"{shown_dims(pair.left)} on the left and {shown_dims(pair.right)} on the right{one}",
            where=where,
        )
    narrow, _ = common_type(pair.left, pair.right)
    texts = {stored.dtype.kind in "US", narrow.kind == "O"}
    if len(texts) > 1:
        raise UsageError(
            f"array {stored.name!r} is {dtype_name(stored.dtype)}, and input {pair.left.name!r} "
            f"takes {pair.left.dtype}",
            where=where,
        )
    firsts = _firsts(pair)
    whole = not shape or (bool(firsts) and all(each == shape[0] for each in firsts))
    return Fitted(pair=pair, stored=stored, turned=turned, whole=whole or _is_no_batch(pair, pairs))


def _fits(shape: tuple[int, ...], value: Value) -> bool:
    """Whether an array is of the lengths that an input declares, rows apart."""
    if value.dims is None:
        return True
    return len(shape) == len(value.dims) and all(
        not isinstance(dim, int) or dim == length
        for dim, length in zip(value.dims[1:], shape[1:], strict=True)
    )


def _lackscount_of_rows(shape: tuple[int, ...], pair: Pair) -> bool:
    return any(
        _fits((1, *shape), each) and each.dims is not None for each in (pair.left, pair.right)
    )


def _firsts(pair: Pair) -> list[int]:
    """The numbers of rows that a pair's sides fix."""
    dims: list[Dim] = [each.dims[0] for each in (pair.left, pair.right) if each.dims]
    return [each for each in dims if isinstance(each, int)]


def _is_no_batch(pair: Pair, pairs: Sequence[Pair]) -> bool:
    """Whether the first dimension's name is that of another length: of a matrix to multiply by."""
    for side in ("left", "right"):
        values: list[Value] = [getattr(each, side) for each in pairs]
        value: Value = getattr(pair, side)
        first = value.dims[0] if value.dims else None
        if isinstance(first, str) and any(first in (each.dims or ())[1:] for each in values):
            return True
    return False


def _fixed(pairs: Sequence[Pair]) -> tuple[int, int]:
    """Rows that each side takes at a time; 0 where that is open."""
    found = []
    for side in ("left", "right"):
        values: list[Value] = [getattr(each, side) for each in pairs]
        firsts = {each.dims[0] for each in values if each.dims and isinstance(each.dims[0], int)}
        if len(firsts) > 1:
            raise UndecidedError(
                f"inputs of the {side} model take {' and '.join(map(str, sorted(firsts)))} rows "
                "at a time, and no batch of rows suits all",
                hint="give each of them as many rows as it takes, for one batch",
            )
        found.append(firsts.pop() if firsts else 0)
    rows = lcm(*(each or 1 for each in found))
    if all(found) and found[0] != found[1] and rows > MOST_ROWS:
        raise UndecidedError(
            f"the left model takes {found[0]} rows at a time and the right one {found[1]}",
            hint="export both with one batch size",
        )
    return found[0], found[1]


def count_of_rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
