"""What became of a reference's BatchNorms in a model, proved by the numbers.

For a BatchNorm with slope a and intercept c behind an operator with weights w and bias b, a folded
one leaves w' = a · w and b' = a · b + c, channel by channel. Rounding is measured against what
went into each number: against b' itself, the cancellation of its terms would look like an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from inspector.recognise.operators import LINEAR
from inspector.recognise.place import Place
from inspector.recognise.scopes import places
from inspector.recognise.values import Vector, load_affine, load_values

_EPSILONS = {"float64": 2**-52, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}
_ROUNDINGS = 8
"""Units in the last place that folding may be off; three were the most in any exporter measured."""

_CHANNELS = 2
_INPUTS = 32
"""Of each layer so many weights are looked at first: they tell most layers apart."""

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


@dataclass(frozen=True, slots=True)
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
    forward = any(each in LINEAR for each in norm.before)
    why = f"folding into the {norm.before[0]} behind it is not looked for" if forward else ""
    return Traced(name=norm.name, scope=norm.scope, fate=Fate.MISSING, detail=why)


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
        self._layers = _Layers(model)
        self._loaded: dict[tuple[int, int], tuple[Vector, Vector, str] | None] = {}
        self._heads = self._first_slopes()
        self._likely: dict[int, list[BatchNorm | Affine]] = {}
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
        for each in self._alike(sought):
            if id(each) in self._used or not fits(each):
                continue
            if (found := self._as_any(each, sought)) is not None:
                self._used.add(id(each))
                return found
        return None

    def _alike(self, sought: _Reference) -> list[BatchNorm | Affine]:
        """Those whose first channel has the slope that is sought: few, in a trained network."""
        if id(sought) not in self._likely:
            known = self._heads.get(sought.slope.size)
            found: list[BatchNorm | Affine] = []
            if known is not None and sought.slope.size:
                things, slopes = known
                room = _ROUNDINGS * max(_EPSILONS.values()) * abs(sought.slope[0])
                near = np.abs(slopes - sought.slope[0]) <= room
                found = [things[at] for at in np.flatnonzero(near)]
            self._likely[id(sought)] = found
        return self._likely[id(sought)]

    def _first_slopes(self) -> dict[int, tuple[list[BatchNorm | Affine], Vector]]:
        """The slope of the first channel of all that could be a BatchNorm, by their channels."""
        found: dict[int, tuple[list[BatchNorm | Affine], list[float]]] = {}
        for each in (*self._norms, *self._maps):
            known = self._map_of(each, 0)
            if known is not None and each.channels and known[0].size:
                things, slopes = found.setdefault(each.channels, ([], []))
                things.append(each)
                slopes.append(float(known[0][0]))
        return {size: (things, np.array(slopes)) for size, (things, slopes) in found.items()}

    def _mark_before(self, each: BatchNorm | Affine) -> bytes | None:
        """What tells the weights before a BatchNorm or a map of the model from others."""
        if id(each) not in self._marks:
            place = self._spots.get((each.scope, each.output))
            node = None if place is None else linear_before(each.entered, place)
            known = None if node is None or place is None else _mark(node, place)
            self._marks[id(each)] = known
        return self._marks[id(each)]

    def _folded(self, sought: _Reference) -> _Match | None:
        """The operator in the model whose weights took the BatchNorm in."""
        if sought.before is None:
            return None
        original = layer_of(*sought.before)
        if original is None or original.weights.shape[0] != sought.slope.size:
            return None
        likely = self._layers.alike(original, sought)
        # Of several with equal weights the one of the same name is meant.
        name = sought.before[0].label
        for at in sorted(likely, key=lambda at: self._layers.nodes[at].label != name):
            node = self._layers.nodes[at]
            layer = None if id(node) in self._used else self._layers.load(at)
            found = None if layer is None else _as_folded(layer, original, sought)
            if found is not None:
                self._used.add(id(node))
                where = f"{node.op_type} {node.label}".rstrip()
                return _Match(Fate.FOLDED, where, *found)
        return None

    def _as_any(self, each: BatchNorm | Affine, sought: _Reference) -> _Match | None:
        """What a BatchNorm or a map matches as, if it does."""
        for skipped in (0, 1):
            known = self._map_of(each, skipped)
            if known is None:
                continue
            slope, intercept, dtype = known
            found = _same_map(slope, intercept, dtype, sought)
            if found is not None:
                error, allowed = found
                if isinstance(each, BatchNorm) and each.form is not Form.AFFINE:
                    native = each.form is Form.NATIVE
                    detail = "" if native else "as arithmetic with all four parameters"
                    return _Match(Fate.KEPT, each.name, error, allowed, detail)
                where = ", ".join(each.nodes[skipped:])
                return _Match(Fate.ARITHMETIC, where, error, allowed)
        return None

    def _map_of(self, each: BatchNorm | Affine, skipped: int) -> tuple[Vector, Vector, str] | None:
        """Slope and intercept, loaded once, and the coarsest type that went into them.

        A bias in front of a map may have been taken for a part of it: one addition may be skipped.
        """
        key = id(each), skipped
        if key not in self._loaded:
            self._loaded[key] = self._load_map(each, skipped)
        return self._loaded[key]

    def _load_map(
        self, each: BatchNorm | Affine, skipped: int
    ) -> tuple[Vector, Vector, str] | None:
        if isinstance(each, BatchNorm) and not each.steps:
            if skipped or each.training or each.var.tensor is None:
                return None
            loaded = load_values(each, self._model)
            slope, intercept, dtype = loaded.slope, loaded.intercept, each.var.tensor.dtype
        else:
            steps = each.steps[skipped:]
            if not steps or (skipped and each.steps[0].op_type != "Add"):
                return None
            slope, intercept = load_affine(steps, each.channels or 1, self._model)
            dtype = max((s.tensor.dtype for s in steps), key=lambda d: _EPSILONS.get(d, 0.0))
        return None if slope is None or intercept is None else (slope, intercept, dtype)


class _Layers:
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

    def alike(self, original: Layer, sought: _Reference) -> list[int]:
        """Those whose first weights are what folding makes of the original's."""
        places_of, samples = self._by_shape.get(original.weights.shape, ([], None))
        if samples is None:
            return []
        expected = sought.slope[:_CHANNELS, None] * _sample(original.weights).astype(np.float64)
        whole = sought.slope[:_CHANNELS, None] * original.weights[:_CHANNELS].astype(np.float64)
        most = np.abs(whole).max(axis=1, initial=0.0)[None, :, None]
        # The types of both are not looked at yet: the coarsest is allowed for.
        room = _ROUNDINGS * max(_EPSILONS.values())
        with np.errstate(invalid="ignore"):
            fits = (np.abs(samples - expected[None]) <= room * most).all(axis=(1, 2))
        return [at for at, fit in zip(places_of, fits.tolist(), strict=True) if fit]


def _sample(weights: Vector) -> Vector:
    """A few weights of the first channels."""
    return weights[:_CHANNELS, :_INPUTS]


def _mark(node: Node, place: Place) -> bytes | None:
    """What tells an operator's weights from those of others."""
    layer = layer_of(node, place)
    if layer is None:
        return None
    return blake2b(np.ascontiguousarray(layer.weights).tobytes()).digest()


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
