"""One finding about several layers that have one thing in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from inspector.check.rule import Found, Several
from inspector.check.words import SHOWN
from inspector.facts.batchnorm import BatchNorm, Confidence, FoldedEvidence
from inspector.facts.finding import Evidence, Severity

_L = TypeVar("_L")

MOST_NAMES = 100
"""Layers that the evidence names; no message names as many."""


_LONGEST = 80


def named(names: Sequence[str]) -> str:
    """The first few of some names, long ones cut."""
    return ", ".join(map(cut, names[:SHOWN])) + (", …" if len(names) > SHOWN else "")


def cut(text: str, longest: int = _LONGEST) -> str:
    """A text without its middle where it is long: converters join all names of what they fuse."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def divisible(
    layers: Sequence[_L], names: Sequence[str], tell: Callable[[Sequence[_L]], Found | None]
) -> Iterator[Found]:
    """What `tell` says of all layers; of fewer, where the user ignores the others by their names.

    `tell` gives None where it cannot be said of those that are left, and of none nothing is said.
    """
    whole = tell(layers) if layers else None
    if whole is None:
        return
    if whole.layer and len(layers) < 2:
        yield whole
        return
    several = Several(
        names=tuple(names), tell=lambda places: tell([layers[place] for place in places])
    )
    yield replace(whole, several=several)


def about(
    layers: Sequence[BatchNorm | FoldedEvidence],
    what: str,
    *,
    kind: str = "BatchNorms",
    severity: Severity | None = None,
    confidence: Confidence | None = None,
    remedy: str = "",
    fixable: bool = False,
    **evidence: Evidence,
) -> Found:
    """Something that holds for each of `layers`; `what` follows their names and a colon.

    A network whose exporter did one thing fifty times has one cause and one cure: that is one
    finding, which names the first few. Of a single layer it is that layer's own. Where `what` or
    the evidence tell of the layers themselves, `divisible` goes around it.
    """
    names = [each.name for each in layers]
    alone = layers[0] if len(layers) == 1 else None
    front = alone.name if alone is not None else f"{len(layers)} {kind} ({named(names)})"

    def again(places: Sequence[int]) -> Found:
        return about(
            [layers[place] for place in places],
            what,
            kind=kind,
            severity=severity,
            confidence=confidence,
            remedy=remedy,
            fixable=fixable,
            **evidence,
        )

    return Found(
        message=f"{front}: {what}",
        scope=alone.scope if alone is not None else (),
        layer=alone.name if alone is not None else "",
        evidence={"layers": len(layers), "names": ", ".join(names[:MOST_NAMES]), **evidence},
        severity=severity,
        confidence=confidence,
        remedy=remedy,
        fixable=fixable,
        several=None if alone is not None else Several(names=tuple(names), tell=again),
    )
