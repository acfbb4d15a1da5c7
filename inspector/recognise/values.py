"""A BatchNorm's values, loaded and derived when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from inspector.errors import UnreadableError
from inspector.facts.arrays import Arrays, Vector
from inspector.facts.batchnorm import Affine, BatchNorm, BatchNormValues, Range, Step
from inspector.facts.model import Model

MOST_CHANNELS = 2**24
"""Channels of one layer whose values are loaded; the widest known have some ten thousand."""

TOGETHER = 2**18
"""Most parameter elements that `measure_all` holds at a time, unless one norm has more."""


def load_values(norm: BatchNorm, model: Model) -> Arrays:
    """Load a BatchNorm's parameters and derive ``y = slope · x + intercept``.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged, or no layer has that many channels.
    """
    if norm.steps:
        slope, intercept = load_affine(norm.steps, norm.channels or 1, model)
        return Arrays(scale=None, bias=None, mean=None, var=None, slope=slope, intercept=intercept)
    _check_size(norm, model)
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
            epsilon = np.float64(norm.epsilon or 0.0)
            slope = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + epsilon)
            if bias is not None and mean is not None and bias.shape == mean.shape == slope.shape:
                intercept = bias.astype(np.float64) - mean.astype(np.float64) * slope
    return Arrays(scale=scale, bias=bias, mean=mean, var=var, slope=slope, intercept=intercept)


def load_affine(
    steps: Sequence[Step], channels: int, model: Model
) -> tuple[Vector | None, Vector | None]:
    """Slope and intercept of a map, in float64 of shape [C]; None where a data file is missing.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    if any(each.tensor.external in model.missing_data for each in steps):
        return None, None
    slope, intercept = np.ones(channels), np.zeros(channels)
    # A division by zero is a fact about the model.
    with np.errstate(all="ignore"):
        for step in steps:
            by = model.weights.load(step.tensor).reshape(-1).astype(np.float64)
            match step.op_type:
                case "Add":
                    intercept = intercept + by
                case "Sub" if step.reversed:
                    slope, intercept = -slope, by - intercept
                case "Sub":
                    intercept = intercept - by
                case "Mul":
                    slope, intercept = slope * by, intercept * by
                case _:
                    slope, intercept = slope / by, intercept / by
    return slope, intercept


def measure_affine(affine: Affine, model: Model) -> BatchNormValues:
    """Ranges of a map's slope and intercept over its channels."""
    slope, intercept = load_affine(affine.steps, affine.channels, model)
    return BatchNormValues(
        scale=None,
        bias=None,
        mean=None,
        var=None,
        slope=_range(slope),
        intercept=_range(intercept),
    )


def _check_size(norm: BatchNorm, model: Model) -> None:
    """A few bytes of a file can claim any length, and a hole in a data file bears it out."""
    largest = max((each.tensor.elements for _, each in norm.parameters if each.tensor), default=0)
    if largest > MOST_CHANNELS:
        raise UnreadableError(
            f"BatchNorm {norm.name!r} has {largest:,} channels: no layer has that many",
            where=model.path,
            hint="export the model again",
        )


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


def measure_all(norms: Sequence[BatchNorm], model: Model) -> tuple[BatchNormValues, ...]:
    """What `measure` says of each norm, in their order.

    Norms of equal length share their numpy calls: on small norms those cost more than the numbers.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    groups: dict[int | None, list[int]] = {}
    for at, norm in enumerate(norms):
        groups.setdefault(_common_length(norm, model), []).append(at)
    measured = {at: measure(norms[at], model) for at in groups.pop(None, ())}
    for channels, places in groups.items():
        assert channels is not None  # it was popped above
        most = max(TOGETHER // (4 * channels), 1)
        for start in range(0, len(places), most):
            some = places[start : start + most]
            values = _measure_together([norms[at] for at in some], channels, model)
            measured.update(zip(some, values, strict=True))
    return tuple(measured[at] for at in range(len(norms)))


def _common_length(norm: BatchNorm, model: Model) -> int | None:
    """Elements of each of the four parameters, where all are vectors of that many float32."""
    dims = norm.scale.tensor.dims if norm.scale.tensor is not None else ()
    for each in (norm.scale, norm.bias, norm.mean, norm.var):
        tensor = each.tensor
        if tensor is None or tensor.key < 0 or tensor.dtype != "float32" or tensor.dims != dims:
            return None
        if tensor.external in model.missing_data:
            return None
    return dims[0] or None if len(dims) == 1 and dims[0] <= MOST_CHANNELS else None


def _measure_together(
    norms: Sequence[BatchNorm], channels: int, model: Model
) -> Iterator[BatchNormValues]:
    """As `measure`, for norms whose parameters all are float32 of `channels` elements."""
    parameters = [each.tensor for norm in norms for _, each in norm.parameters]
    rows = np.empty((len(norms), 6, channels))
    # A negative variance is a fact about the model, not a reason to warn on the screen.
    with np.errstate(all="ignore"):
        loaded = model.weights.load_together([each for each in parameters if each is not None])
        rows[:, :4] = loaded.reshape(-1, 4, channels)
        scale, bias, mean, var, slope, intercept = (rows[:, at] for at in range(6))
        epsilon = np.array([[norm.epsilon or 0.0] for norm in norms])
        slope[:] = scale / np.sqrt(var + epsilon)
        intercept[:] = bias - mean * slope
        lows, highs = rows.min(axis=2), rows.max(axis=2)
    finite = (np.isfinite(lows) & np.isfinite(highs)).all(axis=1)
    ranges = zip(norms, finite.tolist(), lows.tolist(), highs.tolist(), strict=True)
    for norm, is_finite, *ends in ranges:
        yield _values_from(*ends) if is_finite else measure(norm, model)


def _values_from(lows: Sequence[float], highs: Sequence[float]) -> BatchNormValues:
    """Values that are all finite, from the ends of their ranges."""
    scale, bias, mean, var, slope, intercept = (
        Range(low=low, high=high, non_finite=0) for low, high in zip(lows, highs, strict=True)
    )
    return BatchNormValues(
        scale=scale, bias=bias, mean=mean, var=var, slope=slope, intercept=intercept
    )
