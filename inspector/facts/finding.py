"""The facts that `bninspect check` shows: rules, what they found, and what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from inspector.facts.batchnorm import Confidence
from inspector.facts.model import Scope


class Severity(StrEnum):
    """How much a finding matters; the order is from least to most."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for information, 2 for an error."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A number that a rule goes by; users set it as an option of the rule.

    `least` and `most` are what it may be, both included.
    """

    name: str
    default: float
    what: str
    least: float = 0.0
    most: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleInfo:
    """A rule as it is documented.

    Attributes
    ----------
    code
        ``BN`` and three digits; never given to another rule.
    name
        The same in words, with hyphens.
    severity, confidence
        Of its findings, unless one says otherwise.
    summary
        What it looks for, in a sentence.
    why
        Why that matters: what goes wrong, where, and who says so.
    remedy
        What to do about it.
    thresholds
        The numbers that it goes by.
    bad, good
        A model that has it and one that has not, in ONNX's text form
        (https://onnx.ai/onnx/repo-docs/Syntax.html).
    baseline
        The release before, in the same form, for rules that compare with one.
    fix
        What ``--fix`` does about it; empty where nothing.
    """

    code: str
    name: str
    severity: Severity
    confidence: Confidence
    summary: str
    why: str
    remedy: str
    bad: str
    good: str
    thresholds: tuple[Threshold, ...] = ()
    baseline: str = ""
    fix: str = ""


Evidence: TypeAlias = "float | int | str | bool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a rule has found.

    Attributes
    ----------
    rule
        The rule's code.
    message
        One sentence that names the layer, the channels and the values.
    scope, layer
        The layer or node that it is about; an empty name stands for the whole file.
    layers
        The names of all that it is about, where that may be several; those ignored are not among
        them.
    channels
        Which channels, where it is about some; counted from 0.
    evidence
        The values that the message gives, by name, for programs to read.
    remedy
        What to do about it.
    fixable
        Whether ``--fix`` can do that.
    """

    rule: str
    severity: Severity
    confidence: Confidence
    message: str
    remedy: str
    scope: Scope = ()
    layer: str = ""
    layers: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    fixable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A finding that was asked not to be told, and why."""

    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """What was found in one file.

    `unreadable` says why it could not be checked; then nothing else is known of it. `layers` counts
    its BatchNorms.
    """

    path: str
    findings: tuple[Finding, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    layers: int = 0
    unreadable: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Some files, checked.

    `rules` are those that ran, whether they found anything or not, in the order of their codes;
    `fail_on` is the least severity that makes the check fail, None where nothing does.
    """

    files: tuple[CheckedFile, ...]
    rules: tuple[RuleInfo, ...]
    fail_on: Severity | None = Severity.WARNING
    version: str = ""

    @property
    def failed(self) -> bool:
        """Whether a finding is as severe as was asked for."""
        least = self.fail_on
        return least is not None and any(
            each.severity.rank >= least.rank for file in self.files for each in file.findings
        )

    @property
    def unreadable(self) -> bool:
        return any(file.unreadable for file in self.files)

    def count(self, severity: Severity) -> int:
        """How many findings are of a severity."""
        return sum(each.severity is severity for file in self.files for each in file.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """Findings that are not to be told.

    Attributes
    ----------
    rules
        Codes or the beginnings of codes; all rules where there are none.
    files, layers
        Patterns as in a shell (``*``, ``?``, ``[…]``) of paths and of layers' names; any where
        empty. A pattern of paths fits from any folder on, unless it begins at the root.
    reason
        Why, in the user's words.
    """

    rules: tuple[str, ...] = ()
    files: str = ""
    layers: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """What a check is asked to do, by the command line or a configuration file.

    Attributes
    ----------
    select, ignore
        Codes or the beginnings of codes; where both fit a rule, the longer one decides.
    severities
        Other severities for rules, by code or the beginning of one.
    thresholds
        Other numbers for rules: code, then the threshold's name.
    ignores
        Findings that are not to be told.
    fail_on
        The least severity that makes the check fail; None where nothing does.
    """

    select: tuple[str, ...] = ("BN",)
    ignore: tuple[str, ...] = ()
    severities: Mapping[str, Severity] = field(default_factory=dict)
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ignores: tuple[Ignore, ...] = ()
    fail_on: Severity | None = Severity.WARNING
