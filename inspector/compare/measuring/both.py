"""Two models, loaded, and how far their outputs lie apart on one set of inputs after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from inspector.compare.feeding.feeds import (
    BATCH_SIZES,
    FAR_SIZES,
    FEW_SIZES,
    MORE_SIZES,
    Batch,
    Plan,
    check_samples,
    has_free_lengths,
    make_batches,
    plans,
)
from inspector.compare.feeding.given import open_given
from inspector.compare.measuring.floor import Deviations, far_from_itself, measure, widen
from inspector.compare.measuring.judged import hold
from inspector.compare.measuring.measured import Measured, Results
from inspector.compare.measuring.precision import (
    coarser,
    moved_weights,
    perturbed,
    precision_of,
)
from inspector.compare.pairing.layout import Axes
from inspector.compare.pairing.pair import Pair
from inspector.compare.runtime.host import Host, HostGoneError
from inspector.compare.runtime.loaded import Loaded
from inspector.compare.runtime.run import Fed, InParts
from inspector.errors import LoadError, RunError, UndecidedError
from inspector.facts.model import Model
from inspector.facts.request import Request, asked_tolerance
from inspector.memory import available_memory

_SPARING = (1, 2)
"""How often inputs of the first batch are moved, in turn, before all of the floor is measured."""

_DRAWS = 2
"""How often weights are moved, where what inputs move does not do."""

_UNOPTIMISED = (
    "ONNX Runtime gives other outputs with its graph optimisation on than with it off: "
    "compared with it off"
)

_POSITIVE = (
    "outputs are NaN or infinite on both sides for normal inputs: "
    "compared for inputs between 0 and 1"
)

_FAR_ALONE = (
    "outputs agree for inputs of ordinary size (most below 10) and differ for larger ones (up to "
    "some tens): compared for those"
)


_OTHER_LENGTHS = (33, 64, 32, 224, 1)
"""Of dimensions that are left open, where outputs agree for one: first one that halves badly, then
those that deep networks can take."""

_AT_LENGTH = "outputs agree for other lengths of what the models leave open, and differ for"


class Both:
    """Two models, loaded, and how to run them on one hypothesis about their inputs."""

    def __init__(
        self,
        models: tuple[Model, Model],
        inputs: Sequence[Pair],
        outputs: Sequence[Pair],
        *,
        loaded: Loaded,
        host: Host,
        request: Request,
        same: Callable[[], bool],
        progress: Callable[[str], None],
    ) -> None:
        self._models, self._inputs, self._outputs = models, inputs, outputs
        self._request, self._progress = request, progress
        self._asked = asked_tolerance(request.atol, request.rtol)
        check_samples(request.samples)
        self._given = None
        if request.data is not None:
            self._given = open_given(request.data, inputs, samples=request.samples)
        named = [(source, each.path) for source, each in zip(loaded.sources, models, strict=True)]
        self._loaded, self._same, self._unoptimised = loaded, same, False
        self._host, self._sources = host, named
        left, right = (
            precision_of(model, stands_for=unit)
            for model, unit in zip(models, loaded.units, strict=True)
        )
        self._precisions = left, right
        self._coarser = coarser(left, right)

    @property
    def _runners(self) -> tuple[InParts, InParts]:
        return self._loaded.plain if self._unoptimised else self._loaded.optimised

    @property
    def draws_more(self) -> bool:
        """Whether there are more inputs to be had: the user says neither which nor how many."""
        return self._given is None and self._request.samples is None

    def measured(self, orders: tuple[Axes, ...], *, more: bool = False) -> Measured:
        found = self._found(orders, more=more)
        if self._given is not None:
            note = "; ".join((*filter(None, [found.note]), *self._given.notes))
            return replace(found, data=self._given.describe, note=note)
        if any(each.difference.both_non_finite for each in found.outputs) and found.hushed:
            # A logarithm or a variance of normal numbers: what both give for positive ones counts.
            try:
                again = self._run(orders, replace(found.plan, positive=True))
            except UndecidedError:
                return found
            if not any(each.difference.both_non_finite for each in again.outputs):
                return replace(again, limited=found.limited, note=_POSITIVE)
        return found

    def beyond(self, near: Measured) -> Measured | None:
        """Where outputs differ for larger inputs than `near` was measured on; None if nowhere.

        What holds for ordinary inputs says nothing of a bound that they do not reach, such as that
        of a Clip at 6 in place of a Relu. Each range of inputs has a floor of its own.
        """
        if self._coarser.grain.coarse or near.plan.positive:
            return None
        if not _any_floats(each.left for each in near.batches):
            return None
        plan = replace(near.plan, sizes=FAR_SIZES, far=True)
        try:
            far = self._run(near.orders, plan)
        except HostGoneError:
            raise
        except UndecidedError:
            return None
        if far.agree or any(
            each.difference.left_non_finite or each.difference.right_non_finite
            for each in far.outputs
        ):
            return None  # what overflows on the way may do so on one side alone
        return replace(far, limited=near.limited, note=_FAR_ALONE)

    def at_another_length(self, near: Measured) -> Measured:
        """The same where dimensions that both models leave open have another length.

        What was traced with one length and keeps it, agrees for that one alone: outputs differ at
        another, or one of the two does not run.
        """
        if not has_free_lengths(self._inputs) or near.coarser.grain.coarse:
            return near
        for free in _OTHER_LENGTHS:
            plan = replace(near.plan, free=free, sizes=FEW_SIZES[-1:], samples=None)
            try:
                batches = self._batches(near.orders, plan)
            except UndecidedError:  # too large, or of lengths that do not fit
                continue
            if free == near.plan.free or {each.lengths for each in batches} <= {
                each.lengths for each in near.batches
            }:
                continue
            failures = [self._failure(side, batches) for side in (0, 1)]
            if failures[0] and failures[1]:
                continue
            for side, failure in zip(("left", "right"), failures, strict=True):
                if failure is not None:
                    words = f"with {free} for lengths that it leaves open, the {side} model alone"
                    limited = f"{words} does not run ({failure.what})"
                    return replace(near, limited="; ".join(filter(None, [near.limited, limited])))
            run = self._run if self._loaded.is_small else self._run_sparingly
            far = run(near.orders, plan)
            if far.agree or any(each.difference.both_non_finite for each in far.outputs):
                return near
            note = f"{_AT_LENGTH} {free}"
            return replace(far, limited=near.limited, note=note)
        return near

    def _failure(self, side: int, batches: Sequence[Batch]) -> RunError | None:
        """Why one of the models does not run on batches; None where it does."""
        try:
            for each in batches:
                self._runners[side].run((each.left, each.right)[side])
        except HostGoneError:
            raise
        except RunError as error:
            return error
        return None

    def _found(self, orders: tuple[Axes, ...], *, more: bool) -> Measured:
        """Sparingly, where runs are dear and that is enough to show that outputs agree."""
        if not self._loaded.is_small and not any(each.coarse for each in self._precisions):
            sizes = MORE_SIZES if more else FEW_SIZES
            found = self._first_that_runs(orders, sizes, self._run_sparingly)
            if found.agree and not any(each.difference.both_non_finite for each in found.outputs):
                return found
        return self._first_that_runs(orders, MORE_SIZES if more else BATCH_SIZES, self._run)

    def _first_that_runs(
        self,
        orders: tuple[Axes, ...],
        sizes: tuple[int, ...],
        run: Callable[[tuple[Axes, ...], Plan], Measured],
    ) -> Measured:
        """On the likeliest inputs first; then on what a model may insist on without saying so."""
        failure: RunError | None = None
        for plan in self._plans(sizes):
            try:
                found = run(orders, plan)
            except (HostGoneError, LoadError) as error:
                raise failure or error from None
            except RunError as error:
                # A traceback keeps what was fed.
                failure = failure or error.with_traceback(None)
                continue
            return found if failure is None else replace(found, limited=_limits(found, failure))
        assert failure is not None  # each of the plans failed
        raise failure

    def _plans(self, sizes: tuple[int, ...]) -> Iterable[Plan]:
        memory = self._request.max_memory or available_memory()
        first = Plan(sizes=sizes, samples=self._request.samples, memory=memory)
        if self._given is None:
            return plans(self._inputs, first)
        return first, replace(first, most=1)

    def _batches(self, orders: tuple[Axes, ...], plan: Plan) -> tuple[Batch, ...]:
        if self._given is not None:
            return self._given.batches(orders, most=plan.most)
        return make_batches(self._inputs, orders, self._models, seed=self._request.seed, plan=plan)

    def _run_sparingly(self, orders: tuple[Axes, ...], plan: Plan) -> Measured:
        """Both as they are written, and a part of the floor.

        Each further run can only widen the floor: what agrees within a part of it agrees within
        the whole. Of one function by its bits nothing has to be shown but that it runs.
        """
        self._progress("running both models on the same inputs")
        batches = self._batches(orders, plan)
        lefts, rights = self._results(self._loaded.plain, batches)
        moved = [
            {name: [np.zeros(each[name].shape) for each in results] for name in results[0]}
            for results in (lefts, rights)
        ]
        found = self._measured(orders, plan, batches, (lefts, rights), (moved[0], moved[1]))
        if self._same():
            return found
        self._progress("measuring the rounding floor")
        for draw, draws in enumerate(_SPARING):
            for side, results in enumerate((lefts, rights)):
                feeds = [(each.left, each.right)[side] for each in batches[:1]]
                more = measure(
                    self._loaded.plain[side],
                    (),
                    feeds,
                    results[:1],
                    seed=self._request.seed + draw,
                    draws=draws,
                )
                widen(moved[side], more)
            found = self._measured(orders, plan, batches, (lefts, rights), (moved[0], moved[1]))
            if found.agree or found.far:
                break
        return found

    def _run(self, orders: tuple[Axes, ...], plan: Plan) -> Measured:
        self._progress("running both models on the same inputs")
        batches = self._batches(orders, plan)
        lefts, rights = self._results(self._runners, batches)
        self._progress("measuring the rounding floor")
        left_moved = self._deviations(0, batches, lefts)
        right_moved = self._deviations(1, batches, rights)
        if (
            not self._unoptimised
            and not self._coarser.grain.coarse
            and (far_from_itself(lefts, left_moved) or far_from_itself(rights, right_moved))
        ):
            # Its optimiser takes a training BatchNorm whose statistics nobody reads for another
            # operator (1.31; https://github.com/microsoft/onnxruntime/issues/26584).
            self._unoptimised = True
            again = self._run(orders, plan)
            settled = not far_from_itself(again.left_results, again.left_deviations)
            return replace(again, optimised=False, note=_UNOPTIMISED if settled else "")
        results, moved = (lefts, rights), (left_moved, right_moved)
        found = self._measured(orders, plan, batches, results, moved)
        if found.agree or self._asked or self._coarser.grain.coarse or found.far:
            return found
        # What hardly depends on its inputs, they hardly move: weights are rounded, too.
        for side in (0, 1):
            try:
                widen(moved[side], self._moved_by_weights(side, batches, results[side]))
            except HostGoneError:
                raise
            except RunError:  # of a model that insists on its weights: its floor is what it was
                return found
        return self._measured(orders, plan, batches, results, moved)

    def _measured(
        self,
        orders: tuple[Axes, ...],
        plan: Plan,
        batches: tuple[Batch, ...],
        results: tuple[Results, Results],
        moved: tuple[Deviations, Deviations],
    ) -> Measured:
        """How far the results of both lie apart, and how far they may."""
        moved_axes = any(each != tuple(sorted(each)) for each in orders)
        paired = tuple(
            hold(
                each,
                [r[each.left.name] for r in results[0]],
                [r[each.right.name] for r in results[1]],
                (moved[0][each.left.name], moved[1][each.right.name]),
                asked=self._asked,
                any_order=moved_axes,
                grain=self._coarser.grain,
            )
            for each in self._outputs
        )
        return Measured(
            outputs=paired,
            orders=orders,
            batches=batches,
            plan=plan,
            left_results=results[0],
            right_results=results[1],
            left_deviations=moved[0],
            right_deviations=moved[1],
            precisions=self._precisions,
            coarser=self._coarser,
        )

    def _results(
        self, runners: tuple[InParts, InParts], batches: Sequence[Batch]
    ) -> tuple[Results, Results]:
        lefts = [runners[0].run(each.left) for each in batches]
        rights = [runners[1].run(each.right) for each in batches]
        return lefts, rights

    def _deviations(self, side: int, batches: Sequence[Batch], results: Results) -> Deviations:
        precision = self._precisions[side]
        source, name = self._sources[side]

        def others() -> Iterator[InParts]:
            yield self._loaded.plain[side]
            model, seed = self._models[side], self._request.seed
            for instead in perturbed(model, precision, seed=seed):
                yield self._host.load(source, name=name, optimise=False, instead=instead)
            if not precision.coarse and not _any_floats(each.left for each in batches):
                # Integers have no neighbours that are rounding: what they look up has.
                instead = moved_weights(model, precision.unit, seed=seed)
                yield self._host.load(source, name=name, optimise=False, instead=instead)

        return measure(
            self._runners[side],
            others(),
            [(each.left, each.right)[side] for each in batches],
            results,
            seed=self._request.seed,
            unit=precision.unit if precision.coarse else 0.0,
        )

    def _moved_by_weights(
        self, side: int, batches: Sequence[Batch], results: Results
    ) -> Deviations:
        """How far outputs move where each weight is a neighbour of itself, drawn several times."""
        unit = self._precisions[side].unit
        source, name = self._sources[side]

        def others() -> Iterator[InParts]:
            for draw in range(_DRAWS):
                seed = self._request.seed + draw
                if instead := moved_weights(self._models[side], unit, seed=seed):
                    yield self._host.load(source, name=name, optimise=False, instead=instead)

        feeds = [(each.left, each.right)[side] for each in batches]
        return measure(
            self._runners[side], others(), feeds, results, seed=self._request.seed, draws=0
        )


def _limits(found: Measured, failure: RunError) -> str:
    """What could not be run, for `failure`, before something could."""
    limits = []
    if found.plan.most == 1 and all(each.size <= 1 for each in found.batches):
        limits.append(f"batches of more than one row do not run ({failure.what})")
    if found.plan.tame:
        limits.append(f"most values of integers and words do not run ({failure.what})")
    return "; ".join(limits)


def _any_floats(batches: Iterable[Fed]) -> bool:
    return any(values.dtype.kind == "f" for each in batches for values in each.values.values())
