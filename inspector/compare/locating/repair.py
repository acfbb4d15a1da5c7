"""Causes found one after the other: repair the first place that differs, and look on from there.

At the first place that differs, what was found in the graphs there is patched; where that brings
the place together it was the cause. Where it does not, or nothing can be patched, the left side's
values are put in at that place: what lies behind is compared as if the fault were mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from inspector.compare.causes.candidate import Candidate
from inspector.compare.causes.explain import cause_of
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.locating.grafts import give_the_same, grafts_of
from inspector.compare.locating.jumps import Jump, find_jumps
from inspector.compare.locating.localise import out_of_sight, suspected
from inspector.compare.locating.places import Place
from inspector.compare.locating.sweep import Graft, Held, Sweep
from inspector.facts.comparison import ONE_VALUE, Cause, CauseKind, Proof
from inspector.facts.patch import Patch

MOST_FAULTS = 24
"""Places that are mended one after the other: beyond that, the networks are not the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One place that differed, and what mended it: candidates' patches, or the left's values."""

    held: Held
    patched: tuple[Candidate, ...] = ()
    near: tuple[Candidate, ...] = ()


@dataclass(slots=True, kw_only=True)
class Repair:
    """What was mended; `whole` says whether the outputs agree with all of it."""

    faults: list[Fault] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    grafts: list[Graft] = field(default_factory=list)
    whole: bool = False
    reason: str = ""

    @property
    def is_patched(self) -> bool:
        """Whether patches alone mended all faults."""
        return all(each.patched for each in self.faults)


def repaired(
    sweep: Sweep,
    places: Sequence[Place],
    found: Correspondence,
    candidates: Sequence[Candidate],
    outputs: Iterable[str],
    *,
    suspicions: Sequence[Candidate] = (),
    held: Sequence[Held],
    progress: Callable[[str], None],
) -> Repair:
    """Mend the right side place by place until the outputs agree.

    Parameters
    ----------
    suspicions
        What may be harmless: it is patched where nothing else mends a place.
    held
        What a sweep without any repair found.

    Raises
    ------
    HostGoneError
        The process in which models run has ended.
    """
    made = Repair()
    wanted = tuple(outputs)
    number = {id(each): at for at, each in enumerate(places)}
    nodes = enumerate(found.right.model.graph.nodes)
    order = {f"r{name}": at for at, node in nodes for name in node.outputs if name}
    jumps = {name: each for each in find_jumps(found) for name in each.values}
    current = list(held)
    while len(made.faults) < MOST_FAULTS:
        suspects = suspected(current, found.right, wanted)
        if not suspects:
            made.whole = True
            return made
        first = suspects[0]
        progress(f"proving causes: {first.place.right_where}")
        if not _is_moved_over(made, first, sweep, jumps) and not _mend(
            made,
            first,
            sweep,
            candidates,
            _Doubt(suspicions, out_of_sight(first, current, found), order),
        ):
            made.reason = "the left side's values cannot be put into the right side"
            return made
        at = number[id(first.place)]
        # What lies in front of it does not change.
        kept = [each for each in current if number[id(each.place)] < at]
        again = sweep.held(places[at:], made.patches, made.grafts)
        current = [*kept, *(_as_grafted(each, made) for each in again)]
    made.reason = f"more than {MOST_FAULTS} places differ"
    return made


def _as_grafted(held: Held, made: Repair) -> Held:
    """A place as what reads it sees it: with the left side's values where they were put in.

    An output is no reader: that the right side gives out its own there is no fault of its own.
    """
    places = {each.place for each in made.grafts}
    values = {each.right for each in places if not each.is_read}
    put_in = held.place in places or (not held.place.is_read and held.place.right in values)
    return replace(held, within=True) if put_in else held


def _is_moved_over(made: Repair, fault: Held, sweep: Sweep, jumps: Mapping[str, Jump]) -> bool:
    """Whether rounding moved elements over a step here, and no fault did; then it is mended."""
    jump = None if fault.place.is_read else jumps.get(fault.place.right)
    if (
        jump is None
        or any(not each.within for each in sweep.held(jump.reads, made.patches, made.grafts))
        or not give_the_same([jump], sweep, made.patches)
    ):
        return False
    grafts = grafts_of([fault], sweep)
    made.grafts += grafts or []
    return grafts is not None


@dataclass(frozen=True, slots=True)
class _Doubt:
    """What may be a cause though nothing says so: suspicions, and layers that are out of sight.

    `places` says where among the right nodes each is, by what it computes.
    """

    suspicions: Sequence[Candidate]
    nodes: frozenset[str]
    places: Mapping[str, int]

    def place(self, candidate: Candidate) -> int:
        """Where among the right nodes a difference begins."""
        nodes = (f"r{candidate.begins[1]}",) if candidate.begins else candidate.nodes
        return min((self.places.get(each, len(self.places)) for each in nodes), default=0)


def _mend(
    made: Repair,
    fault: Held,
    sweep: Sweep,
    candidates: Sequence[Candidate],
    doubt: _Doubt,
) -> bool:
    """Mend one place, by patches if they do; whether it could be done."""
    near = [each for each in candidates if _is_near(each, fault.place)]
    done = {id(each) for one in made.faults for each in one.patched}
    further = [
        each
        for each in (*candidates, *doubt.suspicions)
        if id(each) not in done
        and each not in near
        and not each.nodes.isdisjoint(fault.place.nodes | doubt.nodes)
    ]
    for group in _groups(
        [each for each in near if each.patches], [each for each in further if each.patches]
    ):
        patches = [*made.patches, *(patch for each in group for patch in each.patches)]
        again = list(sweep.held([fault.place], patches, made.grafts))
        if again and again[0].within:
            least = _least(group, further, fault, made, sweep)
            least += _alike(least, candidates, made)
            made.patches += [patch for each in least for patch in each.patches]
            patched = tuple(sorted(least, key=doubt.place))
            made.faults.append(Fault(held=fault, patched=patched, near=tuple(near)))
            return True
    made.faults.append(Fault(held=fault, near=tuple(near)))
    return _graft(made, fault, sweep)


def _least(
    group: list[Candidate],
    further: Sequence[Candidate],
    fault: Held,
    made: Repair,
    sweep: Sweep,
) -> list[Candidate]:
    """What mends a place without those of no effect that were only suspected."""
    for each in further:
        rest = [one for one in group if one is not each]
        if len(rest) in (0, len(group)):
            continue
        patches = [*made.patches, *(patch for one in rest for patch in one.patches)]
        again = list(sweep.held([fault.place], patches, made.grafts))
        if again and again[0].within:
            group = rest
    return group


def _alike(
    group: Sequence[Candidate], candidates: Sequence[Candidate], made: Repair
) -> list[Candidate]:
    """What says the same of other layers: an epsilon that differs differs everywhere."""
    if len(group) != 1:
        return []
    done = {id(each) for fault in made.faults for each in fault.patched}
    wanted = _saying(group[0])
    return [
        each
        for each in candidates
        if each.patches
        and each is not group[0]
        and id(each) not in done
        and _saying(each) == wanted
    ]


def _saying(candidate: Candidate) -> tuple[str, ...]:
    return candidate.kind.value, candidate.what, candidate.left, candidate.right


def _groups(
    near: Sequence[Candidate], further: Sequence[Candidate] = ()
) -> Iterator[list[Candidate]]:
    """Each alone, then all; then each of what is further away, with what is near, and all."""
    yield from ([each] for each in near)
    if len(near) > 1:
        yield list(near)
    yield from ([each] for each in further)
    if near:
        yield from ([*near, each] for each in further)
    if len(further) > 1:
        yield [*near, *further]


def _graft(made: Repair, fault: Held, sweep: Sweep) -> bool:
    grafts = grafts_of([fault], sweep)
    made.grafts += grafts or []
    return grafts is not None


def _is_near(candidate: Candidate, place: Place) -> bool:
    """Whether a difference can show at a place first."""
    return bool(candidate.nodes & place.nodes)


def causes_of(repair: Repair) -> Iterator[Cause]:
    """The faults that were mended, as causes; one that shows at several places is one."""
    told: set[tuple[int, ...]] = set()
    for fault in repair.faults:
        near = tuple(id(each) for each in fault.near)
        if near and not fault.patched and near in told:
            continue
        told.add(near)
        if fault.patched:
            for each in fault.patched:
                yield cause_of(each, Proof.NECESSARY, None, "")
        elif len(fault.near) == 1:
            yield cause_of(fault.near[0], Proof.LOCATED, fault.held.max_abs, "")
        else:
            yield _located(fault)


def _located(fault: Fault) -> Cause:
    place = fault.held.place
    named = dict.fromkeys(f"{each.what} ({each.kind.value})" for each in fault.near)
    words = ", ".join(named)
    kind = fault.near[0].kind if fault.near else CauseKind.STRUCTURE
    return Cause(
        kind=kind,
        what=words or "values",
        left_where=place.left_where,
        right_where=place.right_where,
        left=ONE_VALUE,
        right=f"up to {fault.held.max_abs:.3g} away",
        proof=Proof.LOCATED,
        effect=fault.held.max_abs,
        reason="fed the same values, the two sides differ here",
    )
