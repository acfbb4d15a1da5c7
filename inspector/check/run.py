"""Run rules on one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.check.rule import Found, Rule
from inspector.check.select import ignores_of, reason_to_ignore, severity, thresholds
from inspector.check.subject import Subject
from inspector.facts.finding import CheckedFile, CheckSettings, Finding, Ignore, Ignored, RuleInfo


def check(
    subject: Subject, rules: Sequence[Rule], settings: CheckSettings, *, notes: Sequence[str] = ()
) -> CheckedFile:
    """What `rules` find in a model, rule by rule.

    Parameters
    ----------
    rules
        Those that are asked for, see `inspector.check.select.selected`.
    notes
        What a reader has to know about the file itself.

    Raises
    ------
    inspector.errors.UnreadableError
        Values that a rule asks for cannot be loaded.
    """
    path = subject.model.path
    ignores = ignores_of(path, settings.ignores)
    told: list[Finding] = []
    ignored: list[Ignored] = []
    for rule in rules:
        for each in rule.find(subject, thresholds(rule, settings)):
            for part, layers, reason in _parts(rule.info.code, each, ignores):
                finding = _finding(rule.info, part, layers, settings)
                if reason is None:
                    told.append(finding)
                else:
                    ignored.append(Ignored(finding=finding, reason=reason))
    return CheckedFile(
        path=path,
        findings=tuple(told),
        ignored=tuple(ignored),
        layers=len(subject.norms.batchnorms),
        notes=tuple(notes),
    )


def _parts(
    code: str, each: Found, ignores: Sequence[Ignore]
) -> Iterator[tuple[Found, tuple[str, ...], str | None]]:
    """What was seen, the layers that it is about, and the reason where it is not to be told.

    Of several layers that have one thing in common, those are taken out that are ignored.
    """
    several = each.several
    if several is None:
        yield each, (), reason_to_ignore(code, each.layer, ignores)
        return
    places: dict[str | None, list[int]] = {}
    for at, name in enumerate(several.names):
        places.setdefault(reason_to_ignore(code, name, ignores), []).append(at)
    if len(places) == 1:
        yield each, several.names, next(iter(places))
        return
    parts = [(several.tell(some), some, reason) for reason, some in places.items()]
    for part, some, reason in parts:
        if part is not None:
            yield part, tuple(several.names[at] for at in some), reason
    if all(part is None for part, _, _ in parts):
        yield each, several.names, next(reason for _, _, reason in parts if reason is not None)


def _finding(
    info: RuleInfo, each: Found, layers: tuple[str, ...], settings: CheckSettings
) -> Finding:
    return Finding(
        rule=info.code,
        severity=severity(info.code, each.severity or info.severity, settings),
        confidence=each.confidence or info.confidence,
        message=each.message,
        remedy=each.remedy or info.remedy,
        scope=each.scope,
        layer=each.layer,
        layers=layers,
        channels=each.channels,
        evidence=each.evidence,
        fixable=each.fixable,
    )
