"""`bninspect check` as JSON; docs/check.schema.json describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from inspector.facts.finding import Severity

if TYPE_CHECKING:
    from inspector.facts.finding import Check, CheckedFile, Finding, RuleInfo


def check_body(fact: Check) -> dict[str, Any]:
    """What a report of a check holds below its schema and version."""
    names = {rule.code: rule.name for rule in fact.rules}
    return {
        "bninspect": fact.version,
        "failed": fact.failed,
        "fail_on": "never" if fact.fail_on is None else fact.fail_on,
        "summary": {
            "files": len(fact.files),
            "unreadable": sum(bool(file.unreadable) for file in fact.files),
            "batchnorms": sum(file.layers for file in fact.files),
            **{each.value: fact.count(each) for each in reversed(Severity)},
            "ignored": sum(len(file.ignored) for file in fact.files),
        },
        "files": [_file(file, names) for file in fact.files],
        "rules": [_ran(rule) for rule in fact.rules],
    }


def rules_body(rules: Sequence[RuleInfo]) -> dict[str, Any]:
    """What a list of rules holds below its schema and version."""
    return {
        "rules": [
            {
                **_ran(rule),
                "why": rule.why,
                "remedy": rule.remedy,
                "fix": rule.fix,
                "options": [
                    {
                        "name": each.name,
                        "default": each.default,
                        "least": each.least,
                        "most": each.most,
                        "what": each.what,
                    }
                    for each in rule.thresholds
                ],
                "bad": rule.bad.strip("\n"),
                "good": rule.good.strip("\n"),
                "baseline": rule.baseline.strip("\n"),
            }
            for rule in rules
        ]
    }


def _ran(rule: RuleInfo) -> dict[str, Any]:
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": rule.severity,
        "confidence": rule.confidence,
        "summary": rule.summary,
    }


def _file(file: CheckedFile, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "path": file.path,
        "unreadable": file.unreadable or None,
        "batchnorms": file.layers,
        "findings": [_finding(each, names) for each in file.findings],
        "ignored": [
            {**_finding(each.finding, names), "reason": each.reason} for each in file.ignored
        ],
        "notes": file.notes,
    }


def _finding(each: Finding, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "rule": each.rule,
        "name": names.get(each.rule, ""),
        "severity": each.severity,
        "confidence": each.confidence,
        "layer": each.layer or None,
        "scope": each.scope,
        "channels": each.channels,
        "message": each.message,
        "remedy": each.remedy,
        "evidence": {name: _number(value) for name, value in each.evidence.items()},
        "fixable": each.fixable,
    }


def _number(value: Any) -> Any:
    """A value in Python's own types, where a rule has left NumPy's."""
    return value.item() if hasattr(value, "item") else value
