"""Every difference between two aligned networks, with the patch that would take it away.

Patches turn the right side into the left: `inspector.compare.causes.explain` applies them to
a copy and runs it, which is what makes a difference a cause.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inspector.compare.causes.candidate import Candidate
from inspector.compare.causes.crossed import Unlike, crossed_weights
from inspector.compare.causes.defaults import Defaults
from inspector.compare.causes.gaps import (
    clip_difference,
    missing_on_left,
    missing_on_right,
    replaced,
)
from inspector.compare.causes.grouped import (
    GRID,
    Rounding,
    as_one_rounding,
    as_one_swap,
    rounded_to,
    swapped_roles,
    turned_operands,
)
from inspector.compare.causes.many import as_few
from inspector.compare.causes.norms import is_batchnorm, momentum_note, norm_differences
from inspector.compare.causes.paired import (
    attribute_differences,
    parameter_difference,
    wiring_difference,
)
from inspector.compare.causes.recurrent import is_recurrent, moved_gates
from inspector.compare.causes.throughout import rounded_throughout
from inspector.compare.causes.turned import turned_inputs, turned_outputs
from inspector.compare.causes.types import input_types
from inspector.compare.causes.units import judged_by_run
from inspector.compare.graphs import clipping
from inspector.compare.graphs.align import Alignment
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.grids import Steps, on_grids
from inspector.compare.graphs.parameters import Relation, StoredPair, compare_stored
from inspector.compare.graphs.picks import picks_alike
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.pairing.pair import Pair, shown_dims
from inspector.facts.comparison import CauseKind, PairedNorm, ParameterMatch
from inspector.facts.patch import Expose, InsertAfter


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """All that differs between two networks, and all that was found equal."""

    candidates: tuple[Candidate, ...]
    information: tuple[str, ...]
    norms: tuple[PairedNorm, ...]
    parameters: ParameterMatch


def find_differences(
    found: Correspondence,
    *,
    inputs: Sequence[Pair],
    outputs: Sequence[Pair],
    steps: tuple[Steps, Steps] = ({}, {}),
) -> Differences:
    """Compare two aligned networks layer by layer.

    Parameters
    ----------
    steps
        Of the grids that weights of each side were rounded to.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    left, right, alignment = found.left, found.right, found.alignment
    candidates: list[Candidate] = []
    roundings: dict[Rounding, list[Candidate]] = defaultdict(list)
    notes: list[str] = []
    norms: list[PairedNorm] = []
    related: list[tuple[str, str, Relation]] = []
    defaults = Defaults(found)
    crossed: list[Candidate] = []
    rounded: set[str] = set()
    alike: list[str] = []
    unlike: list[Unlike] = []
    for a, b in alignment.pairs:
        stored = compare_stored(a, b, left.model.weights, right.model.weights)
        on_grid = [on_grids(each, steps) for each in stored]
        pairs = [each for each, _ in on_grid]
        crossed += defaults.crossed(a, b, stored)
        related += [(a.node, b.node, pair.relation) for pair in pairs]
        if is_batchnorm(a):
            candidates += norm_differences(a, b, found)
            norms.append(_paired_norm(a, b, pairs))
            notes += filter(None, [momentum_note(a, b, found)])
        for each, on_right in on_grid:
            if on_right is not None:
                rounding = Rounding(GRID, on_right)
                roundings[rounding].append(parameter_difference(a, b, each, found))
        others = [each for each, on_right in on_grid if on_right is None]
        if rounded_throughout(a, others):
            rounded |= {f"l{a.node}", f"r{b.node}"}
            alike.append(a.shown)
            others = []
        for how, one, pair in _stored_differences(a, b, others, found):
            (candidates if how is None else roundings[how]).append(one)
            if how is None and pair is not None:
                unlike.append(Unlike(left=a, right=b, pair=pair, candidate=one))
        if a.op == clipping.OPERATOR and not a.domain:
            candidates += filter(None, [clip_difference(a, b, found)])
        else:
            candidates += attribute_differences(a, b, found)
        candidates += filter(None, [wiring_difference(a, b, found)])
    notes += _rounding_note(alike)
    candidates = crossed_weights(candidates, unlike)
    candidates += _gaps(found)
    candidates += (as_one_rounding(each, how) for how, each in roundings.items())
    judged = judged_by_run(candidates, found, steps)
    candidates = [*as_few(judged.candidates), *_output_differences(found, outputs)]
    candidates += turned_inputs(found, inputs)
    candidates += turned_outputs(found, outputs)
    candidates += input_types(found, inputs)
    candidates += crossed
    candidates += _layout_differences(inputs, outputs)
    return Differences(
        candidates=_from_input_to_output(candidates, right),
        information=tuple(dict.fromkeys([*notes, *judged.notes, *defaults.notes()])),
        norms=tuple(norms),
        parameters=_match(related, alignment, judged.accounted | rounded),
    )


def _rounding_note(alike: Sequence[str]) -> list[str]:
    if not alike:
        return []
    whose = alike[0] if len(alike) == 1 else f"{len(alike)} layers, {alike[0]} to {alike[-1]}"
    return [f"{whose}: the same weights, each side's with its own rounding"]


def _stored_differences(
    a: Layer, b: Layer, pairs: Sequence[StoredPair], found: Correspondence
) -> Iterator[tuple[Rounding | None, Candidate, StoredPair | None]]:
    """What two layers store that is not equal in bits, how it was rounded, and of which tensor."""
    rest = [each for each in pairs if each.relation is not Relation.BITWISE]
    if (turned := turned_operands(a, b, rest, found)) is not None:
        yield None, turned, None
        return
    if is_recurrent(a):
        gone, moved = moved_gates(a, b, rest, found)
        if moved is not None:
            yield None, moved, None
        rest = [each for each in rest if each not in gone]
    swap = swapped_roles(rest, found)
    if swap is not None:
        both = [parameter_difference(a, b, each, found) for each in rest if each.role in swap]
        yield None, as_one_swap(a, b, swap, both), None
        rest = [each for each in rest if each.role not in swap]
    for each in rest:
        rounding = None
        if each.relation in (Relation.DIFFERENT, Relation.ROUNDED) and each.values is not None:
            rounding = rounded_to(*each.values)
        yield rounding, parameter_difference(a, b, each, found), each


def _gaps(found: Correspondence) -> Iterator[Candidate]:
    """Layers of one side alone; one in the place of another is one difference."""
    pairs = found.replacements()
    swapped = {id(each) for pair in pairs for each in pair}
    for a, b in pairs:
        if not picks_alike(a, b, found.left, found.right):
            yield replaced(a, b, found)
    for layer in found.alignment.left_only:
        if id(layer) not in swapped:
            yield missing_on_right(layer, found)
    for layer in found.alignment.right_only:
        if id(layer) not in swapped:
            yield missing_on_left(layer, found)


def _layout_differences(inputs: Sequence[Pair], outputs: Sequence[Pair]) -> Iterator[Candidate]:
    """Outputs in another layout where the inputs are in one: the axes moved in between."""
    if any(_moves(each) for each in inputs):
        return
    for each in outputs:
        if each.told and _moves(each):
            yield Candidate(
                kind=CauseKind.STRUCTURE,
                what="layout",
                left_where=each.left.name,
                right_where=each.right.name,
                left=shown_dims(each.left),
                right=shown_dims(each.right),
                reason="the inputs have one layout on both sides and this output has not",
            )


def _moves(pair: Pair) -> bool:
    return pair.permutations[0] != tuple(sorted(pair.permutations[0]))


def _output_differences(found: Correspondence, outputs: Sequence[Pair]) -> Iterator[Candidate]:
    """Outputs that come from layers which do not correspond."""
    for left, right in ((each.left.name, each.right.name) for each in outputs):
        a = found.past_left(found.left.sources.get(left, left))
        b = found.past_right(found.right.sources.get(right, right))
        if found.right_of(a) != b:
            yield Candidate(
                kind=CauseKind.STRUCTURE,
                what="output",
                left_where=left,
                right_where=right,
                left="one layer",
                right="one that does not correspond",
                reason="the two graphs end differently",
            )


def _paired_norm(a: Layer, b: Layer, pairs: Sequence[StoredPair]) -> PairedNorm:
    equal = {each.role for each in pairs if each.relation is Relation.BITWISE}
    return PairedNorm(
        left=a.label,
        right=b.label,
        channels=next((each.tensor.elements for each in a.stored), None),
        bitwise=tuple(role for role in ("scale", "B", "mean", "var") if role in equal),
    )


def _match(
    related: Sequence[tuple[str, str, Relation]],
    alignment: Alignment,
    accounted: frozenset[str],
) -> ParameterMatch:
    tally: Counter[Relation] = Counter()
    folded = 0
    for a, b, relation in related:
        known = relation is not Relation.BITWISE and {f"l{a}", f"r{b}"} <= accounted
        folded += known
        tally[relation] += not known
    only = [0, 0]
    for at, (side, layers) in enumerate((("l", alignment.left_only), ("r", alignment.right_only))):
        for layer in layers:
            if f"{side}{layer.node}" in accounted:
                folded += len(layer.stored)
            else:
                only[at] += len(layer.stored)
    return ParameterMatch(
        bitwise=tally[Relation.BITWISE],
        rounded=tally[Relation.ROUNDED],
        differing=sum(
            tally[each] for each in (Relation.REORDERED, Relation.DIFFERENT, Relation.SHAPES)
        ),
        left_only=only[0] + tally[Relation.LEFT_ONLY],
        right_only=only[1] + tally[Relation.RIGHT_ONLY],
        folded=folded,
    )


def _from_input_to_output(candidates: Sequence[Candidate], right: Network) -> tuple[Candidate, ...]:
    """Candidates in the order of the right network, where they touch it."""
    nodes = {layer.node: at for at, layer in enumerate(right.layers)}
    values = {layer.value: at for at, layer in enumerate(right.layers)}

    def place(each: Candidate) -> float:
        for patch in each.patches:
            if isinstance(patch, InsertAfter):
                return values.get(patch.value, -1) + 0.5
            if not isinstance(patch, Expose) and patch.node in nodes:
                return nodes[patch.node]
        return len(nodes)

    return tuple(sorted(candidates, key=place))
