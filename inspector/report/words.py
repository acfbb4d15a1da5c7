"""Numbers and names as all reports write them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import copysign
from typing import TYPE_CHECKING

from inspector.errors import escaped

if TYPE_CHECKING:
    from inspector.facts.batchnorm import Range

LONGEST = 1000
"""Characters that a name is shown with at most; no exporter writes names of half that length."""


def printable(text: str) -> str:
    """A name from a file as `escaped`; of one beyond `LONGEST` the middle is left out."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}…({len(text):,} characters)…{text[-LONGEST // 4 :]}"
    return escaped(text)


def number(value: float) -> str:
    """Three significant digits in at most eight characters."""
    text = f"{value:.3g}"
    if len(text) <= 8:
        return text
    text = f"{value:.2g}"
    return text if len(text) <= 8 else f"{value:.1g}"


def shortest(value: float) -> str:
    """A float32 attribute in as many digits as tell it from its neighbours (0.001, 1e-05)."""
    # A cache alone takes -0.0 for 0.0.
    return _shortest(value, copysign(1.0, value))


@lru_cache(maxsize=256)  # a model has few values of epsilon and momentum
def _shortest(value: float, _sign: float) -> str:
    import numpy as np

    return str(np.float32(value))


def fitted(value: float, width: int) -> str:
    """A float32 attribute as `shortest`, in fewer digits where that is wider than `width`."""
    text = shortest(value)
    return text if len(text) <= width else f"{value:.{width - 6}g}"


def size(count: int) -> str:
    """Bytes in the unit a person would choose."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{count} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("the last unit returns")


def span(found: Range | None) -> str:
    """A range in words."""
    if found is None:
        return "not known"
    words = f"{number(found.low)} to {number(found.high)}"
    return f"{words} ({found.non_finite:,} NaN or infinite)" if found.non_finite else words


def many(count: int, one: str, more: str = "") -> str:
    """A count with its noun."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def listed(names: Iterable[str], most: int = 6) -> str:
    """Names with commas between, and how many more there are."""
    shown = [printable(name) for name in names]
    rest = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {rest} more" if rest > 0 else "")
