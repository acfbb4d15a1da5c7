"""How the same numbers lie in another order: transposed, reversed, or permuted along an axis."""

from __future__ import annotations

import numpy as np

from inspector.compare.runtime.run import Array

_MOST_SHOWN = 8
_REVERSED = 3
"""Channels of an image whose order has a name."""


def arrangement(left: Array, right: Array, *, is_kernel_of_input: bool = False) -> str:
    """In words how `right` holds the values of `left`; empty where no single step does it.

    Parameters
    ----------
    left, right
        Arrays of one shape that hold the same values.
    is_kernel_of_input
        Whether they are kernels [out, in, …] of a layer that reads a model's input.
    """
    if left.shape != right.shape:
        return ""
    if left.ndim == 2 and left.shape[0] == left.shape[1] and np.array_equal(left.T, right):
        return "transposed"
    for axis in range(left.ndim):
        if left.shape[axis] < 2:
            continue
        order = _order(left, right, axis)
        if order is None:
            continue
        if is_kernel_of_input and axis == 1 and order == [2, 1, 0] and left.shape[1] == _REVERSED:
            return "with the input's channels reversed (RGB against BGR)"
        return f"with axis {axis} {_named(order)}"
    return ""


def flattened_otherwise(left: Array, right: Array, dims: tuple[int, ...]) -> str:
    """In words whether rows lie as if flattened in another layout; empty where they do not.

    Parameters
    ----------
    left, right
        Dense kernels [features, outputs] that hold the same values.
    dims
        Lengths of what was flattened, channels first: (C, …).
    """
    count = int(np.prod(dims))
    if left.shape != right.shape or not left.ndim or left.shape[0] != count or len(dims) < 2:
        return ""
    first = np.arange(count).reshape(dims)
    last = np.moveaxis(first, 0, -1).reshape(-1)
    back = np.argsort(last)
    for order, words in ((last, "channels last"), (back, "channels first where they are last")):
        if np.array_equal(left[order], right):
            return f"with rows flattened {words}"
    return ""


def _order(left: Array, right: Array, axis: int) -> list[int] | None:
    """Where along `axis` each slice of `right` lies in `left`; None where one lies nowhere."""
    places: dict[bytes, list[int]] = {}
    for at in range(left.shape[axis]):
        places.setdefault(left.take(at, axis).tobytes(), []).append(at)
    order = []
    for at in range(right.shape[axis]):
        found = places.get(right.take(at, axis).tobytes())
        if not found:
            return None
        order.append(found.pop(0))
    return order


def _named(order: list[int]) -> str:
    if order == list(reversed(range(len(order)))):
        return "reversed"
    moved = [at for at, source in enumerate(order) if at != source]
    shift = order[0]
    if order == [(at + shift) % len(order) for at in range(len(order))]:
        return f"shifted by {shift}"
    if len(moved) == 2:
        return f"at {moved[0]} and {moved[1]} swapped"
    block = _block(order)
    order = [at // block for at in order[::block]]
    listed = ", ".join(str(each) for each in order[:_MOST_SHOWN])
    more = ", …" if len(order) > _MOST_SHOWN else ""
    return f"in the order {listed}{more}{f' of blocks of {block}' if block > 1 else ''}"


def _block(order: list[int]) -> int:
    """The length of the longest blocks that an order moves as a whole."""
    count = len(order)
    for block in range(count // 2, 1, -1):
        if count % block == 0 and all(
            order[at] == order[at - at % block] + at % block and order[at - at % block] % block == 0
            for at in range(count)
        ):
            return block
    return 1
