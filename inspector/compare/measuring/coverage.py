"""What the inputs of a comparison cannot show: channels that never fire on them.

A wrong weight in front of a ReLU that is 0 whatever is fed changes no output, and nor does one of a
BatchNorm whose channel never moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from inspector.compare.pairing.layout import Layouts
from inspector.compare.runtime.host import Host
from inspector.compare.runtime.run import Array, Fed
from inspector.errors import UndecidedError
from inspector.facts.comparison import Coverage
from inspector.facts.model import Model, Node, Tensor
from inspector.facts.patch import Expose, Patch, Runnable

MOVES = 4.0
"""Units in the last place that a channel may move and still count as one that does not."""

MOST_LAYERS = 3
"""Layers that are named."""

_OPEN = 32
"""Length that an unknown dimension is taken to have where memory is planned."""

_WIDTH = 4
"""Bytes of an element where memory is planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A layer whose channels may be dead.

    `low` and `high` are the values between which it moves: a ReLU that never leaves `low` is off.
    A norm is cut off at them only by the ReLUs behind, which are all that read it.
    """

    value: str
    label: str
    axis: int
    is_norm: bool
    low: float = -np.inf
    high: float = np.inf


@dataclass(slots=True, eq=False)
class Extremes:
    """The least and the largest number that each channel of a value takes. Shape [C] each."""

    least: Array
    most: Array
    unit: float

    @classmethod
    def of(cls, values: Array, axis: int) -> Extremes:
        others = tuple(each for each in range(values.ndim) if each != axis)
        wide = values.astype(np.float64)
        # NaN tells nothing of a channel: it is neither least nor most where there are numbers.
        return cls(
            least=np.fmin.reduce(wide, axis=others, initial=np.inf),
            most=np.fmax.reduce(wide, axis=others, initial=-np.inf),
            unit=float(np.finfo(values.dtype).eps),
        )

    def add(self, other: Extremes) -> None:
        self.least = np.fmin(self.least, other.least)
        self.most = np.fmax(self.most, other.most)

    def dead(self, unit: Unit) -> Array:
        """Which channels never fire; shape [C], bool."""
        seen = self.least <= self.most
        off = (self.most <= unit.low) | (self.least >= unit.high)
        if unit.is_norm:
            size = np.maximum(np.abs(self.least), np.abs(self.most))
            with np.errstate(invalid="ignore"):
                off = off | (self.most - self.least <= MOVES * self.unit * size)
        return np.asarray(seen & off)


def measure_coverage(
    model: Model,
    layouts: Layouts,
    fed: Sequence[Fed],
    *,
    host: Host,
    patched: Callable[[Model, Sequence[Patch]], Runnable],
    memory: int,
) -> Coverage | None:
    """Count the channels of BatchNorms and ReLUs that never fire; None where that does not run.

    Parameters
    ----------
    layouts
        Of the model's values: which axis is the channel.
    fed
        What the outputs were compared on.
    patched
        Writes a copy of a model with patches.
    memory
        Bytes that values may take at a time.
    """
    units = find_units(model, layouts)
    found: dict[str, Extremes] = {}
    rows = max((_rows(each) for each in fed), default=1)
    try:
        for chunk in _chunks(units, model, rows, memory):
            names = [each.value for each in chunk]
            copy = patched(model, [Expose(value=name) for name in names])
            runner = host.load(copy, name=model.path, optimise=False)
            add_extremes(found, chunk, (runner.run(each) for each in fed))
    except UndecidedError:  # what cannot be run has been said, or is no matter of the verdict
        return None
    return count_dead(units, found)


def add_extremes(
    found: dict[str, Extremes], units: Sequence[Unit], batches: Iterable[Mapping[str, Array]]
) -> None:
    """Put what each batch shows into `found`, by value; one batch is held at a time."""
    for values in batches:
        for unit in units:
            given = values[unit.value]
            if given.dtype.kind != "f" or not -given.ndim <= unit.axis < given.ndim:
                continue
            seen = Extremes.of(given, unit.axis % given.ndim)
            if unit.value not in found:
                found[unit.value] = seen
            elif found[unit.value].least.shape == seen.least.shape:
                found[unit.value].add(seen)


def count_dead(units: Sequence[Unit], found: Mapping[str, Extremes]) -> Coverage:
    """Coverage from the extremes of each unit's value; what was not seen is not counted."""
    dead = {each.value: found[each.value].dead(each) for each in units if each.value in found}
    norms = [each for each in units if each.value in dead and each.is_norm]
    relus = [each for each in units if each.value in dead and not each.is_norm]
    worst = sorted((*norms, *relus), key=lambda each: -int(dead[each.value].sum()))
    return Coverage(
        norms=sum(int(dead[each.value].sum()) for each in norms),
        norm_channels=sum(dead[each.value].size for each in norms),
        relus=sum(int(dead[each.value].sum()) for each in relus),
        relu_channels=sum(dead[each.value].size for each in relus),
        where=tuple(
            f"{each.label}: {int(dead[each.value].sum())} of {dead[each.value].size} channels"
            for each in worst[:MOST_LAYERS]
            if dead[each.value].any()
        ),
    )


def find_units(model: Model, layouts: Layouts) -> tuple[Unit, ...]:
    """BatchNorms and ReLUs of the main graph."""
    return tuple(_units(model, layouts))


def _units(model: Model, layouts: Layouts) -> Iterator[Unit]:
    outputs = {each.name for each in model.graph.outputs}
    users = model.graph.wiring.users
    for node in model.graph.nodes:
        if not node.is_standard or not node.outputs or not node.outputs[0]:
            continue
        value = node.outputs[0]
        label = f"{node.op_type} {node.label!r}"
        if node.op_type == "BatchNormalization":
            cuts = [_cut(each, model) for each, _ in users.get(value, ())]
            low, high = -np.inf, np.inf
            if cuts and value not in outputs and all(each is not None for each in cuts):
                low = min(each[0] for each in cuts if each is not None)
                high = max(each[1] for each in cuts if each is not None)
            yield Unit(value=value, label=label, axis=1, is_norm=True, low=low, high=high)
        elif (cut := _cut(node, model)) is not None:
            axis = _channel(value, model, layouts)
            yield Unit(value=value, label=label, axis=axis, is_norm=False, low=cut[0], high=cut[1])


def _cut(node: Node, model: Model) -> tuple[float, float] | None:
    """Between which values a ReLU lets through; None for what is none."""
    if not node.is_standard:
        return None
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type == "Clip":
        low = _bound(node, "min", 1, model, -np.inf)
        high = _bound(node, "max", 2, model, np.inf)
        if low is not None and high is not None and low >= 0.0:
            return low, high
    return None


def _bound(node: Node, name: str, position: int, model: Model, default: float) -> float | None:
    """A Clip's bound, an attribute before opset 11; None where it is computed."""
    given = node.input(position)
    if not given:
        return node.float_attribute(name, default)
    stored: object = model.graph.initializers.get(given)
    producer = model.graph.wiring.producers.get(given)
    if stored is None and producer is not None and producer.op_type == "Constant":
        stored = next(iter(producer.attributes.values()), None)
    if isinstance(stored, Tensor):
        values = model.values(stored) if stored.elements == 1 else None
        return None if values is None else float(values.reshape(-1)[0])
    return float(stored) if isinstance(stored, int | float) else None


def _channel(value: str, model: Model, layouts: Layouts) -> int:
    """The axis of channels: as the graph tells, else the last of two and the second of more."""
    if value in layouts.axes:
        return layouts.axes[value].index(1)
    known = model.graph.values.get(value)
    rank = len(known.dims) if known is not None and known.dims is not None else 0
    return 1 if rank > 2 else -1


def _rows(fed: Fed) -> int:
    return max((each.shape[0] for each in fed.values.values() if each.ndim), default=1)


def _chunks(
    units: Sequence[Unit], model: Model, rows: int, memory: int
) -> Iterator[tuple[Unit, ...]]:
    """Units whose values fit into `memory` together, for the largest batch."""
    chunk: list[Unit] = []
    taken = 0
    for unit in units:
        known = model.graph.values.get(unit.value)
        dims = known.dims if known is not None and known.dims is not None else ()
        lengths = (each if isinstance(each, int) else _OPEN for each in dims[1:])
        # Once where it is computed, once on its way here, and once in float64.
        size = 4 * _WIDTH * rows * prod(lengths)
        if chunk and taken + size > memory:
            yield tuple(chunk)
            chunk, taken = [], 0
        chunk.append(unit)
        taken += size
    if chunk:
        yield tuple(chunk)
