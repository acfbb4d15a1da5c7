"""BN018: channels that pass nothing on, and the filters that could go with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inspector.check.filters import filters_of
from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.sites import Sites
from inspector.check.subject import Subject
from inspector.check.values import doubles
from inspector.check.words import in_channels, number
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN018",
    name="dead-channels",
    severity=Severity.INFO,
    confidence=Confidence.LIKELY,
    summary="Channels have a scale near zero, beside others that have not.",
    why="Such a channel gives its bias whatever comes in. The filter before it can be pruned, and "
    "with it a slice of the next weight, once the bias is moved on into the next layer's (Liu et "
    "al. 2017, https://arxiv.org/abs/1708.06519). Trained networks are full of them: weight decay "
    "takes a scale to zero where the gradient vanishes. The scale is looked at and not the slope, "
    "for after normalisation it alone is the output's spread; of a layer of which only the slope "
    "is known it is looked at instead, and less sure.",
    remedy="prune the filters of these channels before deployment, if size or speed matter",
    thresholds=(
        Threshold(
            name="share",
            default=1e-4,
            what="of the layer's largest |scale|, a dead channel's is at most this",
            most=1.0,
        ),
    ),
    bad="""
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] s = {1.0, 0.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>
{ [conv] h = Conv(x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }
""",
    good="""
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>
{ [conv] h = Conv(x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    sites = Sites(subject.model)
    for layer in subject.layers():
        norm = layer.norm
        affine = bool(norm.steps)
        values = layer.arrays.slope if affine else layer.arrays.scale
        if values is None or not values.size:
            continue
        sizes = np.abs(doubles(values))
        if not np.isfinite(sizes).all() or not sizes.any():
            continue  # all zero is BN017's
        dead = np.flatnonzero(sizes <= thresholds["share"] * sizes.max())
        if not dead.size or dead.size == sizes.size:
            continue
        name = "slope" if affine else "scale"
        filters = filters_of(norm, sizes.size, sites)
        prune = ""
        if filters is not None:
            what = "filter" if filters.op_type.startswith("Conv") else "unit"
            count = f"{dead.size} {what}s" if dead.size > 1 else f"1 {what}"
            prune = (
                f"; {count} of {filters.op_type} {filters.label} "
                f"({filters.each * dead.size:,} weights) could be pruned"
            )
        most = float(sizes[dead].max())
        amount = f"at most {number(most)}" if most else "0"
        yield found(
            norm,
            f"|{name}| is {amount} {in_channels(dead.tolist(), sizes.size)}, beside up to "
            f"{number(float(sizes.max()))}{prune}",
            channels=dead.tolist(),
            confidence=Confidence.POSSIBLE if affine else None,
            most=most,
            operator="" if filters is None else filters.label,
            filters=0 if filters is None else int(dead.size),
            weights=0 if filters is None else int(filters.each * dead.size),
        )


RULE = Rule(info=_INFO, find=_find)
