"""What a rule is: what it says of itself, and the function that looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from inspector.check.subject import Subject
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import Evidence, RuleInfo, Severity
from inspector.facts.model import Scope

Thresholds: TypeAlias = Mapping[str, float]
"""A rule's numbers by name: the user's, or else the defaults."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Several:
    """The layers that one finding is about, and how to say the same of some of them.

    `tell` takes their places among `names`. It gives None where too few are left to say it of.
    """

    names: tuple[str, ...]
    tell: Callable[[Sequence[int]], Found | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a rule has seen; severity, confidence and remedy are the rule's own where left out.

    `several` is there where it is about more layers than one, which may be ignored one by one.
    """

    message: str
    scope: Scope = ()
    layer: str = ""
    channels: tuple[int, ...] = ()
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    severity: Severity | None = None
    confidence: Confidence | None = None
    remedy: str = ""
    fixable: bool = False
    several: Several | None = None


Find: TypeAlias = Callable[[Subject, Thresholds], Iterator[Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule: one file in `inspector.check.rules` makes one."""

    info: RuleInfo
    find: Find


def found(
    norm: BatchNorm,
    message: str,
    *,
    channels: Sequence[int] = (),
    severity: Severity | None = None,
    confidence: Confidence | None = None,
    remedy: str = "",
    fixable: bool = False,
    **evidence: Evidence,
) -> Found:
    """Something seen in one BatchNorm; `message` follows its name and a colon."""
    return Found(
        message=f"{norm.name}: {message}",
        scope=norm.scope,
        layer=norm.name,
        channels=tuple(int(each) for each in channels),
        evidence=evidence,
        severity=severity,
        confidence=confidence,
        remedy=remedy,
        fixable=fixable,
    )
