"""What became of a reference's BatchNorms in a model, proved by the numbers.

BatchNorms may have equal maps, and in an untrained network all of one width have. So what holds
most is looked for first: weights that took one in, then names, then the place, then any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TypeAlias

import numpy as np

from inspector.facts.arrays import Vector
from inspector.facts.batchnorm import Affine, BatchNorm, Form, Norms
from inspector.facts.model import Model, Node, Scope
from inspector.facts.traced import Fate, Traced
from inspector.recognise.folding import (
    EPSILONS,
    ROUNDINGS,
    Layers,
    Sought,
    as_folded,
    composed,
    same_map,
)
from inspector.recognise.layers import layer_of
from inspector.recognise.linear import linear_before
from inspector.recognise.operators import LINEAR, is_blocked
from inspector.recognise.place import Place
from inspector.recognise.scopes import places
from inspector.recognise.values import load_affine, load_values

_MOST_BETWEEN = 8
"""Operators that pass a value on between two BatchNorms."""

_LONGEST_ROW = 32
"""BatchNorms one behind the other that are looked for as one map."""

Spot: TypeAlias = tuple[Scope, str]
"""A value by the scope that it is computed in, and its name."""


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
    search = _Search(model, norms)
    whole = [each for each in sought if not isinstance(each, str)]
    found = search.assigned(whole)
    found.update(search.in_a_row(_rows(whole, found, spots)))
    blocked = any(is_blocked(node) for place in places(model) for node in place.nodes)
    return tuple(
        [
            _traced(norm, each, None if isinstance(each, str) else found.get(id(each)), blocked)
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


def _rows(
    sought: Sequence[Sought], found: Mapping[int, _Match], spots: dict[Spot, Place]
) -> list[list[Sought]]:
    """BatchNorms that were not found and stand one behind the other, with nothing that computes."""
    by_output = {(each.norm.scope, each.norm.output): each for each in sought}
    ahead = {id(each): _in_front(each, by_output, spots) for each in sought}
    fronts = {id(front) for front in ahead.values() if front is not None}
    rows = []
    for each in sought:
        if id(each) in fronts:
            continue  # a part of a longer row
        row, front, within = [each], ahead[id(each)], {id(each)}
        while front is not None and id(front) not in within:
            row.append(front)
            within.add(id(front))
            front = ahead[id(front)]
        row.reverse()
        for end in range(min(len(row), _LONGEST_ROW), 1, -1):
            if not any(id(one) in found for one in row[:end]):
                rows.append(row[:end])
    # The longest first: what a shorter one would find may be a part of it.
    return sorted(rows, key=len, reverse=True)


def _in_front(
    sought: Sought, by_output: Mapping[Spot, Sought], spots: dict[Spot, Place]
) -> Sought | None:
    """The BatchNorm whose output another one takes, as it is."""
    place = spots.get((sought.norm.scope, sought.norm.output))
    value = sought.norm.entered
    for _ in range(_MOST_BETWEEN):
        node = None if place is None else place.producer(value)
        if node is None or node.op_type not in ("Identity", "Dropout", "Cast"):
            break
        value = node.input(0)
    return by_output.get((sought.norm.scope, value))


def _traced(norm: BatchNorm, sought: Sought | str, found: _Match | None, blocked: bool) -> Traced:
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
    if blocked:
        why = "the model stores weights in ONNX Runtime's blocked layout, which is not looked into"
        return Traced(name=norm.name, scope=norm.scope, fate=Fate.UNTOLD, detail=why)
    behind = next((each for each in norm.before if each in LINEAR), "")
    why = f"whether it went into the {behind} behind it is not looked for" if behind else ""
    return Traced(name=norm.name, scope=norm.scope, fate=Fate.MISSING, detail=why)


def _reference(norm: BatchNorm, model: Model, spots: dict[Spot, Place]) -> Sought | str:
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
    return Sought(
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


def _changes_nothing(sought: Sought) -> bool:
    room = ROUNDINGS * EPSILONS.get(sought.dtype, 2**-23)
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
        self._layers = Layers(model)
        self._loaded: dict[tuple[int, int], tuple[Vector, Vector, str] | None] = {}
        self._heads = self._first_slopes()
        self._likely: dict[int, list[BatchNorm | Affine]] = {}
        self._marks: dict[int, bytes | None] = {}

    def assigned(self, sought: Sequence[Sought]) -> dict[int, _Match]:
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

    def in_a_row(self, rows: Iterable[Sequence[Sought]]) -> dict[int, _Match]:
        """Those that went into one operator together, as one map."""
        found: dict[int, _Match] = {}
        for row in rows:
            if any(id(each) in found for each in row):
                continue
            match = self._folded(composed(row))
            if match is None:
                continue
            for each in row:
                others = [one.norm.name for one in row if one is not each]
                found[id(each)] = replace(match, detail=f"together with {', '.join(others)}")
        return found

    def _named(self, sought: Sought) -> _Match | None:
        """A BatchNorm or a map that has the name, or a part of it."""
        name = sought.norm.name
        return self._first(sought, lambda each: f"{name}/".startswith(f"{each.name}/"))

    def _in_place(self, sought: Sought) -> _Match | None:
        """A BatchNorm or a map that stands behind the same weights."""
        mark = None if sought.before is None else _mark(*sought.before)
        if mark is None:
            return None
        return self._first(sought, lambda each: self._mark_before(each) == mark)

    def _anywhere(self, sought: Sought) -> _Match | None:
        return self._first(sought, lambda each: True)

    def _first(self, sought: Sought, fits: Callable[[BatchNorm | Affine], bool]) -> _Match | None:
        """The first that fits and has the map."""
        for each in self._alike(sought):
            if id(each) in self._used or not fits(each):
                continue
            if (found := self._as_any(each, sought)) is not None:
                self._used.add(id(each))
                return found
        return None

    def _alike(self, sought: Sought) -> list[BatchNorm | Affine]:
        """Those whose first channel has the slope that is sought: few, in a trained network."""
        if id(sought) not in self._likely:
            known = self._heads.get(sought.slope.size)
            found: list[BatchNorm | Affine] = []
            if known is not None and sought.slope.size:
                things, slopes = known
                room = ROUNDINGS * max(EPSILONS.values()) * abs(sought.slope[0])
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

    def _folded(self, sought: Sought) -> _Match | None:
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
            found = None if layer is None else as_folded(layer, original, sought)
            if found is not None:
                self._used.add(id(node))
                return _Match(Fate.FOLDED, self._layers.called(at), *found)
        return None

    def _as_any(self, each: BatchNorm | Affine, sought: Sought) -> _Match | None:
        """What a BatchNorm or a map matches as, if it does."""
        for skipped in (0, 1):
            known = self._map_of(each, skipped)
            if known is None:
                continue
            slope, intercept, dtype = known
            found = same_map(slope, intercept, dtype, sought)
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
            dtype = max((s.tensor.dtype for s in steps), key=lambda d: EPSILONS.get(d, 0.0))
        return None if slope is None or intercept is None else (slope, intercept, dtype)


def _mark(node: Node, place: Place) -> bytes | None:
    """What tells an operator's weights from those of others."""
    layer = layer_of(node, place)
    if layer is None:
        return None
    return blake2b(np.ascontiguousarray(layer.weights).tobytes()).digest()
