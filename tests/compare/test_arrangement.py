from __future__ import annotations

import numpy as np
import pytest

from inspector.compare.causes.arrangement import arrangement

VALUES = np.arange(96.0).reshape(16, 6)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([*range(15, -1, -1)], "reversed"),
        ([*range(3, 16), 0, 1, 2], "shifted by 3"),
        ([0, 5, 2, 3, 4, 1, *range(6, 16)], "at 1 and 5 swapped"),
        (
            [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, *range(12, 16)],
            "in the order 0, 2, 1, 3 of blocks of 4",
        ),
        ([5, 0, 1, 4, 2, 6, 3, 7, *range(8, 16)], "in the order 5, 0, 1, 4, 2, 6, 3, 7, …"),
    ],
)
def test_an_order_along_an_axis_is_said(order: list[int], words: str) -> None:
    assert arrangement(VALUES, VALUES[order]) == f"with axis 0 {words}"
    assert arrangement(VALUES.T, VALUES[order].T) == f"with axis 1 {words}"
