"""One value of each side in one form: the right one's axes and features in the left one's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod

import numpy as np

from inspector.compare.pairing.layout import Axes, Layouts, permutation
from inspector.compare.runtime.run import Array

_MOST_AXES = 5
"""Ranks whose every order of axes is tried where the graphs tell none: at most 24 of them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Form:
    """How the right side's array becomes one in the left side's form, and back.

    `order` are left axes by right position, behind `squeezed`, the shape that the right array has
    to take first; `features` is where each of the left side's features lies in the right array.
    `guessed` says that matrices are taken for transposed, and the plain order fits, too.
    """

    left_shape: tuple[int, ...]
    right_shape: tuple[int, ...]
    squeezed: tuple[int, ...]
    order: Axes
    features: Array | None = None
    guessed: bool = False

    def to_left(self, right: Array) -> Array:
        """A right array in the left side's form."""
        if self.features is not None:
            return np.asarray(right[:, self.features])
        moved = right.reshape(self.squeezed).transpose(np.argsort(self.order))
        return np.asarray(moved.reshape(self.left_shape))

    def to_right(self, left: Array) -> Array:
        """A left array in the right side's form."""
        if self.features is not None:
            found = np.empty(self.right_shape, left.dtype)
            found[:, self.features] = left
            return found
        long = tuple(self.squeezed[at] for at in np.argsort(self.order))
        return np.ascontiguousarray(
            left.reshape(long).transpose(self.order).reshape(self.right_shape)
        )


def find_form(
    layouts: tuple[Layouts, Layouts],
    names: tuple[str, str],
    left: Array,
    right: Array,
    distance: Callable[[Array, Array], float],
) -> Form | None:
    """The form under which two values can be held together; None where no order fits.

    What the graphs tell comes first. Where they do not, the plain order is taken if it fits and
    the arrays are close, or else the order that brings them closest.
    """
    if (told := _told(layouts, names, left, right)) is not None:
        return told
    best: tuple[float, Form] | None = None
    for each in _fitting(left.shape, right.shape):
        apart = distance(left, each.to_left(right))
        if best is None or apart < best[0]:
            best = (apart, each)
        if apart == 0.0:
            break
    if best is None:
        return None
    form = best[1]
    rank = len(form.order)
    matrices = (*range(rank - 2), rank - 1, rank - 2)
    return replace(form, guessed=left.shape == right.shape and form.order == matrices)


def _told(
    layouts: tuple[Layouts, Layouts], names: tuple[str, str], left: Array, right: Array
) -> Form | None:
    axes = layouts[0].axes.get(names[0]), layouts[1].axes.get(names[1])
    if axes[0] is not None and axes[1] is not None:
        rank = len(axes[0])
        if rank == len(axes[1]) == left.ndim == right.ndim:
            order = permutation(axes[0], axes[1])
            if tuple(left.shape[at] for at in order) == right.shape:
                return _plain(left.shape, right.shape, order)
    flat = layouts[0].flat.get(names[0]), layouts[1].flat.get(names[1])
    if flat[0] is not None and flat[1] is not None and left.ndim == right.ndim == 2:
        orders = flat[0].order(), flat[1].order()
        # A patch may have given the right side another number of rows.
        alike = left.shape == right.shape
        if alike and len(orders[0]) == len(orders[1]) == left.shape[1]:
            features = np.empty(left.shape[1], np.intp)
            features[orders[0]] = orders[1]
            return Form(
                left_shape=left.shape,
                right_shape=right.shape,
                squeezed=right.shape,
                order=(0, 1),
                features=features,
            )
    return None


def _plain(left: tuple[int, ...], right: tuple[int, ...], order: Axes) -> Form:
    return Form(left_shape=left, right_shape=right, squeezed=right, order=order)


def _fitting(left: tuple[int, ...], right: tuple[int, ...]) -> Iterator[Form]:
    """Every order of the right axes that gives the left lengths, the plain one first."""
    if left == right:
        yield _plain(left, right, tuple(range(len(left))))
    if prod(left) != prod(right):
        return
    squeezed = tuple(dim for dim in right if dim != 1)
    wanted = tuple(dim for dim in left if dim != 1)
    if not 0 < len(squeezed) <= _MOST_AXES or sorted(squeezed) != sorted(wanted):
        return
    for order in permutations(range(len(squeezed))):
        # Rows stay rows.
        if left[0] == right[0] != 1 and order[0] != 0:
            continue
        if tuple(wanted[at] for at in order) == squeezed:
            found = Form(left_shape=left, right_shape=right, squeezed=squeezed, order=order)
            if left != right or order != tuple(range(len(order))):
                yield found
