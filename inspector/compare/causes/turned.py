"""Axes that one side turns on the way from one layer to the next and the other does not.

A Transpose is no layer: most of them only undo an exporter's layout. Where no layout is told, two
paired layers have to read what they read in the same order of axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.elements import Way, are_shuffled
from inspector.compare.graphs.lie import Fixed, Lie, fixed, stretched, turned
from inspector.compare.graphs.moves import fixed_dims, way
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.graphs.view import commutes
from inspector.compare.pairing.layout import Axes
from inspector.compare.pairing.pair import Pair
from inspector.facts.comparison import CauseKind
from inspector.facts.graphs import captured

_RESHAPES = frozenset("Reshape Flatten Squeeze Unsqueeze".split())
_ORDERED = frozenset(
    "Conv ConvTranspose MatMul Gemm Einsum Tile Expand GatherND ScatterND GridSample RoiAlign LSTM "
    "GRU RNN".split()
)
"""What goes by the order of axes and has no attribute that could be counted in another layout."""

_MOST = 4
"""Views of one value that are tried in every order."""


class Turns:
    """How the axes of each value of a network lie to those of the layer that it comes from.

    `fed` gives the orders in which inputs get the other side's axes.
    """

    def __init__(self, network: Network, fed: Mapping[str, Axes]) -> None:
        self._network = network
        self._fed = fed
        self._lies: dict[str, Lie] = {}
        self._producer = {each: n for n in network.model.graph.nodes for each in n.outputs if each}
        for node in network.model.graph.nodes:
            if not node.is_standard or not node.outputs:
                continue
            above, out = node.input(0), node.outputs[0]
            if network.sources.get(out, out) == out:
                continue  # a layer's own
            before = self._lies.get(above, Lie())
            if node.op_type in _RESHAPES:
                self._lies[out] = self._reshaped(before, above, out)
            elif node.op_type == "Transpose":
                order = self._turned(before.order, above, node.ints_attribute("perm"))
                self._lies[out] = Lie(order=order, shapes=before.shapes)
            else:
                self._lies[out] = before

    def _reshaped(self, before: Lie, above: str, out: str) -> Lie:
        order = before.order
        if not before.shapes and order is not None:
            order = self._in_layout(self._network.sources.get(above, above), order)
        return Lie(shapes=(*before.shapes, (order, self._dims(out))))

    def _turned(self, before: Axes | None, above: str, perm: Axes | None) -> Axes | None:
        if before is None:
            return None
        if perm is None:  # all of them turned round
            known = self._dims(above)
            if known is None:
                return None
            perm = tuple(reversed(range(len(known))))
        found = tuple(before[at] for at in perm) if before else perm
        return () if found == tuple(sorted(found)) else found

    def _dims(self, value: str) -> Fixed | None:
        known = self._network.model.graph.values.get(value)
        return None if known is None or known.dims is None else fixed(known.dims)

    def read(self, layer: Layer) -> list[tuple[str, str, Lie]]:
        """Each value that a layer's node reads of others: where from, its name, and how it lies."""
        wanted, inner = set(layer.inputs), captured(layer.node_fact)
        found = []
        for at, name in enumerate((*layer.node_fact.inputs, *inner)):
            source = self._network.sources.get(name, name)
            if source in wanted:
                lie = self._lie(layer, source, name)
                is_inner = at >= len(layer.node_fact.inputs)
                found.append((source, name, replace(lie, exact=True) if is_inner else lie))
        return found

    def _lie(self, layer: Layer, source: str, name: str) -> Lie:
        own, known = self._lies.get(name, Lie()), self._network.model.graph.values
        read, result = (
            each.dims if (each := known.get(value)) is not None else None
            for value in (name, layer.node)
        )
        axes = self._network.layouts.axes.get(layer.node)
        is_plain = own.order is not None and not own.shapes
        return Lie(
            order=self._in_layout(source, own.order or ()) if is_plain else own.order,
            shapes=own.shapes,
            dims=self._dims(name),
            stretched=stretched(layer.node_fact, read, result, axes),
            told=axes is not None,
            rank=len(result or ()),
        )

    def _in_layout(self, source: str, order: Axes) -> Axes:
        """An order of the axes of `source` as its layout counts them where that is known."""
        axes = self._network.layouts.axes.get(source, self._fed.get(source))
        if axes is not None and order and len(axes) == len(order):
            order = tuple(axes[at] for at in order)
        elif axes is not None:
            order = axes
        return () if order == tuple(sorted(order)) else order

    def way(self, source: str, name: str) -> Way | None:
        """How elements of `source` are moved to `name`; None where it is flattened, or not known.

        What a dense layer reads of a flattened image has the order that its kernel tells.
        """
        graph, layouts = self._network.model.graph, self._network.layouts
        nodes, dims = way(self._producer, source, name), fixed_dims(graph, source)
        if nodes is None or dims is None or name in layouts.flat:
            return None
        axes = layouts.axes.get(source, self._fed.get(source, tuple(range(len(dims)))))
        return graph, nodes, dims, axes

    def is_handed_on(self, layer: Layer, lie: Lie) -> bool:
        """Whether what a layer gives has its axes as it reads them, as far as that is known."""
        axes = self._network.layouts.axes.get(layer.node)
        if axes is None or lie.order is None or lie.shapes:
            return True
        return (lie.order or tuple(range(len(axes)))) == axes


def turned_inputs(found: Correspondence, inputs: Sequence[Pair]) -> Iterator[Candidate]:
    """Paired layers that read the same values with their axes in another order."""
    lefts = Turns(found.left, {})
    rights = Turns(found.right, {each.right.name: each.permutations[0] for each in inputs})
    for a, b in found.alignment.pairs:
        left = [
            (found.right_of(source), name, lie)
            for source, name, lie in lefts.read(a)
            if found.past_left(source) == source
        ]
        right = [each for each in rights.read(b) if found.past_right(each[0]) == each[0]]
        for value in dict.fromkeys(source for source, _, _ in left):
            if _is_told_once(found, value):
                continue
            one = [each for each in left if each[0] == value]
            other = [each for each in right if each[0] == value]
            if len(one) != len(other):
                continue
            lies = [lie for _, _, lie in one], [lie for _, _, lie in other]
            handed_on = all(lefts.is_handed_on(a, lie) for lie in lies[0]) and all(
                rights.is_handed_on(b, lie) for lie in lies[1]
            )
            inner = any(lie.exact for lie in lies[0])
            undone = handed_on and not inner and a.node_fact.op_type not in _ORDERED
            if undone and _told(found, one, other):
                continue
            ways = [
                (lefts.way(found.left_of(value), name), rights.way(value, other[at][1]))
                for at, (_, name, _) in enumerate(one)
            ]
            in_places = len(one) == 1 or not commutes(a.node_fact)
            shuffled = in_places and any(x and y and are_shuffled(x, y) for x, y in ways)
            if _lie_alike(a, *lies) and not shuffled:
                continue
            yield Candidate(
                kind=CauseKind.STRUCTURE,
                what="order of axes",
                left_where=a.shown,
                right_where=b.shown,
                left_node=a.node,
                right_node=b.node,
                left=" and ".join(each.shown for each in lies[0]),
                right=" and ".join(each.shown for each in lies[1]),
                reason="what moves axes in front is not the same on both sides",
            )


def turned_outputs(found: Correspondence, outputs: Sequence[Pair]) -> Iterator[Candidate]:
    """Outputs whose axes, as the graphs tell them, are not those that are held together."""
    for each in outputs:
        left = found.left.layouts.axes.get(each.left.name)
        right = found.right.layouts.axes.get(each.right.name)
        order = each.permutations[0]
        if left is None or right is None or not len(left) == len(right) == len(order):
            continue
        known = found.right.model.graph.values.get(each.right.name)
        dims = None if known is None or known.dims is None else fixed(known.dims)
        if not turned(tuple(left[at] for at in order), dims, right, dims):
            continue
        yield Candidate(
            kind=CauseKind.STRUCTURE,
            what="order of axes",
            left_where=each.left.name,
            right_where=each.right.name,
            left=str(list(left)),
            right=str(list(right)),
            reason="a Transpose in front is undone on one side alone",
        )


def _lie_alike(layer: Layer, one: Sequence[Lie], other: Sequence[Lie]) -> bool:
    """Whether views of one value may be the same, each in its place where that matters."""
    free = commutes(layer.node_fact) and len(other) <= _MOST
    return any(
        not any(a.differs(b) for a, b in zip(one, each, strict=True))
        for each in (permutations(other) if free else (other,))
    )


def _is_told_once(found: Correspondence, value: str) -> bool:
    """Whether one side alone knows the layout of what is read: orders are no measure then."""
    left = found.left_of(value) in found.left.layouts.axes
    return left != (value in found.right.layouts.axes)


def _told(
    found: Correspondence,
    one: Sequence[tuple[str, str, Lie]],
    other: Sequence[tuple[str, str, Lie]],
) -> bool:
    """Whether the layouts of all that is read are known: then they are undone elsewhere."""
    axes = found.left.layouts.axes, found.right.layouts.axes
    return all(name in axes[0] for _, name, _ in one) and all(
        name in axes[1] for _, name, _ in other
    )
