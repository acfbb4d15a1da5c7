"""BN060: integer initializers, which a count of all that is stored takes for parameters."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.check.words import listed
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity

_SHOWN = 3

_INFO = RuleInfo(
    code="BN060",
    name="integer-initializers",
    severity=Severity.INFO,
    confidence=Confidence.CERTAIN,
    summary="Axes, shapes and other 64-bit integers are stored beside the weights.",
    why="They are no parameters, but tools that add up all initializers count them: the total is "
    "then off by a few from that of Keras or PyTorch, which looks like a layer that is missing or "
    "a BatchNorm that is counted otherwise.",
    remedy="nothing has to be done; compare totals with `bninspect inspect` or `bninspect "
    "reconcile`, which leave them out",
    bad="""
agraph (float[N, 2, 4, 4] x) => (float[N, 2] z)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}, int64[2] axes = {2, 3}>
{ [bn] y = BatchNormalization(x, s, b, m, v)
  [pool] z = ReduceMax<keepdims = 0>(y, axes) }
""",
    good="""
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 1, 1] z)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v)
  [pool] z = GlobalMaxPool(y) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    graph = subject.model.graph
    whole = [each for each in graph.initializers.values() if each.dtype == "int64"]
    elements = sum(each.elements for each in whole)
    # Of a model without BatchNorms, nobody asks why totals differ by them.
    if not elements or not subject.norms.batchnorms:
        return
    names = [repr(each.name) for each in whole[:_SHOWN]]
    if len(whole) > _SHOWN:
        names = [*names, f"{len(whole) - _SHOWN} more"]
    integers = "integers, which are" if elements > 1 else "integer, which is"
    yield Found(
        message=f"{listed(names)} {'hold' if len(whole) > 1 else 'holds'} {elements:,} {integers} "
        "no parameter but in the total of whoever adds up all initializers",
        evidence={"initializers": len(whole), "elements": elements},
    )


RULE = Rule(info=_INFO, find=_find)
