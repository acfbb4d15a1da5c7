"""A total from somebody's summary as a sum of what a model holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from inspector.count.reconcile import amounts
from inspector.facts.count import Role
from inspector.facts.model import Storage
from inspector.facts.reconciliation import Explanation, Term
from inspector.facts.summary import Part, Row, Summary

MOST_TERMS = 3
"""Causes that are combined: of many numbers any total is some sum."""

_MOST_OTHERS = 3

_TAKES_IN = frozenset({"Conv", "DepthwiseConv", "ConvTranspose", "Linear"})


def explain(summary: Summary, total: int) -> Explanation:
    """How a total comes about, from the fewest causes that add up to it.

    What is learned is counted by everyone; what else is, and what is left out, is tried: the total
    of each framework by itself first, then with one, two and three other causes.
    """
    learned = Term(
        what="learned: weights, biases, scale and B", elements=summary.count.torch.parameters
    )
    statistics = Term(
        what="running mean and var, and other buffers: Keras counts them, PyTorch does not",
        elements=summary.count.torch.buffers,
    )
    bases = [(learned,), (learned, statistics)] if statistics.elements else [(learned,)]
    causes = [each for each in _causes(summary) if each.elements]
    layers: dict[int, Term] = {}
    for each in _without(summary):
        layers.setdefault(each.elements, each)
    for size in range(MOST_TERMS + 1):
        found = list(_sums(bases, causes, layers, total, size))
        if found:
            return Explanation(
                path=summary.path,
                total=total,
                counted=amounts(summary.count),
                terms=found[0],
                unexplained=0,
                others=tuple(found[1 : 1 + _MOST_OTHERS]),
            )
    nearest = min(bases, key=lambda terms: abs(total - _sum(terms)))
    return Explanation(
        path=summary.path,
        total=total,
        counted=amounts(summary.count),
        terms=nearest,
        unexplained=total - _sum(nearest),
    )


def _sum(terms: Sequence[Term]) -> int:
    return sum(each.elements for each in terms)


def _sums(
    bases: Sequence[tuple[Term, ...]],
    causes: Sequence[Term],
    layers: Mapping[int, Term],
    total: int,
    size: int,
) -> Iterator[tuple[Term, ...]]:
    """Each base with so many causes that they make the total; one of them may be a layer gone."""
    for base in bases:
        missing = total - _sum(base)
        for some in combinations(causes, size):
            if _sum(some) == missing and _are_compatible(some):
                yield (*base, *some)
        for some in combinations(causes, size - 1) if size else ():
            layer = layers.get(missing - _sum(some))
            if layer is not None and _are_compatible(some):
                yield (*base, *some, layer)


def _are_compatible(terms: Sequence[Term]) -> bool:
    """Whether no two of them are ways to say one thing."""
    return len({each.what.partition(":")[0] for each in terms}) == len(terms)


def _causes(summary: Summary) -> Iterator[Term]:
    """What may be in a total beside what everyone counts, or missing from it."""
    count = summary.count
    yield Term(
        what="num_batches_tracked: PyTorch keeps one a BatchNorm, in the state_dict",
        elements=count.torch.num_batches_tracked,
    )
    integers = floats = 0
    for each in count.tensors:
        if each.role is Role.CONSTANT and each.tensor.storage is not Storage.ATTRIBUTE:
            floats += each.tensor.elements if each.tensor.is_float else 0
            integers += 0 if each.tensor.is_float else each.tensor.elements
    yield Term(what="integer constants: shapes, axes and indices, counted too", elements=integers)
    yield Term(what="float constants: scalars and what the exporter wrote", elements=floats)
    yield Term(what="of unknown role: counted too", elements=count.unknown)
    yield Term(what="merged: equal tensors that the file stores once", elements=-count.merged)
    frozen = count.torch.parameters - count.keras.trainable
    yield Term(what="frozen: weights that are not trained, left out", elements=-frozen)
    beyond = count.beyond.learned + count.beyond.statistics
    yield Term(what="not stored: what the file does not hold of the framework's", elements=-beyond)
    tied = [each for each in count.tensors if each.layers > 1 and each.role is Role.LEARNED]
    for each in tied[:8]:
        yield Term(
            what=f"{each.value or each.tensor.name!r}: shared, and counted for each of "
            f"{each.layers} layers",
            elements=(each.layers - 1) * each.tensor.elements,
        )
    trained = count.keras.trainable
    yield Term(
        what="optimizer: Adam's two states a trainable weight, and its two counts",
        elements=2 * trained + 2,
    )
    yield from _folding(summary)


def _folding(summary: Summary) -> Iterator[Term]:
    """What the totals lose where each BatchNorm is folded into the operator in front of it."""
    learned = statistics = 0
    before: Row | None = None
    for row in summary.rows:
        if row.kind == "BatchNormalization" and before is not None and before.kind in _TAKES_IN:
            channels = max((part.tensor.tensor.elements for part in row.parts), default=0)
            statistics -= row.statistics
            learned -= row.learned
            learned += 0 if _has_bias(before.parts) else channels
        if not row.container:
            before = row
    yield Term(what="folded: BatchNorms in the layers in front of them", elements=learned)
    yield Term(
        what="folded: BatchNorms in the layers in front, their statistics gone as well",
        elements=learned + statistics,
    )


def _has_bias(parts: Sequence[Part]) -> bool:
    return any(part.position == 2 or part.op_type in ("Add", "Sub") for part in parts)


def _without(summary: Summary) -> Iterator[Term]:
    """What is missing if one layer is, or all behind one."""
    rows = [row for row in summary.rows if row.learned or row.statistics]
    behind = 0
    for row in reversed(rows[1:]):
        own = row.learned + row.statistics
        name = row.name or (row.nodes[0] if row.nodes else row.keras)
        yield Term(what=f"without the layer: {name!r}", elements=-own)
        behind += own
        if behind != own:
            yield Term(what=f"without the layer: {name!r} and all behind it", elements=-behind)
