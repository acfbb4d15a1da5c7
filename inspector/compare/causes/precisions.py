"""Another precision on one side than on the other, as a cause of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inspector.compare.causes.candidate import Candidate
from inspector.compare.causes.explain import Explanation, cause_of
from inspector.compare.measuring.measured import Measured
from inspector.compare.measuring.precision import Precision, coarser
from inspector.compare.measuring.unquantised import Unquantised
from inspector.facts.comparison import CauseKind, Proof


def precision_causes(left: Precision, right: Precision) -> tuple[Candidate, ...]:
    """The difference in precision as a difference between the graphs, where there is one.

    It is no difference that one node makes, so there is no patch: whether it explains what was seen
    is shown by holding `inspector.write.dequantise.dequantised` against the other side.
    """
    if not coarser(left, right).unlike:
        return ()
    kind = CauseKind.QUANTISATION if left.quantised != right.quantised else CauseKind.PRECISION
    return (
        Candidate(
            kind=kind,
            what=kind.value,
            left_where=left.why,
            right_where=right.why,
            left=left.name,
            right=right.name,
            reason="what a model computes in is no difference to patch away",
        ),
    )


def by_quantising(
    candidates: Sequence[Candidate], measured: Measured, unquantised: Unquantised
) -> Explanation:
    """The explanation where both sides agree without the grids of their activations.

    Weights on grids then account for what is left, and nothing else has an effect.
    """
    whole = max((each.difference.max_abs for each in measured.outputs), default=0.0)
    left = unquantised.max_abs
    share = min(max(1.0 - left / whole, 0.0), 1.0) if 0.0 < whole < float("inf") else None
    causes = [
        replace(cause_of(each, Proof.NECESSARY, whole, ""), share=share)
        for each in candidates
        if _is_of_activations(each)
    ]
    why = "the outputs agree without touching it, once activations are not quantised"
    return Explanation(
        causes=tuple(causes),
        harmless=tuple(
            cause_of(each, Proof.HARMLESS, None, why)
            for each in candidates
            if not _is_of_activations(each)
        ),
        explained_to=left,
        explained=True,
    )


def beside_quantising(found: Explanation) -> Explanation:
    """What was found without the grids of activations, with what they do beside it, last."""
    kinds = CauseKind.QUANTISATION, CauseKind.PRECISION
    told = (*found.causes, *found.harmless)
    own = [each for each in told if each.kind in kinds and each.what == each.kind]
    others = tuple(each for each in found.causes if each not in own)
    if not others:
        return found
    # Rounding of weights that shows beside a fault is not what to look at first.
    others = tuple(sorted(others, key=lambda each: each.kind is CauseKind.QUANTISATION))
    why = "quantising activations moves the outputs less than what else differs"
    beside = [replace(each, proof=Proof.HARMLESS, reason=why) for each in own]
    harmless = [each for each in found.harmless if each not in own]
    return replace(found, causes=others, harmless=(*harmless, *beside))


def _is_of_activations(candidate: Candidate) -> bool:
    """Whether it is the one that `precision_causes` gives."""
    return candidate.kind in (CauseKind.QUANTISATION, CauseKind.PRECISION) and not (
        candidate.patches
    )
