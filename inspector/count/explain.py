"""A total from somebody's summary as a sum of what a model holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from inspector.count.reconcile import amounts
from inspector.facts.count import Role
from inspector.facts.model import Storage
from inspector.facts.reconciliation import Explanation, Term
from inspector.facts.summary import Part, Summary

MOST_TERMS = 3
"""Causes that are combined: of many numbers any total is some sum."""

_MOST_OTHERS = 3


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
    bases = [_Base((learned,), summary, with_statistics=False)]
    if statistics.elements:
        bases.append(_Base((learned, statistics), summary, with_statistics=True))
    elif summary.folded or summary.affine:
        bases.append(_Base((learned,), summary, with_statistics=True))
    for size in range(MOST_TERMS + 1):
        found = list(dict.fromkeys(terms for base in bases for terms in base.sums(total, size)))
        if found:
            return Explanation(
                path=summary.path,
                total=total,
                counted=amounts(summary.count),
                terms=found[0],
                unexplained=0,
                others=tuple(found[1 : 1 + _MOST_OTHERS]),
            )
    nearest = min((base.terms for base in bases), key=lambda terms: abs(total - _sum(terms)))
    return Explanation(
        path=summary.path,
        total=total,
        counted=amounts(summary.count),
        terms=nearest,
        unexplained=total - _sum(nearest),
    )


def _sum(terms: Sequence[Term]) -> int:
    return sum(each.elements for each in terms)


class _Base:
    """A framework's own total, and what may come to it or be missing from it."""

    def __init__(self, terms: tuple[Term, ...], summary: Summary, *, with_statistics: bool) -> None:
        self.terms = terms
        causes = (
            *_causes(summary),
            _folding(summary, with_statistics=with_statistics),
            *_folded(summary, with_statistics=with_statistics),
        )
        self._causes = [each for each in causes if each.elements]
        self._layers: dict[int, Term] = {}
        for each in _without(summary, with_statistics=with_statistics):
            self._layers.setdefault(each.elements, each)

    def sums(self, total: int, size: int) -> Iterator[tuple[Term, ...]]:
        """The base with so many causes that they make the total; one may be a layer gone."""
        missing = total - _sum(self.terms)
        for some in combinations(self._causes, size):
            if _sum(some) == missing and _are_compatible(some):
                yield (*self.terms, *some)
        for some in combinations(self._causes, size - 1) if size else ():
            layer = self._layers.get(missing - _sum(some))
            # A layer that is gone is folded into none and shares nothing.
            alone = not any(each.what.startswith(("folded", "'")) for each in some)
            if layer is not None and alone and _are_compatible(some):
                yield (*self.terms, *some, layer)


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
    integers = floats = attributes = 0
    for each in count.tensors:
        if each.role is Role.CONSTANT and each.tensor.storage is Storage.ATTRIBUTE:
            attributes += each.tensor.elements
        elif each.role is Role.CONSTANT:
            floats += each.tensor.elements if each.tensor.is_float else 0
            integers += 0 if each.tensor.is_float else each.tensor.elements
    yield Term(what="integer constants: shapes, axes and indices, counted too", elements=integers)
    yield Term(what="float constants: scalars and what the exporter wrote", elements=floats)
    yield Term(what="constants in nodes: attributes, counted too", elements=attributes)
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
            elements=(each.layers - 1) * each.elements,
        )
    trained = count.keras.trainable
    yield Term(
        what="optimizer: Adam's two states a trainable weight, and its two counts",
        elements=2 * trained + 2,
    )


def _folding(summary: Summary, *, with_statistics: bool) -> Term:
    """What a total loses where each BatchNorm that can be is folded into another operator."""
    by_node = {node: row for row in summary.rows for node in row.nodes}
    change = 0
    for norm, target in summary.foldable.items():
        row, into = by_node.get(norm), by_node.get(target)
        if row is None or into is None:
            continue
        channels = max((part.tensor.tensor.elements for part in row.parts), default=0)
        change -= row.learned + (row.statistics if with_statistics else 0)
        change += 0 if _has_bias(into.parts) else channels
    return Term(what="folded: BatchNorms in the operators in front of them", elements=change)


def _folded(summary: Summary, *, with_statistics: bool) -> Iterator[Term]:
    """What a total has more than the file, where the file has BatchNorms folded."""
    channels = sum(summary.folded)
    parts = 4 if with_statistics else 2
    own = channels * parts
    names = "scale, B, mean and var" if with_statistics else "scale and B"
    yield Term(
        what=f"merged into slope and intercept: {names} of {_norms(summary.affine)}",
        elements=sum(summary.affine) * parts,
    )
    what = f"folded: {names} of {_norms(summary.folded)} that operators have swallowed"
    yield Term(what=what, elements=own)
    yield Term(what=f"{what}, less the biases this made", elements=own - channels)


def _norms(some: Sequence[int]) -> str:
    return f"{len(some)} BatchNorm{'' if len(some) == 1 else 's'}"


def _has_bias(parts: Sequence[Part]) -> bool:
    return any(part.position == 2 or part.op_type in ("Add", "Sub") for part in parts)


def _without(summary: Summary, *, with_statistics: bool) -> Iterator[Term]:
    """What is missing if one layer is, or all behind one."""
    rows = [row for row in summary.rows if row.kind and (row.learned or row.statistics)]
    behind = 0
    for row in reversed(rows[1:]):
        own = row.learned + (row.statistics if with_statistics else 0)
        name = row.name or (row.nodes[0] if row.nodes else row.keras)
        yield Term(what=f"without the layer: {name!r}", elements=-own)
        behind += own
        if behind != own:
            yield Term(what=f"without the layer: {name!r} and all behind it", elements=-behind)
