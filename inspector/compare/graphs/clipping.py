"""Operators that cut values off, which exporters write in many ways: Relu, Clip, Max, Min.

All of them are one operator with a lower and an upper bound, either of which may be none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.facts.model import Node

OPERATOR = "Clip"


def bounds(node: Node, stored: Callable[[str], Array | None]) -> dict[str, str] | None:
    """The bounds of an operator that clips, in words; None for one that does anything else.

    Parameters
    ----------
    stored
        Gives the values of a stored tensor by the name under which it is read; None for others.
    """
    if not node.is_standard:
        return None
    match node.op_type:
        case "Relu":
            return _in_words(0.0, None)
        case "Clip":
            return _of_clip(node, stored)
        case "Max" | "Min" if len(node.inputs) == 2:
            found = [stored(name) for name in node.inputs]
            constants = [each for each in found if each is not None]
            if len(constants) != 1 or constants[0].size != 1:
                return None
            if constants[0].dtype.kind != "f":
                return None
            value = float(constants[0].reshape(-1)[0])
            return _in_words(value, None) if node.op_type == "Max" else _in_words(None, value)
    return None


def _of_clip(node: Node, stored: Callable[[str], Array | None]) -> dict[str, str] | None:
    """Bounds are attributes before opset 11, and inputs from then on."""
    ends: list[float | None] = []
    for at, name in ((1, "min"), (2, "max")):
        if node.input(at):
            values = stored(node.input(at))
            if values is None or values.size != 1:
                return None
            ends.append(float(values.reshape(-1)[0]))
        elif name in node.attributes:
            ends.append(node.float_attribute(name, 0.0))
        else:
            ends.append(None)
    return _in_words(*ends)


def _in_words(least: float | None, most: float | None) -> dict[str, str]:
    """Bounds that a float32 reaches never bound anything."""
    top = float(np.finfo(np.float32).max)
    found = {}
    if least is not None and least > -top:
        found["min"] = str(np.float32(least))
    if most is not None and most < top:
        found["max"] = str(np.float32(most))
    return found
