"""What became of BatchNorms on the way from one model to another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inspector.facts.model import Scope


class Fate(StrEnum):
    """What became of a BatchNorm on the way from one model to another."""

    KEPT = "kept"
    ARITHMETIC = "arithmetic"
    FOLDED = "folded"
    UNTOLD = "cannot be told"
    MISSING = "not found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What became of one BatchNorm of a reference model.

    Attributes
    ----------
    name, scope
        In the reference.
    where
        The node, arithmetic or weights in the model that it is found in.
    error, allowed
        The largest difference to what its parameters say, and how much rounding explains; both
        relative to the numbers that went in. None where nothing was compared.
    """

    name: str
    scope: Scope
    fate: Fate
    where: str = ""
    error: float | None = None
    allowed: float | None = None
    detail: str = ""
