"""Check that an exported file gives what the framework gives, with its BatchNorms untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspector.compare import floor as floors
from inspector.compare.difference import difference, distances, worst
from inspector.compare.run import Array, Fed, Runner
from inspector.errors import ExportDisagreesError, RunError, UnreadableError
from inspector.export import feeds as feed
from inspector.export.feeds import Feeds
from inspector.facts.comparison import Difference
from inspector.facts.manifest import Verification

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedNorm:
    """A BatchNorm node and what it must hold: scale, B, mean and var, each of shape [C].

    `node` is empty where the exporter left none.
    """

    node: str
    source: str
    values: tuple[Array, Array, Array, Array]
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNorm:
    """What a BatchNormalization node holds; None for a parameter that is not stored."""

    values: tuple[Array | None, ...]
    epsilon: float


_PARTS = ("scale", "B", "mean", "var")


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
            apart = np.where(finite, np.abs(one - np.where(finite, other, one)), 0.0)
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
    """The framework's own rounding, measured as `inspector.compare.floor` does ONNX Runtime's."""
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


def verify(
    model: bytes | Path,
    wanted: Reference,
    norms: Sequence[ExpectedNorm],
    stored: Mapping[str, StoredNorm],
    weights: Mapping[str, Array],
    *,
    name: str,
) -> Verification:
    """Compare an exported model with the framework's outputs and BatchNorm tensors.

    Parameters
    ----------
    model
        The serialised model, or its file where it has its data beside it.
    norms
        Every BatchNorm call of the framework.
    stored
        What each BatchNormalization node holds, by the node's name.
    weights
        The framework's tensors among the initializers: what rounding is measured with.
    name
        What messages call the model.

    Raises
    ------
    inspector.errors.ExportDisagreesError
        An output lies further away than rounding explains, is not finite or has another shape;
        or a BatchNorm is missing or was changed.
    inspector.errors.RunError
        ONNX Runtime cannot run the model.
    """
    bitwise = check_norms(norms, stored, name=name)
    try:
        results, measured = _run_exported(model, wanted, weights, name)
    except RunError as error:
        raise RunError(
            error.what, where=name, hint="it cannot be verified, so nothing was written"
        ) from error
    if len(results[0]) != len(wanted.outputs[0]):
        raise ExportDisagreesError(
            f"the exported model has {len(results[0])} outputs and the framework's "
            f"{len(wanted.outputs[0])}",
            where=name,
            hint="nothing was written",
        )
    judged = [
        _judge(output, i, wanted, [batch[output] for batch in results], measured[output], name)
        for i, output in enumerate(results[0])
        if i not in wanted.random
    ]
    if not judged:
        raise UnreadableError("the model has no outputs", where=name)
    furthest = max(judged, key=lambda each: each.share)
    return Verification(
        batch_sizes=wanted.sizes,
        max_abs=furthest.apart.max_abs,
        relative=furthest.apart.relative,
        floor=furthest.floor,
        tolerance=furthest.tolerance,
        bitwise=bitwise,
        of=len(_PARTS) * len(norms),
    )


def check_norms(
    norms: Sequence[ExpectedNorm], stored: Mapping[str, StoredNorm], *, name: str
) -> int:
    """How many tensors of BatchNorms are equal bit for bit: all of them.

    Raises
    ------
    inspector.errors.ExportDisagreesError
        A BatchNorm is missing or was changed.
    """
    return sum(_check_norm(norm, stored.get(norm.node), name) for norm in norms)


def _run_exported(
    model: bytes | Path, wanted: Reference, weights: Mapping[str, Array], name: str
) -> tuple[list[dict[str, Array]], floors.Deviations]:
    """The exported model's outputs on each batch, and how far each of them moves by rounding."""
    optimised = Runner(model, name=name)
    batches = [Fed(values=batch) for batch in wanted.batches]
    results = [optimised.run(batch) for batch in batches]

    def others() -> Iterator[Runner]:
        yield Runner(model, name=name, optimise=False)
        # What inputs alone move, a deep network forgets on the way: weights round in every layer.
        rng = np.random.default_rng(feed.SEED)
        yield Runner(
            model,
            name=name,
            optimise=False,
            instead={each: floors.neighbours(values, rng) for each, values in weights.items()},
        )

    return results, floors.measure(optimised, others(), batches, results, seed=feed.SEED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """An output that agrees; `share` is how much of what is allowed its worst element takes.

    `tolerance` is what was allowed where `apart` is largest.
    """

    apart: Difference
    floor: float
    tolerance: float
    share: float


def _judge(
    output: str,
    index: int,
    wanted: Reference,
    got: Sequence[Array],
    moved: Sequence[Array],
    name: str,
) -> _Judged:
    expected = [batch[index] for batch in wanted.outputs]
    _check_shapes(output, expected, got, name)
    framework = [batch[index] for batch in wanted.deviations]
    masks = [_infinite_alike(*each) for each in zip(expected, got, strict=True)]
    expected, got, framework, moved = (
        [
            np.where(mask, np.zeros((), each.dtype), each) if mask.any() else each
            for mask, each in zip(masks, some, strict=True)
        ]
        for some in (expected, got, framework, moved)
    )
    allowed = floors.allowance(expected, got, framework, moved)
    shares = []
    for left, right, bound in zip(expected, got, allowed.bounds, strict=True):
        apart = _distances(left, right)
        bounds = np.broadcast_to(bound, apart.shape)
        # Written so that NaN and infinity fail, whatever is allowed.
        if not np.all(np.isfinite(apart) & (apart <= bounds)):
            raise _disagrees(output, apart, bounds, right, name)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(apart > 0.0, apart / bounds, 0.0)
        shares.append((float(apart.max(initial=0.0)), float(ratio.max(initial=0.0)), apart, bounds))
    top, _, apart, bounds = max(shares, key=lambda each: each[0])
    return _Judged(
        apart=worst([difference(left, right) for left, right in zip(expected, got, strict=True)]),
        floor=allowed.floor,
        tolerance=float(bounds.flat[int(apart.argmax())]) if apart.size and top else allowed.whole,
        share=max(each[1] for each in shares),
    )


def _infinite_alike(left: Array, right: Array) -> Array:
    """Where both are the same infinity: a mask's, which is no difference."""
    if left.dtype.kind != "f" or right.dtype.kind != "f":
        return np.zeros(left.shape, bool)
    return np.asarray(np.isinf(left) & (left == right))


def _distances(left: Array, right: Array) -> Array:
    apart = distances(left, right)
    # A complex number is two numbers.
    return apart if apart.shape == left.shape else apart.max(axis=-1)


def _check_shapes(output: str, expected: Sequence[Array], got: Sequence[Array], name: str) -> None:
    for left, right in zip(expected, got, strict=True):
        if (left.shape, left.dtype) != (right.shape, right.dtype):
            raise ExportDisagreesError(
                f"output {output!r} is {right.dtype}{list(right.shape)} in ONNX Runtime and "
                f"{left.dtype}{list(left.shape)} in the framework",
                where=name,
                hint="nothing was written",
            )


def _disagrees(
    output: str, apart: Array, bounds: Array, right: Array, name: str
) -> ExportDisagreesError:
    if right.dtype.kind in "iu":
        some = int((apart > 0).sum())
        return ExportDisagreesError(
            f"{some} of {apart.size} integers of output {output!r} differ from the framework's",
            where=name,
            hint="indices of equal values have no order of their own: if that is it, --no-verify "
            "exports it; nothing was written",
        )
    bad = int((~np.isfinite(right.astype(np.float64))).sum()) if right.dtype.kind == "f" else 0
    with np.errstate(divide="ignore", invalid="ignore"):
        # An element that is equal takes no share, be its bound 0.
        shares = np.where(apart > 0.0, apart / bounds, 0.0)
        at = np.unravel_index(int(np.argmax(shares)), apart.shape)
    found = (
        f"{bad} elements of output {output!r} are NaN or infinite in ONNX Runtime"
        if bad
        else f"output {output!r} lies {apart[at]:.3g} from the framework's at "
        f"{[int(each) for each in at]}, and rounding explains {bounds[at]:.3g}"
    )
    return ExportDisagreesError(
        found, where=name, hint="nothing was written; please report the model"
    )


def _check_norm(norm: ExpectedNorm, stored: StoredNorm | None, name: str) -> int:
    """How many of a BatchNorm's tensors are equal bit for bit: four, or it is refused."""
    if stored is None:
        raise _changed(f"BatchNorm {norm.source!r} did not stay a BatchNormalization node", name)
    for part, expected, found in zip(_PARTS, norm.values, stored.values, strict=True):
        if found is None or not _same_bits(expected, found):
            how = "is computed, not stored" if found is None else "has other values"
            raise _changed(f"{part} of BatchNorm {norm.source!r} {how}", name)
    if np.float32(stored.epsilon) != np.float32(norm.epsilon):
        raise _changed(
            f"epsilon of BatchNorm {norm.source!r} is {stored.epsilon:g}, not {norm.epsilon:g}",
            name,
        )
    return len(_PARTS)


def _changed(what: str, name: str) -> ExportDisagreesError:
    return ExportDisagreesError(
        f"{what} in the exported model", where=name, hint="nothing was written"
    )


def _same_bits(left: Array, right: Array) -> bool:
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()
    )
