"""A check as SARIF 2.1.0, as GitHub's code scanning and other viewers read it.

The format: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html. What GitHub makes of
it: https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

from inspector.errors import escaped
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import Check, CheckedFile, Finding, RuleInfo, Severity
from inspector.report.checked import sentences, uri
from inspector.report.words import printable

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_PROBLEMS = {**_LEVELS, Severity.INFO: "recommendation"}
_PRECISION = {
    Confidence.CERTAIN: "very-high",
    Confidence.LIKELY: "high",
    Confidence.POSSIBLE: "medium",
}
_LONGEST = 1024
"""Characters of a description that GitHub takes; the help has it whole."""

_FIRST = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 2}
"""GitHub shows no result without a line, and ONNX is binary: the first one stands for the file."""

_SEMANTIC = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
"""https://semver.org"""


def to_sarif(check: Check) -> str:
    """One run of SARIF 2.1.0 in JSON, and a newline behind it."""
    indices = {rule.code: index for index, rule in enumerate(check.rules)}
    run = {
        "tool": {"driver": _driver(check)},
        "invocations": [
            {
                "executionSuccessful": not check.unreadable,
                "toolExecutionNotifications": [
                    each for file in check.files for each in _notifications(file)
                ],
            }
        ],
        "artifacts": [
            {"location": {"uri": each}, "roles": ["analysisTarget"]}
            for each in dict.fromkeys(uri(file.path) for file in check.files)
        ],
        "results": [each for file in check.files for each in _results(file, indices)],
        "columnKind": "unicodeCodePoints",
    }
    whole = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(whole, allow_nan=False) + "\n"


def _driver(check: Check) -> dict[str, Any]:
    driver: dict[str, Any] = {"name": "bninspect"}
    if check.version:
        known = "semanticVersion" if _SEMANTIC.fullmatch(check.version) else "version"
        driver[known] = escaped(check.version)
    return {**driver, "rules": [_rule(rule) for rule in check.rules]}


def _rule(rule: RuleInfo) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": _cut(rule.summary)},
        "fullDescription": {"text": _cut(f"{rule.summary} {rule.why}")},
        "help": {"text": "\n\n".join(_help(rule)), "markdown": _markdown(rule)},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {
            "precision": _PRECISION[rule.confidence],
            "problem.severity": _PROBLEMS[rule.severity],
            "tags": ["batchnorm", "onnx"],
        },
    }


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2].rsplit(' ', 1)[0]} …"


def _help(rule: RuleInfo) -> Iterator[str]:
    yield rule.summary
    yield rule.why
    yield f"What to do: {rule.remedy}."
    if rule.fix:
        yield f"--fix: {rule.fix}."
    for each in rule.thresholds:
        yield f"Option {each.name} ({each.default:g}): {each.what}"


def _markdown(rule: RuleInfo) -> str:
    parts = [f"# {rule.code} {rule.name}", rule.summary, "## Why it matters", rule.why]
    parts += ["## What to do", f"{rule.remedy}."]
    if rule.fix:
        parts.append(f"`--fix`: {rule.fix}.")
    if rule.thresholds:
        rows = [f"- `{each.name}` ({each.default:g}): {each.what}" for each in rule.thresholds]
        parts += ["## Options", "\n".join(rows)]
    parts += ["## A model that has it", f"```\n{rule.bad.strip()}\n```"]
    parts += ["## One that has not", f"```\n{rule.good.strip()}\n```"]
    return "\n\n".join(parts)


def _notifications(file: CheckedFile) -> Iterator[dict[str, Any]]:
    told = [("error", file.unreadable)] if file.unreadable else []
    for level, text in [*told, *(("note", note) for note in file.notes)]:
        yield {
            "level": level,
            "message": {"text": _message(printable(text))},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(file.path)}}}],
        }


def _results(file: CheckedFile, indices: dict[str, int]) -> Iterator[dict[str, Any]]:
    seen: Counter[tuple[str, ...]] = Counter()
    for finding in file.findings:
        yield {**_result(finding, file, indices, seen), "suppressions": []}
    for each in file.ignored:
        because = {
            "kind": "external",
            "status": "accepted",
            "justification": printable(each.reason),
        }
        yield {**_result(each.finding, file, indices, seen), "suppressions": [because]}


def _result(
    finding: Finding, file: CheckedFile, indices: dict[str, int], seen: Counter[tuple[str, ...]]
) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": uri(file.path)}, "region": _FIRST}
    }
    if finding.layer:
        location["logicalLocations"] = [
            {
                "name": escaped(finding.layer),
                "fullyQualifiedName": " / ".join(map(escaped, (*finding.scope, finding.layer))),
                # A layer is to its graph what a member is to its class (3.33.7 names no better).
                "kind": "member",
            }
        ]
    index = indices.get(finding.rule)
    return {
        "ruleId": finding.rule,
        **({} if index is None else {"ruleIndex": index}),
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(sentences(finding))},
        "locations": [location],
        "partialFingerprints": _fingerprints(finding, seen),
        "properties": {
            "confidence": finding.confidence,
            "fixable": finding.fixable,
            "channels": list(finding.channels),
            "evidence": {escaped(name): _plain(each) for name, each in finding.evidence.items()},
        },
    }


def _fingerprints(finding: Finding, seen: Counter[tuple[str, ...]]) -> dict[str, str]:
    """What tells a finding from others of its file for as long as its layer keeps its name.

    Values and messages are left out: a model that was trained further has the same finding still.
    GitHub reads the first of the two alone, and would make it of the file's first line.
    """
    who = (finding.rule, *finding.scope, finding.layer)
    nth = seen[who] = seen[who] + 1
    digest = hashlib.sha256(
        "\0".join(f"{len(each)}:{each}" for each in who).encode("utf-8", "surrogatepass")
    )
    text = f"{digest.hexdigest()[:32]}:{nth}"
    return {"primaryLocationLineHash": text, "bninspect/v1": text}


_PLACEHOLDER = re.compile(r"\{(?=\d+\})|(?<=\d)\}")


def _message(text: str) -> str:
    """Text with nothing that a message of SARIF reads as more than text.

    ``[text](target)`` would be a link (3.11.6) and ``{0}`` a placeholder (3.11.5).
    """
    if "](" in text:
        text = re.sub(r"[\\\[\]]", r"\\\g<0>", text)
    return _PLACEHOLDER.sub(lambda found: found[0] * 2, text)


def _plain(value: object) -> object:
    """A value of evidence in JSON's types; it has no word for NaN and infinity."""
    match value:
        case bool():
            return value
        case Integral():
            return int(value)
        case Real():
            number = float(value)
            return number if math.isfinite(number) else str(number)
    return escaped(str(value))
