"""Differences that are one: what lies in a run of affine operators, judged by what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inspector.compare.causes.affine import (
    NO_STEPS,
    Effective,
    Run,
    effective,
    from_output,
    is_weighted,
    paired_runs,
)
from inspector.compare.causes.candidate import Candidate
from inspector.compare.causes.near import is_within, rows_apart, slopes_apart
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.grids import Steps
from inspector.compare.graphs.parameters import as_stored, normal
from inspector.compare.graphs.structure import Network
from inspector.compare.runtime.run import Array
from inspector.facts.comparison import CauseKind
from inspector.facts.patch import Patch, SetInput

_ULPS = 16
"""Units in the last place of float32 by which folded weights may lie apart: folding is a square
root, a division and two products, each rounded."""

_WHERE = frozenset({"pads", "auto_pad", "strides", "dilations"})
"""Attributes of a convolution that say where its kernel goes."""

_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Candidates with those of one run put together, and those that come to nothing left out.

    `accounted` are nodes whose parameters have their counterpart in the other side's run, `notes`
    say where one side keeps what the other folds.
    """

    candidates: tuple[Candidate, ...]
    accounted: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def judged_by_run(
    candidates: Sequence[Candidate],
    found: Correspondence,
    steps: tuple[Steps, Steps] = (NO_STEPS, NO_STEPS),
) -> Judged:
    """Look at candidates run by run.

    A run that is written in the same operators on both sides keeps its candidates: which parameter
    differs says more than what they come to. `steps` are those of the grids that weights of each
    side were rounded to.
    """
    left_of: dict[str, list[Candidate]] = {}
    for each in candidates:
        for node in each.nodes:
            left_of.setdefault(node, []).append(each)
    dropped: set[int] = set()
    made: dict[int, Candidate] = {}
    accounted: set[str] = set()
    notes: list[str] = []
    for left, right in paired_runs(found):
        within = _candidates_in(left, right, left_of)
        if not within or left.operators == right.operators or left.channel != right.channel:
            continue
        one = effective(left, found.left, steps[0])
        other = effective(right, found.right, steps[1])
        if one is None or other is None or (one.kernel is None) != (other.kernel is None):
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            differs = _compared(one, other)
        if differs is None:
            continue
        if not differs.any():
            dropped |= {id(each) for each in within}
            accounted |= {f"l{node}" for node in left.nodes} | {f"r{n}" for n in right.nodes}
            notes += _note(left, right)
        elif not _is_plainly_missing(left, right, within, found):
            dropped |= {id(each) for each in within}
            made[id(within[0])] = _unit(left, right, one, other, differs, found)
    kept = [
        made.get(id(each), each)
        for each in candidates
        if id(each) not in dropped or id(each) in made
    ]
    return Judged(candidates=tuple(kept), accounted=frozenset(accounted), notes=tuple(notes))


def _candidates_in(left: Run, right: Run, by_node: dict[str, list[Candidate]]) -> list[Candidate]:
    nodes = [f"l{node}" for node in left.nodes] + [f"r{node}" for node in right.nodes]
    found = {id(each): each for node in nodes for each in by_node.get(node, ())}
    # Where a kernel goes is a difference of its own, and none of its numbers.
    found = {key: each for key, each in found.items() if not _is_where(each)}
    kinds = (
        CauseKind.PARAMETER,
        CauseKind.PERMUTATION,
        CauseKind.LAYOUT,
        CauseKind.PREPROCESSING,
        CauseKind.MISSING,
        CauseKind.OPERATOR,
        CauseKind.EPSILON,
    )
    if any(each.kind not in kinds for each in found.values()):
        return []
    # A candidate that reaches out of the run is not decided by it.
    inside = [each for each in found.values() if each.nodes <= set(nodes)]
    return inside if len(inside) == len(found) else []


def _is_where(candidate: Candidate) -> bool:
    return candidate.kind is CauseKind.ATTRIBUTE and candidate.what in _WHERE


def _compared(one: Effective, other: Effective) -> Array | None:
    """Which channels of two runs differ; None where their numbers cannot be held together."""
    unit = _ULPS * float(np.finfo(np.float32).eps)
    if one.kernel is not None and other.kernel is not None:
        if one.kernel.shape != other.kernel.shape or not one.is_shaped_as(other):
            return None
        first = rows_apart(one, other, unit)
    else:
        try:
            slopes = np.broadcast_arrays(one.slope, other.slope)
        except ValueError:
            return None
        first = slopes_apart(slopes[0], slopes[1], unit)
    try:
        offsets = np.broadcast_arrays(one.offset, other.offset, one.size, other.size, first)
    except ValueError:
        return None
    apart = np.abs(offsets[0] - offsets[1])
    allowed = unit * np.maximum(offsets[2], offsets[3])
    for each in (one, other):
        if each.offset_grid is not None and each.offset_grid.size in (1, apart.size):
            allowed = allowed + each.offset_grid
    return np.asarray(offsets[4] | ~is_within(apart, allowed))


def _is_plainly_missing(
    left: Run, right: Run, within: Sequence[Candidate], found: Correspondence
) -> bool:
    """Whether nothing differs but operators that one side lacks, or has others in place of."""
    if not is_weighted(left.anchor) and not (left.layers and right.layers):
        return True
    if len(left.layers) == len(right.layers) and any(
        each.kind is CauseKind.OPERATOR for each in within
    ):
        return True
    anchors = {f"l{e.node}" for e in (left.anchor,) if e} | {
        f"r{e.node}" for e in (right.anchor,) if e
    }
    if any(each.nodes & anchors for each in within):
        return False
    alone = (
        {each.node for each in found.alignment.left_only},
        {each.node for each in found.alignment.right_only},
    )
    return any(
        alone[side].isdisjoint(each.node for each in run.layers)
        for side, run in enumerate((left, right))
    )


def _note(left: Run, right: Run) -> list[str]:
    names = [", ".join(each.shown for each in run.layers) or "nothing" for run in (left, right)]
    anchor = left.anchor.shown if left.anchor is not None else "the input"
    return [f"behind {anchor}: {names[0]} on the left and {names[1]} on the right come to the same"]


def _unit(
    left: Run,
    right: Run,
    one: Effective,
    other: Effective,
    differs: Array,
    found: Correspondence,
) -> Candidate:
    """One difference for a whole run that is written in other layers on each side."""
    channels = np.flatnonzero(differs)
    patches = _patches(right, one, other, found)
    what, words = _blamed(left, right, one, other, found)
    last = right.layers[-1] if right.layers else right.anchor
    first = left.layers[-1] if left.layers else left.anchor
    assert first is not None or last is not None  # one of the runs has a layer
    return Candidate(
        kind=CauseKind.EPSILON if what == "epsilon" else CauseKind.FOLDING,
        what=what,
        left_where=left.shown,
        right_where=right.shown,
        left=words[0],
        right=words[1] or _in_words(channels, differs.size),
        patches=patches,
        reason="" if patches else "what is folded cannot be taken apart",
        is_values=what != "epsilon",
        left_node=first.node if first is not None else "",
        right_node=last.node if last is not None else "",
    )


def _in_words(channels: Array, of: int) -> str:
    if len(channels) == of:
        return f"other numbers in all {of} channels"
    listed = ", ".join(str(each) for each in channels[:_SHOWN])
    more = ", …" if len(channels) > _SHOWN else ""
    return f"other numbers in {len(channels)} of {of} channels ({listed}{more})"


def _patches(
    right: Run, one: Effective, other: Effective, found: Correspondence
) -> tuple[Patch, ...]:
    """Weights for the right anchor with which its run computes what the left one does."""
    weights = one.weights
    if right.anchor is None or weights is None or not is_weighted(right.anchor):
        return ()
    roles = {each.role: each for each in right.anchor.stored}
    affine = right.affine
    if (affine.slope == 0).any():
        return ()
    load = found.right.model.weights
    slope = np.broadcast_to(affine.slope, len(weights))
    like = normal(roles["kernel"], load)
    kernel = from_output(right.anchor, weights / slope[:, None], like).astype(like.dtype)
    stored = roles["kernel"]
    patches: list[Patch] = [
        SetInput(node=stored.node, position=stored.position, values=as_stored(kernel, stored))
    ]
    offset = ((one.offset - affine.intercept) / affine.slope).astype(like.dtype)
    if "bias" in roles:
        bias = roles["bias"]
        shaped = np.broadcast_to(offset, (len(weights),)).reshape(
            bias.dims if bias.dims is not None else bias.tensor.dims
        )
        patches.append(SetInput(node=bias.node, position=bias.position, values=shaped))
    elif right.anchor.node_fact.op_type in ("Conv", "ConvTranspose", "Gemm"):
        patches.append(SetInput(node=right.anchor.node, position=2, values=offset))
    elif offset.any():
        return ()
    return tuple(patches)


def _blamed(
    left: Run, right: Run, one: Effective, other: Effective, found: Correspondence
) -> tuple[str, tuple[str, str]]:
    """What was folded otherwise, where the numbers tell: an epsilon, slopes, or offsets."""
    for run, kept, folded, network, is_left in (
        (left, one, other, found.left, True),
        (right, other, one, found.right, False),
    ):
        epsilon = _epsilon_that_fits(run, kept, folded, network)
        if epsilon is not None:
            own = next(
                np.float32(each.node_fact.float_attribute("epsilon", 1e-5))
                for each in run.layers
                if each.op == "BatchNormalization"
            )
            words = str(own), f"{epsilon:.3g} folded in"
            return "epsilon", words if is_left else (words[1], words[0])
    unit = _ULPS * float(np.finfo(np.float32).eps)
    if one.kernel is not None and other.kernel is not None:
        scaled = rows_apart(one, other, unit)
    else:
        slopes = np.broadcast_arrays(one.slope, other.slope)
        scaled = slopes_apart(slopes[0], slopes[1], unit)
    if not scaled.any():
        return "offset (bias or mean)", ("folded from the BatchNorm", "")
    return "slope (scale or var) or weights", ("folded from the BatchNorm", "")


def _epsilon_that_fits(
    run: Run, kept: Effective, folded: Effective, network: Network
) -> float | None:
    """The epsilon with which the BatchNorm of a run gives the other side's folded weights."""
    norms = [each for each in run.layers if each.op == "BatchNormalization"]
    kept_weights, folded_weights = kept.weights, folded.weights
    if len(norms) != 1 or kept_weights is None or folded_weights is None:
        return None
    roles = {each.role: each for each in norms[0].stored}
    var = network.model.weights.load(roles["var"].tensor).astype(np.float64).ravel()
    own = np.float64(np.float32(norms[0].node_fact.float_attribute("epsilon", 1e-5)))
    if folded.grid is not None and len(var) == len(kept_weights):
        with np.errstate(divide="ignore", invalid="ignore"):
            return _epsilon_on_grid(var, own, kept, folded)
    strongest = np.abs(kept_weights).argmax(axis=1)
    rows = np.arange(len(strongest))
    a, b = kept_weights[rows, strongest], folded_weights[rows, strongest]
    with np.errstate(divide="ignore", invalid="ignore"):
        fitted = (var + own) * (a / b) ** 2 - var
    alive = np.isfinite(fitted) & (a != 0)
    if len(var) != len(strongest) or not alive.any():
        return None
    # Small variances tell an epsilon best.
    at = int(np.argmin(np.where(alive, var, np.inf)))
    epsilon = float(fitted[at])
    noise = 64.0 * float(np.finfo(np.float32).eps) * (float(var[at]) + float(own))
    if epsilon <= 0 or abs(epsilon - own) <= max(1e-3 * own, noise):
        return None
    ratio = np.sqrt((var + own) / (var + epsilon))
    wanted = kept_weights * ratio[:, None]
    size = np.abs(wanted).max(axis=1)
    apart = np.abs(wanted - folded_weights).max(axis=1)
    return epsilon if (apart <= 1e-4 * size).all() else None


def _epsilon_on_grid(
    var: Array, own: np.float64, kept: Effective, folded: Effective
) -> float | None:
    """The epsilon that fits weights which were rounded to a grid after it was folded into them.

    Each channel tells the ratio of its slopes within what rounding makes of it; all of them
    together tell the epsilon.
    """
    one, other, grid = kept.weights, folded.weights, folded.moved(0, len(var))
    if one is None or other is None or one.shape[0] != len(var):
        return None
    power = (one**2).sum(axis=1)
    alive = power > 0
    if not alive.any():
        return None
    a, b, v = one[alive], other[alive], var[alive]
    ratio = (a * b).sum(axis=1) / power[alive]
    # Rounding is spread evenly over one step: a third of the square of its half.
    spread = np.sqrt((np.broadcast_to(grid, one.shape)[alive] ** 2 / 3).sum(axis=1))
    noise = 2 * np.maximum(spread / np.sqrt(power[alive]), 1e-7) * (v + own) / np.abs(ratio) ** 3
    weights = 1 / noise**2
    epsilon = float((((v + own) / ratio**2 - v) * weights).sum() / weights.sum())
    sure = 4 / float(np.sqrt(weights.sum()))
    if not np.isfinite(epsilon) or epsilon <= 0 or abs(epsilon - own) <= max(1e-3 * own, sure):
        return None
    wanted = one * np.sqrt((var + own) / (var + epsilon))[:, None]
    unsure = np.abs(wanted) * (sure / (2 * (var + epsilon)))[:, None]
    return epsilon if (np.abs(wanted - other) <= 1.01 * grid + unsure).all() else None
