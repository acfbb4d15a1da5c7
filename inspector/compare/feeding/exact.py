"""Given values in the type of an input, where they are the same in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.errors import UsageError

DType = np.dtype[Any]


def exactly(values: Array, dtype: DType, where: str) -> Array:
    """`values` in another type; floats may be rounded to a smaller one, nothing else changes.

    Raises
    ------
    inspector.errors.UsageError
        They do not fit into it, or are NaN or infinite.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UsageError(
            f"{where} holds NaN or infinity", hint="outputs could not be compared: leave them out"
        )
    if values.dtype == dtype:
        return values
    kinds = values.dtype.kind, dtype.kind
    if "O" in kinds or values.dtype.kind in "US":
        fits = kinds in (("U", "O"), ("S", "O"), ("O", "O"))
        cast = _as_text(values) if fits else values
    elif kinds == ("f", "f"):
        with np.errstate(over="ignore"):
            cast = values.astype(dtype)
        fits = bool(np.isfinite(cast).all())
    else:
        fits = _fits(values, dtype)
        cast = values.astype(dtype) if fits else values
    if not fits:
        raise UsageError(
            f"{where} is {values.dtype.name}, which does not fit into {dtype_name(dtype)}",
            hint="convert it in a way that suits the model",
        )
    return cast


def dtype_name(dtype: DType) -> str:
    """A type as ONNX calls it."""
    return "string" if dtype.kind in "OUS" else dtype.name


def is_rounded(given: DType, dtype: DType) -> bool:
    """Whether floats lose digits in `dtype`."""
    return given.kind == dtype.kind == "f" and given.itemsize > dtype.itemsize


def _fits(values: Array, dtype: DType) -> bool:
    """Whether numbers are the same in another kind of type."""
    if not values.size:
        return True
    if values.dtype.kind == "f" and not bool((values == np.floor(values)).all()):
        return False
    # As Python's own integers: there is no type that holds both of any two.
    least, most = int(values.min()), int(values.max())
    match dtype.kind:
        case "b":
            return least >= 0 and most <= 1
        case "i" | "u":
            info = np.iinfo(dtype.name)
            return bool(info.min <= least and most <= info.max)
        case "f":
            exact: int = 2 ** (int(np.finfo(dtype.name).nmant) + 1)
            return -exact <= least and most <= exact
        case _:
            return False


def _as_text(values: Array) -> Array:
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return values.astype(object)
