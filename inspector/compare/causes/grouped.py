"""Differences of many tensors that are one: rounded to a smaller format, or swapped in a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.parameters import StoredPair, normal
from inspector.compare.graphs.structure import Layer
from inspector.compare.runtime.run import Array
from inspector.facts.comparison import CauseKind
from inspector.facts.patch import Patch, Reorder

_LEVELS = 256
"""Different values that eight bits can tell apart."""

_FEW = 512
"""Elements that are looked at before all of them are: more than a grid has levels."""

_SPREAD = 4
"""Elements a level, on average, from which on few levels are no chance."""

_NEARLY = 0.1
"""Steps by which 256 of them may miss a whole number, for what float32 made of each."""

_TELLING = 4
"""Levels from which on lying on a grid is no chance: two always do, as those of a mask."""


GRID = "8 bits or fewer"
"""The format of what lies on a grid, in words."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """The format that one side was rounded to, and whether that is the right one."""

    format: str
    on_right: bool


def rounded_to(left: Array, right: Array) -> Rounding | None:
    """How one of two arrays is the other one rounded; None where that is not so."""
    if left.shape != right.shape or left.dtype.kind != "f" or right.dtype.kind != "f":
        return None
    # Weights may be of any size, or none: what comes of those equals nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        for fine, coarse, on_right in ((left, right, True), (right, left, False)):
            if not _may_be_rounded(fine, coarse):
                continue
            wide = np.asarray(fine, np.float32)
            if not np.isfinite(wide).all():
                return None
            format = _format_of(wide, np.asarray(coarse, np.float32))
            if format:
                return Rounding(format, on_right)
    return None


def _format_of(wide: Array, stored: Array) -> str:
    """The format that `wide` was rounded to where that made `stored`; empty where none did."""
    finite = np.isfinite(stored)
    if np.array_equal(wide[finite], stored[finite]):
        return ""  # a mask's -inf against a large number: no weight was rounded
    if np.array_equal(wide.astype(np.float16).astype(np.float32), stored):
        return "float16"
    if np.array_equal(_as_bfloat16(wide), stored):
        return "bfloat16"
    return GRID if _is_quantised(wide, stored) else ""


def _may_be_rounded(fine: Array, coarse: Array) -> bool:
    """Whether the first few elements leave room for it: most tensors are told by those."""
    few = np.asarray(coarse.reshape(-1)[:_FEW], np.float32)
    if np.array_equal(few.astype(np.float16).astype(np.float32), few):
        return True
    if np.array_equal(_as_bfloat16(few), few) or coarse.ndim < 2:
        return True
    # A whole grid, or one for each row or column of what is quantised by channel.
    rows = [
        coarse.reshape(-1)[:_FEW],
        coarse[0].reshape(-1)[:_FEW],
        coarse[:, 0].reshape(-1)[:_FEW],
    ]
    own = [fine.reshape(-1)[:_FEW], fine[0].reshape(-1)[:_FEW], fine[:, 0].reshape(-1)[:_FEW]]
    return any(_on_grid(a, b) for a, b in zip(own, rows, strict=True))


def _as_bfloat16(values: Array) -> Array:
    import ml_dtypes

    return np.asarray(values.astype(ml_dtypes.bfloat16).astype(np.float32))


def _is_quantised(fine: Array, coarse: Array) -> bool:
    """Whether `coarse` is `fine` on a grid of at most 256 levels, for the whole or each output."""
    if coarse.ndim < 2:
        return False
    for axes in ((), (0,), (1,)):
        rows = coarse.reshape(1, -1) if not axes else np.moveaxis(coarse, axes[0], 0)
        own = fine.reshape(1, -1) if not axes else np.moveaxis(fine, axes[0], 0)
        rows, own = rows.reshape(len(rows), -1), own.reshape(len(own), -1)
        pairs = list(zip(own, rows, strict=True))
        on_grids = rows.shape[1] >= _SPREAD and all(_on_grid(a, b) for a, b in pairs)
        if on_grids and any(_tells(a, b) for a, b in pairs):
            return True
    return False


def _tells(fine: Array, coarse: Array) -> bool:
    """Whether a grid that `coarse` lies on says that it was rounded: few numbers lie on one."""
    before, after = np.unique(fine), np.unique(coarse)
    if len(before) > len(after):
        return True
    return len(after) >= _TELLING and not _on_grid(before, before)


def _on_grid(fine: Array, coarse: Array) -> bool:
    # What np.unique does, which imports the masked arrays of NumPy to do it.
    values = np.sort(coarse, axis=None).astype(np.float64)
    if not np.isfinite(values).all():
        return False
    levels = values[np.flatnonzero(np.diff(values, prepend=-np.inf))]
    if len(levels) < 2:
        return bool(np.array_equal(fine, coarse))
    steps = np.diff(levels)
    step = float(steps.min())
    # Written without a division, which the smallest steps make infinite.
    span = float(levels[-1]) - float(levels[0])
    if step <= 0.0 or span > _LEVELS * step:
        return False
    whole = round(span / step)
    if abs(span / step - whole) < _NEARLY:
        step = span / whole  # the least of many is the one that float32 rounded down most
    grid = levels / step
    even = np.abs(grid - np.round(grid)) <= 1e-3
    offset = (levels - levels[0]) / step
    even |= np.abs(offset - np.round(offset)) <= 1e-3
    inside = (fine >= levels[0] - step) & (fine <= levels[-1] + step)
    near = np.abs(fine.astype(np.float64) - coarse) <= 0.5001 * step
    return bool(even.all() and near[inside].all())


def swapped_roles(pairs: Sequence[StoredPair], found: Correspondence) -> tuple[str, str] | None:
    """Two of a layer's parameters that the right side has in each other's place."""
    weights = found.left.model.weights, found.right.model.weights
    lefts = {e.role: normal(e.left, weights[0]) for e in pairs if e.left is not None}
    rights = {e.role: normal(e.right, weights[1]) for e in pairs if e.right is not None}
    roles = sorted(lefts.keys() & rights.keys())
    for at, one in enumerate(roles):
        for other in roles[at + 1 :]:
            crossed = np.array_equal(lefts[one], rights[other]) and np.array_equal(
                lefts[other], rights[one]
            )
            if crossed and not np.array_equal(lefts[one], lefts[other]):
                return one, other
    return None


def turned_operands(
    a: Layer, b: Layer, rest: Sequence[StoredPair], found: Correspondence
) -> Candidate | None:
    """One stored operand that stands on the other side of an operator that does not commute."""
    if len(rest) != 2 or len(b.node_fact.inputs) != 2 or len(b.inputs) != 1:
        return None
    left = next((each.left for each in rest if each.right is None), None)
    right = next((each.right for each in rest if each.left is None), None)
    if left is None or right is None:
        return None
    one, other = normal(left, found.left.model.weights), normal(right, found.right.model.weights)
    if not np.array_equal(np.squeeze(one), np.squeeze(other)):
        return None
    return Candidate(
        kind=CauseKind.ORDER,
        what="order of inputs",
        left_where=a.shown,
        right_where=b.shown,
        left_node=a.node,
        right_node=b.node,
        left=f"a constant at input {left.position}",
        right=f"at input {right.position}",
        patches=(Reorder(node=b.node, order=(1, 0)),),
    )


def as_one_swap(a: Layer, b: Layer, roles: tuple[str, str], each: Sequence[Candidate]) -> Candidate:
    """One difference for two swapped parameters."""
    return Candidate(
        kind=CauseKind.PARAMETER,
        what=" and ".join(roles),
        left_where=a.shown,
        right_where=b.shown,
        left_node=a.node,
        right_node=b.node,
        left="each in its place",
        right="swapped",
        patches=tuple(patch for one in each for patch in one.patches),
    )


def as_one_rounding(members: Sequence[Candidate], rounding: Rounding) -> Candidate:
    """One difference for all tensors that were rounded to one format."""
    first, last = members[0], members[-1]
    patches: list[Patch] = [patch for each in members for patch in each.patches]
    ends = [
        a if len(members) == 1 else f"{len(members)} tensors, from {a} to {b}"
        for a, b in (
            (first.left_where, last.left_where),
            (first.right_where, last.right_where),
        )
    ]
    return Candidate(
        kind=CauseKind.QUANTISATION if rounding.format == GRID else CauseKind.PRECISION,
        what=f"weights rounded to {rounding.format}",
        left_where=ends[0],
        right_where=ends[1],
        left="as they are" if rounding.on_right else "rounded",
        right="rounded" if rounding.on_right else "as they are",
        patches=tuple(patches),
        left_node=first.left_node,
        right_node=first.right_node,
        more_nodes=tuple(
            node for each in members for node in (f"l{each.left_node}", f"r{each.right_node}")
        ),
    )
