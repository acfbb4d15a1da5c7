"""Integers and flags that are stored, in words that say where they lie as well as what they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from inspector.compare.graphs.broadcast import spreads
from inspector.compare.pairing.layout import Axes
from inspector.compare.runtime.run import Array
from inspector.facts.model import Node

_AXES_OF_SLICE = 3


def in_words(
    node: Node, position: int, values: Array, *, dims: Sequence[int] | None, axes: Axes | None
) -> str:
    """The values of a short tensor as a node reads them, channels first.

    Parameters
    ----------
    dims
        Those in which it is read, where they are known.
    axes
        The layout of the node's result where it is known.
    """
    if dims is not None and math.prod(dims) == values.size:
        values = values.reshape(dims)
    if not spreads(node, position):
        return str(values.tolist())
    if axes is not None and values.ndim <= len(axes):
        values = values.reshape((1,) * (len(axes) - values.ndim) + values.shape)
        values = values.transpose(np.argsort(axes))
    if node.op_type == "Concat":
        return str(values.tolist())
    # Leading ones are what broadcasting puts there itself.
    while values.ndim and values.shape[0] == 1:
        values = values[0]
    return str(values.tolist())


def of_slice(
    node: Node, stored: Callable[[str], Array | None], axes: Axes
) -> dict[str, str] | None:
    """A Slice's bounds by axis, channels first; None where they are not all known.

    Parameters
    ----------
    stored
        Gives the values of a stored tensor by the name under which it is read.
    axes
        The layout of what it reads.
    """
    lists: dict[int, list[int]] = {}
    for at, name in enumerate(node.inputs):
        values = stored(name) if at and name else None
        if values is not None:
            lists[at] = [int(each) for each in values.reshape(-1)]
        elif at and name:
            return None
    if not {1, 2} <= lists.keys():
        return None
    count = len(lists[1])
    of = [at + len(axes) if at < 0 else at for at in lists.get(_AXES_OF_SLICE, range(count))]
    if any(len(each) != count for each in lists.values()) or not set(of) <= set(range(len(axes))):
        return None
    order = sorted(range(count), key=lambda at: axes[of[at]])
    lists[_AXES_OF_SLICE] = [axes[at] for at in of]
    return {f"input {at}": str([each[one] for one in order]) for at, each in lists.items()}
