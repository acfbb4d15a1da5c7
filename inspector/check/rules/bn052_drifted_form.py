"""BN052: layers that have gone, come or changed their form since the last release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.check.drift import Pair, paired
from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.check.together import about, divisible, named
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity

_BEFORE = """
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn1] h = BatchNormalization(x, s, b, m, v)
  [bn2] y = BatchNormalization(h, s, b, m, v) }
"""

_INFO = RuleInfo(
    code="BN052",
    name="drifted-form",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="Against --baseline, a BatchNorm is lost, new, of another form or of other channels.",
    why="Between two releases of one network the layers stay. Where some are gone, the exporter "
    "was run with other options and has folded them, or the network has changed. Layers are "
    "paired by scope and name, and where names are mere numbers by their order, if count and "
    "channels agree.",
    remedy="export with the options of the last release; if the network was meant to change, make "
    "this release the baseline",
    baseline=_BEFORE,
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn1] y = BatchNormalization(x, s, b, m, v) }
""",
    good=_BEFORE.replace("[bn1]", "[batchnorm_7]").replace("[bn2]", "[batchnorm_9]"),
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    if subject.baseline is None:
        return
    match = paired(subject, subject.baseline)
    if match.lost:
        names = [norm.name for norm in match.lost]
        yield from divisible(match.lost, names, lambda some: _lost(some, subject))
    if match.added:
        some = "they are" if len(match.added) > 1 else "it is"
        yield about(match.added, f"{some} not in the baseline", change="added")
    changes: dict[tuple[str, str, str], list[BatchNorm]] = {}
    for pair in match.pairs:
        for change in _changes(pair):
            changes.setdefault(change, []).append(pair.now)
    for (what, before, now), norms in changes.items():
        message = f"{what} was {before} in the baseline and is {now}"
        yield about(norms, message, change=what, before=before, now=now)


def _lost(lost: Sequence[BatchNorm], subject: Subject) -> Found:
    """Layers of the baseline alone: there is no layer here to point at."""
    folded = {each.batchnorm for each in subject.norms.folded if each.batchnorm}
    names = [each.name for each in lost]
    gone = [name for name in names if name in folded]
    are = "are" if len(lost) > 1 else "is"
    what = f"{len(lost)} of the baseline's BatchNorms {are} not here: {named(names)}"
    if gone:
        what += f"; {len(gone)} of them left traces of having been folded"
    return Found(
        message=what,
        evidence={"change": "lost", "layers": len(lost), "names": ", ".join(names[:100])},
    )


def _changes(pair: Pair) -> Iterator[tuple[str, str, str]]:
    """What has changed, from what and to what."""
    before, now = pair.before, pair.now
    if before.form is not now.form:
        yield "its form", before.form.value, now.form.value
    known = before.channels is not None and now.channels is not None
    if known and before.channels != now.channels:
        yield "the number of channels", str(before.channels), str(now.channels)


RULE = Rule(info=_INFO, find=_find)
