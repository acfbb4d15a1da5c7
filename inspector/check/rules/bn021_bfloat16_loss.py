"""BN021: what is lost when a layer is run in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.narrowing import lost_in
from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN021",
    name="bfloat16-loss",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="In bfloat16, channels of a layer lose their precision.",
    why="bfloat16 has the range of float32 and three digits. That an epsilon of 1e-5 is lost "
    "beside a variance of 1 does no harm. A mean of many standard deviations does: 300.7 becomes "
    "300, and where the channel varies by 1, most of what it says is gone. The rule computes the "
    "layer by the three ways of BN020 and speaks where one of them moves a channel's output by "
    "more than `loss` of the output's own size. Rounding alone stayed below 0.2 in 1097 of 1100 "
    "real layers.",
    remedy="keep this layer in float32 (autocast does), or fold it into the operator in front of "
    "it in float32 before the weights are cast",
    thresholds=(
        Threshold(
            name="loss",
            default=0.25,
            what="how far a channel's output may move, as a share of its own size",
        ),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, 300.7},
 float[2] v = {1.0, 1.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, 3.007},
 float[2] v = {1.0, 150000.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    return lost_in(subject, "bfloat16", thresholds["loss"])


RULE = Rule(info=_INFO, find=_find)
