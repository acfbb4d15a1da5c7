"""Stored parameters that were rounded to a grid: how far that alone can have moved them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from inspector.compare.graphs.parameters import Relation, StoredPair, in_common_form
from inspector.compare.graphs.structure import Stored
from inspector.compare.runtime.run import Array

Steps = Mapping[str, Array]
"""Distances between the numbers that stored weights could have, by name."""

HALF = 0.505
"""Steps by which rounding moves a weight: one half, and what the scale itself is rounded by."""


def half_steps(stored: Stored, steps: Steps) -> Array | None:
    """How far rounding can have moved each element of a tensor, in common form; None if not."""
    own = steps.get(stored.tensor.name)
    if own is None:
        return None
    whole = np.broadcast_to(HALF * np.asarray(own, np.float64), stored.tensor.dims)
    return in_common_form(whole, stored)


def on_grids(pair: StoredPair, steps: tuple[Steps, Steps]) -> tuple[StoredPair, bool | None]:
    """A pair, and whether it is the right one of two that rounding to a grid accounts for.

    None where it does not; both on grids counts as the right one.
    """
    if pair.left is None or pair.right is None or pair.values is None:
        return pair, None
    halves: list[Array | None] = [
        half_steps(each, of) for each, of in zip((pair.left, pair.right), steps, strict=True)
    ]
    one, other = (np.squeeze(np.asarray(each)) for each in pair.values)
    if all(each is None for each in halves) or one.shape != other.shape or one.dtype.kind != "f":
        return pair, None
    allowed = np.zeros(one.shape)
    for each in halves:
        if each is not None:
            allowed = allowed + np.squeeze(each).reshape(one.shape)
    # Written so that NaN differs.
    if not (np.abs(one.astype(np.float64) - other) <= allowed).all():
        return pair, None
    return replace(pair, relation=Relation.ROUNDED), halves[1] is not None
