"""What BN020 and BN021 have in common: which channels a narrower type loses, and to what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspector.check.precision import ARITHMETIC, CAST, FOLDED, LARGEST, Halved, halved, is_sound
from inspector.check.rule import Found, found
from inspector.check.subject import Layer, Subject
from inspector.check.words import in_channels, number
from inspector.facts.batchnorm import BatchNorm

_HALVES = frozenset(LARGEST)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Loss:
    """Channels that are lost to one cause."""

    cause: str
    channels: NDArray[np.intp]
    text: str


def lost_in(subject: Subject, dtype: str, most: float) -> Iterator[Found]:
    """Layers with channels whose output `dtype` moves by more than `most` of what they put out."""
    for layer in subject.layers():
        norm = layer.norm
        if norm.training or not _is_meant(layer, subject, dtype):
            continue
        epsilon = norm.epsilon or 0.0
        if is_sound(layer.arrays, epsilon, dtype, most):
            continue
        result = halved(layer.arrays, epsilon, dtype)
        if result is None:
            continue
        left = np.max(result.losses, axis=0) > most
        for each in _causes(layer, result, left, dtype):
            yield _found(norm, each, result, dtype)


def _is_meant(layer: Layer, subject: Subject, dtype: str) -> bool:
    """Whether a layer may be run in `dtype`.

    One that is in the other half type will not be cast to this one. Parameters that are kept in
    single precision beside data in half are what this rule would have asked for.
    """
    stored = _stored(layer)
    if stored & (_HALVES - {dtype}):
        return False
    data = subject.value(layer.norm.entered) if not layer.norm.scope else None
    return data is None or data.dtype not in _HALVES or stored == {data.dtype} == {dtype}


def _stored(layer: Layer) -> set[str]:
    """The types that a layer's numbers are stored in."""
    tensors = [each.tensor for _, each in layer.norm.parameters]
    tensors += [each.tensor for each in layer.norm.steps]
    return {each.dtype for each in tensors if each is not None}


def _causes(layer: Layer, result: Halved, left: NDArray[np.bool_], dtype: str) -> Iterator[_Loss]:
    """The channels in `left` by what they are lost to, each under the gravest cause."""
    largest = f"{LARGEST[dtype]:g}, the largest {dtype}"
    arrays = layer.arrays
    values = {"scale": arrays.scale, "B": arrays.bias, "mean": arrays.mean, "var": arrays.var}
    for name, beyond in result.overflown.items():
        hit, stored = np.flatnonzero(left & beyond), values[name]
        if hit.size and stored is not None:
            top = float(np.max(np.abs(stored[hit].astype(np.float64))))
            yield _Loss(
                cause=f"{name} overflows",
                channels=hit,
                text=f"{name} is up to {number(top)}, beyond {largest},",
            )
            left = left & ~beyond
    hit = np.flatnonzero(left & result.divisor_lost)
    if hit.size and arrays.var is not None:
        least = float(np.min(arrays.var[hit].astype(np.float64)))
        epsilon = number(layer.norm.epsilon or 0.0)
        yield _Loss(
            cause="var + epsilon vanishes",
            channels=hit,
            text=f"var + epsilon, {number(least)} + {epsilon}, vanishes in {dtype}",
        )
        left = left & ~result.divisor_lost
    hit = np.flatnonzero(left & result.slope_overflown)
    if hit.size and arrays.slope is not None and arrays.intercept is not None:
        top = float(max(np.max(np.abs(arrays.slope[hit])), np.max(np.abs(arrays.intercept[hit]))))
        yield _Loss(
            cause="slope or intercept overflows",
            channels=hit,
            text=f"the slope or the intercept is up to {number(top)}, beyond {largest},",
        )
        left = left & ~result.slope_overflown
    hit = np.flatnonzero(left & result.slope_lost)
    if hit.size and arrays.slope is not None:
        top = float(np.max(np.abs(arrays.slope[hit])))
        yield _Loss(
            cause="the slope vanishes",
            channels=hit,
            text=f"a slope of {number(top)} vanishes in {dtype}",
        )
        left = left & ~result.slope_lost
    hit = np.flatnonzero(left)
    if hit.size:
        text = _digits_lost(layer, result, hit, dtype)
        yield _Loss(cause="rounding", channels=hit, text=text)


def _digits_lost(layer: Layer, result: Halved, hit: NDArray[np.intp], dtype: str) -> str:
    """What too few digits are kept of, in the channel that loses most."""
    mean, var = layer.arrays.mean, layer.arrays.var
    if mean is None or var is None:
        return f"{dtype} keeps too few digits of slope or intercept"
    worst = hit[np.argmax(np.max(result.losses[:, hit], axis=0))]
    spread = float(np.sqrt(max(float(var[worst]), 0.0)))
    return (
        f"{dtype} keeps too few digits of data of mean {number(float(mean[worst]))} and standard "
        f"deviation {number(spread)}"
    )


def _found(norm: BatchNorm, loss: _Loss, result: Halved, dtype: str) -> Found:
    worst = float(np.max(result.losses[:, loss.channels]))
    effect = "and"
    if np.isinf(worst):
        effect += " the output may become infinite or NaN"
    else:
        effect += f" the output may move by up to {number(100 * worst)} % of its usual size"
    ways = np.max(result.losses[:, loss.channels], axis=1)
    of = result.losses.shape[1]
    remedy = ""
    if ways[FOLDED] < worst / 8 and norm.foldable_into is not None:
        remedy = (
            f"fold it into {norm.foldable_into} in float32 and cast the result: what is left then "
            f"fits into {dtype}"
        )
    return found(
        norm,
        f"{loss.text} {in_channels(loss.channels.tolist(), of)}, {effect}",
        channels=loss.channels.tolist(),
        remedy=remedy,
        cause=loss.cause,
        loss_cast=float(ways[CAST]),
        loss_computed=float(ways[ARITHMETIC]),
        loss_folded=float(ways[FOLDED]),
    )
