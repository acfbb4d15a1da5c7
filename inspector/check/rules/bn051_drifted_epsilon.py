"""BN051: settings of a layer that have changed since the last release."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose

from inspector.check.drift import Pair, paired
from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.siblings import told_epsilon
from inspector.check.subject import Subject
from inspector.check.together import about
from inspector.check.words import number
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_BEFORE = """
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization <epsilon = 0.001> (x, s, b, m, v) }
"""

_INFO = RuleInfo(
    code="BN051",
    name="drifted-epsilon",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="Against --baseline, epsilon, momentum or the mode has changed.",
    why="These belong to the network's definition and do not change with training. Keras writes "
    "1e-3 and PyTorch 1e-5: an epsilon that changes between two releases is the sign of another "
    "framework, another exporter or a default that was not passed on, and the slopes of channels "
    "with a small variance change with it. Momentum alone does not touch inference: that is of "
    "severity info.",
    remedy="look up the layer's settings in the framework, and set epsilon and momentum as they "
    "were trained with",
    thresholds=(
        Threshold(
            name="relative",
            default=0.01,
            what="how far epsilon, or one minus momentum, may differ; 1.001e-5 is 1e-5",
        ),
    ),
    baseline=_BEFORE,
    bad=_BEFORE.replace("0.001", "0.00001"),
    good=_BEFORE,
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    if subject.baseline is None:
        return
    changes: dict[tuple[str, str, str], list[BatchNorm]] = {}
    for pair in paired(subject, subject.baseline).pairs:
        for change in _changes(pair, thresholds["relative"]):
            changes.setdefault(change, []).append(pair.now)
    for (name, before, now), norms in changes.items():
        yield about(
            norms,
            f"{name} was {before} in the baseline and is {now}",
            severity=Severity.INFO if name == "momentum" else None,
            before=before,
            now=now,
        )


def _changes(pair: Pair, relative: float) -> Iterator[tuple[str, str, str]]:
    """What has changed, from what and to what."""
    before, now = pair.before, pair.now
    one, other = told_epsilon(before), told_epsilon(now)
    if one is not None and other is not None and not _close(one, other, relative):
        yield "epsilon", number(one), number(other)
    first, second = before.momentum, now.momentum
    if first is not None and second is not None and not _close(1 - first, 1 - second, relative):
        yield "momentum", number(first), number(second)
    if before.training is not now.training:
        yield "the mode", _mode(before), _mode(now)


def _close(one: float, other: float, relative: float) -> bool:
    """Whether two numbers are the same; two NaN are."""
    both_nan = one != one and other != other  # noqa: PLR0124  # NaN alone is not itself
    return both_nan or isclose(one, other, rel_tol=min(relative, 1.0), abs_tol=1e-12)


def _mode(norm: BatchNorm) -> str:
    return "training" if norm.training else "inference"


RULE = Rule(info=_INFO, find=_find)
