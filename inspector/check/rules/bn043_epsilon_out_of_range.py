"""BN043: an epsilon that is no epsilon."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.siblings import by_value, told_epsilon
from inspector.check.subject import Subject
from inspector.check.together import about
from inspector.check.words import number
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN043",
    name="epsilon-out-of-range",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="Epsilon is zero or less, next to nothing, or so large that it is felt.",
    why="Epsilon keeps the division from a variance of zero. Frameworks write 1e-3 (Keras), 1e-5 "
    "(PyTorch, Caffe, ONNX) or 1e-6; ONNX's own tests go up to 1e-2. At zero or below, a channel "
    "that never changed in training divides by zero. Much less than 1e-8 is lost in half "
    "precision and lets slopes grow to ten thousands; much more than a hundredth shrinks every "
    "channel, and mostly is a typing error or a momentum in the wrong place.",
    remedy="look up epsilon in the framework's layer, and set that (an epsilon that was trained "
    "with has to stay)",
    fix="sets epsilon to the one that is given with `--set-epsilon`, and nothing without it",
    thresholds=(
        Threshold(name="least", default=1e-8, what="the least epsilon that is taken as one"),
        Threshold(name="most", default=0.05, what="the largest epsilon that is taken as one"),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization <epsilon = 0.9> (x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization <epsilon = 0.001> (x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    least, most = thresholds["least"], thresholds["most"]
    for epsilon, norms in by_value(subject.norms.batchnorms, told_epsilon).items():
        # NaN is out of range; and a float32 is not quite the decimal that it stands for.
        if least * (1 - 1e-6) <= epsilon <= most * (1 + 1e-6):
            continue
        if epsilon > most:
            what = f"epsilon is {number(epsilon)}, more than {number(most)}"
        elif epsilon > 0:
            what = f"epsilon is {number(epsilon)}, less than {number(least)}"
        else:
            what = f"epsilon is {number(epsilon)}, which keeps no channel from a division by zero"
        yield about(norms, what, epsilon=epsilon)


RULE = Rule(info=_INFO, find=_find)
