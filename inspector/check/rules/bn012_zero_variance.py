"""BN012: a variance of zero in a channel that is not dead."""

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
    code="BN012",
    name="zero-variance",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="A variance is zero in a channel that is amplified.",
    why="The channel had one and the same value in all of training, so 1 / sqrt(epsilon) alone "
    "decides what becomes of any other: with 1e-5 it is amplified 316 times. The unit before "
    "it has died, or zeros stand in place of the variance. Channels whose slope stays below "
    "`slope` pass nothing on that matters (training has brought their scale to zero as well; see "
    "BN018) and are not told, unless they are all of the layer's. Where epsilon is 0, too, it is "
    "a division by zero and an error.",
    remedy="see what feeds the channel; if it is dead, set its scale to 0 or prune it, and if var "
    "is zero in all channels, look for the statistics that were lost",
    thresholds=(
        Threshold(
            name="var",
            default=SMALLEST_NORMAL,
            what="variances up to this count as zero (the default is the smallest normal float32)",
        ),
        Threshold(name="slope", default=1.0, what="the least |slope| of a channel that is told"),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 0.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 0.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, 0.0},
 float[2] v = {1.0, 0.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)

_NOTHING = 1e-8
"""Slopes of layers of which BN017 says that they pass nothing on."""


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    for layer in subject.layers():
        norm, arrays = layer.norm, layer.arrays
        if arrays.var is None or norm.training or norm.epsilon is None:
            continue
        var, slope = doubles(arrays.var), arrays.slope
        zero = (var >= 0) & (var <= thresholds["var"])
        divides = zero & (var == -norm.epsilon)
        live = np.ones(var.shape, dtype=bool)
        if slope is not None and slope.shape == var.shape:
            # A NaN is another rule's, unless it comes of 0 / 0 here.
            with np.errstate(all="ignore"):
                live = (np.abs(slope) >= thresholds["slope"]) | divides
                # A layer without any variance has lost it, unless it passes nothing on either.
                if zero.all() and np.any(np.abs(slope) > _NOTHING):
                    live |= True
        told = np.flatnonzero(zero & live)
        if not told.size:
            continue
        where = in_channels(told.tolist(), var.size)
        if divides.any():
            effect = "and epsilon is 0, so that it divides by zero"
        elif slope is None:
            effect = f"so that epsilon ({number(norm.epsilon)}) alone decides"
        else:
            most = number(float(np.abs(slope[told]).max()))
            effect = f"so that epsilon ({number(norm.epsilon)}) makes a slope of up to {most}"
        yield found(
            norm,
            f"the variance is zero {where}, {effect}",
            channels=told.tolist(),
            severity=Severity.ERROR if divides.any() else None,
            epsilon=norm.epsilon,
            zero=int(zero.sum()),
            told=int(told.size),
        )


RULE = Rule(info=_INFO, find=_find)
