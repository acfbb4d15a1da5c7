"""BN017: a layer all of whose scales are zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.subject import Subject
from inspector.check.values import doubles
from inspector.check.words import in_channels, number
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN017",
    name="zero-scales",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="All scales of a layer are zero.",
    why="The layer gives its bias whatever comes in: all that stands before it on this path is "
    "computed for nothing. Residual networks begin so (zero_init_residual in torchvision, the last "
    "gamma of each block), and a file that still has it was not trained; weight decay or pruning "
    "can bring a whole branch there, and then the branch can be taken out.",
    remedy="load the trained checkpoint before exporting; if the branch is dead in it too, take it "
    "out",
    thresholds=(
        Threshold(name="scale", default=1e-8, what="scales up to this size count as zero"),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {0.0, 0.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {0.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    for layer in subject.layers():
        affine = bool(layer.norm.steps)
        values = layer.arrays.slope if affine else layer.arrays.scale
        if values is None or not values.size:
            continue
        sizes = np.abs(doubles(values))
        # A NaN is not zero.
        if not (sizes <= thresholds["scale"]).all():
            continue
        most, name = float(sizes.max()), "slope" if affine else "scale"
        channels = range(sizes.size)
        amount = "0" if most == 0 else f"at most {number(most)}"
        yield found(
            layer.norm,
            f"|{name}| is {amount} {in_channels(channels, sizes.size)}: the output is the same "
            "whatever comes in",
            channels=channels,
            most=most,
        )


RULE = Rule(info=_INFO, find=_find)
