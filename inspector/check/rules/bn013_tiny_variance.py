"""BN013: a variance so small that epsilon decides, and the slope explodes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.subject import Subject
from inspector.check.values import SMALLEST_NORMAL, doubles
from inspector.check.words import in_channels, number
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN013",
    name="tiny-variance",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="A variance is so small beside epsilon that the slope is large by epsilon alone.",
    why="The channel hardly varied in training. What it gives is multiplied by scale / sqrt(var + "
    "epsilon), and that is epsilon's doing: rounding, another runtime or data a little "
    "unlike the training's are amplified as much, and another epsilon (1e-3 for 1e-5) changes the "
    "output tenfold. Small variances with a small slope are common and harmless, and not told.",
    remedy="see whether the channel is dead, and set its scale to 0 or prune it; else train it on "
    "with a larger epsilon",
    thresholds=(
        Threshold(name="share", default=0.01, what="of epsilon, the variance must be below this"),
        Threshold(name="slope", default=100.0, what="the least |slope| that is told"),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 0.000000001}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 0.02}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 0.000000001}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    for layer in subject.layers():
        norm, arrays = layer.norm, layer.arrays
        if arrays.var is None or norm.training or not norm.epsilon:
            continue
        var, slope = doubles(arrays.var), arrays.slope
        if slope is None or slope.shape != var.shape:
            continue
        with np.errstate(all="ignore"):
            # What is no more than that is zero, which BN012 tells.
            tiny = (var > SMALLEST_NORMAL) & (var < thresholds["share"] * norm.epsilon)
            steep = np.abs(slope) >= thresholds["slope"]
        told = np.flatnonzero(tiny & steep)
        if told.size:
            least, most = float(var[told].min()), float(np.abs(slope[told]).max())
            yield found(
                norm,
                f"the variance is as small as {number(least)} beside an epsilon of "
                f"{number(norm.epsilon)} {in_channels(told.tolist(), var.size)}, which makes a "
                f"slope of up to {number(most)}",
                channels=told.tolist(),
                least=least,
                epsilon=norm.epsilon,
                slope=most,
            )


RULE = Rule(info=_INFO, find=_find)
