"""How far two arrays lie apart, with NaN and infinity counted and never equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.facts.comparison import Difference


def difference(left: Array, right: Array) -> Difference:
    """Distance between two arrays of one shape and of any dtype.

    Numbers are compared in float64; booleans, strings and objects count 1 for each element that
    is not equal.

    Raises
    ------
    ValueError
        The shapes differ: whoever pairs arrays has to settle that first.
    """
    if left.shape != right.shape:
        raise ValueError(f"shapes differ: {left.shape} and {right.shape}")
    if left.size == 0:
        return _empty(left.shape)
    if left.dtype.kind in "USOb" or right.dtype.kind in "USOb":
        apart = distances(left, right)
        # Of what has no size, none is the largest.
        return replace(_summary(apart, apart, np.zeros_like(apart)), top1=None)
    return _summary(distances(left, right), _as_float64(left), _as_float64(right))


def distances(left: Array, right: Array) -> Array:
    """The distance of each element; infinite where one is not finite, also for NaN from NaN."""
    if left.dtype.kind in "USOb" or right.dtype.kind in "USOb":
        return np.asarray(left != right, np.float64)
    a, b = _as_float64(left), _as_float64(right)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(a - b)
    if left.dtype.kind in "iu" and right.dtype.kind in "iu":
        # Beyond 2^53 neighbours are one float64.
        apart = np.where((left != right) & (apart == 0.0), 1.0, apart)
    return np.where(np.isfinite(a) & np.isfinite(b), apart, np.inf)


def worst(differences: list[Difference]) -> Difference:
    """The difference with the largest distance; counts of non-finite elements are summed."""
    top = max(differences, key=lambda each: each.max_abs)
    shares = [each.top1 for each in differences if each.top1 is not None]
    rows = [each.shape[0] for each in differences if each.top1 is not None]
    return replace(
        top,
        scale=max(each.scale for each in differences),
        mean_abs=float(np.mean([each.mean_abs for each in differences])),
        left_non_finite=sum(each.left_non_finite for each in differences),
        right_non_finite=sum(each.right_non_finite for each in differences),
        both_non_finite=sum(each.both_non_finite for each in differences),
        top1=float(np.average(shares, weights=rows)) if sum(rows) else None,
    )


def _as_float64(values: Array) -> Array:
    if values.dtype.kind == "c":
        values = np.stack([values.real, values.imag], axis=-1)
    return values.astype(np.float64)


def _summary(apart: Array, a: Array, b: Array) -> Difference:
    a_finite, b_finite = np.isfinite(a), np.isfinite(b)
    finite = a[a_finite]
    flat = int(np.argmax(apart))
    at = tuple(int(i) for i in np.unravel_index(flat, apart.shape))
    spread = float(finite.std()) if finite.size else 0.0
    # One element has no spread and constant outputs have none either: their magnitude serves.
    scale = spread or (float(np.abs(finite).max()) if finite.size else 0.0)
    return Difference(
        shape=tuple(apart.shape),
        max_abs=float(apart.flat[flat]),
        mean_abs=float(apart.mean()),
        scale=scale,
        at=at,
        left_at=float(a.flat[flat]),
        right_at=float(b.flat[flat]),
        left_non_finite=int((~a_finite).sum()),
        right_non_finite=int((~b_finite).sum()),
        both_non_finite=int((~a_finite & ~b_finite).sum()),
        top1=_top1(a, b),
    )


def _top1(a: Array, b: Array) -> float | None:
    if a.ndim != 2 or a.shape[1] < 2 or not a.shape[0]:
        return None
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())


def _empty(shape: tuple[int, ...]) -> Difference:
    return Difference(
        shape=shape,
        max_abs=0.0,
        mean_abs=0.0,
        scale=0.0,
        at=(),
        left_at=0.0,
        right_at=0.0,
        left_non_finite=0,
        right_non_finite=0,
        both_non_finite=0,
        top1=None,
    )
