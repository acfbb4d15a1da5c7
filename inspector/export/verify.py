"""Check that an exported file gives what the framework gives, with its BatchNorms untouched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspector.compare.measuring import floor as floors
from inspector.compare.measuring.difference import difference, distances, worst
from inspector.compare.runtime.run import Array, Fed, Feeds, InParts, Runner
from inspector.errors import ExportDisagreesError, RunError, UnreadableError
from inspector.export import feeds as feed
from inspector.export.references import Reference
from inspector.facts.comparison import Difference
from inspector.facts.manifest import Verification


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
        The framework's tensors among the initializers: what rounding is measured with. Each is
        asked for once, and held no longer than that takes.
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
    optimised = _Reopening(model, name)
    batches = [Fed(values=batch) for batch in wanted.batches]
    results = [optimised.run(batch) for batch in batches]

    def others() -> Iterator[Runner]:
        if isinstance(model, Path):
            # Two large models at a time can be more than the machine holds.
            optimised.let_go()
        yield Runner(model, name=name, optimise=False)
        # What inputs alone move, a deep network forgets on the way: weights round in every layer.
        rng = np.random.default_rng(feed.SEED)
        yield Runner(
            model,
            name=name,
            optimise=False,
            instead={each: _neighbours(values, rng) for each, values in weights.items()},
        )

    return results, floors.measure(optimised, others(), batches, results, seed=feed.SEED)


class _Reopening(InParts):
    """A model with graph optimisation that can be let go: it is loaded again when next it runs."""

    def __init__(self, model: bytes | Path, name: str) -> None:
        self.name = name
        self._model = model
        self._runner: Runner | None = None

    def let_go(self) -> None:
        self._runner = None

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        if self._runner is None:
            self._runner = Runner(self._model, name=self.name)
        return self._runner.run(Fed(values=feeds))


_AT_ONCE = 2**20
"""Elements of a tensor that are moved at a time: that takes several copies in double precision."""


def _neighbours(values: Array, rng: np.random.Generator) -> Array:
    """`floors.neighbours` in pieces, which gives the same."""
    moved, given = np.empty(values.size, values.dtype), values.reshape(-1)
    for at in range(0, values.size, _AT_ONCE):
        piece = slice(at, at + _AT_ONCE)
        moved[piece] = floors.neighbours(given[piece], rng)
    return moved.reshape(values.shape)


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
