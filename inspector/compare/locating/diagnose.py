"""Why two models differ: where it begins, and which differences between the graphs do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from inspector.compare.causes.candidate import Candidate
from inspector.compare.causes.explain import (
    Experiment,
    Explanation,
    cause_of,
    explain,
    unproved,
)
from inspector.compare.causes.moved import moved_otherwise
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.locating.localise import localisation, suspected
from inspector.compare.locating.places import find_places
from inspector.compare.locating.repair import Repair, causes_of, repaired
from inspector.compare.locating.sweep import Held, Sweep
from inspector.compare.pairing.pair import Pair
from inspector.compare.runtime.host import HostGoneError
from inspector.facts.comparison import Cause, CauseKind, Coverage, Localisation, Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Causes, where the difference begins, and what the inputs cannot show."""

    explanation: Explanation = field(default_factory=Explanation)
    localisation: Localisation | None = None
    coverage: Coverage | None = None


def diagnose(
    found: Correspondence,
    outputs: Sequence[Pair],
    candidates: Sequence[Candidate],
    *,
    experiment: Experiment,
    sweep: Sweep,
    progress: Callable[[str], None],
) -> Diagnosis:
    """Find where two models that differ begin to, and prove why.

    Parameters
    ----------
    candidates
        Differences that were found in the graphs.
    experiment
        Runs the right side with patches and holds its outputs against the left one's.
    sweep
        Runs both with their inner values given out.
    """
    progress("looking for the first place that differs")
    places = find_places(found, outputs)
    wanted = [each.right.name for each in outputs]
    held: list[Held] = []
    try:
        held += sweep.held(places)
        where = localisation(held, suspected(held, found.right, wanted))
    except HostGoneError as error:
        where = localisation(held, [], reason=error.what)
    if where.first is None:
        return Diagnosis(explanation=explain(candidates, experiment), localisation=where)
    try:
        repair = repaired(
            sweep,
            places,
            found,
            candidates,
            wanted,
            suspicions=moved_otherwise(found, outputs),
            held=held,
            progress=progress,
        )
        explanation = _after(repair, candidates, experiment)
        where = _begun(where, repair)
        if repair.reason and not explanation.explained:
            where = replace(where, reason=f"no more causes were looked for: {repair.reason}")
    except HostGoneError as error:
        explanation = unproved(candidates, error.what)
    return Diagnosis(explanation=explanation, localisation=where)


def every_place(
    found: Correspondence,
    outputs: Sequence[Pair],
    sweep: Sweep,
    progress: Callable[[str], None],
) -> Localisation:
    """All places of two models that agree, as far as they could be run."""
    progress("comparing layer by layer")
    held: list[Held] = []
    reason = ""
    try:
        held += sweep.held(find_places(found, outputs))
    except HostGoneError as error:
        reason = error.what
    return localisation(held, [], reason=reason, all_points=True)


def _is_settled(explanation: Explanation) -> bool:
    """Whether every difference was tested, and all of the outputs' difference explained."""
    return explanation.explained and all(
        each.proof is not Proof.UNTESTED for each in explanation.causes
    )


def _after(repair: Repair, candidates: Sequence[Candidate], experiment: Experiment) -> Explanation:
    """The explanation that mending place by place gives, proved on the outputs."""
    patched = [each for fault in repair.faults for each in fault.patched]
    if repair.whole and not repair.grafts:
        again = explain(patched, experiment)
        if _is_settled(again):
            done = {id(each) for each in patched}
            told = {id(each) for each in candidates if _is_told_by(each, patched)}
            rest = [each for each in candidates if id(each) not in done | told]
            return replace(again, harmless=(*again.harmless, *_untouched(rest)))
    # Some faults are too small to see where they are, and some places only look like one.
    together = explain(candidates, experiment)
    if _is_settled(together):
        return together
    near = {id(each) for fault in repair.faults for each in fault.near}
    rest = [each for each in candidates if id(each) not in near] if repair.whole else []
    return Explanation(
        causes=tuple(causes_of(repair)),
        harmless=_untouched(rest),
        explained=repair.whole,
        patches=tuple(repair.patches) if repair.is_patched else (),
    )


def _is_told_by(candidate: Candidate, patched: Sequence[Candidate]) -> bool:
    """Whether what moves a value otherwise, and was patched, is what a difference is about."""
    about = not candidate.patches or candidate.kind is CauseKind.MISSING
    return about and any(each.begins and candidate.nodes <= each.nodes for each in patched)


def _begun(where: Localisation, repair: Repair) -> Localisation:
    """The same, beginning with what moves a value where that was what mended the first place.

    What it gives has another shape, or order, on each side: the numbers are those of the first
    place behind it.
    """
    if where.first is None or not repair.faults or not repair.faults[0].patched:
        return where
    first = repair.faults[0].patched[0]
    if not first.begins:
        return where
    left, right, left_where, right_where = first.begins
    point = replace(
        where.first, left=left, right=right, left_where=left_where, right_where=right_where
    )
    return replace(where, first=point, points=(point, *where.points))


def _untouched(candidates: Sequence[Candidate]) -> tuple[Cause, ...]:
    why = "the outputs agree without touching it"
    return tuple(cause_of(each, Proof.HARMLESS, None, why) for each in candidates)
