"""Two inner values in one form: only where the shapes allow it."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.compare.locating.forms import find_form
from inspector.compare.pairing.layout import Flat, Layouts

FLAT = Layouts(axes={}, flat={"v": Flat(axes=(0, 2, 3, 1), dims=(2, 2, 3))}, told_by={})
FIRST = Layouts(axes={}, flat={"v": Flat(axes=(0, 1, 2, 3), dims=(3, 2, 2))}, told_by={})


def distance(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left - right).max())


@pytest.mark.parametrize("rows", [1, 4])
def test_features_that_were_flattened_in_another_order(rows: int) -> None:
    image = np.random.default_rng(0).normal(size=(rows, 2, 2, 3))
    left, right = image.reshape(rows, -1), image.transpose(0, 3, 1, 2).reshape(rows, -1)
    form = find_form((FLAT, FIRST), ("v", "v"), left, right, distance)
    assert form is not None
    np.testing.assert_array_equal(form.to_left(right), left)
    np.testing.assert_array_equal(form.to_right(left), right)


def test_another_number_of_rows_fits_nothing() -> None:
    four, one = np.zeros((4, 12)), np.zeros((1, 12))
    assert find_form((FLAT, FIRST), ("v", "v"), four, one, distance) is None
    assert find_form((FLAT, FIRST), ("v", "v"), one, four, distance) is None
