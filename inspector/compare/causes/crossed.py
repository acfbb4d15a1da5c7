"""Weights that layers of one shape hold for each other: a query's for a key's, say.

Each of them alone says no more than "other values"; that they are all there, elsewhere, says how
it came about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.parameters import StoredPair
from inspector.compare.graphs.structure import Layer
from inspector.compare.runtime.run import Array
from inspector.facts.comparison import CauseKind

_FEW = 16
"""Elements that tell most tensors apart."""

_TWO = 2

_MOST_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unlike:
    """A tensor of two paired layers that is not equal in bits, and the difference that it makes."""

    left: Layer
    right: Layer
    pair: StoredPair
    candidate: Candidate


def crossed_weights(candidates: Sequence[Candidate], unlike: Sequence[Unlike]) -> list[Candidate]:
    """Candidates with those put together that are weights which layers hold for each other."""
    groups: dict[tuple[int, ...], list[list[Unlike]]] = defaultdict(list)
    for ring in _rings(unlike):
        groups[tuple(sorted(_layers(ring)))].append(ring)
    made = dict(_as_one(rings) for rings in groups.values())
    dropped = {id(e.candidate) for rings in groups.values() for ring in rings for e in ring}
    return [
        made.get(id(each), each) for each in candidates if id(each) not in dropped - made.keys()
    ]


def _layers(ring: Sequence[Unlike]) -> list[int]:
    return [id(each.left) for each in ring]


def _rings(unlike: Sequence[Unlike]) -> list[list[Unlike]]:
    """Tensors in an order in which the right side of each is the left side of the next."""
    known = [
        each
        for each in unlike
        if each.pair.values is not None and each.pair.values[0].shape == each.pair.values[1].shape
    ]
    lefts: dict[tuple[object, ...], list[Unlike]] = defaultdict(list)
    for each in known:
        lefts[_key(each, 0)].append(each)
    following: dict[int, Unlike] = {}
    for each in known:
        same = [one for one in lefts.get(_key(each, 1), ()) if _is_held(one, each)]
        if len(same) == 1 and same[0] is not each:
            following[id(each)] = same[0]
    rings, seen = [], set()
    for each in known:
        ring = [each]
        while (after := following.get(id(ring[-1]))) is not None and len(ring) <= len(known):
            if after is each:
                break
            ring.append(after)
        else:
            continue
        if id(each) not in seen:
            seen |= {id(one) for one in ring}
            rings.append(ring)
    return rings


def _key(each: Unlike, side: int) -> tuple[object, ...]:
    assert each.pair.values is not None  # those that have none were left out
    values = each.pair.values[side]
    few = np.asarray(values.reshape(-1)[:_FEW], order="C").tobytes()
    return each.left.op, each.pair.role, values.dtype.str, values.shape, few


def _is_held(one: Unlike, other: Unlike) -> bool:
    """Whether what `one` has on the left is what `other` has on the right."""
    assert one.pair.values is not None  # those that have none were left out
    assert other.pair.values is not None  # likewise
    mine: Array = one.pair.values[0]
    return bool(np.array_equal(mine, other.pair.values[1]))


def _as_one(rings: Sequence[Sequence[Unlike]]) -> tuple[int, Candidate]:
    """One difference for all tensors that the same layers hold for each other."""
    first = rings[0]
    every = [each for ring in rings for each in ring]
    swapped = len(first) == _TWO
    named = [
        [side.shown for side in sides]
        for sides in ([each.left for each in first], [each.right for each in first])
    ]
    return id(first[0].candidate), Candidate(
        kind=CauseKind.PERMUTATION,
        what=" and ".join(dict.fromkeys(each.pair.role for each in every)),
        left_where=_listed(named[0]),
        right_where=_listed(named[1]),
        left="each in its layer",
        right="swapped" if swapped else f"moved round {len(first)} layers",
        patches=tuple(patch for each in every for patch in each.candidate.patches),
        left_node=first[0].left.node,
        right_node=first[0].right.node,
        more_nodes=tuple(
            node for each in every for node in (f"l{each.left.node}", f"r{each.right.node}")
        ),
    )


def _listed(names: Sequence[str]) -> str:
    some = [*names[:_MOST_NAMED], *(["…"] if len(names) > _MOST_NAMED else [])]
    return f"{', '.join(some[:-1])} and {some[-1]}"
