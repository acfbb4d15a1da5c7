"""One set of weights for both sides, where rounding to a grid is all that sets theirs apart.

What quantised weights move outputs by hides what else differs: in 4 bits, a Relu that is missing.
With the same weights on both sides, nothing is left of that.
"""

from __future__ import annotations

from collections.abc import Mapping

from inspector.compare.causes.paired import parameter_difference
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.grids import on_grids
from inspector.compare.graphs.parameters import Relation, compare_stored
from inspector.compare.runtime.run import Array
from inspector.facts.patch import Patch

Steps = Mapping[str, Array]


def of_one_set(found: Correspondence, steps: tuple[Steps, Steps]) -> tuple[Patch, ...]:
    """Patches of the right model with which its weights are the left one's.

    Parameters
    ----------
    found
        Layers of two views without grids.
    steps
        Distances between the numbers that each view's weights could have, by name.

    Returns
    -------
    tuple of Patch
        None of them where there is nothing to put in, or where a weight that lies on a grid has no
        counterpart that rounding it accounts for: putting in the others would show nothing.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    patches: list[Patch] = []
    accounted: tuple[set[str], set[str]] = set(), set()
    left, right = found.left.model.weights, found.right.model.weights
    for a, b in found.alignment.pairs:
        for each in compare_stored(a, b, left, right):
            pair, on_right = on_grids(each, steps)
            if on_right is None and pair.relation is not Relation.BITWISE:
                continue
            if on_right is not None and pair.relation is not Relation.BITWISE:
                own = parameter_difference(a, b, pair, found).patches
                if not own:
                    continue
                patches += own
            for side, stored in zip(accounted, (pair.left, pair.right), strict=True):
                if stored is not None:
                    side.add(stored.tensor.name)
    whole = all(set(own) <= side for own, side in zip(steps, accounted, strict=True))
    return tuple(patches) if whole else ()
