"""Which layers of two releases are the same, and how far their numbers lie apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspector.check.subject import Subject
from inspector.facts.arrays import Arrays, Vector
from inspector.facts.batchnorm import BatchNorm
from inspector.facts.model import Scope

Doubles = NDArray[np.float64]

_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One layer, in the release before and now."""

    before: BatchNorm
    now: BatchNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Layers that are in both releases, and those that are in one alone."""

    pairs: tuple[Pair, ...]
    lost: tuple[BatchNorm, ...] = ()
    added: tuple[BatchNorm, ...] = ()


_NUMBER = re.compile(r"\d+")


def paired(subject: Subject, baseline: Subject) -> Paired:
    """Pair the layers of two releases, in the order of the newer one.

    By scope and name. Where exporters have numbered the layers, the same number may be another
    layer's: then by order, if there are as many of the same channels, and by name only where all
    names of one release are the other's too. What is left over is paired by order likewise.
    """
    now, before = subject.norms.batchnorms, baseline.norms.batchnorms
    if _are_numbered((*now, *before)) and not _has_all(now, before) and not _has_all(before, now):
        if not _alike(now, before):
            return Paired(pairs=(), lost=before, added=now)
        pairs = [Pair(before=one, now=other) for one, other in zip(before, now, strict=True)]
        return Paired(pairs=tuple(pairs))
    named = {_key(norm): norm for norm in before}
    found = {_key(norm): named.pop(_key(norm)) for norm in now if _key(norm) in named}
    added, lost = [norm for norm in now if _key(norm) not in found], list(named.values())
    if _alike(added, lost):
        found |= {_key(norm): one for norm, one in zip(added, lost, strict=True)}
        lost, added = [], []
    pairs = [Pair(before=found[_key(norm)], now=norm) for norm in now if _key(norm) in found]
    return Paired(pairs=tuple(pairs), lost=tuple(lost), added=tuple(added))


def _key(norm: BatchNorm) -> tuple[Scope, str]:
    return norm.scope, norm.name


def _has_all(some: Sequence[BatchNorm], others: Sequence[BatchNorm]) -> bool:
    """Whether each of `others` has its name among `some`."""
    return {_key(each) for each in others} <= {_key(each) for each in some}


def _are_numbered(norms: Sequence[BatchNorm]) -> bool:
    """Whether the layers' names differ by their numbers alone."""
    return len({(norm.scope, _NUMBER.sub("#", norm.name)) for norm in norms}) <= 1


def _alike(some: Sequence[BatchNorm], others: Sequence[BatchNorm]) -> bool:
    return [each.channels for each in some] == [each.channels for each in others]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moved:
    """How far the channels of a layer have moved, each [C], and in what unit.

    `mean` is in standard deviations of the baseline, `var` in octaves; `scale` and `bias` are
    shares of the typical scale of the baseline's layer, for an output has about that spread. Of a
    layer with less left than that, `scale` and `bias` are those of slope and intercept.
    """

    mean: Doubles | None
    var: Doubles | None
    scale: Doubles | None
    bias: Doubles | None


def moved(before: Arrays, now: Arrays, epsilon: float) -> Moved | None:
    """How far a layer has moved; None where the two cannot be compared.

    A number that is not finite on one side alone has moved infinitely far, and one that is not on
    either not at all: other rules speak of it.
    """
    mean0, var0 = _wide(before.mean), _wide(before.var)
    mean1, var1 = _wide(now.mean), _wide(now.var)
    if mean0 is None or var0 is None or mean1 is None or var1 is None:
        scale, bias = _learned(before.slope, now.slope, before.intercept, now.intercept)
        return None if scale is None else Moved(mean=None, var=None, scale=scale, bias=bias)
    if len({each.shape for each in (mean0, var0, mean1, var1)}) > 1:
        return None
    with np.errstate(all="ignore"):
        wide0, wide1 = np.maximum(var0, 0.0) + epsilon, np.maximum(var1, 0.0) + epsilon
        spread = np.sqrt(np.maximum(wide0, _TINY))
        var = np.where(_same(var0, var1), 0.0, _octaves(wide1 / wide0))
        mean = _distance(mean0, mean1, spread)
    scale, bias = _learned(before.scale, now.scale, before.bias, now.bias)
    return Moved(mean=mean, var=var, scale=scale, bias=bias)


def _learned(
    scale0: Vector | None, scale1: Vector | None, bias0: Vector | None, bias1: Vector | None
) -> tuple[Doubles | None, Doubles | None]:
    """Distances of scale and bias in typical scales of the baseline."""
    one, other = _wide(scale0), _wide(scale1)
    if one is None or other is None or one.shape != other.shape or not one.size:
        return None, None
    with np.errstate(all="ignore"):
        finite = one[np.isfinite(one)]
        typical = float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 1.0
        unit = np.full(one.shape, typical or 1.0)
        first, second = _wide(bias0), _wide(bias1)
        if first is None or second is None or not first.shape == second.shape == one.shape:
            return _distance(one, other, unit), None
        return _distance(one, other, unit), _distance(first, second, unit)


def _distance(one: Doubles, other: Doubles, unit: Doubles) -> Doubles:
    apart = np.where(_same(one, other), 0.0, np.abs(other - one) / unit)
    return np.where(np.isnan(apart), np.inf, apart)


def _same(one: Doubles, other: Doubles) -> NDArray[np.bool_]:
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))


def _octaves(ratio: Doubles) -> Doubles:
    octaves = np.abs(np.log2(ratio))
    return np.where(np.isnan(octaves), np.inf, octaves)


def _wide(values: Vector | None) -> Doubles | None:
    return None if values is None else values.astype(np.float64).reshape(-1)
