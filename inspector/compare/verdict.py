"""The verdict that follows from what was measured and what was found in the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inspector.compare.causes import Differences
from inspector.facts.comparison import PairedOutput, Verdict

BLIND = 0.1
"""Share of an output's own scale that a tolerance may reach: beyond it, agreement says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict and the sentence that gives its reason."""

    verdict: Verdict
    reason: str


def judge(
    outputs: Sequence[PairedOutput], differences: Differences, *, same_digest: bool, asked: bool
) -> Judgement:
    """Decide.

    Parameters
    ----------
    same_digest
        Whether structure and parameters are the same bit for bit.
    asked
        Whether the user gave the tolerance.
    """
    if (undecided := _cannot_tell(outputs, asked=asked)) is not None:
        return undecided
    agree = all(each.within for each in outputs)
    if not agree:
        if same_digest:
            return Judgement(
                verdict=Verdict.UNDECIDED,
                reason="structure and parameters are identical, and yet the outputs differ: "
                "the model does not compute the same thing twice",
            )
        return Judgement(verdict=Verdict.DIFFERENT, reason=_how_far(outputs))
    if same_digest:
        return Judgement(
            verdict=Verdict.IDENTICAL, reason="the same structure and the same parameters in bits"
        )
    within_floor = all(each.difference.max_abs <= _floor_bound(each) for each in outputs)
    accounted = differences.parameters.accounted_for and not differences.candidates
    if accounted and (within_floor or not asked):
        return Judgement(
            verdict=Verdict.EQUIVALENT,
            reason="outputs agree within the rounding floor, and every parameter and operator "
            "has its counterpart",
        )
    why = "parameters or structure differ" if not accounted else "only by the tolerance asked for"
    limit = "the tolerance asked for" if asked else "the rounding floor"
    return Judgement(verdict=Verdict.AGREES, reason=f"outputs agree within {limit}, but {why}")


def _floor_bound(output: PairedOutput) -> float:
    from inspector.compare.floor import FLOORS

    return FLOORS * output.floor


def _cannot_tell(outputs: Sequence[PairedOutput], *, asked: bool) -> Judgement | None:
    for each in outputs:
        far = each.difference
        if far.left_non_finite and far.right_non_finite:
            return Judgement(
                verdict=Verdict.UNDECIDED,
                reason=f"output {each.left!r} holds NaN or infinity on both sides "
                f"({far.left_non_finite} and {far.right_non_finite} elements), "
                "which never compare as equal",
            )
        if not asked and each.within and far.max_abs and each.tolerance > BLIND * far.scale:
            return Judgement(
                verdict=Verdict.UNDECIDED,
                reason=f"rounding alone moves output {each.left!r} by {each.floor:.3g} on a scale "
                f"of {far.scale:.3g}: too much to tell; give --atol or --rtol to decide",
            )
    return None


def _how_far(outputs: Sequence[PairedOutput]) -> str:
    top = max((each for each in outputs if not each.within), key=lambda e: e.difference.max_abs)
    far = top.difference
    if far.left_non_finite or far.right_non_finite:
        side = "left" if far.left_non_finite else "right"
        count = far.left_non_finite or far.right_non_finite
        return f"output {top.left!r} holds {count} NaN or infinite elements on the {side} alone"
    return f"outputs differ by up to {far.max_abs:.3g}, beyond the {top.tolerance:.3g} allowed"
