from __future__ import annotations

import numpy as np
import pytest

from inspector.compare.measuring.judged import OutputsShapesError, hold, turned
from inspector.compare.pairing.pair import Pair
from inspector.errors import UsageError
from inspector.facts.comparison import PairedOutput
from inspector.facts.model import Value
from inspector.facts.request import Tolerance, asked_tolerance

PLAIN = (0, 1, 2)
LAST = (0, 2, 1)


def held(
    left: np.ndarray,
    right: np.ndarray,
    *,
    permutations: tuple[tuple[int, ...], ...] = ((0, 1),),
    moved: float = 0.0,
    asked: Tolerance | None = None,
    any_order: bool = False,
) -> PairedOutput:
    pair = Pair(
        left=Value(name="l", dtype="float32", dims=None),
        right=Value(name="r", dtype="float32", dims=None),
        permutations=permutations,
        told_by="",
    )
    deviations = [np.full(left.shape, moved)], [np.full(right.shape, moved)]
    return hold(pair, [left], [right], deviations, asked=asked, any_order=any_order)


def f32(values: object) -> np.ndarray:
    return np.asarray(values, np.float32)


def test_within_and_beyond() -> None:
    left = f32([[1.0, 2.0], [3.0, 4.0]])
    assert held(left, left).within
    near = held(left, np.nextafter(left, f32(9)))
    assert near.within
    far = held(left, left + f32([[0, 0], [0, 0.1]]))
    assert not far.within
    assert far.tolerance < far.difference.max_abs
    assert far.beyond == ""


def test_a_small_element_beyond_its_bound_is_named() -> None:
    left = f32([[1e6, 1.0], [-1e6, 0.5]])
    right = left + f32([[0.25, 0.0], [0.0, 0.125]])
    found = held(left, right)
    assert not found.within
    assert found.difference.at == (0, 0)
    assert found.beyond.startswith("0.125 apart at [1][1], where ")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_never_within_and_does_not_hide_the_rest(value: float) -> None:
    left = f32([[1.0, value]])
    found = held(left, left)
    assert not found.within
    assert found.finite_within
    assert not held(left, f32([[2.0, value]])).finite_within
    wide = Tolerance(atol=1e9, rtol=1e9)
    assert not held(left, left, asked=wide).within


def test_asked_tolerances_replace_the_floor() -> None:
    left, right = f32([[1.0, 100.0]]), f32([[1.05, 104.0]])
    assert held(left, right, asked=Tolerance(atol=0.0, rtol=0.06)).within
    assert not held(left, right, asked=Tolerance(atol=1.0, rtol=0.0)).within
    assert held(left, right, asked=Tolerance(atol=4.0, rtol=0.0)).within
    labels = np.array([[1, 2]])
    assert not held(labels, np.array([[1, 3]]), asked=Tolerance(atol=0.5, rtol=0.0)).within


def test_bad_tolerances_are_refused() -> None:
    assert asked_tolerance(None, None) is None
    assert asked_tolerance(1e-3, None) == Tolerance(atol=1e-3, rtol=0.0)
    for pair in ((-1.0, None), (None, float("nan")), (float("inf"), None)):
        with pytest.raises(UsageError):
            asked_tolerance(*pair)


def test_untold_axes_stay_where_they_are() -> None:
    left = f32(np.random.default_rng(0).standard_normal((2, 3, 3)))
    right = left.transpose(LAST)
    assert not held(left, right, permutations=(PLAIN, LAST)).within
    assert held(left, right, permutations=(PLAIN, LAST), any_order=True).permutation == LAST
    assert held(left, right, permutations=(LAST,)).within


def test_axes_move_where_no_other_shape_fits() -> None:
    left = f32(np.random.default_rng(0).standard_normal((2, 3, 4)))
    assert held(left, left.transpose(LAST), permutations=(PLAIN, LAST)).within
    with pytest.raises(OutputsShapesError, match=r"\[2, 3, 4\] on the left and 'r' \[2, 5\]"):
        held(left, f32(np.zeros((2, 5))), permutations=(PLAIN, LAST))


def test_turning_is_the_inverse_of_the_permutation() -> None:
    left = np.arange(24).reshape(1, 2, 3, 4)
    order = (0, 2, 3, 1)
    np.testing.assert_array_equal(turned(left.transpose(order), order), left)
