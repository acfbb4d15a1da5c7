"""What became of a reference's BatchNorms in a model, proved by the numbers.

For a BatchNorm with slope a and intercept c behind an operator with weights w and bias b, a folded
one leaves w' = a · w and b' = a · b + c, channel by channel. Rounding is measured against what
went into each number: against b' itself, the cancellation of its terms would look like an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.facts.batchnorm import Affine, BatchNorm, Fate, Form, Norms, Traced
from inspector.facts.model import Model, Node
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
    where: str
    error: float
    allowed: float
    detail: str


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
    search = _Search(model, norms)
    spots = {
        (place.scope, output): place
        for place in places(reference)
        for node in place.nodes
        for output in node.outputs
    }
    return tuple([_traced(each, reference, spots, search) for each in originals.batchnorms])


def _traced(norm: BatchNorm, model: Model, spots: dict[Any, Place], search: _Search) -> Traced:
    sought = _reference(norm, model, spots)
    if isinstance(sought, str):
        return Traced(name=norm.name, scope=norm.scope, fate=Fate.UNTOLD, detail=sought)
    for fate, look in (
        (Fate.KEPT, search.kept),
        (Fate.ARITHMETIC, search.arithmetic),
        (Fate.FOLDED, search.folded),
    ):
        found = look(sought)
        if found is not None:
            return Traced(
                name=norm.name,
                scope=norm.scope,
                fate=fate,
                where=found.where,
                error=found.error,
                allowed=found.allowed,
                detail=found.detail,
            )
    if _changes_nothing(sought):
        why = "it changes nothing (slope 1, intercept 0), so leaving it out leaves no trace"
        return Traced(name=norm.name, scope=norm.scope, fate=Fate.UNTOLD, detail=why)
    return Traced(name=norm.name, scope=norm.scope, fate=Fate.MISSING)


def _reference(norm: BatchNorm, model: Model, spots: dict[Any, Place]) -> _Reference | str:
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
        self._norms = norms
        self._used: set[int] = set()
        self._layers = [(node, place) for place in places(model) for node in Traces(place).nodes]
        self._layer: Callable[[int], Layer | None] = lru_cache(maxsize=_HELD)(self._load)
        self._shapes: dict[int, tuple[tuple[int, ...], str] | None] = {}

    def kept(self, sought: _Reference) -> _Match | None:
        """The BatchNorm in the model that has the same map, and the same bits if any has."""
        forms = (Form.NATIVE, Form.DECOMPOSED)
        norms = [each for each in self._norms.batchnorms if each.form in forms]
        return self._best(norms, sought, lambda norm: self._as_norm(norm, sought))

    def arithmetic(self, sought: _Reference) -> _Match | None:
        """The affine map in the model that is the BatchNorm's."""
        maps: list[BatchNorm | Affine] = [
            each for each in self._norms.batchnorms if each.form is Form.AFFINE
        ]
        maps += self._norms.affines
        return self._best(maps, sought, lambda each: self._as_map(each, sought))

    def folded(self, sought: _Reference) -> _Match | None:
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
                return _Match(where=where, error=found[0], allowed=found[1], detail="")
        return None

    def _shape(self, at: int) -> tuple[int, ...] | None:
        """The shape of a layer's weights as a matrix, found out once."""
        if at not in self._shapes:
            layer = self._layer(at)
            self._shapes[at] = None if layer is None else (layer.weights.shape, layer.dtype)
        known = self._shapes[at]
        return None if known is None else known[0]

    def _load(self, at: int) -> Layer | None:
        return layer_of(*self._layers[at])

    def _best(
        self,
        candidates: Sequence[Any],
        sought: _Reference,
        match: Callable[[Any], _Match | None],
    ) -> _Match | None:
        """The first that matches, those of the same name first."""
        free = [each for each in candidates if id(each) not in self._used]
        free.sort(key=lambda each: each.name != sought.norm.name)
        for each in free:
            if each.channels == sought.slope.size and (found := match(each)) is not None:
                self._used.add(id(each))
                return found
        return None

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
        return _Match(where=norm.name, error=found[0], allowed=found[1], detail=detail)

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
                return _Match(where=where, error=found[0], allowed=found[1], detail="")
        return None


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
