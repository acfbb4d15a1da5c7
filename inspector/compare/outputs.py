"""Run both models on the same inputs and measure how far each output lies apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path

import numpy as np

from inspector.compare.difference import difference, worst
from inspector.compare.explain import Trial
from inspector.compare.feeds import Batch, make_batches
from inspector.compare.floor import measure, tolerance
from inspector.compare.layout import Axes
from inspector.compare.pair import Pair
from inspector.compare.run import Array, Runner
from inspector.errors import UndecidedError
from inspector.facts.comparison import Difference, PairedOutput
from inspector.facts.model import Model
from inspector.facts.patch import Patch

MOST_HYPOTHESES = 27
"""Ways in which the axes of inputs may correspond, of which at most so many are run."""

Results = list[dict[str, Array]]


class ShapesDifferError(UndecidedError):
    """An output has another shape on each side, for the same inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What the user allows: ``|left − right| ≤ atol + rtol · max(|left|, |right|)``."""

    atol: float
    rtol: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Both models run on the same batches.

    `orders` are the input permutations that were used, one an input pair. `floors` are the left
    model's own floors, by output.
    """

    outputs: tuple[PairedOutput, ...]
    orders: tuple[Axes, ...]
    batches: tuple[Batch, ...]
    left_results: Results = field(repr=False)
    left_floors: dict[str, float] = field(repr=False)


def run_both(
    models: tuple[Model, Model],
    inputs: Sequence[Pair],
    outputs: Sequence[Pair],
    *,
    seed: int,
    asked: Tolerance | None,
    progress: Callable[[str], None],
) -> Measured:
    """Run two models on the same seeded inputs, and measure each one's rounding floor.

    Where the graphs do not tell how the axes of an input correspond, every way is tried and the
    first under which the outputs agree is taken, or else the first of all.

    Raises
    ------
    inspector.errors.UndecidedError
        A model does not run, or the two cannot be fed the same inputs.
    """
    progress("loading both models")
    runners = [Runner(Path(each.path), name=each.path) for each in models]
    plain = [Runner(Path(each.path), name=each.path, optimise=False) for each in models]
    hypotheses = list(islice(product(*(each.permutations for each in inputs)), MOST_HYPOTHESES))
    first: Measured | None = None
    for orders in hypotheses:
        progress("running both models on the same inputs")
        batches = make_batches(inputs, orders, models, seed=seed)
        lefts = [runners[0].run(each.left) for each in batches]
        rights = [runners[1].run(each.right) for each in batches]
        progress("measuring the rounding floor")
        floors = [
            measure(runners[0], plain[0], [b.left for b in batches], lefts, seed=seed),
            measure(runners[1], plain[1], [b.right for b in batches], rights, seed=seed),
        ]
        paired = tuple(
            _paired(
                each,
                [r[each.left.name] for r in lefts],
                [r[each.right.name] for r in rights],
                max(floors[0][each.left.name], floors[1][each.right.name]),
                asked,
            )
            for each in outputs
        )
        measured = Measured(
            outputs=paired,
            orders=orders,
            batches=batches,
            left_results=lefts,
            left_floors=floors[0],
        )
        if all(each.within for each in paired):
            return measured
        first = first or measured
    assert first is not None  # product() of no inputs still gives one empty hypothesis
    return first


def experiment_on(
    model: Model,
    measured: Measured,
    *,
    patched: Callable[[Model, Sequence[Patch]], bytes],
    seed: int,
    progress: Callable[[str], None],
) -> Callable[[Sequence[Patch]], Trial]:
    """A function that patches `model`, the right side, runs it, and compares it with the left.

    The tolerance rests on the left model's floor and on that of the first copy that is run,
    which has everything patched: the unpatched right side may live on another scale.
    """
    floors: dict[str, float] = {}
    name = f"{model.path} (patched)"

    def experiment(patches: Sequence[Patch]) -> Trial:
        progress("proving causes")
        source = patched(model, patches)
        runner = Runner(source, name=name)
        feeds = [each.right for each in measured.batches]
        results = [runner.run(each) for each in feeds]
        if not floors:
            plain = Runner(source, name=name, optimise=False)
            floors.update(measure(runner, plain, feeds, results, seed=seed))
        apart = 0.0
        within = True
        for each in measured.outputs:
            lefts = [r[each.left] for r in measured.left_results]
            rights = [_turned(r[each.right], each.permutation) for r in results]
            far = _difference(each.left, each.right, lefts, rights)
            floor = max(measured.left_floors[each.left], floors[each.right])
            within = within and far.max_abs <= tolerance(floor, lefts)
            apart = max(apart, far.max_abs)
        return Trial(max_abs=apart, within=within)

    return experiment


def _paired(
    pair: Pair, lefts: list[Array], rights: list[Array], floor: float, asked: Tolerance | None
) -> PairedOutput:
    """The comparison of one output under the permutation that brings it closest."""
    found = []
    for order in pair.permutations:
        turned = [_turned(each, order) for each in rights]
        if all(a.shape == b.shape for a, b in zip(lefts, turned, strict=True)):
            found.append((order, turned))
    if not found:
        # Raises, in the words that name both shapes.
        _difference(pair.left.name, pair.right.name, lefts, rights)
    measured = [
        (order, turned, _difference(pair.left.name, pair.right.name, lefts, turned))
        for order, turned in found
    ]
    order, turned, far = min(measured, key=lambda each: each[2].max_abs)
    allowed = max(tolerance(floor, lefts), tolerance(floor, rights))
    within = far.max_abs <= allowed
    if asked is not None:
        within = all(_within(a, b, asked) for a, b in zip(lefts, turned, strict=True))
        allowed = asked.atol + asked.rtol * max(abs(far.left_at), abs(far.right_at))
    return PairedOutput(
        left=pair.left.name,
        right=pair.right.name,
        permutation=order,
        difference=far,
        floor=floor,
        tolerance=allowed,
        within=within and not (far.left_non_finite or far.right_non_finite),
    )


def _difference(left: str, right: str, lefts: list[Array], rights: list[Array]) -> Difference:
    for a, b in zip(lefts, rights, strict=True):
        if a.shape != b.shape:
            raise ShapesDifferError(
                f"output {left!r} has shape {list(a.shape)} on the left "
                f"and {right!r} {list(b.shape)} on the right"
            )
    return worst([difference(a, b) for a, b in zip(lefts, rights, strict=True)])


def _turned(right: Array, order: Axes) -> Array:
    """A right-hand output with its axes in the left side's order."""
    if len(order) != right.ndim:
        return right
    return right.transpose(np.argsort(order))


def _within(left: Array, right: Array, asked: Tolerance) -> bool:
    if left.dtype.kind not in "fiu":
        return bool(np.array_equal(left, right))
    a, b = left.astype(np.float64), right.astype(np.float64)
    bound = asked.atol + asked.rtol * np.maximum(np.abs(a), np.abs(b))
    with np.errstate(invalid="ignore"):
        return bool((np.abs(a - b) <= bound).all())
