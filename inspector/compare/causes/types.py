"""Element types that are not the same on both sides: integers of another width, or sign.

Precisions of floats are measured (`inspector.compare.measuring.precision`), not listed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.graphs.widths import WIDTHS, Widths
from inspector.compare.pairing.pair import Pair
from inspector.facts.comparison import CauseKind
from inspector.facts.model import FLOAT_DTYPES
from inspector.facts.patch import SetInput


def input_types(found: Correspondence, inputs: Sequence[Pair]) -> Iterator[Candidate]:
    """Inputs of the models that take numbers of different types, where that shows."""
    for each in inputs:
        types = [each.left.dtype, each.right.dtype]
        if None in types or types[0] == types[1] or FLOAT_DTYPES.issuperset(types):
            continue
        if WIDTHS.issuperset(types) and not (
            _shows(found.left, each.left.name) or _shows(found.right, each.right.name)
        ):
            continue
        yield Candidate(
            kind=CauseKind.STRUCTURE,
            what="type of an input",
            left_where=each.left.name,
            right_where=each.right.name,
            left=str(types[0]),
            right=str(types[1]),
            reason="what can be fed to the one cannot all be fed to the other",
        )


def _shows(network: Network, value: str) -> bool:
    return Widths(network.model.graph).show(value)


def constant_types(
    a: Layer, b: Layer, found: Correspondence
) -> tuple[frozenset[str], Candidate | None]:
    """Constants of two layers that hold the same integers in other types, as one difference.

    With the names of the attributes that it stands for: what an operator reads has one type, so
    that none of them can be patched alone.
    """
    names, patches, types = [], [], []
    for name in sorted(a.attributes.keys() & b.attributes.keys()):
        place = name.removeprefix("input ")
        if a.attributes[name] == b.attributes[name] or place == name:
            continue
        one, other = a.constants.get(int(place)), b.constants.get(int(place))
        if one is None or other is None or one.dtype == other.dtype:
            continue
        left = found.left.model.weights.load(one)
        if not np.array_equal(left, found.right.model.weights.load(other)):
            continue
        names.append(name)
        types.append((one.dtype, other.dtype))
        patches.append(SetInput(node=b.node, position=int(place), values=left))
    if not names:
        return frozenset(), None
    return frozenset(names), Candidate(
        kind=CauseKind.ATTRIBUTE,
        what=f"type of {' and '.join(names)}",
        left_where=a.shown,
        right_where=b.shown,
        left_node=a.node,
        right_node=b.node,
        left=" and ".join(dict.fromkeys(one for one, _ in types)),
        right=" and ".join(dict.fromkeys(other for _, other in types)),
        patches=tuple(patches),
    )
