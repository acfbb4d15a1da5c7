"""Prove which differences are causes: patch them away in a copy, run it, and look.

A set of differences explains the outcome when patching all of them brings the outputs back
within tolerance. One of them is a cause when leaving it alone unpatched takes them out again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from inspector.compare.causes.candidate import Candidate
from inspector.compare.runtime.host import HostGoneError
from inspector.errors import RunError, UndecidedError
from inspector.facts.comparison import Cause, Proof
from inspector.facts.patch import Patch

MOST_PROOFS = 24
"""How many differences are tested one by one: beyond that, the networks are simply not the
same, and each test is a full run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How far the outputs lie apart in one experiment, and whether all keep their tolerance."""

    max_abs: float
    within: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Which differences matter, and what is left when all that can be patched are.

    `patches` are those of the differences that matter.
    """

    causes: tuple[Cause, ...] = ()
    harmless: tuple[Cause, ...] = ()
    explained_to: float | None = None
    explained: bool = False
    patches: tuple[Patch, ...] = ()


Experiment = Callable[[Sequence[Patch]], Trial]
"""Runs the right side with patches applied and compares it with the left."""


def explain(candidates: Sequence[Candidate], experiment: Experiment) -> Explanation:
    """Test every difference by experiment."""
    patchable = [each for each in candidates if each.patches]
    if not patchable:
        return unproved(candidates, "", None)
    try:
        everything = experiment(_patches(patchable))
    except UndecidedError as error:
        return unproved(candidates, f"the patched copy does not run ({error.what})", None)
    if not everything.within:
        return unproved(
            candidates,
            "patching every known difference does not bring the outputs together",
            everything.max_abs,
        )
    groups = _grouped(patchable)
    if len(groups) > MOST_PROOFS:
        return unproved(
            candidates, f"one of {len(patchable)}, tested together", everything.max_abs, True
        )
    tested = [_tested(each, groups, experiment, everything) for each in groups]
    if all(cause.proof is Proof.HARMLESS for cause in tested):
        why = "none alone has an effect beyond rounding; together they do"
        return unproved(candidates, why, everything.max_abs, True)
    # What could not be patched has no effect either: without it, the outputs agree.
    rest = [
        cause_of(each, Proof.HARMLESS, None, "the outputs agree without touching it")
        for each in candidates
        if not each.patches
    ]
    matter = [
        each
        for each, cause in zip(groups, tested, strict=True)
        if cause.proof is not Proof.HARMLESS
    ]
    return Explanation(
        causes=tuple(each for each in tested if each.proof is not Proof.HARMLESS),
        harmless=tuple(each for each in (*tested, *rest) if each.proof is Proof.HARMLESS),
        explained_to=everything.max_abs,
        explained=True,
        patches=tuple(patch for group in matter for patch in _patches(group)),
    )


def _grouped(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Each by itself; where those are too many to test, what says the same of many layers is one.

    An epsilon that differs differs in all BatchNorms of a network.
    """
    if len(candidates) <= MOST_PROOFS:
        return [[each] for each in candidates]
    groups: dict[tuple[str, ...], list[Candidate]] = {}
    for each in candidates:
        groups.setdefault((each.kind.value, each.what, each.left, each.right), []).append(each)
    return list(groups.values())


def without_effect(candidates: Sequence[Candidate], why: str) -> Explanation:
    """Differences between models whose outputs agree all the same."""
    return Explanation(
        harmless=tuple(cause_of(each, Proof.HARMLESS, None, why) for each in candidates)
    )


def _tested(
    group: Sequence[Candidate],
    groups: Sequence[Sequence[Candidate]],
    experiment: Experiment,
    everything: Trial,
) -> Cause:
    others = [each for other in groups if other is not group for each in other]
    cause = _together(group)
    try:
        left_alone = experiment(_patches(others))
        if left_alone.within:
            return replace(cause, proof=Proof.HARMLESS, effect=left_alone.max_abs)
        share = _share(group, others, experiment, everything, left_alone)
    except HostGoneError as error:
        return replace(cause, proof=Proof.UNTESTED, reason=error.what)
    except RunError as error:
        if not others or not any(each.begins for each in group):
            return replace(cause, proof=Proof.UNTESTED, reason=error.what)
        # With it all is well, and without it nothing runs: one length of several that go together.
        return replace(cause, proof=Proof.NECESSARY, reason="without it, the rest does not run")
    except UndecidedError as error:
        return replace(cause, proof=Proof.UNTESTED, reason=error.what)
    return replace(cause, proof=Proof.NECESSARY, effect=left_alone.max_abs, share=share)


def _share(
    group: Sequence[Candidate],
    others: Sequence[Candidate],
    experiment: Experiment,
    everything: Trial,
    left_alone: Trial,
) -> float | None:
    """The part of the whole difference that goes where this alone is patched."""
    whole = experiment(()) if others else left_alone
    try:
        alone = experiment(_patches(group)) if others else everything
    except HostGoneError:
        raise
    except RunError:  # it goes with others alone
        return None
    if not 0.0 < whole.max_abs < float("inf") or alone.max_abs == float("inf"):
        return None
    return min(max(1.0 - alone.max_abs / whole.max_abs, 0.0), 1.0)


def _together(group: Sequence[Candidate]) -> Cause:
    """One cause for what says the same of several layers."""
    first = cause_of(group[0], Proof.UNTESTED, None, "")
    if len(group) == 1:
        return first
    ends = [
        f"{len(group)} layers, from {a} to {b}"
        for a, b in (
            (group[0].left_where, group[-1].left_where),
            (group[0].right_where, group[-1].right_where),
        )
    ]
    return replace(first, left_where=ends[0], right_where=ends[1])


def unproved(
    candidates: Sequence[Candidate],
    why: str,
    left: float | None = None,
    explained: bool = False,
) -> Explanation:
    """Every difference as a cause that no experiment has shown to be one."""
    return Explanation(
        causes=tuple(
            cause_of(each, Proof.UNTESTED, None, each.reason or why) for each in candidates
        ),
        harmless=(),
        explained_to=left,
        explained=explained,
    )


def _patches(candidates: Sequence[Candidate]) -> list[Patch]:
    return [patch for each in candidates for patch in each.patches]


def cause_of(each: Candidate, proof: Proof, effect: float | None, reason: str) -> Cause:
    return Cause(
        kind=each.kind,
        what=each.what,
        left_where=each.left_where,
        right_where=each.right_where,
        left=each.left,
        right=each.right,
        proof=proof,
        effect=effect,
        reason=reason,
    )
