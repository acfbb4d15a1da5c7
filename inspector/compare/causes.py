"""Every difference between two aligned networks, with the patch that would take it away.

Patches turn the right side into the left: `inspector.compare.explain` applies them to a copy
and runs it, which is what makes a difference a cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from inspector.compare.align import Alignment
from inspector.compare.candidate import Candidate
from inspector.compare.correspondence import Correspondence
from inspector.compare.gaps import missing_on_left, missing_on_right
from inspector.compare.pair import Pair, shown_dims
from inspector.compare.paired import (
    attribute_differences,
    is_batchnorm,
    momentum_note,
    norm_differences,
    parameter_difference,
    wiring_difference,
)
from inspector.compare.parameters import Relation, StoredPair, compare_stored
from inspector.compare.structure import Layer, Network
from inspector.facts.comparison import CauseKind, PairedNorm, ParameterMatch
from inspector.facts.patch import InsertAfter


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """All that differs between two networks, and all that was found equal."""

    candidates: tuple[Candidate, ...]
    information: tuple[str, ...]
    norms: tuple[PairedNorm, ...]
    parameters: ParameterMatch


def find_differences(
    left: Network,
    right: Network,
    alignment: Alignment,
    *,
    inputs: Sequence[Pair],
    outputs: Sequence[Pair],
) -> Differences:
    """Compare two aligned networks layer by layer.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    found = Correspondence(
        left, right, alignment, {each.left.name: each.right.name for each in inputs}
    )
    candidates: list[Candidate] = []
    notes: list[str] = []
    norms: list[PairedNorm] = []
    tally: Counter[Relation] = Counter()
    for a, b in alignment.pairs:
        pairs = compare_stored(a, b, left.model.weights, right.model.weights)
        tally.update(pair.relation for pair in pairs)
        if is_batchnorm(a):
            candidates += norm_differences(a, b, found)
            norms.append(_paired_norm(a, b, pairs))
            notes += filter(None, [momentum_note(a, b)])
        candidates += [
            parameter_difference(a, b, pair, found)
            for pair in pairs
            if pair.relation is not Relation.BITWISE
        ]
        candidates += attribute_differences(a, b)
        candidates += filter(None, [wiring_difference(a, b, found)])
    candidates += [missing_on_right(each, found) for each in alignment.left_only]
    candidates += [missing_on_left(each, found) for each in alignment.right_only]
    candidates += _output_differences(found, outputs)
    candidates += _layout_differences(inputs, outputs)
    return Differences(
        candidates=_from_input_to_output(candidates, right),
        information=tuple(dict.fromkeys(notes)),
        norms=tuple(norms),
        parameters=_match(tally, alignment),
    )


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


def _match(tally: Mapping[Relation, int], alignment: Alignment) -> ParameterMatch:
    def unpaired(layers: Sequence[Layer], relation: Relation) -> int:
        stored = [each for layer in layers for each in layer.stored]
        return len(stored) + tally[relation]

    return ParameterMatch(
        bitwise=tally[Relation.BITWISE],
        rounded=tally[Relation.ROUNDED],
        differing=sum(
            tally[each] for each in (Relation.REORDERED, Relation.DIFFERENT, Relation.SHAPES)
        ),
        left_only=unpaired(alignment.left_only, Relation.LEFT_ONLY),
        right_only=unpaired(alignment.right_only, Relation.RIGHT_ONLY),
    )


def _from_input_to_output(candidates: Sequence[Candidate], right: Network) -> tuple[Candidate, ...]:
    """Candidates in the order of the right network, where they touch it."""
    nodes = {layer.node: at for at, layer in enumerate(right.layers)}
    values = {layer.value: at for at, layer in enumerate(right.layers)}

    def place(each: Candidate) -> float:
        for patch in each.patches:
            if isinstance(patch, InsertAfter):
                return values.get(patch.value, -1) + 0.5
            if patch.node in nodes:
                return nodes[patch.node]
        return len(nodes)

    return tuple(sorted(candidates, key=place))
