"""BN031: operators that have probably swallowed a BatchNorm."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.check.together import about, cut
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN031",
    name="lost-to-folding",
    severity=Severity.WARNING,
    confidence=Confidence.LIKELY,
    summary="Operators hold weights into which a BatchNorm was probably folded.",
    why="Inference gives the same, and is faster. But the layer is gone: the file cannot be "
    "trained on, counted or compared with its framework's layers, and the count of its parameters "
    "is not the network's. What was folded leaves only names and numbers behind, so this can be "
    "likely and never certain. Where a single trace might have another reason, the finding is of "
    "severity info.",
    remedy="where the BatchNorms are needed, export again without folding (bninspect export; "
    "training=TrainingMode.PRESERVE or do_constant_folding=False in torch); where they are not, "
    "ignore this rule for the file, with that as the reason",
    bad="""
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] b = {0.5, -0.5}>
{ ["layer1/bn1/FusedBatchNormV3"] y = Conv(x, w, b) }
""",
    good="""
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] b = {0.5, -0.5}>
{ ["layer1/conv1"] y = Conv(x, w, b) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    for confidence in Confidence:
        some = [each for each in subject.norms.folded if each.confidence is confidence]
        if not some:
            continue
        possible = confidence is Confidence.POSSIBLE
        word = "may have been" if possible else "was probably"
        told = cut("; ".join(some[0].evidence), 200)
        layers = [each.batchnorm for each in some if each.batchnorm]
        called = f", {cut(layers[0])!r}," if len(some) == 1 and layers else ""
        yield about(
            some,
            f"a BatchNorm{called} {word} folded into {'each' if len(some) > 1 else 'it'}"
            + (f" (of the first: {told})" if len(some) > 1 else f" ({told})"),
            kind="operators",
            severity=Severity.INFO if possible else None,
            confidence=confidence,
            told_by=told,
        )


RULE = Rule(info=_INFO, find=_find)
