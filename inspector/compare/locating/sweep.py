"""Values in the middle of both models, run and held against each other, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from inspector.compare.feeding.feeds import Batch
from inspector.compare.graphs.structure import Network
from inspector.compare.locating.forms import Form, find_form
from inspector.compare.locating.places import Place
from inspector.compare.measuring.floor import (
    FLOORS,
    FLOORS_COARSE,
    Grain,
    allowance,
    moved_by_an_ulp,
    neighbouring_weights,
)
from inspector.compare.measuring.precision import Precision
from inspector.compare.measuring.unquantised import ROUNDED, Steps, rounded_anew
from inspector.compare.pairing.layout import Layouts
from inspector.compare.runtime.host import Host, HostedRunner, HostGoneError
from inspector.compare.runtime.run import Array, Fed
from inspector.errors import RunError, UndecidedError
from inspector.facts.model import Model
from inspector.facts.patch import Expose, Feed, Patch, Runnable

SLACK = 4.0
"""Tolerances that a value in the middle may take: its floor is measured with fewer draws."""

SLACK_COARSE = 1.5
"""The same where weights were rounded to a grid, or to a coarse type: that moves more than what
draws miss."""

_DRAWS = 2
"""How often weights are rounded anew."""

_COPIES = 20
"""Arrays of a value's size that are held at a time while it is compared, both sides together."""

_MOST_MOVED = 2**25
"""Bytes of weights that are moved to measure the floor; of larger models the inputs alone are."""

_OPEN = 32
"""Length that an unknown dimension is taken to have where memory is planned."""

Patched = Callable[[Model, Sequence[Patch]], Runnable]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """One place, compared."""

    place: Place
    form: Form
    max_abs: float
    relative: float
    tolerance: float
    within: bool
    left_dtype: np.dtype[Any]
    right_dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graft:
    """Other values in place of a side's own at a place: the left side's in the right one."""

    place: Place
    values: Array
    side: int = 1

    def feed(self) -> Feed:
        value = (self.place.left, self.place.right)[self.side]
        node = (self.place.left_node, self.place.node)[self.side]
        return Feed(
            value=value,
            name=f"bninspect_graft_{value}_{node}_{self.place.position}",
            dtype=self.values.dtype.name,
            node=node,
            position=self.place.position,
        )


class Sweep:
    """Runs both models with their inner values given out, on one batch.

    Parameters
    ----------
    networks
        Both models, aligned.
    batch
        What both are fed.
    patched
        Writes a copy of each side's model with patches.
    memory
        Bytes that values may take at a time.
    steps
        Of the grids that weights of each side were rounded to; None for a side that had none.
    stepping
        Right-hand values that move by steps: as long as nothing is put in, they have no floor.
    precisions
        What the sides compute in, where values are held to the floor of the coarser one.
    """

    def __init__(  # noqa: PLR0913  # each says one thing about a run, and most have a default
        self,
        networks: tuple[Network, Network],
        batch: Batch,
        *,
        host: Host,
        patched: tuple[Patched, Patched],
        memory: int,
        seed: int,
        steps: tuple[Steps | None, Steps | None] = (None, None),
        stepping: Collection[str] = (),
        precisions: Sequence[Precision] = (),
    ) -> None:
        self._stepping = stepping
        self._rounded = any(each is not None for each in steps)
        units = [each.unit if each.coarse and not each.quantised else 0.0 for each in precisions]
        self._units = (units[0], units[1]) if units else (0.0, 0.0)
        self._grain = ROUNDED.grain if self._rounded else Grain(unit=max(self._units))
        self._slack = SLACK_COARSE if self._grain.coarse else SLACK
        self._steps = steps
        self._networks = networks
        self._batch = batch
        self._host = host
        self._patched = patched
        self._memory = memory
        self._seed = seed

    @property
    def models(self) -> tuple[Model, Model]:
        return self._networks[0].model, self._networks[1].model

    @property
    def unit(self) -> float:
        """The last place of 1 in the type that values are held to; 0.0 for their own."""
        return self._grain.unit

    @property
    def coarse(self) -> bool:
        """Whether values are held to a floor coarser than float32's."""
        return self._grain.coarse

    @property
    def _layouts(self) -> tuple[Layouts, Layouts]:
        return self._networks[0].layouts, self._networks[1].layouts

    def held(
        self, places: Sequence[Place], patches: Sequence[Patch] = (), grafts: Sequence[Graft] = ()
    ) -> Iterator[Held]:
        """Compare place after place; the right side has patches and grafts applied.

        Places that cannot be run or brought into one form are left out.

        Raises
        ------
        HostGoneError
            The process in which models run has ended.
        """
        for chunk in self._chunks(places):
            yield from self._of(chunk, patches, grafts)

    def left_values(self, names: Sequence[str]) -> dict[str, Array]:
        """The left side's values on the batch, by name.

        Raises
        ------
        inspector.errors.RunError
            They cannot be had.
        """
        return self._loaded(0, list(dict.fromkeys(names)), ()).run(self._batch.left)

    def _of(
        self, places: Sequence[Place], patches: Sequence[Patch], grafts: Sequence[Graft]
    ) -> Iterator[Held]:
        lefts = list(dict.fromkeys(each.left for each in places))
        rights = list(dict.fromkeys(each.right for each in places))
        here, there = ([each for each in grafts if each.side == side] for side in (0, 1))
        changes = (*patches, *(each.feed() for each in there))
        try:
            one = self._moved(
                0, lefts, [each.feed() for each in here], _fed(self._batch.left, here)
            )
            other = self._moved(1, rights, changes, _fed(self._batch.right, there))
        except HostGoneError:
            raise
        except UndecidedError:  # it does not run, or a patch cannot be written
            if len(places) == 1:
                return
            middle = len(places) // 2
            yield from self._of(places[:middle], patches, grafts)
            yield from self._of(places[middle:], patches, grafts)
            return
        for each in places:
            still = not grafts and each.right in self._stepping
            found = self._hold(each, one[each.left], other[each.right], still=still)
            if found is not None:
                yield found

    def _moved(
        self, side: int, names: Sequence[str], patches: Sequence[Patch], fed: Fed
    ) -> dict[str, tuple[Array, Array]]:
        """Each value, and how far its elements move where nothing but rounding changes."""
        runner = self._loaded(side, names, patches)
        plain = runner.run(fed)
        rng = np.random.default_rng([self._seed, side])
        unit = self._units[side]
        moved = [runner.run(moved_by_an_ulp(fed, rng, unit))]
        model = self._networks[side].model
        weights = _moved_weights(self._networks[side], self._seed, unit)
        # What a patch puts in has a name of its own, and a moved weight that nothing reads is none.
        if weights:
            del runner
            with suppress(RunError):  # then the floor is that of moved inputs
                moved.append(self._loaded(side, names, patches, weights).run(fed))
        found = {}
        for name in names:
            # Let go of as they are used: all of them at a time are what takes memory.
            values = plain.pop(name)
            found[name] = values, _most_moved(values, [each.pop(name) for each in moved])
        if self._rounded and not unit:
            times = FLOORS / FLOORS_COARSE * SLACK / SLACK_COARSE
            found = {name: (values, times * far) for name, (values, far) in found.items()}
        steps = self._steps[side]
        if steps is None:
            return found
        for anew in rounded_anew(model, steps, seed=self._seed, draws=_DRAWS):
            # What a patch put in is no longer on a grid, and nothing reads what was there.
            with suppress(RunError):  # one draw less of several
                runner = self._loaded(side, names, patches, anew)
                again = runner.run(fed)
                for name, (values, far) in found.items():
                    np.maximum(far, _most_moved(values, [again.pop(name)]), out=far)
        return found

    def _loaded(
        self,
        side: int,
        names: Sequence[str],
        patches: Sequence[Patch],
        weights: Mapping[str, Array] | None = None,
    ) -> HostedRunner:
        model = self._networks[side].model
        copy = self._patched[side](model, [*patches, *(Expose(value=name) for name in names)])
        return self._host.load(copy, name=model.path, optimise=False, instead=weights or {})

    def _hold(
        self, place: Place, one: tuple[Array, Array], other: tuple[Array, Array], *, still: bool
    ) -> Held | None:
        (left, left_moved), (right, right_moved) = one, other
        if left.dtype.kind not in "fiub" or right.dtype.kind not in "fiub":
            return None
        form = find_form(self._layouts, (place.left, place.right), left, right, _largest)
        if form is None:
            return None
        there = form.to_left(right)
        apart = _apart(left, there)
        bound = np.zeros((1,) * left.ndim)
        if left.dtype.kind == there.dtype.kind == "f":
            moved = left_moved, form.to_left(right_moved)
            if still:
                moved = np.zeros_like(left_moved), np.zeros_like(left_moved)
            allowed = allowance([left], [there], [moved[0]], [moved[1]], grain=self._grain)
            bound = self._slack * allowed.bounds[0]
        scale = _spread(left)
        largest = float(apart.max(initial=0.0))
        return Held(
            place=place,
            form=form,
            max_abs=largest,
            relative=largest / scale if scale else (0.0 if largest == 0.0 else float("inf")),
            tolerance=float(np.broadcast_to(bound, apart.shape).reshape(-1)[int(apart.argmax())])
            if apart.size
            else 0.0,
            within=bool((apart <= bound).all()),
            left_dtype=left.dtype,
            right_dtype=right.dtype,
        )

    def _chunks(self, places: Sequence[Place]) -> Iterator[list[Place]]:
        chunk: list[Place] = []
        size = 0
        for each in places:
            own = _COPIES * self._bytes(each)
            if chunk and size + own > self._memory:
                yield chunk
                chunk, size = [], 0
            chunk.append(each)
            size += own
        if chunk:
            yield chunk

    def _bytes(self, place: Place) -> int:
        known = self._networks[1].model.graph.values.get(place.right)
        dims = known.dims if known is not None and known.dims is not None else (_OPEN,) * 4
        rows = self._batch.size
        lengths = [
            each if isinstance(each, int) and each > 0 else (rows if at == 0 else _OPEN)
            for at, each in enumerate(dims)
        ]
        return 4 * prod(lengths)


def _fed(fed: Fed, grafts: Sequence[Graft]) -> Fed:
    """What a side is fed, with values for the inputs that grafts make."""
    if not grafts:
        return fed
    return replace(fed, values={**fed.values, **{e.feed().name: e.values for e in grafts}})


def _moved_weights(network: Network, seed: int, unit: float) -> dict[str, Array]:
    """Every float initializer that a layer reads, moved to a neighbour."""
    model = network.model
    names = model.graph.initializers
    stored = {
        each.tensor.name: each.tensor
        for layer in network.layers
        for each in layer.stored
        if layer.op in _WEIGHED
        and names.get(each.tensor.name) is each.tensor
        and each.tensor.dtype in _MOVABLE
    }
    if sum(each.elements * _MOVABLE[each.dtype] for each in stored.values()) > _MOST_MOVED:
        return {}
    rng = np.random.default_rng(seed)
    return {
        name: neighbouring_weights(model.weights.load(each), rng, unit)
        for name, each in stored.items()
    }


_WEIGHED = frozenset(
    "Conv ConvTranspose Dense MatMul Gemm BatchNormalization InstanceNormalization Add Sub Mul Div "
    "LayerNormalization GroupNormalization PRelu LSTM GRU RNN Gather".split()
)
"""Operators whose constants are weights; a Resize reads sizes, which are not rounded."""

_MOVABLE = {"float16": 2, "float32": 4, "float64": 8}


def _most_moved(plain: Array, moved: Sequence[Array]) -> Array:
    found: Array | None = None
    if plain.dtype.kind == "f":
        for each in moved:
            if each.shape == plain.shape:
                apart = _apart(plain, each)
                if not _is_finite(apart):
                    apart = np.asarray(np.nan_to_num(apart, posinf=0.0))
                found = apart if found is None else np.maximum(found, apart, out=found)
    return np.zeros(plain.shape) if found is None else found


def _apart(left: Array, right: Array) -> Array:
    """Distances; NaN and infinity are no distance where both sides have the same one there."""
    if left.dtype.kind in "biu" and right.dtype.kind in "biu":
        return np.asarray(np.abs(left.astype(np.float64) - right.astype(np.float64)))
    if left.dtype == right.dtype == np.float32:
        # Rounded to float32 a distance is right to 24 bits, in half the time and memory.
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.asarray(np.subtract(left, right))
        if _is_finite(np.abs(near, out=near)):
            return near
    a, b = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(np.isnan(apart) | np.isinf(apart), np.where(same, 0.0, np.inf), apart)


def _is_finite(apart: Array) -> bool:
    """Whether all distances are: their maximum is, as NaN is the maximum of whatever holds it."""
    return bool(np.isfinite(apart.max(initial=0.0)))


def _spread(values: Array) -> float:
    """The standard deviation of what is finite."""
    if values.dtype == np.float32 and values.size:
        with np.errstate(invalid="ignore", over="ignore"):
            found = float(values.std())
        if np.isfinite(found):
            return found
    numbers = values[np.isfinite(values)].astype(np.float64)
    return float(numbers.std()) if numbers.size else 0.0


def _largest(left: Array, right: Array) -> float:
    return float(_apart(left, right).max(initial=0.0))
