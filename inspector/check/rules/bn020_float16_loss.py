"""BN020: what is lost when a layer is run in float16."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.narrowing import lost_in
from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN020",
    name="float16-loss",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="In float16, channels of a layer overflow, vanish or lose their precision.",
    why="float16 ends at 65504 and below 6e-8 there is nothing. A variance beyond that becomes "
    "infinite and its channel a constant; where var + epsilon vanishes, the layer divides by "
    "zero; data whose mean is many standard deviations keeps fewer digits than the channel needs. "
    "The rule computes the layer by the three ways of runtimes: parameters and data cast, and the "
    "slope computed in single precision; all of it in half, epsilon added there; and folded "
    "first, then cast. It speaks where one of them moves a channel's output by more than `loss` "
    "of the output's usual size, a standard deviation and the bias together. What does no harm is "
    "not told: a variance that vanishes beside an epsilon of 1e-5 moves the slope by a "
    "thousandth. Rounding alone stayed below 0.1 in each of 1100 real layers. Layers that are "
    "float16 already are checked as they are; parameters kept in float32 beside float16 data are "
    "fine.",
    remedy="keep this layer in float32 when converting (as with op_block_list in "
    "onnxconverter-common), or train with weights that give smaller activations",
    thresholds=(
        Threshold(
            name="loss",
            default=0.25,
            what="how far a channel's output may move, as a share of its own size",
        ),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 150000.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 15000.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    return lost_in(subject, "float16", thresholds["loss"])


RULE = Rule(info=_INFO, find=_find)
