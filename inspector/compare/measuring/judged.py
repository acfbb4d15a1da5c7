"""One output of each side held against the other: how far apart, and how far they may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inspector.compare.measuring.difference import difference, distances, worst
from inspector.compare.measuring.floor import FINE, Grain, allowance
from inspector.compare.pairing.layout import Axes
from inspector.compare.pairing.pair import Pair
from inspector.compare.runtime.run import Array
from inspector.errors import UndecidedError
from inspector.facts.comparison import Difference, PairedOutput
from inspector.facts.request import Tolerance

Sides = tuple[Sequence[Array], Sequence[Array]]
"""The left and the right model's own deviations of one output, by batch."""


class OutputsShapesError(UndecidedError):
    """An output has another shape on each side, for the same inputs."""


def hold(
    pair: Pair,
    lefts: Sequence[Array],
    rights: Sequence[Array],
    deviations: Sides,
    *,
    asked: Tolerance | None,
    any_order: bool,
    grain: Grain = FINE,
) -> PairedOutput:
    """Compare an output in the order of axes that the graphs tell, or else in the plain one.

    Where they do not tell and `any_order` is set (the inputs' axes have moved too) or the plain
    order fits no shapes, the order that brings the two closest is taken.

    Raises
    ------
    OutputsShapesError
        The shapes fit under no order.
    """
    fitting = [
        order
        for order in pair.permutations
        if all(a.shape == turned(b, order).shape for a, b in zip(lefts, rights, strict=True))
    ]
    if not fitting:
        a, b = next(
            (a, b) for a, b in zip(lefts, rights, strict=True) if _apart_in_shape(a, b, pair)
        )
        raise OutputsShapesError(
            f"output {pair.left.name!r} has shape {list(a.shape)} on the left "
            f"and {pair.right.name!r} {list(b.shape)} on the right"
        )
    if not any_order and fitting[0] == tuple(sorted(fitting[0])):
        fitting = fitting[:1]
    held = [
        _held(pair.left.name, pair.right.name, order, lefts, rights, deviations, asked, grain)
        for order in fitting
    ]
    return min(held, key=lambda each: (not each.within, each.difference.max_abs))


def furthest(
    each: PairedOutput,
    lefts: Sequence[Array],
    rights: Sequence[Array],
    deviations: Sides,
    *,
    asked: Tolerance | None,
    grain: Grain = FINE,
) -> PairedOutput:
    """The same output compared again, in the order of axes it was compared in before.

    Raises
    ------
    OutputsShapesError
        The shapes no longer fit.
    """
    order = each.permutation
    if any(a.shape != turned(b, order).shape for a, b in zip(lefts, rights, strict=True)):
        raise OutputsShapesError(f"output {each.right!r} has another shape")
    return _held(each.left, each.right, order, lefts, rights, deviations, asked, grain)


def turned(right: Array, order: Axes) -> Array:
    """A right-hand output with its axes in the left side's order."""
    if len(order) != right.ndim:
        return right
    return right.transpose(np.argsort(order))


def _apart_in_shape(a: Array, b: Array, pair: Pair) -> bool:
    return all(a.shape != turned(b, order).shape for order in pair.permutations)


def _held(
    left: str,
    right: str,
    order: Axes,
    lefts: Sequence[Array],
    rights: Sequence[Array],
    deviations: Sides,
    asked: Tolerance | None,
    grain: Grain,
) -> PairedOutput:
    rights = [turned(each, order) for each in rights]
    there = [turned(each, order) for each in deviations[1]]
    allowed = allowance(lefts, rights, deviations[0], there, grain=grain)
    if asked is not None:
        bounds = [_asked_bounds(a, b, asked) for a, b in zip(lefts, rights, strict=True)]
    else:
        bounds = list(allowed.bounds)
    each_apart = [difference(a, b) for a, b in zip(lefts, rights, strict=True)]
    far = worst(each_apart)
    kept = [_kept(*each) for each in zip(lefts, rights, bounds, strict=True)]
    finite_within = all(each for each, _, _ in kept)
    at = max(range(len(kept)), key=lambda n: each_apart[n].max_abs)
    return PairedOutput(
        left=left,
        right=right,
        permutation=order,
        difference=far,
        floor=allowed.floor,
        tolerance=_bound_at(bounds[at], far),
        within=finite_within and not (far.left_non_finite or far.right_non_finite),
        finite_within=finite_within,
        beyond="" if _bound_at(bounds[at], far) < far.max_abs else _worst(kept),
    )


def _kept(left: Array, right: Array, bound: Array) -> tuple[bool, float, str]:
    """Whether finite elements keep their bounds; the worst ratio to the bound, and it in words."""
    if not left.size:
        return True, 0.0, ""
    apart = distances(left, right)
    if apart.shape != left.shape:  # complex numbers are two numbers each
        apart = apart.max(axis=-1)
    over = np.isfinite(apart) & (apart > bound)
    if not over.any():
        return True, 0.0, ""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(over, apart / bound, 0.0)
    place = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    allowed = float(np.broadcast_to(bound, ratio.shape)[place])
    where = "".join(f"[{int(each)}]" for each in place)
    words = f"{apart[place]:.3g} apart at {where}, where {allowed:.3g} is allowed"
    return False, float(ratio[place]), words


def _worst(kept: Sequence[tuple[bool, float, str]]) -> str:
    """The element that exceeds its bound by most, in words; empty where none does."""
    return max(kept, key=lambda each: each[1])[2]


def _bound_at(bound: Array, far: Difference) -> float:
    if not far.at or bound.ndim != len(far.at):
        return float(bound.max(initial=0.0))
    return float(np.broadcast_to(bound, far.shape)[far.at])


def _asked_bounds(left: Array, right: Array, asked: Tolerance) -> Array:
    if left.dtype.kind not in "fiu" or right.dtype.kind not in "fiu":
        return np.zeros((1,) * left.ndim)
    a, b = np.abs(left.astype(np.float64)), np.abs(right.astype(np.float64))
    with np.errstate(invalid="ignore"):
        return np.asarray(asked.atol + asked.rtol * np.maximum(a, b))
