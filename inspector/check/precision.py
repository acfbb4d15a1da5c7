"""What a narrower type makes of a BatchNorm.

A runtime that works in half precision does one of three things. It casts the four parameters and
computes slope and intercept in single precision (cuDNN takes its parameters so); it computes them
in half as well, var + epsilon, the root and the division each rounded (as ONNX Runtime does when it
fuses a float16 BatchNorm into a Conv); or the BatchNorm was folded in single precision and the
result is cast (as TensorRT does). In the first, what the layer takes has been rounded before it:
where its mean is many standard deviations, that is most of what it says. In the others, nothing
stands between the accumulator and the layer. A layer is sound where it is sound by each way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.facts.arrays import Arrays

Doubles = NDArray[np.float64]

LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}
"""The largest finite number of each type."""

_UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""How far a number is moved at most when it is rounded, as a share of its size."""

_NORMAL = {"float16": 2.0**-14, "bfloat16": 2.0**-126}
"""The smallest number of each type that has all of its digits."""

_STEP = {"float16": 2.0**-24, "bfloat16": 2.0**-133}
"""What numbers below that are apart."""

CAST, ARITHMETIC, FOLDED = range(3)
"""The three ways, in the order of `Halved.losses`."""

_POINTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Where a channel is looked at: standard deviations from its mean."""

_OF_TYPICAL = 1 / 8
"""Of the layer's typical output: what is lost of a channel that gives less than this is measured
against it, for what comes behind adds channels up."""


def rounded(values: NDArray[Any], dtype: str) -> Doubles:
    """The nearest numbers of a type, ties to even, as float64; too large ones become infinite."""
    with np.errstate(all="ignore"):
        if dtype == "float16":
            return values.astype(np.float16).astype(np.float64)
        single = np.ascontiguousarray(values, dtype=np.float32)
        bits = single.view(np.uint32)
        # bfloat16 is the upper half of a float32; its carry makes the largest infinite, as it must.
        up = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        halved = (up & np.uint32(0xFFFF0000)).view(np.float32)
        return np.where(np.isnan(single), single, halved).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Halved:
    """A layer's channels in a narrower type.

    Attributes
    ----------
    losses
        [3, C]: how far each way moves a channel's output, as a share of what the channel itself
        puts out; infinite where it is no longer finite.
    overflown
        By parameter, [C]: whether it has no finite value in the type.
    divisor_lost
        [C]: whether var + epsilon is 0 in the type.
    slope_overflown
        [C]: whether slope or intercept has no finite value in the type.
    slope_lost
        [C]: whether the slope is 0 by one of the three ways, and was not.
    """

    losses: Doubles
    overflown: dict[str, NDArray[np.bool_]]
    divisor_lost: NDArray[np.bool_]
    slope_overflown: NDArray[np.bool_]
    slope_lost: NDArray[np.bool_]


def halved(arrays: Arrays, epsilon: float, dtype: str) -> Halved | None:
    """What `dtype` makes of a layer; None where not all of its values are known.

    Channels whose slope or intercept is not finite as they are lose nothing more.
    """
    slope, intercept = arrays.slope, arrays.intercept
    if slope is None or intercept is None or not slope.size:
        return None
    scale, bias, mean, var = arrays.scale, arrays.bias, arrays.mean, arrays.var
    four: dict[str, Doubles] = {}
    if scale is not None and bias is not None and mean is not None and var is not None:
        given = {"scale": scale, "B": bias, "mean": mean, "var": var}
        four = {name: each.astype(np.float64) for name, each in given.items()}
        if any(each.shape != slope.shape for each in four.values()):
            return None
    sound = np.isfinite(slope) & np.isfinite(intercept)
    with np.errstate(all="ignore"):
        centre = four["mean"] if four else np.zeros_like(slope)
        spread = np.sqrt(np.maximum(four["var"], 0.0)) if four else np.ones_like(slope)
        output = np.abs(slope) * spread + np.abs(four["B"] if four else intercept)
        if not sound.any():
            return None
        typical = float(np.sqrt(np.mean(np.square(output[sound]))))
        measure = np.maximum(output, typical * _OF_TYPICAL)
        data = [centre + each * spread for each in _POINTS]
        losses, lost = [], np.zeros(slope.shape, dtype=bool)
        for way, (a, b) in enumerate(_ways(four, slope, intercept, epsilon, dtype)):
            taken = [_kept(each, dtype) for each in data] if way == CAST else data
            pairs = zip(taken, data, strict=True)
            moved = [np.abs((a * one + b) - (slope * x + intercept)) for one, x in pairs]
            most = np.max(np.stack(moved), axis=0)
            loss = np.where(most == 0, 0.0, most / measure)
            losses.append(np.where(np.isfinite(a) & np.isfinite(b), loss, np.inf))
            lost |= (a == 0) & (slope != 0)
        table = np.where(
            sound & np.isfinite(output), np.nan_to_num(np.stack(losses), posinf=np.inf), 0.0
        )
    return Halved(
        losses=table,
        overflown={
            name: np.isinf(rounded(each, dtype)) & np.isfinite(each) for name, each in four.items()
        },
        divisor_lost=_divisor(four, epsilon, dtype) == 0 if four else np.zeros_like(lost),
        slope_overflown=sound
        & ~(np.isfinite(rounded(slope, dtype)) & np.isfinite(rounded(intercept, dtype))),
        slope_lost=lost & sound,
    )


def is_sound(arrays: Arrays, epsilon: float, dtype: str, most: float) -> bool:
    """Whether a glance at a layer tells that no channel's output is moved by more than `most`.

    Most layers are so. With u the unit of rounding, the second way adds most of the three: the
    slope is off by 4 u of itself and the intercept by 7 u of mean · slope and 2 u of B, where
    nothing overflows and nothing divided by has lost digits.
    """
    four = arrays.scale, arrays.bias, arrays.mean, arrays.var
    if arrays.slope is None or not arrays.slope.size or any(each is None for each in four):
        return False
    scale, bias, mean, var = (each.astype(np.float64) for each in four if each is not None)
    if len({each.shape for each in (scale, bias, mean, var)}) > 1 or not epsilon >= 0:
        return False
    scale, bias, mean = np.abs(scale), np.abs(bias), np.abs(mean)
    unit, normal, largest = _UNIT[dtype], _NORMAL[dtype], LARGEST[dtype] / 4
    slope = np.abs(arrays.slope)
    with np.errstate(all="ignore"):
        spread, shift = np.sqrt(var), mean * slope
        exact = (var > 2 * normal) & (scale > normal) & (slope > normal)
        fits = (scale < largest) & (var + epsilon < largest) & (slope < largest)
        fits &= shift + bias < largest
        moved = unit * (12 * shift + 5 * slope * spread + 3 * bias) + 8 * _STEP[dtype] * (slope + 1)
        sound = exact & fits & (mean < largest) & (moved <= most * (slope * spread + bias))
    # What is NaN compares as false, and is left to the careful look.
    return bool(sound.all())


def _kept(data: Doubles, dtype: str) -> Doubles:
    """Data as it is rounded in front of the layer; what is too large is not this layer's loss."""
    halved = rounded(data, dtype)
    return np.where(np.isfinite(halved), halved, data)


def _ways(
    four: dict[str, Doubles], slope: Doubles, intercept: Doubles, epsilon: float, dtype: str
) -> Iterator[tuple[Doubles, Doubles]]:
    """Slope and intercept by each of the three ways; where the four are lost, only folded."""
    folded = rounded(slope, dtype), rounded(intercept, dtype)
    if not four:
        yield slope, intercept
        yield slope, intercept
        yield folded
        return
    scale, bias, mean, var = (rounded(four[each], dtype) for each in ("scale", "B", "mean", "var"))
    cast = scale / np.sqrt(var + epsilon)
    yield cast, bias - mean * cast
    computed = rounded(scale / rounded(np.sqrt(_divisor(four, epsilon, dtype)), dtype), dtype)
    yield computed, rounded(bias - rounded(mean * computed, dtype), dtype)
    yield folded


def _divisor(four: dict[str, Doubles], epsilon: float, dtype: str) -> Doubles:
    """Var + epsilon where both are of the type, and so is their sum."""
    added = rounded(np.array([epsilon]), dtype)
    with np.errstate(all="ignore"):
        return rounded(rounded(four["var"], dtype) + added, dtype)
