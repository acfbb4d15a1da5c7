"""Comparing: read both, pair, run, measure, judge, explain."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, Unpack

from inspector.errors import RunError, UndecidedError
from inspector.flows.opened import Path
from inspector.flows.patch_out import patched_to, why_not
from inspector.flows.shaped import of_other_shapes
from inspector.flows.sides import Side, in_other_forms, opened_whole, side_of, stand_ins

if TYPE_CHECKING:
    from inspector.compare.causes.differences import Differences
    from inspector.compare.feeding.feeds import Batch
    from inspector.compare.graphs.correspondence import Correspondence
    from inspector.compare.locating.diagnose import Diagnosis
    from inspector.compare.locating.sweep import Sweep
    from inspector.compare.measuring.measured import Measured
    from inspector.compare.measuring.precision import Precision
    from inspector.compare.measuring.unquantised import Unquantised
    from inspector.compare.pairing.pair import Pair
    from inspector.compare.runtime.host import Host
    from inspector.compare.verdict import Judgement
    from inspector.facts.comparison import Comparison
    from inspector.facts.request import CompareOptions, Request

Progress: TypeAlias = Callable[[str], None]


def _silently(stage: str) -> None:
    """Progress for callers that want none."""


def compare_files(
    left: Path,
    right: Path,
    *,
    external_dirs: Sequence[Path] = (),
    progress: Progress = _silently,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Run two models on the same inputs and say whether they are one function, and if not, why.

    Parameters
    ----------
    left, right
        ONNX files.
    external_dirs
        Folders in which data files may lie beside the models' own.
    progress
        Called with the name of each stage.
    **options
        See `inspector.facts.request.Request`.

    Raises
    ------
    inspector.errors.UsageError
        An option makes no sense.
    inspector.errors.UnreadableError
        One of the files is no readable ONNX model. What cannot be decided is no error but the
        verdict `undecided`.
    """
    from inspector.compare.runtime.started import Started
    from inspector.facts.request import Request, asked_tolerance

    request = Request.of(options)
    asked_tolerance(request.atol, request.rtol)
    if request.patch_out is not None:
        from inspector.write.fixed import check_apart
        from inspector.write.save import check_destination

        check_destination(os.fspath(request.patch_out))
        given = () if request.data is None else (request.data,)
        check_apart(request.patch_out, (left, right, *given))
    # The process that runs models starts while this one imports what it needs, and reads them.
    with Started(request.max_memory) as started:
        from inspector.compare.runtime.host import Host
        from inspector.compare.runtime.loaded import load_ahead
        from inspector.write.runnable import own_file

        progress("reading both models")
        with Host(timeout=request.timeout, providers=request.providers, started=started) as host:
            models = opened_whole(left, external_dirs), opened_whole(right, external_dirs)
            # What the rest takes to import and to prepare, loading takes, too.
            load_ahead(models, (own_file(models[0]), own_file(models[1])), host)
            sides = side_of(models[0]), side_of(models[1])
            if request.patch_out is None:
                return _compare(sides, request, host, progress)
            check_apart(request.patch_out, [name for e in sides for name in e.model.data_files])
            found = _compare(sides, request, host, progress)
            return found if found.patched_to else replace(found, not_patched=why_not(found))


def _compare(
    sides: tuple[Side, Side], request: Request, host: Host, progress: Progress
) -> Comparison:
    """Judge two open models."""
    from inspector.compare.measuring.judged import OutputsShapesError
    from inspector.compare.pairing.pair import OutputsDifferError
    from inspector.compare.result import undecided
    from inspector.compare.runtime.host import HostGoneError
    from inspector.facts.comparison import Verdict

    models = sides[0].model, sides[1].model
    judging = _Judging(sides, request, host, progress)
    try:
        found, diagnosis = judging.judged()
    except (OutputsDifferError, OutputsShapesError) as error:
        judged = partial(undecided, models, Verdict.DIFFERENT, str(error), request.seed)
        found, patches = of_other_shapes(
            judged, sides[1], judging.differences, judging.moving, judging.agrees
        )
        return patched_to(request.patch_out, found, patches, sides[1], progress)
    except UndecidedError as error:
        if isinstance(error, RunError) and not isinstance(error, HostGoneError):
            others = in_other_forms(sides, error)
            if others is not None:
                return _compare(others, request, host, progress)
        return undecided(models, Verdict.UNDECIDED, str(error), request.seed, judging.differences)
    except MemoryError:
        reason = "comparing them takes more memory than there is; --samples 1 takes least"
        return undecided(models, Verdict.UNDECIDED, reason, request.seed, judging.differences)
    patches = diagnosis.explanation.patches
    return patched_to(request.patch_out, found, patches, sides[1], progress)


class _Judging:
    """The steps from two open models to a verdict and its causes."""

    def __init__(
        self, sides: tuple[Side, Side], request: Request, host: Host, progress: Progress
    ) -> None:
        self._sides = sides
        self._request = request
        self._host = host
        self._progress = progress
        self.differences: Differences | None = None
        self.moving: tuple[Correspondence, Sequence[Pair]] | None = None
        self._asks_why = True

    def agrees(self, right: Side) -> bool:
        """Whether another right side's outputs agree with the left one's."""
        from inspector.facts.comparison import Verdict

        other = _Judging((self._sides[0], right), self._request, self._host, self._progress)
        other._asks_why = False
        wanted = (Verdict.IDENTICAL, Verdict.EQUIVALENT, Verdict.AGREES)
        return other.judged()[0].verdict in wanted

    def judged(self) -> tuple[Comparison, Diagnosis]:
        """Pair, compare the graphs, run both, decide, and say why."""
        from concurrent.futures import ThreadPoolExecutor

        from inspector.compare.causes.precisions import precision_causes
        from inspector.compare.graphs.chance import which_draws
        from inspector.compare.graphs.digest import same_function
        from inspector.compare.locating.moved_over import said_of
        from inspector.compare.measuring.outputs import GraphsSay, run_both
        from inspector.compare.pairing.layout import find_layouts
        from inspector.compare.pairing.pair import left_out, pair_inputs, pair_outputs
        from inspector.compare.result import decided
        from inspector.compare.runtime.loaded import load_both
        from inspector.compare.verdict import capped, judge
        from inspector.facts.comparison import Verdict
        from inspector.facts.request import asked_tolerance
        from inspector.flows.graphs import both_graphs, on_one_set

        sides, request = self._sides, self._request
        models = sides[0].model, sides[1].model
        views = sides[0].view, sides[1].view
        asked = asked_tolerance(request.atol, request.rtol)
        loaded = load_both(
            models,
            (sides[0].source, sides[1].source),
            self._host,
            units=(sides[0].unit, sides[1].unit),
        )
        layouts = find_layouts(views[0]), find_layouts(views[1])
        inputs = pair_inputs(*models, layouts, request.layout, request.pairs)
        outputs = pair_outputs(*models, layouts, request.pairs)
        unpaired = left_out(*models, outputs)
        self._progress("comparing the graphs")
        # The models run in another process meanwhile.
        with ThreadPoolExecutor(max_workers=1) as aside:
            same = aside.submit(same_function, models, inputs, outputs)
            graphs = aside.submit(both_graphs, sides, layouts, inputs, outputs)

            def settled(measured: Measured) -> Measured:
                # What is quantised is judged so without its grids, which other models run for.
                if same.result() or asked is not None or measured.coarser.grain.quantised:
                    return measured
                return self._without_jumps(measured, graphs.result()[0], outputs)

            try:
                measured = run_both(
                    models,
                    inputs,
                    outputs,
                    loaded=loaded,
                    host=self._host,
                    request=request,
                    graphs=GraphsSay(
                        same=same.result,
                        differ=lambda: bool(graphs.result()[1].candidates),
                        settled=settled,
                    ),
                    progress=self._progress,
                )
            finally:
                # Said of what does not run, too.
                found, differences = graphs.result()
                self.differences, self.moving = differences, (found, outputs)
        del loaded  # four sessions, which nothing that follows runs
        unquantised = None
        if not same.result():
            self._sides, found, differences = on_one_set(
                sides, found, differences, layouts, inputs, outputs
            )
            unquantised = self._unquantised(measured, found, outputs, asked=asked is not None)
        judgement = judge(
            measured,
            differences,
            same_digest=same.result(),
            asked=asked is not None,
            coarser=measured.coarser,
            unquantised=unquantised,
            draws=which_draws(models),
        )
        judgement = capped(judgement, unpaired)
        if unquantised is not None and judgement.verdict is Verdict.AGREES:
            measured = said_of(measured, found)
        candidates = (*precision_causes(*measured.precisions), *differences.candidates)
        differences = replace(differences, candidates=candidates)
        diagnosis = self._diagnosed(found, measured, unquantised, outputs, differences, judgement)
        comparison = decided(
            models, inputs, measured, differences, judgement, diagnosis, request.seed
        )
        notes = (*comparison.information, *unpaired, *stand_ins(sides))
        return replace(comparison, information=notes), diagnosis

    def _without_jumps(
        self, measured: Measured, found: Correspondence, outputs: Sequence[Pair]
    ) -> Measured:
        """Outputs behind operators that jump, judged by what is in front of those and behind."""
        from inspector.compare.locating.moved_over import without_jumps
        from inspector.compare.locating.places import output_places

        ends = output_places(found, outputs)
        precisions = measured.precisions
        return without_jumps(
            measured, found, ends, lambda each: self._sweep(found, each, precisions=precisions)
        )

    def _sweep(
        self,
        found: Correspondence,
        batch: Batch,
        stepping: Collection[str] = (),
        precisions: Sequence[Precision] = (),
    ) -> Sweep:
        """Runs both with their inner values given out, on a batch."""
        from inspector.compare.locating.sweep import Sweep

        left, right = self._sides
        return Sweep(
            (found.left, found.right),
            batch,
            host=self._host,
            patched=(left.patched, right.patched),
            memory=self._request.tapped,
            seed=self._request.seed,
            steps=(left.steps, right.steps),
            stepping=stepping,
            precisions=precisions,
        )

    def _unquantised(
        self, measured: Measured, found: Correspondence, outputs: Sequence[Pair], *, asked: bool
    ) -> Unquantised | None:
        """Both without the grids of their activations; None where neither has any."""
        from inspector.compare.measuring.unquantised import without_grids

        left, right = self._sides
        if left.steps is None and right.steps is None:
            return None
        self._progress("running both models without their quantisation grids")
        unquantised = without_grids(
            (left.view, right.view),
            (left.steps, right.steps),
            measured,
            written=(lambda: left.patched(left.view, ()), lambda: right.patched(right.view, ())),
            host=self._host,
            seed=self._request.seed,
        )
        if unquantised is None or asked:
            return unquantised
        without = self._without_jumps(unquantised.measured, found, outputs)
        return unquantised.settled(without, measured)

    def _diagnosed(
        self,
        found: Correspondence,
        measured: Measured,
        unquantised: Unquantised | None,
        outputs: Sequence[Pair],
        differences: Differences,
        judgement: Judgement,
    ) -> Diagnosis:
        """Which of the differences between the graphs matter, and where they begin to."""
        from inspector.compare.causes.explain import without_effect
        from inspector.compare.causes.precisions import beside_quantising, by_quantising
        from inspector.compare.locating.diagnose import Diagnosis, diagnose, every_place
        from inspector.compare.locating.experiment import experiment_on
        from inspector.compare.locating.jumps import stepping
        from inspector.compare.measuring.coverage import measure_coverage
        from inspector.facts.comparison import Verdict

        request = self._request
        if not self._asks_why:
            return Diagnosis()
        differs = judgement.verdict is Verdict.DIFFERENT
        if differs and unquantised is not None and unquantised.agree:
            return Diagnosis(
                explanation=by_quantising(differences.candidates, measured, unquantised)
            )
        if differs and unquantised is not None:
            # Both sides' views are what is patched and looked into from here on.
            measured = unquantised.measured
        steps = stepping(measured, found) if differs else ()
        sweep = self._sweep(found, measured.worst_batch, steps)
        if judgement.verdict is Verdict.DIFFERENT:
            experiment = experiment_on(
                found.right.model,
                measured,
                patched=self._sides[1].patched,
                host=self._host,
                seed=request.seed,
                progress=self._progress,
            )
            diagnosis = diagnose(
                found,
                outputs,
                differences.candidates,
                experiment=experiment,
                sweep=sweep,
                progress=self._progress,
            )
            if unquantised is None:
                return diagnosis
            beside = beside_quantising(diagnosis.explanation)
            return replace(diagnosis, explanation=beside)
        diagnosis = Diagnosis()
        if judgement.verdict is Verdict.AGREES:
            explanation = without_effect(differences.candidates, "the outputs agree")
            diagnosis = replace(diagnosis, explanation=explanation)
        if request.layers:
            where = every_place(found, outputs, sweep, self._progress)
            diagnosis = replace(diagnosis, localisation=where)
        if request.layers or judgement.verdict is Verdict.AGREES:
            self._progress("looking for what the inputs cannot show")
            coverage = measure_coverage(
                found.left.model,
                found.left.layouts,
                [each.left for each in measured.batches],
                host=self._host,
                patched=self._sides[0].patched,
                memory=request.tapped,
            )
            diagnosis = replace(diagnosis, coverage=coverage)
        return diagnosis
