"""Outputs behind operators that jump: rounding may move elements over a step, and nothing else.

See `inspector.compare.locating.jumps`. A side that computes in less than float32, or whose weights
were rounded to a grid, moves more of them: what the operators read is held to that side's floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from inspector.compare.feeding.feeds import Batch
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.locating.grafts import give_the_same, grafts_at
from inspector.compare.locating.jumps import Jump, find_jumps, in_front, jumps_alone
from inspector.compare.locating.places import Place
from inspector.compare.locating.sweep import Graft, Sweep
from inspector.compare.measuring.difference import distances
from inspector.compare.measuring.judged import turned
from inspector.compare.measuring.measured import Measured
from inspector.facts.comparison import PairedOutput

_LARGE = 1e-3
"""Share of an output's spread from which on its rounding floor may be that of a step."""


_LARGE_COARSE = 0.1
"""The same where a side is coarse: nothing is told apart within a floor as large as that."""


_FAR_MORE = 32
"""Times the elements that rounding moves by a step, from which on it was not rounding."""


def without_jumps(
    measured: Measured,
    found: Correspondence,
    places: Sequence[Place],
    sweep_on: Callable[[Batch], Sweep],
) -> Measured:
    """Outputs behind operators that jump, judged by what is in front of those and behind them.

    Those that agree but for what rounding moves over a step come back as agreeing; those whose
    rounding floor is a step, beneath which anything would agree, and that differ otherwise, as
    differing. Outputs of which that cannot be told come back as they are.

    Parameters
    ----------
    measured
        What both models gave.
    places
        Those of the outputs.
    sweep_on
        Runs both with their inner values given out, on a batch.

    Raises
    ------
    HostGoneError
        The process in which models run has ended.
    """
    coarse = measured.coarser.grain.coarse
    doubtful = [each for each in measured.outputs if _is_doubtful(each, coarse=coarse)]
    if not doubtful:
        return measured
    jumps = find_jumps(found)
    before = {each.right: in_front(each.right, jumps, found.right) for each in doubtful}
    untold = [each for each in doubtful if jumps_alone(each, jumps, found)]
    alone = {each.right for each in untold}
    doubtful = [each for each in doubtful if before[each.right] and each.right not in alone]
    needed = {id(jump) for each in doubtful for jump in before[each.right]}
    wanted = [each for each in jumps if id(each) in needed]
    ends = {each.right: each for each in places}
    for at, batch in enumerate(measured.batches):
        apart = [each for each in doubtful if _apart(each, measured, at)]
        if not apart:
            continue
        agree = _agree(wanted, [ends[each.right] for each in apart], found, sweep_on(batch))
        if agree is None:
            untold, doubtful = [*untold, *doubtful], []
            break
        if not agree:
            return _with(measured, [_apart_by_more(each) for each in apart])
    counts = {each.right: moved(each, measured) for each in doubtful}
    return _with(
        measured,
        [
            *(_moved_over(each, counts[each.right], before[each.right]) for each in doubtful),
            *(_apart_by_more(each) for each in untold if not coarse and _too_many(each, measured)),
        ],
    )


def _too_many(output: PairedOutput, measured: Measured) -> bool:
    """Whether far more elements differ by about a step than rounding moves by one."""
    step = output.floor / 2
    lefts = [each[output.left] for each in measured.left_results]
    rights = [turned(each[output.right], output.permutation) for each in measured.right_results]
    apart = sum(int((distances(a, b) > step).sum()) for a, b in zip(lefts, rights, strict=True))
    moved = sum(
        int((each > step).sum())
        for deviations in (
            measured.left_deviations[output.left],
            measured.right_deviations[output.right],
        )
        for each in deviations
    )
    return apart > _FAR_MORE * (moved + 1)


def _is_doubtful(output: PairedOutput, *, coarse: bool) -> bool:
    """Whether an output differs, or its rounding floor may be that of a step."""
    far = output.difference
    if far.left_non_finite or far.right_non_finite:
        return False
    return not output.within or output.tolerance > (_LARGE_COARSE if coarse else _LARGE) * far.scale


def _with(measured: Measured, changed: Sequence[PairedOutput]) -> Measured:
    """The same with some outputs judged anew, whose floor is none of theirs."""
    by_name = {each.right: each for each in changed}
    moved = (dict(measured.left_deviations), dict(measured.right_deviations))
    for each in changed:
        for side, name in zip(moved, (each.left, each.right), strict=True):
            side[name] = [np.zeros_like(deviations) for deviations in side[name]]
    return replace(
        measured,
        outputs=tuple(by_name.get(each.right, each) for each in measured.outputs),
        left_deviations=moved[0],
        right_deviations=moved[1],
    )


def said_of(measured: Measured, found: Correspondence) -> Measured:
    """The same with how many elements of which outputs quantising moved over a step."""
    jumps = find_jumps(found)
    outputs = []
    for each in measured.outputs:
        before = in_front(each.right, jumps, found.right)
        by_steps = not each.within or each.tolerance > _LARGE_COARSE * each.difference.scale
        outputs.append(_said(each, moved(each, measured), before) if before and by_steps else each)
    return replace(measured, outputs=tuple(outputs))


def _said(output: PairedOutput, count: int, jumps: Sequence[Jump]) -> PairedOutput:
    named = ", ".join(dict.fromkeys(each.right.shown for each in jumps))
    return replace(output, moved_over=count, moved_by=named if count else "")


def _moved_over(output: PairedOutput, count: int, jumps: Sequence[Jump]) -> PairedOutput:
    said = _said(output, count, jumps)
    return replace(said, floor=0.0, tolerance=0.0, within=True, finite_within=True, beyond="")


def _apart_by_more(output: PairedOutput) -> PairedOutput:
    if not output.within:
        return output
    return replace(output, floor=0.0, tolerance=0.0, within=False, finite_within=False)


def moved(output: PairedOutput, measured: Measured) -> int:
    """Elements that differ; of coarse floats, those that do by more than a small part of a step."""
    least = 0.0
    if measured.coarser.grain.coarse:
        least = _LARGE_COARSE * min(1.0, output.difference.scale)
    return sum(_apart(output, measured, at, least) for at in range(len(measured.batches)))


def _apart(output: PairedOutput, measured: Measured, at: int, least: float = 0.0) -> int:
    """Elements of one batch that are further apart than that."""
    left = measured.left_results[at][output.left]
    right = turned(measured.right_results[at][output.right], output.permutation)
    return int((distances(left, right) > least).sum())


def _agree(
    jumps: Sequence[Jump], ends: Sequence[Place], found: Correspondence, sweep: Sweep
) -> bool | None:
    """Whether all is one but for what is moved over a step, on one batch; None where untold."""
    # Nothing jumps in front of the first: most models that differ have parted there.
    first = _all_within(jumps[0].reads, sweep)
    if not first:
        return first
    same = give_the_same(jumps, sweep)
    if not same:
        return same
    given = [each for jump in jumps for each in jump.gives]
    grafts = grafts_at(given, sweep)
    if grafts is None:
        return None
    put_in = {each.right for each in given}
    # What is read and what comes out, but for what was put in itself.
    rest = [
        each
        for each in (*(read for jump in jumps for read in jump.reads), *ends)
        if found.right.sources.get(each.right, each.right) not in put_in
    ]
    return _all_within(rest, sweep, grafts)


def _all_within(places: Sequence[Place], sweep: Sweep, grafts: Sequence[Graft] = ()) -> bool | None:
    """Whether places agree; None where one cannot be compared."""
    held = list(sweep.held(places, (), grafts))
    return all(each.within for each in held) if len(held) == len(places) else None
