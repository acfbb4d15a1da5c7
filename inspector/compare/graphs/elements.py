"""Where the elements of a value stand behind operators that move it, counted one by one.

A Reshape with a Transpose in between shuffles elements in ways that no order of axes says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from inspector.compare.graphs.lie import Fixed
from inspector.compare.graphs.moves import fixed_dims
from inspector.compare.pairing.layout import Axes
from inspector.compare.runtime.run import Array
from inspector.facts.model import Graph, Node

_MOST = 2**20
"""Elements up to which they are counted."""

_OPEN = 2
"""What stands for a length that neither side fixes."""

Way = tuple[Graph, Sequence[Node], Fixed, Axes]
"""The nodes that move a value in a graph, its dims, and its layout or the plain one."""


def are_shuffled(one: Way, other: Way) -> bool:
    """Whether two ways of moving a value surely give its elements other places in one shape."""
    lengths = _lengths(one, other)
    if lengths is None or math.prod(lengths) > _MOST:
        return False
    first, second = _moved(one, lengths), _moved(other, lengths)
    if first is None or second is None:
        return False
    first, second = np.squeeze(first), np.squeeze(second)
    return first.shape == second.shape and not np.array_equal(first, second)


def _lengths(one: Way, other: Way) -> list[int] | None:
    """The value's lengths, channels first; None where the two have not the same."""
    found: list[int | None] = [None] * len(one[2])
    for _, _, dims, axes in (one, other):
        if len(dims) != len(found) or len(axes) != len(found):
            return None
        for axis, dim in zip(axes, dims, strict=True):
            if None not in (dim, found[axis]) and dim != found[axis]:
                return None
            found[axis] = found[axis] if dim is None else dim
    return [_OPEN if each is None else each for each in found]


def _moved(way: Way, lengths: Sequence[int]) -> Array | None:
    graph, nodes, _, axes = way
    places = np.arange(math.prod(lengths)).reshape(lengths).transpose(axes)
    for node in nodes:
        if node.op_type == "Transpose":
            perm = node.ints_attribute("perm") or tuple(reversed(range(places.ndim)))
            if sorted(perm) != list(range(places.ndim)):
                return None
            places = places.transpose(perm)
            continue
        dims = fixed_dims(graph, node.outputs[0])
        if dims is None or dims.count(None) > 1:
            return None
        known = math.prod(dim for dim in dims if dim is not None)
        if known <= 0 or places.size % known or (None not in dims and places.size != known):
            return None
        places = places.reshape([-1 if dim is None else dim for dim in dims])
    return np.asarray(places)
