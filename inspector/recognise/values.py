"""A BatchNorm's values, loaded and derived when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.facts.batchnorm import BatchNorm, BatchNormValues, Range
from inspector.facts.model import Model

Vector: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Arrays of shape [C]: the four parameters in their own dtype, the derived two in float64.

    None stands for values that the file or its data files do not hold.
    """

    scale: Vector | None
    bias: Vector | None
    mean: Vector | None
    var: Vector | None
    slope: Vector | None
    intercept: Vector | None


def load_values(norm: BatchNorm, model: Model) -> Loaded:
    """Load a BatchNorm's parameters and derive ``y = slope · x + intercept``.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    scale, bias, mean, var = (
        None
        if each.tensor is None or each.tensor.external in model.missing_data
        else model.weights.load(each.tensor).reshape(-1)
        for _, each in norm.parameters
    )
    slope = intercept = None
    if scale is not None and var is not None and scale.shape == var.shape:
        # A negative variance is a fact about the model, not a reason to warn on the screen.
        with np.errstate(all="ignore"):
            epsilon = np.float64(np.float32(norm.epsilon))
            slope = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + epsilon)
            if bias is not None and mean is not None and bias.shape == mean.shape == slope.shape:
                intercept = bias.astype(np.float64) - mean.astype(np.float64) * slope
    return Loaded(scale=scale, bias=bias, mean=mean, var=var, slope=slope, intercept=intercept)


def measure(norm: BatchNorm, model: Model) -> BatchNormValues:
    """Ranges of a BatchNorm's values over its channels."""
    loaded = load_values(norm, model)
    return BatchNormValues(
        scale=_range(loaded.scale),
        bias=_range(loaded.bias),
        mean=_range(loaded.mean),
        var=_range(loaded.var),
        slope=_range(loaded.slope),
        intercept=_range(loaded.intercept),
    )


def _range(values: Vector | None) -> Range | None:
    if values is None or values.size == 0:
        return None
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    nothing = float("nan")
    return Range(
        low=float(finite.min()) if finite.size else nothing,
        high=float(finite.max()) if finite.size else nothing,
        non_finite=int(numbers.size - finite.size),
    )
