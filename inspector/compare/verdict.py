"""The verdict that follows from what was measured and what was found in the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inspector.compare.causes.differences import Differences
from inspector.compare.measuring.floor import FILLED, FILLED_BEYOND, Deviations
from inspector.compare.measuring.measured import Measured, Results
from inspector.compare.measuring.precision import Coarser
from inspector.compare.measuring.unquantised import (
    Unquantised,
    disagreement,
    moves_by_steps,
)
from inspector.compare.runtime.run import Array
from inspector.facts.comparison import CauseKind, PairedOutput, Verdict

BLIND = 0.1
"""Share of an output's own scale that a tolerance may reach: beyond it, agreement says nothing."""

BLIND_QUANTISED = 0.5
"""The same where one side is quantised, which moves outputs by several per cent of their scale:
agreement within that is no more than what it is called."""

BEARABLE = 0.2
"""Share of an output's spread by which quantising may move it, all elements together: 14 dB."""

SAME = Coarser()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict and the sentence that gives its reason."""

    verdict: Verdict
    reason: str


_DEAD = Judgement(
    verdict=Verdict.AGREES,
    reason="outputs agree, but they are the same whatever is fed: these inputs cannot show a "
    "difference in front of them",
)


def capped(judgement: Judgement, left_out: Sequence[str]) -> Judgement:
    """A verdict on models of which some outputs were not compared: they agree at most."""
    if not left_out or judgement.verdict not in (Verdict.IDENTICAL, Verdict.EQUIVALENT):
        return judgement
    reason = f"the outputs that were compared agree; {'; '.join(left_out)}"
    return Judgement(verdict=Verdict.AGREES, reason=reason)


def judge(
    measured: Measured,
    differences: Differences,
    *,
    same_digest: bool,
    asked: bool,
    coarser: Coarser = SAME,
    unquantised: Unquantised | None = None,
    draws: Sequence[str] = (),
) -> Judgement:
    """Decide.

    Parameters
    ----------
    same_digest
        Whether structure and parameters are the same bit for bit, and inputs and outputs paired
        with their axes in place.
    asked
        Whether the user gave the tolerance.
    coarser
        What the coarser side computes in.
    unquantised
        Both sides without the grids of their activations, where they had some.
    draws
        Which sides draw random numbers, as sentences.
    """
    if unquantised is not None and not asked and not same_digest:
        more = {each.kind for each in differences.candidates} - {CauseKind.QUANTISATION}
        found = _judge_quantised(measured, coarser, unquantised, accounted=not more)
        if found is not None:
            return found
    words = "rounding" if asked else coarser.words
    outputs = measured.outputs
    if any(_differs(each) for each in outputs):
        if same_digest:
            return Judgement(
                verdict=Verdict.UNDECIDED,
                reason="structure and parameters are identical, and yet the outputs differ: "
                "the model does not compute the same thing twice",
            )
        untold = None if asked or not coarser.grain.quantised else _by_steps(measured)
        if untold is not None and (unquantised is None or not unquantised.stand_out):
            return Judgement(verdict=Verdict.UNDECIDED, reason=untold)
        return Judgement(verdict=Verdict.DIFFERENT, reason=_how_far(outputs, words))
    reason = _cannot_tell(measured, coarser, same_digest=same_digest, asked=asked, draws=draws)
    if reason is not None:
        return Judgement(verdict=Verdict.UNDECIDED, reason=reason)
    if same_digest:
        return Judgement(
            verdict=Verdict.IDENTICAL, reason="the same structure and the same parameters in bits"
        )
    if measured.limited:
        return Judgement(verdict=Verdict.AGREES, reason=f"outputs agree, but {measured.limited}")
    if _never_moves(measured):
        return _DEAD
    within_floor = all(
        each.difference.max_abs <= coarser.grain.floors * each.floor for each in outputs
    )
    accounted = differences.parameters.accounted_for and not differences.candidates
    if coarser.unlike and not asked:
        return Judgement(
            verdict=Verdict.AGREES,
            reason=f"outputs agree within {words}, and no further: the sides compute in "
            "different precisions",
        )
    if accounted and (within_floor or not asked):
        return Judgement(
            verdict=Verdict.EQUIVALENT,
            reason=f"outputs agree within {words}, and every parameter and operator has its "
            "counterpart",
        )
    why = "parameters or structure differ" if not accounted else "only by the tolerance asked for"
    limit = "the tolerance asked for" if asked else words
    return Judgement(verdict=Verdict.AGREES, reason=f"outputs agree within {limit}, but {why}")


def _judge_quantised(
    measured: Measured, coarser: Coarser, unquantised: Unquantised, *, accounted: bool
) -> Judgement | None:
    """What taking the grids away shows; None where it shows no more than the outputs do.

    Whether two models are one function is asked of them without grids: the tolerance for that is
    a small part of what quantising activations takes. What it does to the outputs is then a
    fact about one model, which is called a difference where it is a large part of them.
    """
    if any(
        (_differs(each) and each.finite_within) or each.difference.both_non_finite
        for each in measured.outputs
    ):
        return None
    without = unquantised.measured
    if unquantised.stand_out:
        return Judgement(
            verdict=Verdict.DIFFERENT,
            reason=f"{_how_far(without.outputs, without.coarser.words)}, {unquantised.beyond}",
        )
    if not unquantised.agree and any(_differs(each) for each in measured.outputs):
        return None
    if measured.only_if:
        return None
    if _never_moves(measured):
        return _DEAD
    share = max(unquantised.shares, default=0.0)
    if share <= BEARABLE:
        less = (
            (
                "the sides compute in different precisions"
                if coarser.unlike
                else "their grids differ"
            )
            if unquantised.agree
            else f"without it they differ by up to {unquantised.max_abs:.3g}, more than rounding "
            "accounts for"
        )
        less = less if accounted else f"{less}; parameters or structure differ besides"
        less = "; ".join(filter(None, [less, measured.limited]))
        return Judgement(
            verdict=Verdict.AGREES,
            reason=f"outputs agree within {coarser.words}, and no further: {less}",
        )
    return Judgement(
        verdict=Verdict.DIFFERENT,
        reason=f"{coarser.words} alone moves outputs by {100 * share:.0f} % of their spread, where "
        f"up to {100 * BEARABLE:.0f} % are called agreement",
    )


def _by_steps(measured: Measured) -> str | None:
    """Why outputs that differ tell nothing: quantising moves some elements over a step."""
    differing = [each for each in measured.outputs if _differs(each)]
    shares = [disagreement(each, measured) for each in differing]
    if max(shares) > BEARABLE or not all(moves_by_steps(each, measured) for each in differing):
        return None
    at = max(range(len(shares)), key=shares.__getitem__)
    return (
        f"output {differing[at].left!r} differs in {100 * shares[at]:.2g} % of what chance would "
        "have differ: int8 quantisation moves elements over a step, and whether anything else "
        "does cannot be told"
    )


def _never_moves(measured: Measured) -> bool:
    """Whether no output depends on the inputs, as they were fed: a dead network.

    Each side is held to what rounding moves it by itself: beside one in few bits, whose floor may
    be as large as the spread of the outputs, the other one still shows that they move.
    """
    if not any(each.left.values for each in measured.batches):
        return False
    sides = (
        (measured.left_results, measured.left_deviations, [o.left for o in measured.outputs]),
        (measured.right_results, measured.right_deviations, [o.right for o in measured.outputs]),
    )
    times = measured.coarser.grain.floors
    return bool(measured.outputs) and all(
        _is_constant(name, results, deviations, times)
        for results, deviations, names in sides
        for name in names
    )


def _is_constant(name: str, results: Results, deviations: Deviations, times: float) -> bool:
    rows = [row for batch in results for row in _rows(batch[name])]
    moved = max((float(each.max(initial=0.0)) for each in deviations.get(name, ())), default=0.0)
    return len(rows) > 1 and all(_same(row, rows[0], times * moved) for row in rows[1:])


def _rows(values: Array) -> list[Array]:
    """The rows of a batch; what has none is one."""
    # Not by iterating: elements of an array of strings are no arrays.
    return [values[at, ...] for at in range(len(values))] if values.ndim else [values]


def _same(row: Array, first: Array, tolerance: float) -> bool:
    if row.shape != first.shape or row.dtype.kind != "f":
        return bool(np.array_equal(row, first))
    apart = np.abs(row.astype(np.float64) - first.astype(np.float64))
    # One step of the type at least: rows that are computed in another order lie that far apart.
    # Not of a mask's -1e9, which stands in both and says nothing of what is beside it.
    sizes = np.abs(first)
    beside = float(sizes.max(initial=0.0, where=row != first))
    whole = float(sizes.max(initial=0.0))
    filled = whole >= max(FILLED, FILLED_BEYOND * beside)
    step = float(np.finfo(row.dtype).eps) * (beside if filled else whole)
    return bool(apart.max(initial=0.0) <= max(tolerance, step))


def _differs(output: PairedOutput) -> bool:
    """Whether numbers differ, or one side has a number where the other has none."""
    far = output.difference
    one_side = far.left_non_finite + far.right_non_finite - 2 * far.both_non_finite
    return not output.finite_within or one_side > 0


def _cannot_tell(
    measured: Measured,
    coarser: Coarser,
    *,
    same_digest: bool,
    asked: bool,
    draws: Sequence[str] = (),
) -> str | None:
    """Why agreement says nothing, where that is so."""
    blind = BLIND_QUANTISED if coarser.grain.quantised else BLIND
    for each in measured.outputs:
        far = each.difference
        if far.both_non_finite:
            return (
                f"output {each.left!r} holds NaN or infinity on both sides "
                f"({far.left_non_finite} and {far.right_non_finite} elements), "
                "which never compare as equal"
            )
        if same_digest:
            continue
        if 0 in far.shape:
            return f"output {each.left!r} is empty on both sides for these inputs"
        # Of two precisions, outputs this close would have passed a tolerance that is not too large.
        close = coarser.unlike and far.max_abs <= BLIND * far.scale
        if not asked and far.max_abs and not close and each.tolerance > blind * far.scale:
            if draws:
                return f"output {each.left!r} is another at each run: {'; '.join(draws)}"
            return (
                f"{coarser.words} alone moves output {each.left!r} by {each.floor:.3g} on a scale "
                f"of {far.scale:.3g}: too much to tell; give --atol or --rtol to decide"
            )
    if measured.only_if:
        return (
            f"outputs agree only if {measured.only_if}, and no operator tells whether it is; "
            "say it with --layout LEFT:RIGHT (for instance NHWC:NCHW, or same)"
        )
    return None


def _how_far(outputs: Sequence[PairedOutput], words: str) -> str:
    top = max((each for each in outputs if _differs(each)), key=lambda e: e.difference.max_abs)
    far = top.difference
    if not top.finite_within and top.beyond:
        return f"outputs differ: {top.beyond}"
    if far.left_non_finite != far.right_non_finite or far.both_non_finite < far.left_non_finite:
        side = "left" if far.left_non_finite > far.both_non_finite else "right"
        count = (far.left_non_finite if side == "left" else far.right_non_finite) - (
            far.both_non_finite
        )
        return f"output {top.left!r} holds {count} NaN or infinite elements on the {side} alone"
    by = "" if words == "rounding" else f" for {words}"
    return f"outputs differ by up to {far.max_abs:.3g}, beyond the {top.tolerance:.3g} allowed{by}"
