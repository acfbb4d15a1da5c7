"""Operators that cut values off, which exporters write in many ways: Relu, Clip, Max, Min.

All of them are one operator with a lower and an upper bound, either of which may be none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.facts.model import Node

OPERATOR = "Clip"

_USUAL = "float32"
_ENDS = frozenset({"min", "max"})
_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def bounds(
    node: Node, stored: Callable[[str], Array | None], dtype: str | None
) -> dict[str, str] | None:
    """The bounds of an operator that clips, in words; None for one that does anything else.

    Parameters
    ----------
    stored
        Gives the values of a stored tensor by the name under which it is read; None for others.
    dtype
        Of what it clips, where that is known.
    """
    if not node.is_standard:
        return None
    match node.op_type:
        case "Relu":
            return _in_words(0, None, dtype or _USUAL)
        case "Clip":
            return _of_clip(node, stored, dtype)
        case "Max" | "Min" if len(node.inputs) == 2:
            found = [stored(name) for name in node.inputs]
            constants = [each for each in found if each is not None]
            if len(constants) != 1 or constants[0].size != 1:
                return None
            if constants[0].dtype.kind != "f":
                return None
            value = constants[0].reshape(-1)[0].item()
            of = dtype or constants[0].dtype.name
            return (
                _in_words(value, None, of) if node.op_type == "Max" else _in_words(None, value, of)
            )
    return None


def one_in_float32(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether bounds of two formats are the same in the coarser one."""
    if one.keys() != other.keys() or not one.keys() <= _ENDS:
        return False
    return all(np.float32(text) == np.float32(other[name]) for name, text in one.items())


def _of_clip(
    node: Node, stored: Callable[[str], Array | None], dtype: str | None
) -> dict[str, str] | None:
    """Bounds are attributes before opset 11, and inputs from then on."""
    ends: list[float | None] = []
    for at, name in ((1, "min"), (2, "max")):
        if node.input(at):
            values = stored(node.input(at))
            if values is None or values.size != 1:
                return None
            ends.append(values.reshape(-1)[0].item())
            dtype = dtype or values.dtype.name
        elif name in node.attributes:
            ends.append(node.float_attribute(name, 0.0))
        else:
            ends.append(None)
    return _in_words(ends[0], ends[1], dtype or _USUAL)


def _in_words(least: float | None, most: float | None, dtype: str) -> dict[str, str]:
    """Bounds as the data's own type tells them apart; those that it never reaches bound nothing."""
    bottom, top = _reach(dtype)
    found = {}
    if least is not None and not least <= bottom:
        found["min"] = _number(least, dtype)
    if most is not None and not most >= top:
        found["max"] = _number(most, dtype)
    return found


def _reach(dtype: str) -> tuple[float, float]:
    if _is_integer(dtype):
        whole = np.iinfo(np.dtype(dtype))
        return int(whole.min), int(whole.max)
    # Not of the half formats' own: what was rounded to them keeps the bounds of float32.
    top = float(np.finfo(np.float64 if dtype == "float64" else np.float32).max)
    return -top, top


def _number(value: float, dtype: str) -> str:
    if _is_integer(dtype):
        return str(int(value))
    return str(np.float64(value) if dtype == "float64" else np.float32(value))


def _is_integer(dtype: str) -> bool:
    return dtype in _INTEGERS
