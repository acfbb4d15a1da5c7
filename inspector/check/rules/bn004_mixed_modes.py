"""BN004: some BatchNorms train and some do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.check.together import MOST_NAMES, divisible, named
from inspector.facts.batchnorm import BatchNorm, Confidence, Form
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN004",
    name="mixed-modes",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="Some BatchNorms are in training mode and others are not.",
    why="Nobody deploys half a network in training mode. It happens where layers were frozen for "
    "fine-tuning and the rest was exported as it trained, where a part of the model was not "
    "reached by eval(), or where files were put together. Layers of which arithmetic alone is left "
    "do not tell their mode and do not count where only slope and intercept are known.",
    remedy="export the whole model in inference mode",
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [frozen] h = BatchNormalization(x, s, b, m, v)
  [tuned] y, running_mean, running_var = BatchNormalization <training_mode = 1> (h, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [frozen] h = BatchNormalization(x, s, b, m, v)
  [tuned] y = BatchNormalization(h, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    telling = [norm for norm in subject.norms.batchnorms if norm.form is not Form.AFFINE]
    yield from divisible(telling, [norm.name for norm in telling], _told)


def _told(telling: Sequence[BatchNorm]) -> Found | None:
    training = [norm.name for norm in telling if norm.training]
    others = [norm.name for norm in telling if not norm.training]
    if not training or not others:
        return None
    few, do = (training, "do") if len(training) <= len(others) else (others, "do not")
    return Found(
        message=f"{len(training)} of {len(telling)} BatchNorms normalise by the batch and the rest "
        f"by their statistics; those that {do}: {named(few)}",
        evidence={
            "training": len(training),
            "inference": len(others),
            "names": ", ".join(few[:MOST_NAMES]),
        },
    )


RULE = Rule(info=_INFO, find=_find)
