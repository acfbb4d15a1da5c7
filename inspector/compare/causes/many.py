"""Other values in most layers of a network are one difference for each parameter, not hundreds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from inspector.compare.causes.candidate import Candidate
from inspector.facts.comparison import OTHERS, VALUES

MOST_LAYERS = 24
"""Layers whose values are told one by one. Beyond that a network was trained otherwise, and what
each layer does to the outputs is of no use to anyone."""

_TWO = 2


def as_few(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Put together what is nothing but other values, by parameter, where many layers have it."""
    plain = [each for each in candidates if each.is_values and each.patches]
    if len({each.right_node for each in plain}) <= MOST_LAYERS:
        return list(candidates)
    alike: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for each in plain:
        alike[each.kind.value, each.what].append(each)
    made = {id(group[0]): _as_one(group) for group in alike.values() if len(group) >= _TWO}
    dropped = {id(each) for group in alike.values() for each in group[1:]}
    return [made.get(id(each), each) for each in candidates if id(each) not in dropped]


def _as_one(group: Sequence[Candidate]) -> Candidate:
    """One difference for one parameter of many layers."""
    first, last = group[0], group[-1]
    layers = len({each.right_node for each in group})
    return Candidate(
        kind=first.kind,
        what=first.what,
        left_where=f"{layers} layers, from {first.left_where} to {last.left_where}",
        right_where=f"{layers} layers, from {first.right_where} to {last.right_where}",
        left=VALUES,
        right=OTHERS,
        patches=tuple(patch for each in group for patch in each.patches),
        left_node=first.left_node,
        right_node=first.right_node,
        more_nodes=tuple(sorted(frozenset().union(*(each.nodes for each in group)))),
    )
