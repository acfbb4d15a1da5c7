"""What folding makes of an operator's weights, and how far rounding takes them from it.

A BatchNorm with slope a and intercept c behind weights w and bias b leaves w' = a · w and
b' = a · b + c, channel by channel. Rounding is measured against what went into each number: against
b' itself, the cancellation of its terms would look like an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.facts.arrays import Vector
from inspector.facts.batchnorm import BatchNorm
from inspector.facts.model import Model, Node
from inspector.recognise.folded import Traces
from inspector.recognise.layers import Layer, layer_of
from inspector.recognise.linear import bias_adder
from inspector.recognise.place import Place
from inspector.recognise.scopes import places

EPSILONS = {"float64": 2**-52, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}
ROUNDINGS = 8
"""Units in the last place that folding may be off; three were the most in any exporter measured."""

_CHANNELS = 2
_INPUTS = 32
"""Of each layer so many weights are looked at first: they tell most layers apart."""

_HELD = 8
"""Layers whose weights are held at a time."""

Numbers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """One BatchNorm of the reference, with its map and the operator before it."""

    norm: BatchNorm
    slope: Numbers
    intercept: Numbers
    terms: Numbers
    dtype: str
    before: tuple[Node, Place] | None


def composed(row: Sequence[Sought]) -> Sought:
    """Several BatchNorms, each behind the one before, as the one map that they are together."""
    first, *others = row
    slope, intercept, terms = first.slope, first.intercept, first.terms
    for each in others:
        slope, intercept = slope * each.slope, intercept * each.slope + each.intercept
        terms = terms * np.abs(each.slope) + each.terms
    dtype = max((each.dtype for each in row), key=lambda each: EPSILONS.get(each, 0.0))
    return replace(first, slope=slope, intercept=intercept, terms=terms, dtype=dtype)


class Layers:
    """The operators of a model that a BatchNorm can be folded into."""

    def __init__(self, model: Model) -> None:
        found = [(node, place) for place in places(model) for node in Traces(place).nodes]
        self.nodes = [node for node, _ in found]
        self._places = [place for _, place in found]
        self._by_shape: dict[tuple[int, ...], tuple[list[int], Vector]] = {}
        self.load = lru_cache(maxsize=_HELD)(self._load)
        samples: dict[tuple[int, ...], list[tuple[int, Vector]]] = {}
        for at in range(len(found)):
            layer = self._load(at)
            if layer is not None:
                some = _sample(layer.weights).astype(np.float64)
                samples.setdefault(layer.weights.shape, []).append((at, some))
        for shape, of_shape in samples.items():
            stacked = np.stack([some for _, some in of_shape])
            self._by_shape[shape] = [at for at, _ in of_shape], stacked

    def _load(self, at: int) -> Layer | None:
        return layer_of(self.nodes[at], self._places[at])

    def called(self, at: int) -> str:
        """An operator, and the one that adds its bias where that is another."""
        node, place = self.nodes[at], self._places[at]
        adder = None if node.input(2) else bias_adder(node, place)
        both = (node,) if adder is None else (node, adder)
        return ", ".join(f"{each.op_type} {each.label}".rstrip() for each in both)

    def alike(self, original: Layer, sought: Sought) -> list[int]:
        """Those whose first weights are what folding makes of the original's."""
        places_of, samples = self._by_shape.get(original.weights.shape, ([], None))
        if samples is None:
            return []
        expected = sought.slope[:_CHANNELS, None] * _sample(original.weights).astype(np.float64)
        whole = sought.slope[:_CHANNELS, None] * original.weights[:_CHANNELS].astype(np.float64)
        most = np.abs(whole).max(axis=1, initial=0.0)[None, :, None]
        # The types of both are not looked at yet: the coarsest is allowed for.
        room = ROUNDINGS * max(EPSILONS.values())
        with np.errstate(invalid="ignore"):
            fits = (np.abs(samples - expected[None]) <= room * most).all(axis=(1, 2))
        return [at for at, fit in zip(places_of, fits.tolist(), strict=True) if fit]


def _sample(weights: Vector) -> Vector:
    """A few weights of the first channels."""
    return weights[:_CHANNELS, :_INPUTS]


def room_for(dtype: str, sought: Sought) -> float:
    """How far rounding can take a number, relative to what goes into it."""
    return ROUNDINGS * max(EPSILONS.get(each, 2**-23) for each in (dtype, sought.dtype))


def same_map(
    slope: Vector, intercept: Vector, dtype: str, sought: Sought
) -> tuple[float, float] | None:
    """The largest error of a slope and an intercept, if rounding explains it."""
    room = room_for(dtype, sought)
    error = max(
        _largest(np.abs(slope - sought.slope), np.abs(sought.slope)),
        _largest(np.abs(intercept - sought.intercept), sought.terms),
    )
    return (error, room) if error <= room else None


def as_folded(layer: Layer, original: Layer, sought: Sought) -> tuple[float, float] | None:
    """The largest error of folded weights and bias, if rounding explains it."""
    room = max(room_for(layer.dtype, sought), room_for(original.dtype, sought))
    slope = sought.slope[:, None]
    weights_off = _weights_off(layer.weights, original.weights, slope)
    if weights_off > room:
        return None
    best = None
    for before in original.biases:
        expected = sought.slope * before + sought.intercept
        terms = sought.terms + np.abs(sought.slope * before)
        for bias in layer.biases:
            error = max(weights_off, _largest(np.abs(bias - expected), terms))
            unchanged = _largest(np.abs(bias - before), terms)
            if best is None or error < best[0]:
                best = error, unchanged
    if best is None or best[0] > room:
        return None
    error, unchanged = best
    same = _weights_off(layer.weights, original.weights, np.ones_like(slope))
    if same <= error and unchanged <= error:
        return None  # nothing was folded: the BatchNorm changes nothing
    return error, room


def _weights_off(weights: Vector, original: Vector, slope: Vector) -> float:
    """The largest error of folded weights, relative to the largest of their channel."""
    expected = slope * original.astype(np.float64)
    off = np.abs(weights.astype(np.float64) - expected).max(axis=1, initial=0.0)
    return _largest(off, np.abs(expected).max(axis=1, initial=0.0))


def _largest(off: Vector, scale: Vector) -> float:
    """The largest of off / scale; where both are nothing, there is no error."""
    with np.errstate(all="ignore"):
        relative = np.where(off == 0, 0.0, off / scale)
    return float("inf") if np.isnan(relative).any() else float(relative.max(initial=0.0))
