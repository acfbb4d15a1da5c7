"""What several rules ask about a layer's values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.facts.arrays import Arrays, Vector

SMALLEST_NORMAL = 1.1754943508222875e-38
"""The smallest float32 that is not denormal. A variance that decays by a factor at each step ends
in a few denormals and never at 0, and processors that flush them to 0 read them so."""


def doubles(values: Vector) -> NDArray[np.float64]:
    """The values as float64, a NaN of any kind without a word."""
    with np.errstate(all="ignore"):
        return np.asarray(values.astype(np.float64))


def is_all(values: NDArray[Any] | None, number: float) -> bool:
    """Whether there are values, and each of them is exactly `number`."""
    return values is not None and values.size > 0 and bool((doubles(values) == number).all())


def is_constant(values: NDArray[Any]) -> bool:
    """Whether all channels have the same value, as what was filled in has."""
    return values.size == 0 or bool((doubles(values) == float(values.reshape(-1)[0])).all())


def is_untouched(arrays: Arrays) -> bool:
    """Whether the statistics are those that every framework begins with: mean 0 and var 1."""
    return is_all(arrays.mean, 0.0) and is_all(arrays.var, 1.0)
