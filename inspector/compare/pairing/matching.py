"""Which value of one side may be which of the other, by name, type and lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from inspector.compare.pairing.layout import Axes
from inspector.facts.model import Value

MOST_MATCHED = 200
"""Values of a side that are matched by type and length; more are taken in their order."""


def paired(
    left: Sequence[Value], right: Sequence[Value], asked: Mapping[str, str]
) -> list[tuple[Value, Value]]:
    """As the user says; then by name where that can be meant; then as `_by_order`."""
    by_name = {value.name: value for value in right}
    chosen = {a: by_name[b] for a, b in asked.items()}
    taken = set(asked.values())
    rest = [value for value in left if value.name not in asked]
    free = [value for value in right if value.name not in taken]
    chosen |= {a.name: b for a, b in _by_name_then_order(rest, free)}
    return [(value, chosen[value.name]) for value in left]


def _by_name_then_order(left: Sequence[Value], right: Sequence[Value]) -> list[tuple[Value, Value]]:
    """By name where names tell; the rest by order, or by the only order that the types allow.

    Exporters make up names (``input_1``), so namesakes that could not hold the same, beside others
    that could, are none. Lengths count where they settle it, and types and ranks alone otherwise.
    """
    for fit in (_may_hold, may_pair):
        by_name = {value.name: value for value in right}
        same = {
            value.name: by_name[value.name]
            for value in left
            if value.name in by_name and fit(value, by_name[value.name])
        }
        rest = [value for value in left if value.name not in same]
        free = [value for value in right if value.name not in same]
        matched = _matched(rest, free, fit)
        if matched is None:  # two that are namesakes by chance may take each other's place
            matched, same = _matched(left, right, fit), {}
        if matched is not None:
            chosen = same | {a.name: b for a, b in matched}
            return [(value, chosen[value.name]) for value in left]
    names = {value.name for value in right}
    kept = [value for value in left if value.name in names]
    rest = [value for value in left if value.name not in names]
    free = [value for value in right if value.name not in {each.name for each in kept}]
    pairs = dict(zip((each.name for each in rest), free, strict=True))
    pairs |= {value.name: by_name[value.name] for value in kept}
    return [(value, pairs[value.name]) for value in left]


def _matched(
    left: Sequence[Value], right: Sequence[Value], fit: Callable[[Value, Value], bool]
) -> list[tuple[Value, Value]] | None:
    """Each left value with a right one that fits, in their order where that fits; None if none.

    A matching by augmenting paths: whoever comes later may move those before to another of theirs.
    """
    if all(fit(a, b) for a, b in zip(left, right, strict=True)):
        return list(zip(left, right, strict=True))
    if len(left) > MOST_MATCHED:
        return None
    fitting = [[at for at, value in enumerate(right) if fit(a, value)] for a in left]
    holder: dict[int, int] = {}

    def place(at: int, tried: set[int]) -> bool:
        for there in fitting[at]:
            if there not in tried:
                tried.add(there)
                if there not in holder or place(holder[there], tried):
                    holder[there] = at
                    return True
        return False

    if not all(place(at, set()) for at in range(len(left))):
        return None
    held = {at: right[there] for there, at in holder.items()}
    return [(value, held[at]) for at, value in enumerate(left)]


def _may_hold(a: Value, b: Value) -> bool:
    """Whether two values could hold the same, lengths included, under some order of axes."""
    if not may_pair(a, b):
        return False
    if a.dims is None or b.dims is None:
        return True
    rank = len(a.dims)
    orders = orders_of(rank) if rank > 2 else (tuple(range(rank)),)
    return any(fits(a, b, each) for each in orders)


def may_pair(a: Value, b: Value) -> bool:
    """Whether two values could hold the same: numbers of one kind, of as many dimensions."""
    ranks = [len(each.dims) for each in (a, b) if each.dims is not None]
    kinds = [_kind(each.dtype) for each in (a, b) if each.dtype is not None]
    return len(set(ranks)) < 2 and len(set(kinds)) < 2


def _kind(dtype: str) -> str:
    """float16 and float32 may pair, float and int may not."""
    return "bool" if dtype == "bool" else dtype.lstrip("bu").rstrip("0123456789")


def orders_of(rank: int) -> tuple[Axes, ...]:
    """The orders of axes that people use, from three dimensions on: plain, and channels moved."""
    same = tuple(range(rank))
    last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    return tuple(dict.fromkeys((same, last, first)))


def fits(left: Value, right: Value, order: Axes) -> bool:
    if left.dims is None or right.dims is None:
        return True
    moved = [left.dims[i] for i in order]
    # Not the batch: models of different fixed batches are fed in parts.
    return all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(moved[1:], right.dims[1:], strict=True)
    )
