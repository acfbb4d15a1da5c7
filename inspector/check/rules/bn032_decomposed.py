"""BN032: layers that are written out as arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.subject import Subject
from inspector.facts.batchnorm import BatchNorm, Certainty, Confidence, Form
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN032",
    name="decomposed",
    severity=Severity.INFO,
    confidence=Confidence.CERTAIN,
    summary="A BatchNorm is written out as arithmetic, and could be one operator.",
    why="Runtimes fuse what they recognise. A BatchNormalization behind a Conv is folded away on "
    "loading; the same as Sub, Mul, Add and Sqrt often is not, and then each step reads and "
    "writes the whole feature map. All four parameters can still be told from the arithmetic.",
    remedy="write it back as a BatchNormalization node (bninspect check --fix)",
    fix="replaces the arithmetic by a BatchNormalization node with the same parameters",
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}, float e = {0.001}>
{ [sub] c = Sub(x, m)
  [eps] ve = Add(v, e)
  [sqrt] d = Sqrt(ve)
  [div] n = Div(c, d)
  [mul] sn = Mul(n, s)
  [add] y = Add(sn, b) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization <epsilon = 0.001> (x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    for norm in subject.norms.batchnorms:
        if norm.form is Form.DECOMPOSED:
            yield found(
                norm,
                f"a BatchNorm of {norm.channels} channels is written out as "
                f"{len(norm.nodes)} operators ({', '.join(norm.nodes)})",
                fixable=_is_told(norm),
                operators=len(norm.nodes),
                epsilon="unknown" if norm.epsilon is None else norm.epsilon,
            )


def _is_told(norm: BatchNorm) -> bool:
    """Whether a native one can be written: all that it takes is known."""
    lost = any(each.certainty is Certainty.LOST for _, each in norm.parameters)
    return not lost and norm.epsilon is not None and norm.channels is not None


RULE = Rule(info=_INFO, find=_find)
