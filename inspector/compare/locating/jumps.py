"""Operators that jump: what lies within rounding of a bound may fall on either side of it.

An ArgMax, a Greater, a Cast to integers give another value on each side of a bound. Elements that
rounding moves over it differ by a whole step, and no two models are alike in which do. What can be
held together is what these operators read, which agrees within rounding or does not; the operators
themselves, which give the same for the same values; and what lies behind them, once the left side's
values are put in there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inspector.compare.feeding.feeds import Batch
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.locating.localise import by_value
from inspector.compare.locating.places import Place, is_tensor
from inspector.compare.locating.sweep import Graft, Held, Sweep
from inspector.compare.measuring.difference import distances
from inspector.compare.measuring.judged import turned
from inspector.compare.measuring.measured import Measured
from inspector.compare.runtime.host import HostGoneError
from inspector.errors import UndecidedError
from inspector.facts.comparison import PairedOutput
from inspector.facts.patch import Patch

_JUMPING = frozenset(
    "ArgMax ArgMin TopK Hardmax Round Floor Ceil Sign Mod Cast Greater GreaterOrEqual Less "
    "LessOrEqual Equal ThresholdedRelu Shrink GridSample MaxPool".split()
)
"""Of the standard domain; a MaxPool where it gives the places of its maxima."""


_LARGE = 1e-3
"""Share of an output's spread from which on its rounding floor may be that of a step."""


_FAR_MORE = 32
"""Times the elements that rounding moves by a step, from which on it was not rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """One operator that jumps, of both sides: the places that it reads, and those that it gives."""

    left: Layer
    right: Layer
    reads: tuple[Place, ...]
    gives: tuple[Place, ...]

    @property
    def values(self) -> frozenset[str]:
        """What the right one gives."""
        return frozenset(each.right for each in self.gives)


def find_jumps(found: Correspondence) -> tuple[Jump, ...]:
    """Those that correspond and read floats, in the order of the right network."""
    number = {layer.node: at for at, layer in enumerate(found.right.layers)}
    pairs = sorted(found.alignment.pairs, key=lambda pair: number[pair[1].node])
    jumps = (_jump(a, b, found, number[b.node]) for a, b in pairs if _may_jump(a, b, found))
    return tuple(each for each in jumps if each is not None)


def _may_jump(a: Layer, b: Layer, found: Correspondence) -> bool:
    node = b.node_fact
    if not node.is_standard or node.op_type not in _JUMPING or a.node_fact.op_type != node.op_type:
        return False
    if node.op_type == "MaxPool" and len(node.outputs) == 1:
        return False
    return any(_is_float(name, found.right) for name in node.inputs)


def _is_float(value: str, network: Network) -> bool:
    known = network.model.graph.values.get(value)
    return known is not None and (known.dtype or "").startswith(("float", "double"))


def _jump(a: Layer, b: Layer, found: Correspondence, at: int) -> Jump | None:
    """None where what it reads or gives cannot be looked at."""
    lefts, rights = (
        [
            (position, name)
            for position, name in enumerate(each.node_fact.inputs)
            if name and position not in each.constants
        ]
        for each in (a, b)
    )
    given = list(zip(a.node_fact.outputs, b.node_fact.outputs, strict=False))
    if [position for position, _ in lefts] != [position for position, _ in rights]:
        return None
    names = [(left, right) for (_, left), (_, right) in zip(lefts, rights, strict=True)]
    shown = [(left, right) for left, right in given if left and right]
    if not all(_are_tensors(*each, found) for each in (*names, *shown)):
        return None

    def place(left: str, right: str, node: str = "", position: int = 0) -> Place:
        nodes = frozenset({f"l{a.node}", f"r{b.node}"})
        return Place(
            left=left,
            right=right,
            left_where=a.shown,
            right_where=b.shown,
            layer=at,
            nodes=nodes,
            node=node,
            position=position,
        )

    return Jump(
        left=a,
        right=b,
        reads=tuple(
            place(left, right, b.node, position)
            for (left, right), (position, _) in zip(names, rights, strict=True)
        ),
        gives=tuple(place(left, right) for left, right in shown),
    )


def _are_tensors(left: str, right: str, found: Correspondence) -> bool:
    return is_tensor(left, found.left) and is_tensor(right, found.right)


def give_the_same(
    jumps: Sequence[Jump], sweep: Sweep, patches: Sequence[Patch] = ()
) -> bool | None:
    """Whether the right side's operators give the left side's values for what those read.

    None where that cannot be run.

    Raises
    ------
    HostGoneError
        The process in which models run has ended.
    """
    grafts = grafts_at([each for jump in jumps for each in jump.reads], sweep)
    if grafts is None:
        return None
    given = [each for jump in jumps for each in jump.gives]
    held = list(sweep.held(given, patches, grafts))
    return all(each.max_abs == 0.0 for each in held) if len(held) == len(given) else None


def grafts_at(places: Sequence[Place], sweep: Sweep) -> list[Graft] | None:
    """The left side's values at places of the right side; None where they do not go there.

    Raises
    ------
    HostGoneError
        The process in which models run has ended.
    """
    held = list(sweep.held(places))
    return grafts_of(held, sweep) if len(held) == len(places) else None


def grafts_of(held: Sequence[Held], sweep: Sweep) -> list[Graft] | None:
    """The left side's values at places that were compared; None where they do not go there.

    Raises
    ------
    HostGoneError
        The process in which models run has ended.
    """
    try:
        values = sweep.left_values([each.place.left for each in held])
        return [
            Graft(place=each.place, values=each.form.to_right(values[each.place.left]))
            for each in held
        ]
    except HostGoneError:
        raise
    except (UndecidedError, ValueError):
        return None


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
    if measured.coarser.grain.coarse:
        return measured
    doubtful = [each for each in measured.outputs if _is_doubtful(each)]
    if not doubtful:
        return measured
    jumps = find_jumps(found)
    before = {each.right: _in_front(each.right, jumps, found.right) for each in doubtful}
    untold = [each for each in doubtful if not before[each.right] and _jumps_alone(each, found)]
    doubtful = [each for each in doubtful if before[each.right]]
    needed = {id(jump) for some in before.values() for jump in some}
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
    counts = {each.right: sum(_each_apart(each, measured)) for each in doubtful}
    return _with(
        measured,
        [
            *(_moved_over(each, counts[each.right], before[each.right]) for each in doubtful),
            *(_apart_by_more(each) for each in untold if _too_many(each, measured)),
        ],
    )


def _jumps_alone(output: PairedOutput, found: Correspondence) -> bool:
    """Whether an operator that jumps stands in front of an output on either side."""
    ends = (output.left, found.left), (output.right, found.right)
    return any(
        layer.node_fact.is_standard and layer.node_fact.op_type in _JUMPING
        for name, network in ends
        for _, layer in _in_layers(name, network)
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


def _is_doubtful(output: PairedOutput) -> bool:
    """Whether an output differs, or its rounding floor may be that of a step."""
    far = output.difference
    if far.left_non_finite or far.right_non_finite:
        return False
    return not output.within or output.tolerance > _LARGE * far.scale


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


def _moved_over(output: PairedOutput, count: int, jumps: Sequence[Jump]) -> PairedOutput:
    named = ", ".join(dict.fromkeys(each.right.shown for each in jumps))
    return replace(
        output,
        floor=0.0,
        tolerance=0.0,
        within=True,
        finite_within=True,
        beyond="",
        moved_over=count,
        moved_by=named if count else "",
    )


def _apart_by_more(output: PairedOutput) -> PairedOutput:
    if not output.within:
        return output
    return replace(output, floor=0.0, tolerance=0.0, within=False, finite_within=False)


def _each_apart(output: PairedOutput, measured: Measured) -> Iterator[int]:
    return (_apart(output, measured, at) for at in range(len(measured.batches)))


def _apart(output: PairedOutput, measured: Measured, at: int) -> int:
    """Elements of one batch that are not equal."""
    left = measured.left_results[at][output.left]
    right = turned(measured.right_results[at][output.right], output.permutation)
    return int((left != right).sum())


def _in_front(value: str, jumps: Iterable[Jump], network: Network) -> list[Jump]:
    """Those that an output is computed from."""
    own = {name: jump for jump in jumps for name in jump.values}
    found = {id(own[name]): own[name] for name, _ in _in_layers(value, network) if name in own}
    return list(found.values())


def _in_layers(value: str, network: Network) -> Iterator[tuple[str, Layer]]:
    """What an output is computed from: each value, and its layer."""
    layers = by_value(network)
    pending, seen = [network.sources.get(value, value)], set[str]()
    while pending:
        name = pending.pop()
        if name not in seen and name in layers:
            seen.add(name)
            yield name, layers[name]
            pending.extend(layers[name].inputs)


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


def stepping(measured: Measured, found: Correspondence) -> frozenset[str]:
    """Right-hand values that move by steps, if at all: their floor is no measure of rounding."""
    jumps = find_jumps(found)
    ends = (each.right for each in measured.outputs if _in_front(each.right, jumps, found.right))
    return frozenset((*(name for jump in jumps for name in jump.values), *ends))
