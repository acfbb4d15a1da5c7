"""Run both models on the same inputs and measure how far each output lies apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from pathlib import Path

import numpy as np

from inspector.compare.explain import Trial
from inspector.compare.feeds import (
    BATCH_SIZES,
    FREE_LENGTHS,
    MORE_SIZES,
    Batch,
    Plan,
    has_free_lengths,
    make_batches,
)
from inspector.compare.floor import Deviations, measure
from inspector.compare.judged import OutputsShapesError, Tolerance, furthest, hold
from inspector.compare.layout import Axes
from inspector.compare.pair import Pair
from inspector.compare.run import Array, Runner
from inspector.errors import RunError, UndecidedError
from inspector.facts.comparison import PairedOutput
from inspector.facts.model import Model
from inspector.facts.patch import Patch, Runnable

MOST_HYPOTHESES = 27
"""Ways in which the axes of inputs may correspond, of which at most so many are run."""

FAR = 0.1
"""Share of an output's spread by which graph optimisation cannot move it by rounding alone."""

_UNOPTIMISED = (
    "ONNX Runtime gives other outputs with its graph optimisation on than with it off: "
    "compared with it off"
)

_POSITIVE = (
    "outputs are NaN or infinite on both sides for normal inputs: "
    "compared for inputs between 0 and 1"
)

Results = list[dict[str, Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Both models run on the same batches.

    `orders` are the input permutations that were used, one an input pair. `only_if` says what had
    to be assumed for the outputs to agree, `limited` what could not be run.
    """

    outputs: tuple[PairedOutput, ...]
    orders: tuple[Axes, ...]
    batches: tuple[Batch, ...]
    left_results: Results = field(repr=False)
    left_deviations: Deviations = field(repr=False)
    plan: Plan
    only_if: str = ""
    limited: str = ""
    note: str = ""
    optimised: bool = True

    @property
    def hushed(self) -> bool:
        """Whether nothing but NaN and infinity on both sides stands against agreement."""
        return all(
            each.finite_within
            and each.difference.left_non_finite
            == each.difference.right_non_finite
            == each.difference.both_non_finite
            for each in self.outputs
        )

    @property
    def agree(self) -> bool:
        return all(each.within for each in self.outputs)


def run_both(
    models: tuple[Model, Model],
    inputs: Sequence[Pair],
    outputs: Sequence[Pair],
    *,
    sources: tuple[Path | Runnable, Path | Runnable],
    seed: int,
    asked: Tolerance | None,
    doubt: bool,
    progress: Callable[[str], None],
) -> Measured:
    """Run two models on the same seeded inputs, and measure each one's rounding floor.

    Where the graphs do not tell how the axes of an input correspond, every way is tried and the
    first under which the outputs agree is taken, or else the first of all that runs.

    Parameters
    ----------
    sources
        What ONNX Runtime opens in place of each model.
    doubt
        Whether the graphs differ, so that agreement has to be shown on more inputs.

    Raises
    ------
    inspector.errors.UndecidedError
        A model does not run, or the two cannot be fed the same inputs.
    """
    progress("loading both models")
    both = _Both(
        models, inputs, outputs, sources=sources, seed=seed, asked=asked, progress=progress
    )
    first: Measured | None = None
    failure: UndecidedError | None = None
    for orders in islice(product(*(each.permutations for each in inputs)), MOST_HYPOTHESES):
        try:
            measured = both.measured(orders)
        except UndecidedError as error:
            failure = failure or error
            continue
        if measured.agree and doubt:
            measured = both.measured(orders, more=True)
        if measured.agree:
            return measured if first is None else _assuming(measured, inputs)
        first = first or measured
    if first is not None:
        return first
    assert failure is not None  # product() of no inputs still gives one empty hypothesis
    raise failure


class _Both:
    """Two models, loaded, and how to run them on one hypothesis about their inputs."""

    def __init__(
        self,
        models: tuple[Model, Model],
        inputs: Sequence[Pair],
        outputs: Sequence[Pair],
        *,
        sources: tuple[Path | Runnable, Path | Runnable],
        seed: int,
        asked: Tolerance | None,
        progress: Callable[[str], None],
    ) -> None:
        self._models, self._inputs, self._outputs = models, inputs, outputs
        self._seed, self._asked, self._progress = seed, asked, progress
        named = [(source, each.path) for source, each in zip(sources, models, strict=True)]
        self._runners = [Runner(source, name=name) for source, name in named]
        self._plain = [Runner(source, name=name, optimise=False) for source, name in named]

    def measured(self, orders: tuple[Axes, ...], *, more: bool = False) -> Measured:
        found = self._first_that_runs(orders, MORE_SIZES if more else BATCH_SIZES)
        if any(each.difference.both_non_finite for each in found.outputs) and found.hushed:
            # A logarithm or a variance of normal numbers: what both give for positive ones counts.
            try:
                again = self._run(orders, replace(found.plan, positive=True))
            except UndecidedError:
                return found
            if not any(each.difference.both_non_finite for each in again.outputs):
                return replace(again, limited=found.limited, note=_POSITIVE)
        return found

    def _first_that_runs(self, orders: tuple[Axes, ...], sizes: tuple[int, ...]) -> Measured:
        """Any batch and length first; then what a model may insist on without saying so."""
        lengths = FREE_LENGTHS if has_free_lengths(self._inputs) else FREE_LENGTHS[:1]
        failure: RunError | None = None
        for plan in (Plan(free=each, sizes=sizes) for each in lengths):
            try:
                return self._run(orders, plan)
            except RunError as error:
                failure = failure or error
        assert failure is not None  # each of the plans failed
        for plan in (Plan(free=each, sizes=(1,) * len(sizes)) for each in lengths):
            try:
                found = self._run(orders, plan)
            except RunError:
                continue
            if any(each.size > 1 for each in found.batches):
                return found
            return replace(
                found, limited=f"batches of more than one row do not run ({failure.what})"
            )
        raise failure

    def _run(self, orders: tuple[Axes, ...], plan: Plan) -> Measured:
        self._progress("running both models on the same inputs")
        batches = make_batches(self._inputs, orders, self._models, seed=self._seed, plan=plan)
        lefts, rights = self._results(batches)
        self._progress("measuring the rounding floor")
        left_moved = self._deviations(0, batches, lefts)
        right_moved = self._deviations(1, batches, rights)
        if self._runners != self._plain and (
            _far_from_itself(lefts, left_moved) or _far_from_itself(rights, right_moved)
        ):
            # Its optimiser takes a training BatchNorm whose statistics nobody reads for another
            # operator (1.31; https://github.com/microsoft/onnxruntime/issues/26584).
            self._runners = self._plain
            again = self._run(orders, plan)
            settled = not _far_from_itself(again.left_results, again.left_deviations)
            return replace(again, optimised=False, note=_UNOPTIMISED if settled else "")
        moved_axes = any(each != tuple(sorted(each)) for each in orders)
        paired = tuple(
            hold(
                each,
                [r[each.left.name] for r in lefts],
                [r[each.right.name] for r in rights],
                (left_moved[each.left.name], right_moved[each.right.name]),
                asked=self._asked,
                any_order=moved_axes,
            )
            for each in self._outputs
        )
        return Measured(
            outputs=paired,
            orders=orders,
            batches=batches,
            plan=plan,
            left_results=lefts,
            left_deviations=left_moved,
        )

    def _results(self, batches: Sequence[Batch]) -> tuple[Results, Results]:
        lefts = [self._runners[0].run(each.left) for each in batches]
        rights = [self._runners[1].run(each.right) for each in batches]
        return lefts, rights

    def _deviations(self, side: int, batches: Sequence[Batch], results: Results) -> Deviations:
        return measure(
            self._runners[side],
            [self._plain[side]],
            [(each.left, each.right)[side] for each in batches],
            results,
            seed=self._seed,
        )


def _far_from_itself(results: Results, moved: Deviations) -> bool:
    """Whether an output moves by more than rounding ever could, on a model that is no chaos."""
    for name, deviations in moved.items():
        for values, apart in zip((each[name] for each in results), deviations, strict=True):
            if values.dtype.kind == "f" and apart.size:
                finite = values[np.isfinite(values)].astype(np.float64)
                spread = float(finite.std()) if finite.size else 0.0
                if 0.0 < FAR * spread < float(apart.max()):
                    return True
    return False


def _assuming(measured: Measured, inputs: Sequence[Pair]) -> Measured:
    """Agreement under another order of axes than the plain one, which also ran and did not agree.

    The graphs do not tell which was meant, so the agreement may be a coincidence of shapes or
    the very mistake that was to be found.
    """
    moved = [
        f"{pair.right.name!r} is {pair.left.name!r} with its axes in the order {list(order)}"
        for pair, order in zip(inputs, measured.orders, strict=True)
        if order != tuple(sorted(order))
    ]
    return replace(measured, only_if=" and ".join(moved))


def experiment_on(
    model: Model,
    measured: Measured,
    *,
    patched: Callable[[Model, Sequence[Patch]], Runnable],
    seed: int,
    progress: Callable[[str], None],
) -> Callable[[Sequence[Patch]], Trial]:
    """A function that patches `model`, the right side, runs it, and compares it with the left.

    The tolerance rests on the left model's floor and on that of the first copy that is run,
    which has everything patched: the unpatched right side may live on another scale. What the
    user allows plays no part: a cause is what moves the outputs by more than rounding.
    """
    moved: Deviations = {}
    name = f"{model.path} (patched)"

    def experiment(patches: Sequence[Patch]) -> Trial:
        progress("proving causes")
        source = patched(model, patches)
        runner = Runner(source, name=name, optimise=measured.optimised)
        feeds = [each.right for each in measured.batches]
        results = [runner.run(each) for each in feeds]
        if not moved:
            plain = Runner(source, name=name, optimise=False)
            moved.update(measure(runner, [plain], feeds, results, seed=seed))
        try:
            held = [
                furthest(
                    each,
                    [r[each.left] for r in measured.left_results],
                    [r[each.right] for r in results],
                    (measured.left_deviations[each.left], moved[each.right]),
                    asked=None,
                )
                for each in measured.outputs
            ]
        except OutputsShapesError:
            return Trial(max_abs=float("inf"), within=False)
        return Trial(
            max_abs=max(each.difference.max_abs for each in held),
            within=all(each.within for each in held),
        )

    return experiment
