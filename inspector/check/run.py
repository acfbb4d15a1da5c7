"""Run rules on one model."""

from __future__ import annotations

from collections.abc import Sequence

from inspector.check.rule import Found, Rule
from inspector.check.select import reason_to_ignore, severity, thresholds
from inspector.check.subject import Subject
from inspector.facts.finding import CheckedFile, CheckSettings, Finding, Ignored, RuleInfo


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
    told: list[Finding] = []
    ignored: list[Ignored] = []
    for rule in rules:
        for each in rule.find(subject, thresholds(rule, settings)):
            finding = _finding(rule.info, each, settings)
            reason = reason_to_ignore(finding, path, settings.ignores)
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


def _finding(info: RuleInfo, each: Found, settings: CheckSettings) -> Finding:
    return Finding(
        rule=info.code,
        severity=severity(info.code, each.severity or info.severity, settings),
        confidence=each.confidence or info.confidence,
        message=each.message,
        remedy=each.remedy or info.remedy,
        scope=each.scope,
        layer=each.layer,
        channels=each.channels,
        evidence=each.evidence,
        fixable=each.fixable,
    )
