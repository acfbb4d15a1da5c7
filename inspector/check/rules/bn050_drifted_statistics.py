"""BN050: statistics, scale or bias that have moved since the last release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inspector.check.drift import Pair, moved, paired
from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.check.together import divisible, named
from inspector.check.words import in_channels, number
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_MOST = 8
"""Layers that are told one by one; if more have moved, and most have, it is the network."""

_BEFORE = """
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
"""

_INFO = RuleInfo(
    code="BN050",
    name="drifted-statistics",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="Against --baseline, a layer's statistics or its scale and bias have moved far.",
    why="Between two releases of one network, statistics move a little. A mean that has moved by "
    "a standard deviation, or a variance that is four times what it was, comes from other data, "
    "another preprocessing (0 to 255 instead of 0 to 1) or a checkpoint of another run. A mean is "
    "measured in standard deviations of the baseline, a variance in octaves, scale and bias in "
    "the layer's typical scale; epsilon is added to the variances first, so that dead channels do "
    "not count. Where most layers of many have moved, that is one finding about the file.",
    remedy="if the network was trained anew, make this release the baseline; if not, compare the "
    "preprocessing and the checkpoint with those of the last release",
    thresholds=(
        Threshold(
            name="mean",
            default=1.0,
            what="how many standard deviations of the baseline a mean may move",
        ),
        Threshold(name="var", default=2.0, what="how many octaves a variance may move"),
        Threshold(
            name="scale",
            default=0.5,
            what="how far scale and bias may move, as a share of the layer's typical scale",
        ),
    ),
    baseline=_BEFORE,
    bad=_BEFORE.replace("0.25, -4.0", "0.25, 4.0"),
    good=_BEFORE.replace("0.25, -4.0", "0.26, -4.1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drift:
    """What has moved too far in a layer; `excess` says how many times too far."""

    norm: BatchNorm
    what: str
    channels: tuple[int, ...]
    excess: float
    distances: dict[str, float]


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    baseline = subject.baseline
    if baseline is None:
        return
    pairs = paired(subject, baseline).pairs
    drifts = [
        each for pair in pairs if (each := _drift(pair, subject, baseline, thresholds)) is not None
    ]
    if len(drifts) > _MOST and 2 * len(drifts) > len(pairs):
        names = [each.norm.name for each in drifts]
        yield from divisible(drifts, names, lambda some: _together(some, len(pairs)))
        return
    for each in drifts:
        yield Found(
            message=f"{each.norm.name}: {each.what}",
            scope=each.norm.scope,
            layer=each.norm.name,
            channels=each.channels,
            evidence=each.distances,
        )


def _drift(
    pair: Pair, subject: Subject, baseline: Subject, thresholds: Thresholds
) -> _Drift | None:
    before, now = baseline.arrays(pair.before), subject.arrays(pair.now)
    apart = moved(before, now, pair.before.epsilon or 0.0)
    if apart is None:
        return None
    bounds = {
        "mean": (apart.mean, thresholds["mean"], "standard deviations"),
        "var": (apart.var, thresholds["var"], "octaves"),
        "scale": (apart.scale, thresholds["scale"], "times the typical scale"),
        "B": (apart.bias, thresholds["scale"], "times the typical scale"),
    }
    told, channels, excess, distances = [], set[int](), 0.0, {}
    for name, (distance, bound, unit) in bounds.items():
        if distance is None or not (far := np.flatnonzero(distance > bound)).size:
            continue
        most = float(np.max(distance))
        called = name if apart.mean is not None else {"scale": "slope", "B": "intercept"}[name]
        where = in_channels(far.tolist(), distance.size)
        told.append(f"{called} has moved by up to {number(most)} {unit} {where}")
        channels.update(far.tolist())
        excess = max(excess, most / bound if bound else np.inf)
        distances[called] = most
    if not told:
        return None
    return _Drift(
        norm=pair.now,
        what="since the baseline, " + ", ".join(told),
        channels=tuple(sorted(channels)),
        excess=float(excess),
        distances=distances,
    )


def _together(drifts: Sequence[_Drift], of: int) -> Found:
    worst = max(drifts, key=lambda each: each.excess)
    names = [each.norm.name for each in drifts]
    return Found(
        message=f"{len(drifts)} of {of} BatchNorms ({named(names)}) have moved since the baseline, "
        f"as in a network that was trained anew; furthest {worst.norm.name}: {worst.what}",
        evidence={
            "layers": len(drifts),
            "of": of,
            "furthest": worst.norm.name,
            **worst.distances,
        },
    )


RULE = Rule(info=_INFO, find=_find)
