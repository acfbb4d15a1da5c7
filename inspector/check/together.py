"""One finding about several layers that have one thing in common."""

from __future__ import annotations

from collections.abc import Sequence

from inspector.check.rule import Found
from inspector.check.words import SHOWN
from inspector.facts.batchnorm import BatchNorm, Confidence, FoldedEvidence
from inspector.facts.finding import Evidence, Severity

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
    finding, which names the first few. Of a single layer it is that layer's own.
    """
    names = [each.name for each in layers]
    alone = layers[0] if len(layers) == 1 else None
    front = alone.name if alone is not None else f"{len(layers)} {kind} ({named(names)})"
    return Found(
        message=f"{front}: {what}",
        scope=alone.scope if alone is not None else (),
        layer=alone.name if alone is not None else "",
        evidence={"layers": len(layers), "names": ", ".join(names[:MOST_NAMES]), **evidence},
        severity=severity,
        confidence=confidence,
        remedy=remedy,
        fixable=fixable,
    )
