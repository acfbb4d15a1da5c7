"""Run both models on the same inputs and measure how far each output lies apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product

import numpy as np

from inspector.compare.difference import distances
from inspector.compare.feeds import (
    BATCH_SIZES,
    MORE_SIZES,
    Batch,
    Plan,
    check_samples,
    make_batches,
    plans,
)
from inspector.compare.floor import Deviations, measure
from inspector.compare.given import open_given
from inspector.compare.host import Host, HostGoneError
from inspector.compare.judged import (
    asked_tolerance,
    hold,
    turned,
)
from inspector.compare.layout import Axes
from inspector.compare.loaded import Loaded
from inspector.compare.pair import Pair
from inspector.compare.precision import (
    Coarser,
    Precision,
    coarser,
    moved_weights,
    perturbed,
    precision_of,
)
from inspector.compare.run import Array, Fed, InParts
from inspector.errors import RunError, UndecidedError
from inspector.facts.comparison import PairedOutput
from inspector.facts.model import Model
from inspector.facts.request import Request

MOST_HYPOTHESES = 27
"""Ways in which the axes of inputs may correspond, of which at most so many are run."""

SMALL = 2**22
"""Bytes of a model of which more runs than are needed cost nothing to speak of."""

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
    to be assumed for the outputs to agree, `limited` what could not be run, `data` which of the
    user's files were fed.
    """

    outputs: tuple[PairedOutput, ...]
    orders: tuple[Axes, ...]
    batches: tuple[Batch, ...]
    left_results: Results = field(repr=False)
    right_results: Results = field(repr=False)
    left_deviations: Deviations = field(repr=False)
    plan: Plan
    only_if: str = ""
    limited: str = ""
    note: str = ""
    data: str = ""
    optimised: bool = True
    precisions: tuple[Precision, ...] = ()
    coarser: Coarser = field(default_factory=Coarser)
    right_deviations: Deviations = field(default_factory=dict, repr=False)

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
    def worst_batch(self) -> Batch:
        """The batch on which the outputs lie furthest apart; of several, the smallest."""

        def apart(at: int) -> float:
            ratios = [
                _ratio(each, self.left_results[at], self.right_results[at]) for each in self.outputs
            ]
            return max(ratios, default=0.0)

        far = [apart(at) for at in range(len(self.batches))]
        enough = [at for at, each in enumerate(far) if each >= max(far) / 2]
        return self.batches[min(enough, key=lambda at: (self.batches[at].size, at))]

    @property
    def agree(self) -> bool:
        return all(each.within for each in self.outputs)


def run_both(
    models: tuple[Model, Model],
    inputs: Sequence[Pair],
    outputs: Sequence[Pair],
    *,
    loaded: Loaded,
    host: Host,
    request: Request,
    doubt: bool,
    progress: Callable[[str], None],
) -> Measured:
    """Run two models on the same seeded inputs, and measure each one's rounding floor.

    Where the graphs do not tell how the axes of an input correspond, every way is tried and the
    first under which the outputs agree is taken, or else the first of all that runs.

    Parameters
    ----------
    loaded
        Both models, see `load_both`.
    host
        Where they run.
    doubt
        Whether the graphs differ, so that agreement has to be shown on more inputs.

    Raises
    ------
    inspector.errors.UndecidedError
        A model does not run, or the two cannot be fed the same inputs.
    """
    progress("loading both models")
    both = _Both(
        models,
        inputs,
        outputs,
        loaded=loaded,
        host=host,
        request=request,
        progress=progress,
    )
    first: Measured | None = None
    failure: UndecidedError | None = None
    for orders in islice(product(*(each.permutations for each in inputs)), MOST_HYPOTHESES):
        try:
            measured = both.measured(orders)
        except UndecidedError as error:
            failure = failure or error
            continue
        # Where they differ too: of two faults, one may need more inputs to show.
        if doubt and both.draws_more and (measured.agree or both.is_small):
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
        loaded: Loaded,
        host: Host,
        request: Request,
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
        self._runners, self._plain = list(loaded.optimised), list(loaded.plain)
        self._host, self._sources = host, named
        left, right = (
            precision_of(model, stands_for=unit)
            for model, unit in zip(models, loaded.units, strict=True)
        )
        self._precisions = left, right
        self._coarser = coarser(left, right)

    @property
    def is_small(self) -> bool:
        """Whether more runs than are needed cost nothing to speak of."""
        return all(each.size <= SMALL for each in self._models)

    @property
    def draws_more(self) -> bool:
        """Whether there are more inputs to be had: the user says neither which nor how many."""
        return self._given is None and self._request.samples is None

    def measured(self, orders: tuple[Axes, ...], *, more: bool = False) -> Measured:
        found = self._first_that_runs(orders, MORE_SIZES if more else BATCH_SIZES)
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

    def _first_that_runs(self, orders: tuple[Axes, ...], sizes: tuple[int, ...]) -> Measured:
        """On the likeliest inputs first; then on what a model may insist on without saying so."""
        failure: RunError | None = None
        for plan in self._plans(sizes):
            try:
                found = self._run(orders, plan)
            except HostGoneError as error:
                raise failure or error from None
            except RunError as error:
                failure = failure or error
                continue
            return found if failure is None else replace(found, limited=_limits(found, failure))
        assert failure is not None  # each of the plans failed
        raise failure

    def _plans(self, sizes: tuple[int, ...]) -> Iterable[Plan]:
        first = Plan(sizes=sizes, samples=self._request.samples)
        if self._given is None:
            return plans(self._inputs, first)
        return first, replace(first, most=1)

    def _batches(self, orders: tuple[Axes, ...], plan: Plan) -> tuple[Batch, ...]:
        if self._given is not None:
            return self._given.batches(orders, most=plan.most)
        return make_batches(self._inputs, orders, self._models, seed=self._request.seed, plan=plan)

    def _run(self, orders: tuple[Axes, ...], plan: Plan) -> Measured:
        self._progress("running both models on the same inputs")
        batches = self._batches(orders, plan)
        lefts, rights = self._results(batches)
        self._progress("measuring the rounding floor")
        left_moved = self._deviations(0, batches, lefts)
        right_moved = self._deviations(1, batches, rights)
        if (
            self._runners != self._plain
            and not self._coarser.grain.coarse
            and (_far_from_itself(lefts, left_moved) or _far_from_itself(rights, right_moved))
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
                grain=self._coarser.grain,
            )
            for each in self._outputs
        )
        return Measured(
            outputs=paired,
            orders=orders,
            batches=batches,
            plan=plan,
            left_results=lefts,
            right_results=rights,
            left_deviations=left_moved,
            right_deviations=right_moved,
            precisions=self._precisions,
            coarser=self._coarser,
        )

    def _results(self, batches: Sequence[Batch]) -> tuple[Results, Results]:
        lefts = [self._runners[0].run(each.left) for each in batches]
        rights = [self._runners[1].run(each.right) for each in batches]
        return lefts, rights

    def _deviations(self, side: int, batches: Sequence[Batch], results: Results) -> Deviations:
        precision = self._precisions[side]
        source, name = self._sources[side]

        def others() -> Iterator[InParts]:
            yield self._plain[side]
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


def _ratio(output: PairedOutput, lefts: dict[str, Array], rights: dict[str, Array]) -> float:
    """How far an output of one batch lies apart, as a multiple of what is allowed."""
    left, right = lefts[output.left], turned(rights[output.right], output.permutation)
    if left.shape != right.shape or not left.size:
        return float("inf")
    apart = float(distances(left, right).max())
    return apart / output.tolerance if output.tolerance else apart


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
