"""BN016: a scale of 1 and a bias of 0 in a net that has learned others."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.subject import Layer, Subject
from inspector.check.values import is_all, is_untouched
from inspector.facts.arrays import Arrays
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN016",
    name="reset-affine",
    severity=Severity.INFO,
    confidence=Confidence.POSSIBLE,
    summary="Scale is exactly 1 and bias exactly 0, though the net is trained.",
    why="The statistics were updated, and other layers have learned scales and biases, but this "
    "one has those that every framework begins with: they may have been lost on the way (gamma and "
    "beta under other names in the checkpoint), or the layer was made without them (affine=False, "
    "center=False and scale=False), which is in order. Where more than `share` of the layers "
    "are so, it is the network's way and nothing is said; nor where one Mul follows, as behind "
    "Caffe's BatchNorm, which has none.",
    remedy="compare with the layer's definition: if it has learned parameters, load them and "
    "export again",
    thresholds=(
        Threshold(
            name="share",
            default=0.5,
            what="the largest share of layers for which it is told",
            most=1.0,
        ),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.5, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}, float[2] ones = {1.0, 1.0}, float[2] zeros = {0.0, 0.0}>
{ [bn1] h = BatchNormalization(x, s, b, m, v)
  [bn2] y = BatchNormalization(h, ones, zeros, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.5, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn1] h = BatchNormalization(x, s, b, m, v)
  [bn2] y = BatchNormalization(h, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    telling = [
        layer
        for layer in subject.layers()
        if layer.arrays.scale is not None and layer.arrays.bias is not None
    ]
    reset = [layer for layer in telling if _is_reset(layer)]
    learned = [layer for layer in telling if _has_learned(layer.arrays)]
    if not reset or not learned or len(reset) > thresholds["share"] * len(telling):
        return
    for layer in reset:
        size = 0 if layer.arrays.scale is None else layer.arrays.scale.size
        where = f"in all {size} channels" if size > 1 else "in its one channel"
        yield found(
            layer.norm,
            f"scale is 1 and B is 0 {where}, while its statistics were updated and {len(learned)} "
            f"of {len(telling)} layers have learned theirs",
            channels=range(size),
            learned=len(learned),
            layers=len(telling),
        )


def _is_reset(layer: Layer) -> bool:
    arrays = layer.arrays
    if arrays.mean is None or arrays.var is None or is_untouched(arrays):
        return False
    if layer.norm.before == ("Mul",):
        return False
    return is_all(arrays.scale, 1.0) and is_all(arrays.bias, 0.0)


def _has_learned(arrays: Arrays) -> bool:
    return not is_all(arrays.scale, 1.0) and not is_all(arrays.bias, 0.0)


RULE = Rule(info=_INFO, find=_find)
