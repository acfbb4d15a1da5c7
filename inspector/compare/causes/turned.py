"""Axes that one side turns on the way from one layer to the next and the other does not.

A Transpose is no layer: most of them only undo an exporter's layout. Where no layout is told, two
paired layers have to read what they read in the same order of axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.pairing.layout import Axes
from inspector.compare.pairing.pair import Pair
from inspector.facts.comparison import CauseKind

_SAME = frozenset({"Identity", "Dropout"})
_RESHAPES = frozenset("Reshape Flatten Squeeze Unsqueeze".split())


class Turns:
    """How the axes of each value of a network lie to those of the layer that it comes from.

    `fed` gives the orders in which inputs get the other side's axes.
    """

    def __init__(self, network: Network, fed: Mapping[str, Axes]) -> None:
        self._network = network
        self._fed = fed
        self._orders: dict[str, Axes | None] = {}
        for node in network.model.graph.nodes:
            if not node.is_standard or not node.outputs:
                continue
            above, out = node.input(0), node.outputs[0]
            if node.op_type in _SAME and above in self._orders:
                self._orders[out] = self._orders[above]
            elif node.op_type in _RESHAPES:
                self._orders[out] = None
            elif node.op_type == "Transpose":
                self._orders[out] = self._turned(above, node.ints_attribute("perm"))

    def _turned(self, above: str, perm: Axes | None) -> Axes | None:
        before = self._orders.get(above, ())
        if before is None:
            return None
        if perm is None:  # all of them turned round
            known = self._network.model.graph.values.get(above)
            if known is None or known.dims is None:
                return None
            perm = tuple(reversed(range(len(known.dims))))
        return tuple(before[at] for at in perm) if before else perm

    def read(self, layer: Layer) -> list[tuple[str, str, Axes | None]]:
        """Each value that a layer's node reads of others: where from, its name, and its order.

        The order is () for the plain one of any rank, and None where it is not known.
        """
        wanted = set(layer.inputs)
        found = []
        for name in layer.node_fact.inputs:
            source = self._network.sources.get(name, name)
            if source in wanted:
                found.append((source, name, self._in_layout(source, name)))
        return found

    def _in_layout(self, source: str, name: str) -> Axes | None:
        """The order of axes at `name`, as the layout of `source` counts them where it is known."""
        order = self._orders.get(name, ())
        axes = self._network.layouts.axes.get(source, self._fed.get(source))
        if order is None:
            return None
        if axes is not None and order and len(axes) == len(order):
            order = tuple(axes[at] for at in order)
        elif axes is not None:
            order = axes
        return () if order == tuple(sorted(order)) else order


def turned_inputs(found: Correspondence, inputs: Sequence[Pair]) -> Iterator[Candidate]:
    """Paired layers that read the same values with their axes in another order."""
    lefts = Turns(found.left, {})
    rights = Turns(found.right, {each.right.name: each.permutations[0] for each in inputs})
    for a, b in found.alignment.pairs:
        left = [
            (found.right_of(source), name, order)
            for source, name, order in lefts.read(a)
            if found.past_left(source) == source
        ]
        right = [each for each in rights.read(b) if found.past_right(each[0]) == each[0]]
        for value in dict.fromkeys(source for source, _, _ in left):
            if _is_told_once(found, value):
                continue
            one = [each for each in left if each[0] == value]
            other = [each for each in right if each[0] == value]
            if len(one) != len(other) or _told(found, one, other):
                continue
            orders = [[order for _, _, order in each] for each in (one, other)]
            if None in (*orders[0], *orders[1]) or sorted(map(str, orders[0])) == sorted(
                map(str, orders[1])
            ):
                continue
            yield Candidate(
                kind=CauseKind.STRUCTURE,
                what="order of axes",
                left_where=a.shown,
                right_where=b.shown,
                left_node=a.node,
                right_node=b.node,
                left=_in_words(orders[0]),
                right=_in_words(orders[1]),
                reason="a Transpose in front stands on one side alone",
            )


def _is_told_once(found: Correspondence, value: str) -> bool:
    """Whether one side alone knows the layout of what is read: orders are no measure then."""
    left = found.left_of(value) in found.left.layouts.axes
    return left != (value in found.right.layouts.axes)


def _told(
    found: Correspondence,
    one: list[tuple[str, str, Axes | None]],
    other: list[tuple[str, str, Axes | None]],
) -> bool:
    """Whether the layouts of all that is read are known: then they are undone elsewhere."""
    axes = found.left.layouts.axes, found.right.layouts.axes
    return all(name in axes[0] for _, name, _ in one) and all(
        name in axes[1] for _, name, _ in other
    )


def _in_words(orders: list[Axes | None]) -> str:
    return " and ".join(str(list(each)) if each else "plain" for each in orders)
