"""What a framework gives on seeded inputs: what its exported model is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inspector.compare.measuring import floor as floors
from inspector.compare.measuring.difference import distances
from inspector.compare.runtime.run import Array, Fed
from inspector.errors import ExportDisagreesError
from inspector.export import feeds as feed
from inspector.export.feeds import Feeds

_OTHER_SIZES = (32, 96, 224)
"""Tried in turn for free axes that are not the batch: deep networks need large images."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """What the framework itself gives, batch by batch; outputs in the framework's order.

    `deviations` are how far each element of each output moves in the framework when the inputs
    move by one unit in the last place: its own rounding. `random` are the positions of outputs that
    differ from run to run on the same inputs: nothing can be said of those.
    """

    sizes: tuple[int, ...]
    batches: tuple[Feeds, ...]
    outputs: tuple[tuple[Array, ...], ...]
    deviations: tuple[tuple[Array, ...], ...]
    random: frozenset[int] = frozenset()


def reference(run: Callable[[Feeds], Sequence[Array]], inputs: Sequence[feed.Input]) -> Reference:
    """Run the framework's model on seeded inputs.

    Normal inputs come first; where they give NaN or infinity (a model that takes a logarithm),
    inputs between 0 and 1 are tried. Infinities that both give, as masks do, can be compared.

    Raises
    ------
    inspector.errors.ExportDisagreesError
        There is NaN on either, or nothing but infinities, or every output is random: nothing could
        be compared.
    """
    sizes = feed.batch_sizes(inputs)
    tried = []
    for positive in (False, True):
        tried.append(_run(run, inputs, sizes, positive))
        if all(_finite(values) for batch in tried[-1][1] for values in batch):
            tried = tried[-1:]
            break
    told = (each for each in tried if all(_comparable(v) for batch in each[1] for v in batch))
    batches, outputs = next(told, ((), ()))
    if not batches:
        raise ExportDisagreesError(
            "the framework's own outputs are NaN or infinite on random inputs",
            hint="look at the weights, or export with --no-verify if that is meant; nothing was "
            "written",
        )
    random = _random(run(batches[0]), outputs[0])
    if outputs[0] and len(random) == len(outputs[0]):
        raise ExportDisagreesError(
            "its outputs are random: the same inputs give others each time, and nothing can be "
            "compared",
            hint="take sampling and dropout out of inference, or export with --no-verify; nothing "
            "was written",
        )
    return Reference(
        sizes=sizes,
        batches=batches,
        outputs=outputs,
        deviations=_deviations(run, batches, outputs),
        random=random,
    )


_RANDOM = 1e-3
"""The share of an output's size by which two runs on the same inputs differ at most, if it is not
random: threads may sum in another order."""


def _random(again: Sequence[Array], outputs: Sequence[Array]) -> frozenset[int]:
    """Positions of the outputs that another run on the same inputs gives otherwise."""
    found = set()
    for position, (one, other) in enumerate(zip(outputs, again, strict=True)):
        if one.shape != other.shape:
            found.add(position)
        elif one.dtype.kind == "f" and one.size:
            finite = np.isfinite(one) & np.isfinite(other)
            apart = np.abs(np.where(finite, one, 0.0) - np.where(finite, other, 0.0))
            size = float(np.abs(np.where(finite, one, 0.0)).max())
            if float(apart.max()) > _RANDOM * size:
                found.add(position)
    return frozenset(found)


_Run = Callable[[Feeds], Sequence[Array]]
_Outputs = tuple[tuple[Array, ...], ...]


def _run(
    run: _Run, inputs: Sequence[feed.Input], sizes: tuple[int, ...], positive: bool
) -> tuple[tuple[Feeds, ...], _Outputs]:
    free = any(size is None for each in inputs for size in each.dims[1:])
    for other in _OTHER_SIZES if free else _OTHER_SIZES[:1]:
        batches = tuple(feed.make(inputs, size, other=other, positive=positive) for size in sizes)
        try:
            return batches, tuple(tuple(run(batch)) for batch in batches)
        except Exception:  # whatever a model's code raises on an image too small for it
            if not free or other == _OTHER_SIZES[-1]:
                raise
    raise AssertionError("unreachable: the last size returns or raises")


def _deviations(run: _Run, batches: Sequence[Feeds], outputs: _Outputs) -> _Outputs:
    """The framework's own rounding, measured as `floor` measures ONNX Runtime's."""
    rng = np.random.default_rng(feed.SEED)
    found = []
    for batch, results in zip(batches, outputs, strict=True):
        again = [
            run(floors.moved_by_an_ulp(Fed(values=batch), rng).values) for _ in range(floors.DRAWS)
        ]
        found.append(
            tuple(
                np.max([_moved(values, other[i]) for other in again], axis=0)
                for i, values in enumerate(results)
            )
        )
    return tuple(found)


def _moved(values: Array, other: Array) -> Array:
    if values.dtype.kind != "f" or values.shape != other.shape:
        return np.zeros(values.shape)
    return distances(values, other)


def _comparable(values: Array) -> bool:
    """Whether some of it is finite and nothing is NaN: infinities can be compared."""
    if values.dtype.kind != "f" or not values.size:
        return True
    return bool(np.isfinite(values).any()) and not bool(np.isnan(values).any())


def _finite(values: Array) -> bool:
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())
