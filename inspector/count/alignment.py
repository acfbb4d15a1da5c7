"""Layers of two models that stand for each other, in the order of the graphs."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Hashable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import TypeAlias

from inspector.facts.model import Dim
from inspector.facts.summary import Layout, Row

Block: TypeAlias = tuple[int, int, int, int, bool]
Pair: TypeAlias = tuple[Sequence[Row], Sequence[Row]]

_MOST_COMPARED = 40_000
"""Pairs of layers that are compared each with each: it takes longer than their number."""


def aligned(left: Sequence[Row], right: Sequence[Row]) -> Iterator[Pair]:
    """Rows of both sides that stand for the same layer, and those of one side alone.

    Layers are known by kind, size and channels; what lies between two such, by its kind.
    """
    shared = {row.name for row in left if row.name} & {row.name for row in right}
    for a, b, c, d, same in _blocks(_keys(left, shared), _keys(right, shared)):
        if same:
            yield from (([left[a + at]], [right[c + at]]) for at in range(b - a))
            continue
        one, other = left[a:b], right[c:d]
        for e, f, g, h, alike in _blocks([*map(_family, one)], [*map(_family, other)]):
            if alike:
                yield from (([one[e + at]], [other[g + at]]) for at in range(f - e))
                continue
            yield from _by_name(one[e:f], other[g:h])


def _by_name(one: Sequence[Row], other: Sequence[Row]) -> Iterator[Pair]:
    """Rows that nothing else aligns: those of one name, and the rest of either side alone."""
    named = {row.name: row for row in other if row.name}
    paired = set()
    for row in one:
        twin = named.pop(row.name, None) if row.name else None
        if twin is None:
            yield [row], ()
        else:
            paired.add(id(twin))
            yield [row], [twin]
    for row in other:
        if id(row) not in paired:
            yield (), [row]


def _blocks(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[Block]:
    """Stretches of two sequences, and whether they are the same; alike from either side."""
    swapped = repr(left) > repr(right)
    first, second = (right, left) if swapped else (left, right)
    found = _matched(first, second)
    return [(c, d, a, b, same) if swapped else (a, b, c, d, same) for a, b, c, d, same in found]


def _matched(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[Block]:
    """Stretches of two sequences in their order, each the same in both or in one alone."""
    if len(first) * len(second) <= _MOST_COMPARED:
        codes = SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
        return [(a, b, c, d, tag == "equal") for tag, a, b, c, d in codes]
    # Of layers by the hundred, each with its like in the same turn, where the order allows it.
    places: dict[Hashable, list[int]] = {}
    for at, key in enumerate(second):
        places.setdefault(key, []).append(at)
    turns: Counter[Hashable] = Counter()
    pairs = []
    for at, key in enumerate(first):
        if turns[key] < len(places.get(key, ())):
            pairs.append((at, places[key][turns[key]]))
            turns[key] += 1
    found: list[Block] = []
    a = c = 0
    for one, other in (*_rising(pairs), (len(first), len(second))):
        if a < one or c < other:
            found.append((a, one, c, other, False))
        if one < len(first):
            found.append((one, one + 1, other, other + 1, True))
        a, c = one + 1, other + 1
    return found


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest part of pairs in which the second number rises with the first."""
    ends: list[int] = []
    chains: list[tuple[tuple[int, int], int]] = []
    tops: list[int] = []
    for pair in pairs:
        at = bisect_left(ends, pair[1])
        chains.append((pair, tops[at - 1] if at else -1))
        if at == len(ends):
            ends.append(pair[1])
            tops.append(len(chains) - 1)
        else:
            ends[at], tops[at] = pair[1], len(chains) - 1
    found = []
    back = tops[-1] if tops else -1
    while back >= 0:
        pair, back = chains[back]
        found.append(pair)
    return found[::-1]


def _keys(rows: Sequence[Row], shared: Container[str]) -> list[Hashable]:
    """What a layer is known by on both sides: kind, largest tensor, channels, and a shared name."""
    return [
        (
            _family(row),
            max(_sizes(row), default=0),
            _channels(row),
            row.name if row.name in shared else "",
        )
        for row in rows
    ]


def _channels(row: Row) -> Dim:
    if not row.dims or len(row.dims) < 2:
        return None
    return row.dims[1] if row.layout is Layout.FIRST else row.dims[-1]


def _sizes(row: Row) -> list[int]:
    return [part.tensor.tensor.elements for part in row.parts]


def _family(row: Row) -> str:
    if "InstanceNorm" in row.torch:
        return "InstanceNormalization"  # which torch writes as a BatchNormalization
    return "Conv" if row.kind in ("DepthwiseConv", "SeparableConv") else row.kind
