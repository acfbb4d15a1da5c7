"""Runs of layers held against each other by what they come to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inspector.compare.causes.affine import Effective
from inspector.compare.causes.near import rows_apart

UNIT = 16 * float(np.finfo(np.float32).eps)
SIZES = (1.0, 1e-45, 3e-39, 1e-38, 1e-20, 7.0, 1e30, 3e38, 0.0)


def effective(kernel: np.ndarray, slope: np.ndarray) -> Effective:
    zeros = np.zeros(len(kernel))
    return Effective(kernel=kernel, slope=slope, offset=zeros, size=zeros)


def apart(one: Effective, other: Effective) -> np.ndarray:
    """By definition, in numbers wide enough for every product."""
    with np.errstate(invalid="ignore"):
        a, b = (
            each.kernel.astype(np.longdouble) * each.slope.astype(np.longdouble)[:, None]
            for each in (one, other)
        )
        near = np.abs(a - b) <= UNIT * np.maximum(np.abs(a), np.abs(b))
    return ~(near & np.isfinite(a) & np.isfinite(b)).all(axis=1)


@example(seed=0, size=1e-20, slopes=(1e32, 1e-9), ulps=20, odd=None)
@example(seed=0, size=1.0, slopes=(0.37, 1.0), ulps=18, odd=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from(SIZES),
    slopes=st.tuples(*[st.sampled_from([1.0, -3.0, 0.37, 1e-9, 1e-35, 1e32, 0.0])] * 2),
    ulps=st.sampled_from([0, 1, 12, 14, 15, 16, 17, 18, 20, 1000]),
    odd=st.sampled_from([None, 0.0, np.inf, np.nan, 1e-45]),
)
def test_folded_rows_are_apart_where_their_products_are(
    seed: int, size: float, slopes: tuple[float, float], ulps: int, odd: float | None
) -> None:
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        kernel = (size * rng.uniform(0.5, 1, (4, 5))).astype(np.float32)
        one = effective(kernel, np.full(4, slopes[0]) * rng.uniform(0.9, 1.1, 4))
        other_slope = np.full(4, slopes[1])
        whole = kernel * (one.slope / other_slope)[:, None]
        moved = 1 + ulps * np.finfo(np.float32).eps * rng.choice([-1, 0, 1], kernel.shape)
        folded = (whole * moved).astype(np.float32)
        if odd is not None:
            at = tuple(rng.integers(0, (4, 5)))
            folded[at] = odd
            if rng.random() < 0.5:
                kernel[at] = odd
        other = effective(folded, other_slope)

        found = rows_apart(one, other, UNIT)
        mirrored = rows_apart(other, one, UNIT)

    # Right at the limit the last digit of float64 may decide.
    nearly = np.zeros(4, dtype=bool)
    if 14 < ulps < 18:
        nearly |= True
    expected = apart(one, other)
    assert ((found == expected) | nearly).all()
    assert ((mirrored == expected) | nearly).all()


def test_rows_that_are_near_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((64, 576), np.float32)
    slope = rng.uniform(0.5, 2, 64)
    one = effective(kernel, slope)
    folded = effective((kernel * slope[:, None]).astype(np.float32), np.ones(1))
    exact = Effective.rows
    looked: list[int] = []

    def rows(self: Effective, start: int, end: int) -> np.ndarray:
        looked.append(start)
        return exact(self, start, end)

    monkeypatch.setattr(Effective, "rows", rows)

    assert not rows_apart(one, folded, UNIT).any()
    assert not looked
    folded.kernel[17, 3] *= 1.001
    assert list(np.flatnonzero(rows_apart(one, folded, UNIT))) == [17]
    assert looked


def test_a_quotient_beyond_float32_vouches_for_nothing() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.uniform(1e-20, 2e-20, (4096, 1)).astype(np.float32)
    slope = np.full(1, 2.0**149 / 7136)  # one over it is a float32, if a subnormal one
    moved = 1 + rng.choice([-1, 1], kernel.shape) * 1e-5
    folded = (kernel.astype(np.float64) * slope * moved).astype(np.float32)

    # What a division leaves has few digits: all of these are the same number.
    for a, b in zip(kernel, folded, strict=True):
        one, other = effective(a[None], slope), effective(b[None], np.ones(1))
        assert rows_apart(one, other, UNIT).all()
