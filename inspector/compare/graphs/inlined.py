"""Integers and flags that are stored, in words that say where they lie as well as what they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from inspector.compare.graphs.broadcast import spreads
from inspector.compare.pairing.layout import Axes
from inspector.compare.runtime.run import Array
from inspector.facts.model import Dim, Node

_AXES_OF_SLICE, _STEPS_OF_SLICE = 3, 4

_END = "end"
_NO_END = 2**31 - 1
"""From here on it is that of the axis: exporters write the largest integer of either width."""


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
    node: Node, stored: Callable[[str], Array | None], axes: Axes, dims: Sequence[Dim]
) -> dict[str, str] | None:
    """A Slice's bounds by axis, channels first; None where they are not all known.

    Parameters
    ----------
    stored
        Gives the values of a stored tensor by the name under which it is read.
    axes, dims
        The layout of what it reads, and its lengths.
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
    steps = lists.get(_STEPS_OF_SLICE, [1] * count)
    ends = [
        _END if step > 0 and (end >= _NO_END or end == dims[at]) else end
        for end, at, step in zip(lists[2], of, steps, strict=True)
    ]
    order = sorted(range(count), key=lambda at: axes[of[at]])
    lists[_AXES_OF_SLICE] = [axes[at] for at in of]
    words = {f"input {at}": str([each[one] for one in order]) for at, each in lists.items()}
    return words | {"input 2": f"[{', '.join(str(ends[one]) for one in order)}]"}
