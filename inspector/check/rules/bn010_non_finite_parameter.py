"""BN010: NaN or infinity among a layer's values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.subject import Layer, Subject
from inspector.check.values import doubles
from inspector.check.words import in_channels
from inspector.facts.arrays import Vector
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN010",
    name="non-finite-parameter",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    summary="A parameter of a BatchNorm is NaN or infinite.",
    why="Training has diverged, a cast has overflowed (beyond 65504 in float16) or the file is "
    "damaged. A NaN makes each output of its channel NaN, and from there the next Conv makes "
    "it all channels. An infinite variance makes the channel a constant. The checker and the "
    "runtimes say nothing. Of a layer of which arithmetic is left, slope and intercept are looked "
    "at.",
    remedy="export from a checkpoint whose values are finite, and look for where they ceased to be",
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, nan},
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
        for name, values in _values(layer):
            numbers = doubles(values)
            nan = np.flatnonzero(np.isnan(numbers)).tolist()
            infinite = np.flatnonzero(np.isinf(numbers)).tolist()
            told = []
            if nan:
                told.append(f"NaN {in_channels(nan, numbers.size)}")
            if infinite:
                word = "-inf" if (numbers[infinite] < 0).all() else "inf"
                word = word if len(set(numbers[infinite].tolist())) == 1 else "inf or -inf"
                told.append(f"{word} {in_channels(infinite, numbers.size)}")
            if told:
                yield found(
                    layer.norm,
                    f"{name} is {' and '.join(told)}",
                    channels=sorted(nan + infinite),
                    parameter=name,
                    nan=len(nan),
                    infinite=len(infinite),
                )


def _values(layer: Layer) -> Iterator[tuple[str, Vector]]:
    """What is stored of a layer; its slope and intercept only where they are all there is."""
    arrays = layer.arrays
    four = ("scale", arrays.scale), ("B", arrays.bias), ("mean", arrays.mean), ("var", arrays.var)
    two = ("slope", arrays.slope), ("intercept", arrays.intercept)
    for name, values in two if layer.norm.steps else four:
        if values is not None:
            yield name, values


RULE = Rule(info=_INFO, find=_find)
