"""BN034: layers near an operator that could take them in, if something were not in the way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.check.together import about, divisible
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity

_IN_THE_WAY = re.compile(
    r"stands? between it and (?:Conv|ConvTranspose|Gemm) '"
    r"|^others read the output of (?:Conv|ConvTranspose|Gemm) '"
    r"|^the weights of (?:Conv|ConvTranspose|Gemm) '"
    r"|^it follows (?:MatMul|Conv) and the Add of its bias"
)
"""Obstacles in front of which there is a Conv or its like.

The others are no surprise: a layer that trains, one whose parameters are not in the file (other
rules speak of those), and one that follows a Concat, a pooling or the input.
"""

_INFO = RuleInfo(
    code="BN034",
    name="not-foldable",
    severity=Severity.INFO,
    confidence=Confidence.CERTAIN,
    summary="A Conv or its like is near, and something keeps the BatchNorm from being folded in.",
    why="Folding needs a linear operator right in front, whose output nothing else reads. Behind "
    "an activation, as in Conv, Relu, BatchNormalization, no runtime can fold: each inference "
    "pays a multiplication and an addition for each element. Those who count on folding, for "
    "speed or for int8, had better know. What follows a Concat, a pooling or a sum is not listed: "
    "nobody expects it to fold there.",
    remedy="put the BatchNorm between the linear operator and its activation in the next "
    "training, or fold it forward into the operator behind it; for this file it is a cost to know "
    "of",
    bad="""
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>
{ [conv] h = Conv(x, w)
  [relu] r = Relu(h)
  [bn] y = BatchNormalization(r, s, b, m, v) }
""",
    good="""
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>
{ [conv] h = Conv(x, w)
  [bn] r = BatchNormalization(h, s, b, m, v)
  [relu] y = Relu(r) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    norms = [norm for norm in subject.norms.batchnorms if _IN_THE_WAY.search(norm.obstacle)]
    yield from divisible(norms, [norm.name for norm in norms], _told)


def _told(norms: Sequence[BatchNorm]) -> Found:
    obstacle = norms[0].obstacle
    first = "" if len(norms) == 1 else "of the first, "
    return about(norms, f"cannot be folded: {first}{obstacle}", obstacle=obstacle)


RULE = Rule(info=_INFO, find=_find)
