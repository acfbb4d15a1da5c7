"""What became of a reference's BatchNorms in a model, proved by the numbers.

For a BatchNorm with slope a and intercept c behind an operator with weights w and bias b, a folded
one leaves w' = a · w and b' = a · b + c, channel by channel. Rounding is measured against what
went into each number: against b' itself, the cancellation of its terms would look like an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.facts.batchnorm import Affine, BatchNorm, Fate, Form, Norms, Traced
from inspector.facts.model import Model, Node, Scope
from inspector.recognise.folded import Traces
from inspector.recognise.linear import Layer, layer_of, linear_before
from inspector.recognise.place import Place
from inspector.recognise.scopes import places
from inspector.recognise.values import Vector, load_affine, load_values

_EPSILONS = {"float64": 2**-52, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}
_ROUNDINGS = 8
"""Units in the last place that folding may be off; three were the most in any exporter measured."""

_HELD = 8
"""Layers whose weights are held at a time."""

Numbers: TypeAlias = NDArray[np.float64]
Spot: TypeAlias = tuple[Scope, str]
"""A value by the scope that it is computed in, and its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """One BatchNorm of the reference, with its map and the operator before it."""

    norm: BatchNorm
    slope: Numbers
    intercept: Numbers
    terms: Numbers
    dtype: str
    before: tuple[Node, Place] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    fate: Fate
    where: str
    error: float
    allowed: float
    detail: str = ""


def trace(model: Model, norms: Norms, reference: Model, originals: Norms) -> tuple[Traced, ...]:
    """What became of each BatchNorm of `reference` in `model`.

    Parameters
    ----------
    norms, originals
        What was found in the two models.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    spots = _spots(reference)
    sought = [_reference(each, reference, spots) for each in originals.batchnorms]
    found = _Search(model, norms).assigned([each for each in sought if not isinstance(each, str)])
    return tuple(
        [
            _traced(norm, each, None if isinstance(each, str) else found.get(id(each)))
            for norm, each in zip(originals.batchnorms, sought, strict=True)
        ]
    )


def _spots(model: Model) -> dict[Spot, Place]:
    """Where each value of a model is computed."""
    return {
        (place.scope, output): place
        for place in places(model)
        for node in place.nodes
        for output in node.outputs
    }


def _traced(norm: BatchNorm, sought: _Reference | str, found: _Match | None) -> Traced:
    if isinstance(sought, str):
        return Traced(name=norm.name, scope=norm.scope, fate=Fate.UNTOLD, detail=sought)
    if found is not None:
        return Traced(
            name=norm.name,
            scope=norm.scope,
            fate=found.fate,
            where=found.where,
            error=found.error,
            allowed=found.allowed,
            detail=found.detail,
        )
    if _changes_nothing(sought):
        why = "it changes nothing (slope 1, intercept 0), so leaving it out leaves no trace"
        return Traced(name=norm.name, scope=norm.scope, fate=Fate.UNTOLD, detail=why)
    return Traced(name=norm.name, scope=norm.scope, fate=Fate.MISSING)


def _reference(norm: BatchNorm, model: Model, spots: dict[Spot, Place]) -> _Reference | str:
    """What is sought, or why it cannot be."""
    if norm.training:
        return "it normalises by the batch in the reference"
    loaded = load_values(norm, model)
    if loaded.slope is None or loaded.intercept is None:
        return "the reference does not tell all of its parameters"
    terms = np.abs(loaded.intercept)
    if loaded.bias is not None and loaded.mean is not None:
        terms = np.abs(loaded.bias.astype(np.float64))
        terms = terms + np.abs(loaded.mean.astype(np.float64) * loaded.slope)
    place = spots.get((norm.scope, norm.output))
    node = _entering(norm, place)
    return _Reference(
        norm=norm,
        slope=loaded.slope,
        intercept=loaded.intercept,
        terms=terms,
        dtype=norm.var.tensor.dtype if norm.var.tensor is not None else "float32",
        before=None if node is None or place is None else (node, place),
    )


def _entering(norm: BatchNorm, place: Place | None) -> Node | None:
    """The operator whose output the BatchNorm takes."""
    if place is None or not norm.entered:
        return None
    return linear_before(norm.entered, place)


def _changes_nothing(sought: _Reference) -> bool:
    room = _ROUNDINGS * _EPSILONS.get(sought.dtype, 2**-23)
    return bool((np.abs(sought.slope - 1) <= room).all() and (sought.terms <= room).all())


class _Search:
    """Looks for BatchNorms in a model; what is found once is not found again."""

    def __init__(self, model: Model, norms: Norms) -> None:
        self._model = model
        self._spots = _spots(model)
        forms = (Form.NATIVE, Form.DECOMPOSED)
        self._norms = [each for each in norms.batchnorms if each.form in forms]
        self._maps: list[BatchNorm | Affine] = [
            each for each in norms.batchnorms if each.form is Form.AFFINE
        ]
        self._maps += norms.affines
        self._used: set[int] = set()
        self._layers = [(node, place) for place in places(model) for node in Traces(place).nodes]
        self._layer: Callable[[int], Layer | None] = lru_cache(maxsize=_HELD)(self._load)
        self._shapes: dict[int, tuple[int, ...] | None] = {}
        self._marks: dict[int, bytes | None] = {}

    def assigned(self, sought: Sequence[_Reference]) -> dict[int, _Match]:
        """What each BatchNorm is found in, by its id.

        BatchNorms may have equal maps: all of one width have in an untrained network. So what
        holds most is looked for first: weights that took one in, then a map at the place where
        it was, then any.
        """
        found: dict[int, _Match] = {}
        for look in (self._folded, self._named, self._in_place, self._anywhere):
            for each in sought:
                if id(each) not in found and (match := look(each)) is not None:
                    found[id(each)] = match
        return found

    def _named(self, sought: _Reference) -> _Match | None:
        """A BatchNorm or a map that has the name, or a part of it."""
        name = sought.norm.name
        return self._first(sought, lambda each: f"{name}/".startswith(f"{each.name}/"))

    def _in_place(self, sought: _Reference) -> _Match | None:
        """A BatchNorm or a map that stands behind the same weights."""
        mark = None if sought.before is None else _mark(*sought.before)
        if mark is None:
            return None
        return self._first(sought, lambda each: self._mark_before(each) == mark)

    def _anywhere(self, sought: _Reference) -> _Match | None:
        return self._first(sought, lambda each: True)

    def _first(
        self, sought: _Reference, fits: Callable[[BatchNorm | Affine], bool]
    ) -> _Match | None:
        """The first that fits and has the map."""
        for each in (*self._norms, *self._maps):
            if id(each) in self._used or each.channels != sought.slope.size or not fits(each):
                continue
            if (found := self._as_any(each, sought)) is not None:
                self._used.add(id(each))
                return found
        return None

    def _mark_before(self, each: BatchNorm | Affine) -> bytes | None:
        """What tells the weights before a BatchNorm or a map of the model from others."""
        if id(each) not in self._marks:
            place = self._spots.get((each.scope, each.output))
            node = None if place is None else linear_before(each.entered, place)
            known = None if node is None or place is None else _mark(node, place)
            self._marks[id(each)] = known
        return self._marks[id(each)]

    def _as_any(self, each: BatchNorm | Affine, sought: _Reference) -> _Match | None:
        if isinstance(each, BatchNorm) and each.form is not Form.AFFINE:
            return self._as_norm(each, sought)
        return self._as_map(each, sought)

    def _folded(self, sought: _Reference) -> _Match | None:
        """The operator in the model whose weights took the BatchNorm in."""
        if sought.before is None:
            return None
        original = layer_of(*sought.before)
        if original is None or original.weights.shape[0] != sought.slope.size:
            return None
        ours = sought.before[0].label
        order = sorted(range(len(self._layers)), key=lambda at: self._layers[at][0].label != ours)
        for at in order:
            node = self._layers[at][0]
            if id(node) in self._used or self._shape(at) != original.weights.shape:
                continue
            layer = self._layer(at)
            found = None if layer is None else _as_folded(layer, original, sought)
            if found is not None:
                self._used.add(id(node))
                where = f"{node.op_type} {node.label}".rstrip()
                return _Match(fate=Fate.FOLDED, where=where, error=found[0], allowed=found[1])
        return None

    def _shape(self, at: int) -> tuple[int, ...] | None:
        """The shape of a layer's weights as a matrix, found out once."""
        if at not in self._shapes:
            layer = self._layer(at)
            self._shapes[at] = None if layer is None else layer.weights.shape
        return self._shapes[at]

    def _load(self, at: int) -> Layer | None:
        return layer_of(*self._layers[at])

    def _as_norm(self, norm: BatchNorm, sought: _Reference) -> _Match | None:
        if norm.training:
            return None
        loaded = load_values(norm, self._model)
        if loaded.slope is None or loaded.intercept is None or norm.var.tensor is None:
            return None
        found = _same_map(loaded.slope, loaded.intercept, norm.var.tensor.dtype, sought)
        if found is None:
            return None
        detail = "" if norm.form is Form.NATIVE else "as arithmetic with all four parameters"
        error, allowed = found
        return _Match(fate=Fate.KEPT, where=norm.name, error=error, allowed=allowed, detail=detail)

    def _as_map(self, each: BatchNorm | Affine, sought: _Reference) -> _Match | None:
        for steps in (each.steps, each.steps[1:]):
            # A bias in front of the BatchNorm may have been taken for a part of it.
            if not steps or (steps is not each.steps and each.steps[0].op_type != "Add"):
                continue
            slope, intercept = load_affine(steps, sought.slope.size, self._model)
            if slope is None or intercept is None:
                return None
            found = _same_map(slope, intercept, _coarsest(s.tensor.dtype for s in steps), sought)
            if found is not None:
                where = ", ".join(each.nodes[-len(steps) :])
                return _Match(fate=Fate.ARITHMETIC, where=where, error=found[0], allowed=found[1])
        return None


def _mark(node: Node, place: Place) -> bytes | None:
    """What tells an operator's weights from those of others."""
    layer = layer_of(node, place)
    if layer is None:
        return None
    return blake2b(np.ascontiguousarray(layer.weights).tobytes()).digest()


def _coarsest(dtypes: Iterator[str]) -> str:
    return max(dtypes, key=lambda each: _EPSILONS.get(each, 0.0))


def _room(dtype: str, sought: _Reference) -> float:
    """How far rounding can take a number, relative to what goes into it."""
    return _ROUNDINGS * max(_EPSILONS.get(each, 2**-23) for each in (dtype, sought.dtype))


def _same_map(
    slope: Vector, intercept: Vector, dtype: str, sought: _Reference
) -> tuple[float, float] | None:
    """The largest error of a slope and an intercept, if rounding explains it."""
    room = _room(dtype, sought)
    error = max(
        _largest(np.abs(slope - sought.slope), np.abs(sought.slope)),
        _largest(np.abs(intercept - sought.intercept), sought.terms),
    )
    return (error, room) if error <= room else None


def _as_folded(layer: Layer, original: Layer, sought: _Reference) -> tuple[float, float] | None:
    """The largest error of folded weights and bias, if rounding explains it."""
    room = max(_room(layer.dtype, sought), _room(original.dtype, sought))
    slope = sought.slope[:, None]
    some = slice(0, 2)
    if _weights_off(layer.weights[some], original.weights[some], slope[some]) > room:
        return None  # most are told by their first channels
    bias = sought.slope * original.bias + sought.intercept
    terms = sought.terms + np.abs(sought.slope * original.bias)
    error = max(
        _largest(np.abs(layer.bias - bias), terms),
        _weights_off(layer.weights, original.weights, slope),
    )
    if error > room:
        return None
    same = _weights_off(layer.weights, original.weights, np.ones_like(slope))
    if same <= error and _largest(np.abs(layer.bias - original.bias), terms) <= error:
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
