"""BN044: an epsilon that the other layers of the network do not have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.siblings import Stranger, by_value, strangers, told_epsilon
from inspector.check.subject import Subject
from inspector.check.together import about, divisible
from inspector.check.words import number
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity, Threshold

_INFO = RuleInfo(
    code="BN044",
    name="epsilon-unlike-siblings",
    severity=Severity.WARNING,
    confidence=Confidence.LIKELY,
    summary="A few layers have another epsilon than all the others of the network.",
    why="A network is written with one epsilon. One layer that stands apart was often made anew "
    "by a converter or a surgery script that left epsilon to its default. It says nothing: the "
    "slopes are a little wrong, most where the variance is small. Two parts of comparable size, "
    "or several layers in a row, with an epsilon of their own are networks of their own and not "
    "reported; where the slopes would hardly change, the finding is of severity info.",
    remedy="compare with the framework's layer, and set the epsilon that it was trained with",
    fix="sets epsilon to the one that is given with `--set-epsilon`, and nothing without it",
    thresholds=(
        Threshold(
            name="share",
            default=0.2,
            what="the largest share of the layers that may stand apart, and still be a few",
            most=0.5,
        ),
        Threshold(
            name="ratio",
            default=1.5,
            what="how many times as large one epsilon is to be to differ from another",
            least=1.0,
        ),
        Threshold(
            name="effect",
            default=0.001,
            what="the relative change of a slope below which the finding is of severity info",
        ),
    ),
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {0.01, 0.09}>
{ [bn1] h1 = BatchNormalization <epsilon = 0.001> (x, s, b, m, v)
  [bn2] h2 = BatchNormalization <epsilon = 0.001> (h1, s, b, m, v)
  [bn3] h3 = BatchNormalization <epsilon = 0.00001> (h2, s, b, m, v)
  [bn4] h4 = BatchNormalization <epsilon = 0.001> (h3, s, b, m, v)
  [bn5] y = BatchNormalization <epsilon = 0.001> (h4, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {0.01, 0.09}>
{ [bn1] h1 = BatchNormalization <epsilon = 0.00001> (x, s, b, m, v)
  [bn2] h2 = BatchNormalization <epsilon = 0.00001> (h1, s, b, m, v)
  [bn3] h3 = BatchNormalization <epsilon = 0.00001001> (h2, s, b, m, v)
  [bn4] h4 = BatchNormalization <epsilon = 0.00001> (h3, s, b, m, v)
  [bn5] y = BatchNormalization <epsilon = 0.00001> (h4, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    ratio = thresholds["ratio"]

    def same(one: float, other: float) -> bool:
        low, high = sorted((abs(one), abs(other)))
        return one == other or (one * other > 0 and high <= low * ratio)

    order = subject.norms.batchnorms
    groups = by_value(order, told_epsilon)
    for each in strangers(groups, order, most=thresholds["share"], same=same):
        names = [norm.name for norm in each.norms]
        yield from divisible(
            each.norms, names, partial(_told, each, subject=subject, least=thresholds["effect"])
        )


def _told(
    stranger: Stranger, norms: Sequence[BatchNorm], *, subject: Subject, least: float
) -> Found:
    effect = _effect(norms, stranger.usual, subject)
    small = effect is not None and effect < least
    told = "" if effect is None else f"; with that, a slope changes by {number(100 * effect)} %"
    return about(
        norms,
        f"epsilon is {number(stranger.number)}, where {stranger.others} other BatchNorms have "
        f"{number(stranger.usual)}{told}",
        severity=Severity.INFO if small else None,
        epsilon=stranger.number,
        usual=stranger.usual,
        effect="unknown" if effect is None else effect,
    )


def _effect(norms: Sequence[BatchNorm], usual: float, subject: Subject) -> float | None:
    """The largest relative change of a slope if `usual` took the place of epsilon."""
    changes = []
    for norm in norms:
        var = subject.arrays(norm).var
        if var is None or not var.size or norm.epsilon is None:
            continue
        with np.errstate(all="ignore"):
            wide = var.astype(np.float64)
            change = np.abs(np.sqrt((wide + norm.epsilon) / (wide + usual)) - 1)
        changes += [float(np.max(change[np.isfinite(change)], initial=0.0))]
    return max(changes, default=None)


RULE = Rule(info=_INFO, find=_find)
