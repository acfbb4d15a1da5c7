"""BN045: a momentum that was not turned into ONNX's convention, or is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.siblings import by_value, strangers
from inspector.check.subject import Subject
from inspector.check.together import about
from inspector.check.words import number
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN045",
    name="momentum",
    severity=Severity.WARNING,
    confidence=Confidence.LIKELY,
    summary="Momentum looks like PyTorch's, is out of its range, or is not that of the others.",
    why="ONNX and Keras keep `momentum` of the old statistic and PyTorch replaces it: PyTorch's "
    "0.1 is 0.9 in ONNX. A file that says 0.1, or 0.03 or 0.01, has most likely forgotten the 1 − "
    "m. Inference never looks at momentum. But where training goes on from this file, or a "
    "converter carries it back into a framework, the running statistics follow the last batch and "
    "little else; at 1 they never move. PyTorch's momentum=None, a plain average over all batches, "
    "is exported as 1: where all layers have that, nothing is said.",
    remedy="where training goes on from the file, set momentum to one minus the framework's (0.9 "
    "for PyTorch's default); where it does not, nothing depends on it",
    fix="sets momentum to the one that is given with `--set-momentum`, and nothing without it",
    thresholds=(
        Threshold(
            name="least",
            default=0.15,
            what="the momentum below which it looks like PyTorch's",
            most=1.0,
        ),
        Threshold(
            name="share",
            default=0.2,
            what="the largest share of the layers that may stand apart, and still be a few",
            most=0.5,
        ),
        Threshold(
            name="ratio",
            default=2.0,
            what="how many times as much of the old statistic a step is to replace, to differ",
            least=1.0,
        ),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization <momentum = 0.1> (x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization <momentum = 0.9> (x, s, b, m, v) }
""",
)

_ONLY = "; it matters where training goes on from this file"


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    order = subject.norms.batchnorms
    groups = by_value(order, lambda norm: norm.momentum)
    told = set()
    for momentum, norms in groups.items():
        what = _wrong(momentum, thresholds["least"])
        # As of momentum=None in PyTorch.
        if momentum == 1 and len(groups) == 1 and not any(norm.training for norm in norms):
            continue
        if what:
            told.add(momentum)
            certain = not 0 <= momentum <= 1
            frozen = momentum == 1
            yield about(
                norms,
                f"momentum is {number(momentum)}{what}{_ONLY}",
                severity=Severity.INFO if frozen else None,
                confidence=Confidence.CERTAIN if certain else None,
                momentum=momentum,
            )
    ratio = thresholds["ratio"]

    def same(one: float, other: float) -> bool:
        low, high = sorted((1 - one, 1 - other))
        return one == other or high <= low * ratio

    for each in strangers(groups, order, most=thresholds["share"], same=same):
        if each.number not in told:
            yield _stranger(each.norms, each.number, each.usual, each.others)


def _stranger(norms: Sequence[BatchNorm], momentum: float, usual: float, others: int) -> Found:
    return about(
        norms,
        f"momentum is {number(momentum)}, where {others} other BatchNorms have "
        f"{number(usual)}{_ONLY}",
        momentum=momentum,
        usual=usual,
    )


def _wrong(momentum: float, least: float) -> str:
    """What is wrong with a momentum by itself; empty where nothing is."""
    if not 0 <= momentum <= 1:
        return ", which is no share of the old statistic"
    if momentum == 1:
        return ": the running statistics never change"
    if momentum == 0:
        return ": nothing of the old statistic is kept"
    if momentum < least:
        turned = number(1 - momentum)
        return f", as PyTorch would write it, and ONNX keeps that much: {turned} may be meant"
    return ""


RULE = Rule(info=_INFO, find=_find)
