"""Whether the numbers of two runs are near each other, row by row."""

from __future__ import annotations

import numpy as np

from inspector.compare.causes.affine import Effective
from inspector.compare.runtime.run import Array

_PLAIN = 1e-30, 1e30
"""Between these, float32 holds a quotient with all of its digits."""

_PIECE = 2**16
"""Elements that are held together at a time."""


def is_within(apart: Array, allowed: Array) -> Array:
    """Where distances are allowed. Numbers that are not finite are near nothing."""
    return np.asarray((apart <= allowed) & (allowed < np.inf))


def slopes_apart(one: Array, other: Array, unit: float) -> Array:
    return ~is_within(np.abs(one - other), unit * np.maximum(np.abs(one), np.abs(other)))


def rows_apart(one: Effective, other: Effective, unit: float) -> Array:
    """For which outputs the weights of two runs differ by more than `unit` of a weight's size."""
    assert one.kernel is not None  # asked of weighted runs alone
    assert other.kernel is not None  # likewise
    length, size = one.kernel.shape
    found = np.zeros(length, dtype=bool)
    # In pieces that fit a processor's cache.
    rows = max(1, _PIECE // max(1, size))
    quotient = _slopes_quotient(one, other)
    for at in range(0, length, rows):
        if quotient is not None and _are_surely_near(
            one.kernel[at : at + rows], other.kernel[at : at + rows], quotient[at : at + rows], unit
        ):
            continue
        a, b = one.rows(at, at + rows), other.rows(at, at + rows)
        with np.errstate(invalid="ignore", over="ignore"):
            most = np.maximum(np.abs(a), np.abs(b))
            most *= unit
            most += one.moved(at, at + rows)
            most += other.moved(at, at + rows)
            a -= b
            found[at : at + rows] = ~is_within(np.abs(a, out=a), most).all(axis=1)
    return found


def _slopes_quotient(one: Effective, other: Effective) -> Array | None:
    """Slopes of one run over those of another by row; None where only weights tell enough."""
    kernels = (one.kernel, other.kernel)
    if any(each is None or each.dtype != np.float32 or not each.size for each in kernels):
        return None
    assert one.kernel is not None  # as just seen
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = one.slope / other.slope
    return np.broadcast_to(quotient, len(one.kernel))


def _are_surely_near(a: Array, b: Array, quotient: Array, unit: float) -> bool:
    """Whether weights times slopes are within `unit` of each other, told in float32.

    Most folded kernels are, and a division and its two extremes take a fraction of the time of the
    exact comparison, which has the last word on what this does not vouch for.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        ratio = a / b
        ends = ratio.min(axis=1) * quotient, ratio.max(axis=1) * quotient
    # NaN and numbers beyond float32 are near nothing. A division is right to half a unit.
    room = unit - float(np.finfo(np.float32).eps)
    sizes = np.abs(quotient)
    return bool(
        all((np.abs(each - 1.0) <= room).all() for each in ends)
        and ((sizes > _PLAIN[0]) & (sizes < _PLAIN[1])).all()
    )
