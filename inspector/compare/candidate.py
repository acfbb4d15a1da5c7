"""A difference between two networks, before anyone knows whether it matters."""

from __future__ import annotations

from dataclasses import dataclass

from inspector.facts.comparison import CauseKind
from inspector.facts.patch import Patch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A difference that may be a cause. `patches` is empty where `reason` says why not."""

    kind: CauseKind
    what: str
    left_where: str
    right_where: str
    left: str
    right: str
    patches: tuple[Patch, ...] = ()
    reason: str = ""
