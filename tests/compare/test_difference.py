from __future__ import annotations

import numpy as np
import pytest

from inspector.compare.measuring.difference import difference, distances, worst


def test_the_worst_element_is_found() -> None:
    left = np.zeros((2, 3), np.float32)
    right = left.copy()
    right[1, 2] = -0.5
    found = difference(left, right)
    assert (found.max_abs, found.at, found.left_at, found.right_at) == (0.5, (1, 2), 0.0, -0.5)
    assert found.mean_abs == pytest.approx(0.5 / 6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinitely_far_even_from_itself(value: float) -> None:
    values = np.array([1.0, value])
    found = difference(values, values)
    assert found.max_abs == np.inf
    assert found.at == (1,)
    assert (found.left_non_finite, found.right_non_finite, found.both_non_finite) == (1, 1, 1)
    one = difference(values, np.array([1.0, 2.0]))
    assert (one.left_non_finite, one.right_non_finite, one.both_non_finite) == (1, 0, 0)
    assert one.scale == 1.0


@pytest.mark.parametrize(
    ("left", "right", "apart"),
    [
        ([True, False], [True, True], [0, 1]),
        (["a", "b"], ["a", "c"], [0, 1]),
        (np.array([2**60, 1]), np.array([2**60 + 1, 3]), [1, 2]),
        (np.array([0, 255], np.uint8), np.array([255, 0], np.uint8), [255, 255]),
        (np.array([1.0], np.float16), np.array([1.5], np.float64), [0.5]),
        (np.array([-0.0]), np.array([0.0]), [0.0]),
    ],
)
def test_every_type_has_a_distance(left: object, right: object, apart: list[float]) -> None:
    np.testing.assert_array_equal(distances(np.array(left), np.array(right)), apart)


def test_empty_and_scalar_arrays() -> None:
    assert difference(np.zeros((0, 3)), np.zeros((0, 3))).max_abs == 0.0
    scalar = difference(np.array(1.0), np.array(3.0))
    assert (scalar.max_abs, scalar.at, scalar.scale) == (2.0, (), 1.0)


def test_complex_numbers_are_two_each() -> None:
    assert difference(np.array([1 + 1j]), np.array([1 + 3j])).max_abs == 2.0


def test_shapes_that_differ_are_not_the_business_of_this() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        difference(np.zeros(2), np.zeros(3))


def test_top1_counts_rows_and_relative_is_of_the_scale() -> None:
    left = np.array([[0.0, 1.0], [1.0, 0.0]])
    found = difference(left, left[:, ::-1].copy())
    assert found.top1 == 0.0
    assert found.relative == pytest.approx(1 / left.std())
    assert difference(left, left).relative == 0.0
    assert difference(np.zeros((2, 1)), np.zeros((2, 1))).top1 is None


def test_the_worst_of_several_sums_what_is_not_finite() -> None:
    small = difference(np.array([[1.0, 2.0]]), np.array([[1.1, 2.0]]))
    large = difference(np.array([[1.0, np.nan]]), np.array([[3.0, 2.0]]))
    found = worst([small, large])
    assert found.max_abs == np.inf
    assert found.left_non_finite == 1
    assert found.scale == 1.0  # one finite element: its magnitude
