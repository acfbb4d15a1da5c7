"""BN011: a variance below zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.subject import Subject
from inspector.check.values import doubles
from inspector.check.words import in_channels, number
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN011",
    name="negative-variance",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    summary="A variance is below zero.",
    why="The mean of squares cannot be negative: the file is damaged, or tensors were swapped on "
    "the way. Where var + epsilon is negative too, the square root is NaN and so is the output, in "
    "each runtime, without an error; where it is exactly 0, the layer divides by it. Rounding can "
    "leave a variance below zero by less than epsilon: then the result is finite, and it is a "
    "warning.",
    remedy="export the model again from a sound checkpoint, and look at what stands in var's place",
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, -0.5}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 0.5}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    for layer in subject.layers():
        if layer.arrays.var is None:
            continue
        var = doubles(layer.arrays.var)
        below = np.flatnonzero(var < 0)
        if not below.size:
            continue
        least = float(var[below].min())
        epsilon = layer.norm.epsilon or 0.0
        # An infinite epsilon and an infinite variance have rules of their own.
        with np.errstate(all="ignore"):
            broken = int((var[below] + epsilon <= 0).sum())
        effect = ""
        # In training mode the variance is not gone by.
        if broken and not layer.norm.training:
            effect = f", and var + epsilon has no finite inverse root (epsilon {number(epsilon)})"
        yield found(
            layer.norm,
            f"the variance is negative {in_channels(below.tolist(), var.size)}, "
            f"down to {number(least)}{effect}",
            channels=below.tolist(),
            severity=None if broken else Severity.WARNING,
            least=least,
            epsilon=epsilon,
            without_root=broken,
        )


RULE = Rule(info=_INFO, find=_find)
