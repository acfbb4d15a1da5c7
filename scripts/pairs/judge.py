"""One pair through bninspect: its verdict, whether the cause and the first point are right."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .kinds import Fault
from .make import Pair

SAME = ("identical", "equivalent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is known of one pair.

    `named`: the first cause names a fault and each fault is named by some cause; `named_any` leaves
    out the first half. `spurious` counts causes that name no fault. `first` is whether the first
    diverging point is one of the fault's own, `later` whether it is that or one step on; None
    where there is none to judge. `state` is "judged", "discarded", "crashed" or "timed out".
    """

    name: str
    kind: str
    harmful: bool
    coarse: bool
    companion: str
    turned: bool
    state: str
    why: str = ""
    verdict: str = ""
    reason: str = ""
    seconds: float = 0.0
    apart: float = 0.0
    named: bool | None = None
    named_any: bool | None = None
    spurious: int = 0
    first: bool | None = None
    later: bool | None = None
    causes: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    point: str = ""
    points: tuple[str, ...] = ()

    @property
    def false_equivalent(self) -> bool:
        return self.state == "judged" and self.harmful and self.verdict in SAME

    @property
    def false_alarm(self) -> bool:
        return self.state == "judged" and not self.harmful and self.verdict == "different"

    @property
    def missed(self) -> bool:
        """A harmful pair whose outputs were found to agree."""
        return self.harmful and not self.coarse and self.verdict == "agrees"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(pair: Pair, paths: tuple[Path, Path], apart: float, seed: int) -> Row:
    """Compare a pair's files and hold the answer against what is known."""
    from inspector.errors import InspectorError
    from inspector.flows import compare_files

    start = time.perf_counter()
    try:
        found = compare_files(*paths, seed=seed)
    except InspectorError as error:
        return row(pair, "crashed", why=f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - start
    listed = {"apart": apart, "seconds": seconds, "reason": found.reason}
    listed |= {"causes": tuple(_words(each) for each in (*found.causes, *found.harmless))}
    listed |= {"wanted": tuple(_wanted(each) for each in pair.faults)}
    listed |= {"points": tuple(", ".join(sorted(each.first)[:8]) for each in pair.faults)}
    if pair.kind.harmful and found.verdict.value == "different":
        listed |= _named(pair.faults, found.causes) | _located(pair.faults, found)
    return row(pair, "judged", verdict=found.verdict.value, **listed)


def row(pair: Pair, state: str, **known: Any) -> Row:
    return Row(
        name=pair.plan.name,
        kind=pair.kind.name,
        harmful=pair.kind.harmful,
        coarse=pair.kind.coarse,
        companion=pair.companion,
        turned=pair.turned,
        state=state,
        **known,
    )


def _words(cause: Any) -> str:
    return (
        f"{cause.kind.value}: {cause.what} at {cause.left_where} | {cause.right_where}: "
        f"{cause.left} | {cause.right} ({cause.proof.value})"
    )


def _wanted(fault: Fault) -> str:
    return f"{'/'.join(sorted(fault.causes))} at {', '.join(sorted(fault.where)[:8])}"


def _named(faults: tuple[Fault, ...], causes: tuple[Any, ...]) -> dict[str, Any]:
    hits = [[_names(fault, cause) for cause in causes] for fault in faults]
    every = all(any(each) for each in hits)
    return {
        "named": every and any(each[0] for each in hits),
        "named_any": every,
        "spurious": sum(not any(each[at] for each in hits) for at in range(len(causes))),
    }


def _names(fault: Fault, cause: Any) -> bool:
    right = cause.kind.value in fault.causes
    return right and _at(fault.where, cause.left_where, cause.right_where)


def _at(names: frozenset[str], *labels: str) -> bool:
    """Whether a label holds one of the names as a whole word."""
    return any(
        re.search(rf"(?<![\w/.]){re.escape(name)}(?![\w/.])", label)
        for label in labels
        if label
        for name in names
    )


def _located(faults: tuple[Fault, ...], found: Any) -> dict[str, Any]:
    """The first diverging point; a comparison may know of none yet."""
    localisation = getattr(found, "localisation", None)
    first = getattr(localisation, "first", None)
    if first is None:
        return {"point": f"none: {getattr(localisation, 'reason', '')}"} if localisation else {}
    labels = [str(getattr(first, each, "") or "") for each in ("left", "right")]
    labels += [str(getattr(first, each, "") or "") for each in ("left_where", "right_where")]
    near = any(_at(fault.first, *labels) for fault in faults)
    return {
        "first": near,
        "later": near or any(_at(fault.later, *labels) for fault in faults),
        "point": " | ".join(labels),
    }
