"""Weights that two exporters folded a BatchNorm into, each with its own rounding.

A square root, a division and a product leave about half of a kernel's elements a unit or two in the
last place apart. One weight that was changed, however little, is no such thing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inspector.compare.causes.affine import is_weighted
from inspector.compare.graphs.parameters import Relation, StoredPair
from inspector.compare.graphs.structure import Layer

_SHARE = 0.1
"""Share of a kernel's elements that differ at least where all were computed anew."""


def rounded_throughout(layer: Layer, pairs: Sequence[StoredPair]) -> bool:
    """Whether all that sets a layer's weights apart is rounding, and all of the kernel has it.

    Parameters
    ----------
    pairs
        What the layer and its counterpart store, role by role.
    """
    rest = [each for each in pairs if each.relation is not Relation.BITWISE]
    if not is_weighted(layer) or any(each.relation is not Relation.ROUNDED for each in rest):
        return False
    kernel = next((each for each in rest if each.role == "kernel"), None)
    for each in rest:
        types = {one.tensor.dtype for one in (each.left, each.right) if one is not None}
        # Of what one side keeps in a coarser type, that is to be said.
        if len(types) != 1 or not types <= {"float32", "float64"}:
            return False
    if kernel is None or kernel.values is None:
        return False
    one, other = kernel.values
    return one.shape == other.shape and float(np.mean(one != other)) >= _SHARE
