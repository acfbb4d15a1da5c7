"""Another precision on one side than on the other, as a cause of its own."""

from __future__ import annotations

from inspector.compare.causes.candidate import Candidate
from inspector.compare.measuring.precision import Precision, coarser
from inspector.facts.comparison import CauseKind


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
