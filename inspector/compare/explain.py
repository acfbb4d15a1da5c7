"""Prove which differences are causes: patch them away in a copy, run it, and look.

A set of differences explains the outcome when patching all of them brings the outputs back
within tolerance. One of them is a cause when leaving it alone unpatched takes them out again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inspector.compare.candidate import Candidate
from inspector.errors import UndecidedError
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
    """Which differences matter, and what is left when all that can be patched are."""

    causes: tuple[Cause, ...] = ()
    harmless: tuple[Cause, ...] = ()
    explained_to: float | None = None
    explained: bool = False


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
    if len(patchable) > MOST_PROOFS:
        return unproved(
            candidates, f"one of {len(patchable)}, tested together", everything.max_abs, True
        )
    tested = [_tested(each, patchable, experiment) for each in patchable]
    if all(each.proof is Proof.HARMLESS for each in tested):
        why = "none alone has an effect beyond rounding; together they do"
        return unproved(candidates, why, everything.max_abs, True)
    # What could not be patched has no effect either: without it, the outputs agree.
    rest = [
        _cause(each, Proof.HARMLESS, None, "the outputs agree without touching it")
        for each in candidates
        if not each.patches
    ]
    return Explanation(
        causes=tuple(each for each in tested if each.proof is not Proof.HARMLESS),
        harmless=tuple(each for each in (*tested, *rest) if each.proof is Proof.HARMLESS),
        explained_to=everything.max_abs,
        explained=True,
    )


def without_effect(candidates: Sequence[Candidate], why: str) -> Explanation:
    """Differences between models whose outputs agree all the same."""
    return Explanation(
        harmless=tuple(_cause(each, Proof.HARMLESS, None, why) for each in candidates)
    )


def _tested(each: Candidate, patchable: Sequence[Candidate], experiment: Experiment) -> Cause:
    others = [other for other in patchable if other is not each]
    try:
        trial = experiment(_patches(others))
    except UndecidedError as error:
        return _cause(each, Proof.UNTESTED, None, error.what)
    proof = Proof.HARMLESS if trial.within else Proof.NECESSARY
    return _cause(each, proof, trial.max_abs, "")


def unproved(
    candidates: Sequence[Candidate],
    why: str,
    left: float | None = None,
    explained: bool = False,
) -> Explanation:
    """Every difference as a cause that no experiment has shown to be one."""
    return Explanation(
        causes=tuple(_cause(each, Proof.UNTESTED, None, each.reason or why) for each in candidates),
        harmless=(),
        explained_to=left,
        explained=explained,
    )


def _patches(candidates: Sequence[Candidate]) -> list[Patch]:
    return [patch for each in candidates for patch in each.patches]


def _cause(each: Candidate, proof: Proof, effect: float | None, reason: str) -> Cause:
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
