"""BN030: layers of which slope and intercept are all that is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.check.together import about, cut, divisible
from inspector.facts.batchnorm import BatchNorm, Confidence, Form
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN030",
    name="lost-to-affine",
    severity=Severity.WARNING,
    confidence=Confidence.LIKELY,
    summary="An exporter has left a multiplication and an addition where a BatchNorm was.",
    why="Inference gives the same. But scale, bias, mean and variance cannot be told from two "
    "numbers: the file cannot be trained on, adapted to another domain, counted or compared with "
    "its framework's layers. That the arithmetic was a BatchNorm is told by its names.",
    remedy="export again with the BatchNorms kept (bninspect export), or put them back from the "
    "framework's own tensors",
    bad="""
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[1, 2, 1, 1] "net/batch_normalization/mul" = {1.5, 0.5},
 float[1, 2, 1, 1] "net/batch_normalization/sub" = {0.5, -0.5}>
{ ["net/batch_normalization/batchnorm/mul_1"] h = Mul(x, "net/batch_normalization/mul")
  ["net/batch_normalization/batchnorm/add_1"] y = Add(h, "net/batch_normalization/sub") }
""",
    good="""
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ ["net/batch_normalization"] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    left = [norm for norm in subject.norms.batchnorms if norm.form is Form.AFFINE]
    yield from divisible(left, [norm.name for norm in left], _told)


def _told(left: Sequence[BatchNorm]) -> Found:
    told = next((norm.evidence[0] for norm in left if norm.evidence), "")
    return about(
        left,
        "only slope and intercept are left, and scale, B, mean and var are lost"
        + (f" ({cut(told, 200)})" if told else ""),
        told_by=told,
    )


RULE = Rule(info=_INFO, find=_find)
