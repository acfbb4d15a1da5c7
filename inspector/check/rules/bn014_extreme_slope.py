"""BN014: a slope or an intercept beyond a bound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.subject import Subject
from inspector.check.words import in_channels, number
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN014",
    name="extreme-slope",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="A channel is scaled or shifted by more than a bound.",
    why="In inference a BatchNorm is slope * x + intercept. In a collection of public models no "
    "slope is beyond 316, which is 1 / sqrt(1e-5), and no intercept beyond 80. Larger ones come of "
    "a damaged scale, a variance of another layer or an epsilon of 0; they cost precision, and in "
    "float16 they overflow. A layer that standardises raw data may have a large intercept of its "
    "own: give it another bound, or ignore it.",
    remedy="look at the channel's scale and variance, and export from a sound checkpoint",
    thresholds=(
        Threshold(name="slope", default=1000.0, what="the largest |slope| that is not told"),
        Threshold(name="intercept", default=1000.0, what="the same for |intercept|"),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 50000.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    for layer in subject.layers():
        # In training mode slope and intercept are the batch's, and not these.
        if layer.norm.training:
            continue
        for name, values in (("slope", layer.arrays.slope), ("intercept", layer.arrays.intercept)):
            if values is None:
                continue
            # What is not finite has a rule of its own.
            sizes = np.where(np.isfinite(values), np.abs(values), 0.0)
            beyond = np.flatnonzero(sizes > thresholds[name])
            if beyond.size:
                most = float(sizes.max())
                yield found(
                    layer.norm,
                    f"|{name}| is beyond {number(thresholds[name])} "
                    f"{in_channels(beyond.tolist(), sizes.size)}, up to {number(most)}",
                    channels=beyond.tolist(),
                    value=name,
                    most=most,
                )


RULE = Rule(info=_INFO, find=_find)
