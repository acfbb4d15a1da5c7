"""BN022: channels that per-tensor quantisation to int8 would lose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from inspector.check.kernels import in_front, ranges
from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.sites import Sites
from inspector.check.subject import Subject
from inspector.check.words import in_channels, number
from inspector.facts.arrays import Vector
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_STEPS = 127
"""Steps of symmetric int8 on either side of zero."""

_INFO = RuleInfo(
    code="BN022",
    name="int8-spread",
    severity=Severity.INFO,
    confidence=Confidence.LIKELY,
    summary="Folded into the operator in front, channels are too small for one int8 scale.",
    why="Quantisers fold a BatchNorm into the Conv before it and then, unless told otherwise, "
    "give the whole weight one scale, which its largest channel sets (per_channel=False is the "
    "default of ONNX Runtime's quantize_static). A channel whose weights all stay within `steps` "
    "of the 127 is rounded to next to nothing. Only channels count whose output is not small: at "
    "least `output` of the layer's typical one. Those are found in depthwise convolutions above "
    "all (Nagel et al. 2019, https://arxiv.org/abs/1906.04721).",
    remedy="quantise the weights per channel (per_channel=True), or equalise them across layers "
    "first",
    thresholds=(
        Threshold(
            name="steps",
            default=2.0,
            what="int8 steps that a channel's largest weight has to reach",
            most=_STEPS,
        ),
        Threshold(
            name="output",
            default=0.1,
            what="of the layer's typical output, what a channel must give to count",
        ),
    ),
    bad="""
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {0.5, 0.5}, float[2] s = {1.0, 1.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {0.0001, 4.0}>
{ [conv] h = Conv <group = 2> (x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }
""",
    good="""
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {0.5, 0.5}, float[2] s = {1.0, 1.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 4.0}>
{ [conv] h = Conv <group = 2> (x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    sites = Sites(subject.model)
    for layer in subject.layers():
        site = sites.at(layer.norm.scope)
        node = None if site is None else in_front(layer.norm, site)
        slope, var = layer.arrays.slope, layer.arrays.var
        # Without the variance it cannot be told which channels carry anything.
        if site is None or node is None or slope is None or var is None or var.shape != slope.shape:
            continue
        widths = ranges(node, site, subject.model)
        if widths is None or widths.shape != slope.shape:
            continue
        with np.errstate(all="ignore"):
            folded = np.abs(slope) * widths
        if not np.isfinite(folded).all() or not folded.any():
            continue
        steps = folded / folded.max() * _STEPS
        counts = _counting(slope, var, thresholds["output"]) & (folded > 0)
        lost = np.flatnonzero(counts & (steps < thresholds["steps"]))
        if lost.size:
            octaves = float(np.log2(_STEPS / steps[lost].min()))
            yield found(
                layer.norm,
                f"folded into {node.op_type} {node.label}, the weights "
                f"{in_channels(lost.tolist(), slope.size)} stay within {number(steps[lost].max())} "
                f"of the 127 int8 steps that the largest channel sets: they span "
                f"{number(octaves)} octaves",
                channels=lost.tolist(),
                octaves=octaves,
                least_steps=float(steps[lost].min()),
                operator=node.label,
            )


def _counting(slope: Vector, var: Vector, share: float) -> NDArray[np.bool_]:
    """Which channels' outputs vary by enough to matter."""
    with np.errstate(all="ignore"):
        spread = np.abs(slope) * np.sqrt(np.maximum(var.astype(np.float64), 0.0))
        return np.asarray(spread >= share * np.median(np.nan_to_num(spread)))


RULE = Rule(info=_INFO, find=_find)
