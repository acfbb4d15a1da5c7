"""Nodes put together again into the layers that they were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from inspector.count.kinds import ACTIVATIONS, kind_of
from inspector.count.owners import Owner, Owners
from inspector.count.roles import INTEGER_PRODUCTS
from inspector.facts.batchnorm import BatchNorm
from inspector.facts.model import Graph, Node

MOVES = frozenset(
    "Transpose Reshape Flatten Squeeze Unsqueeze Identity Cast Expand QuantizeLinear "
    "DequantizeLinear".split()
)
"""Operators that give the same numbers, elsewhere or in another type."""

LINEAR = frozenset({"Conv", "ConvTranspose", "Linear", "MatMul"})
"""Kinds whose bias may stand behind them as an Add of its own."""


@dataclass(slots=True, kw_only=True)
class Layer:
    """Nodes that are one layer, in the file's order, and whose they are."""

    nodes: list[Node]
    owner: Owner | None = None
    position: int = 0


class Together:
    """Which nodes are one layer: sets that grow together (union–find)."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._parents = {id(node): id(node) for node in nodes}

    def __contains__(self, node: Node) -> bool:
        return id(node) in self._parents

    def join(self, one: Node, other: Node) -> None:
        """Make two nodes one layer."""
        self._parents[self.first(other)] = self.first(one)

    def first(self, node: Node) -> int:
        """What stands for all nodes of one layer."""
        at = id(node)
        while self._parents[at] != at:
            self._parents[at] = self._parents[self._parents[at]]
            at = self._parents[at]
        return at


def layers_of(
    graph: Graph, path: Sequence[Node], owners: Owners, norms: Iterable[BatchNorm], biases: set[str]
) -> list[Layer]:
    """The layers of a graph, in the order of their first nodes.

    Parameters
    ----------
    path
        The nodes that data flows through.
    norms
        BatchNorms; those that arithmetic makes are one layer.
    biases
        Values that hold what is learned and may be added as a bias.
    """
    together = Together(path)
    owned = _with_moves(graph, path, owners)
    _join_owned(graph, path, owned, together)
    _join_biases(graph, path, owned, biases, together)
    _join_norms(graph, norms, together)
    _join_gates(graph, path, owned, together)
    found: dict[int, Layer] = {}
    for position, node in enumerate(path):
        layer = found.setdefault(together.first(node), Layer(nodes=[], position=position))
        layer.nodes.append(node)
        layer.owner = layer.owner or owned.get(id(node))
    return list(found.values())


def _with_moves(graph: Graph, path: Sequence[Node], owners: Owners) -> dict[int, Owner]:
    """Owners with what moves values between the layers: it belongs to the layer behind it."""
    users = graph.wiring.users
    owned = _without_strays(graph, path, owners)
    for node in reversed(path):
        if id(node) in owned or node.op_type not in MOVES or not node.is_standard:
            continue
        if node.op_type == "Flatten":
            continue  # a layer wherever it stands
        behind = {id(user): user for name in node.outputs for user, _ in users.get(name, ())}
        found = [owned[key] for key in behind if key in owned]
        if found and len(found) == len(behind) and len({each.key for each in found}) == 1:
            owned[id(node)] = found[0]
    return owned


def _without_strays(graph: Graph, path: Sequence[Node], owners: Owners) -> dict[int, Owner]:
    """Owners without what an optimiser has pushed out of a layer, under the layer's name."""
    users, producers = graph.wiring.users, graph.wiring.producers
    working = {
        owners[id(node)].key for node in path if id(node) in owners and node.op_type not in MOVES
    }
    owned = dict(owners)
    for node in path:
        owner = owners.get(id(node))
        if owner is None or node.op_type not in MOVES or owner.key not in working:
            continue
        beside = [producers.get(name) for name in node.inputs]
        beside += [user for name in node.outputs for user, _ in users.get(name, ())]
        near = [owners.get(id(each)) for each in beside if each is not None]
        if not any(each is not None and each.key == owner.key for each in near):
            del owned[id(node)]
    return owned


def _join_owned(
    graph: Graph, path: Sequence[Node], owned: Mapping[int, Owner], together: Together
) -> None:
    """Nodes of one owner that hang together are one call of that layer."""
    producers = graph.wiring.producers
    for node in path:
        owner = owned.get(id(node))
        if owner is None:
            continue
        for name in node.inputs:
            before = producers.get(name)
            if before is not None and before in together:
                other = owned.get(id(before))
                if other is not None and other.key == owner.key:
                    together.join(before, node)


def _only_reader(graph: Graph, node: Node) -> Node | None:
    """The one node that reads what a node gives, if there is one and nothing else does."""
    if not node.outputs:
        return None
    readers = graph.wiring.users.get(node.outputs[0], ())
    given = any(value.name == node.outputs[0] for value in graph.outputs)
    return readers[0][0] if len(readers) == 1 and not given else None


_BETWEEN = frozenset({"Reshape", "Transpose", "Identity"})
_SCALING = frozenset({"Cast", "Mul"})


def _moved(graph: Graph, name: str) -> str:
    """What a Reshape of a stored bias is made of."""
    node = graph.wiring.producers.get(name)
    return node.input(0) if node is not None and node.op_type in _BETWEEN else name


def _join_biases(
    graph: Graph,
    path: Sequence[Node],
    owned: Mapping[int, Owner],
    biases: set[str],
    together: Together,
) -> None:
    """The addition of a bias belongs to the operator in front of it."""
    for node in path:
        if kind_of(node.op_type) not in LINEAR:
            continue
        between = _BETWEEN | (_SCALING if node.op_type in INTEGER_PRODUCTS else frozenset())
        behind = _only_reader(graph, node)
        passed = []
        while behind is not None and behind.op_type in between:
            passed.append(behind)
            behind = _only_reader(graph, behind)
        if behind is None or behind.op_type != "Add" or behind not in together:
            continue
        told = id(node) in owned and id(behind) in owned
        if not told and any(
            name in biases or _moved(graph, name) in biases for name in behind.inputs
        ):
            for each in (*passed, behind):
                if each in together:
                    together.join(node, each)


def _join_norms(graph: Graph, norms: Iterable[BatchNorm], together: Together) -> None:
    """Arithmetic that makes a BatchNorm is one layer."""
    producers = graph.wiring.producers
    for norm in norms:
        if not norm.nodes or norm.scope:
            continue
        last = producers.get(norm.output)
        node, steps = last, len(norm.nodes)
        while node is not None and last is not None and steps > 1:
            before = _before(node, producers, together)
            if before is None:
                break
            together.join(last, before)
            if before.op_type not in MOVES:
                steps -= 1
            node = before


def _before(node: Node, producers: Mapping[str, Node], together: Together) -> Node | None:
    """The node on the path that a node takes its data from."""
    found = (producers.get(name) for name in node.inputs)
    return next((each for each in found if each is not None and each in together), None)


def _join_gates(
    graph: Graph, path: Sequence[Node], owned: Mapping[int, Owner], together: Together
) -> None:
    """`x · sigmoid(x)` is one activation, written as two nodes."""
    producers = graph.wiring.producers
    for node in path:
        if node.op_type != "Mul" or id(node) in owned or len(node.inputs) != 2:
            continue
        for gate, data in (node.inputs, node.inputs[::-1]):
            before = producers.get(gate)
            if (
                before is not None
                and before in together
                and before.op_type in ("Sigmoid", "HardSigmoid")
                and before.input(0) == data
            ):
                together.join(before, node)


def split_activation(layer: Layer) -> tuple[Layer, Layer | None]:
    """A layer without the activation at its end, and that: Keras has both in one."""
    kinds = [kind_of(node.op_type) for node in layer.nodes]
    at = next((i for i, kind in enumerate(kinds) if kind in ACTIVATIONS), len(kinds))
    front, rest = layer.nodes[:at], layer.nodes[at:]
    alone = all(node.op_type in MOVES for node in front)
    if alone or not all(_is_activating(node) for node in rest) or not rest:
        return layer, None
    first = Layer(nodes=front, owner=layer.owner, position=layer.position)
    second = Layer(nodes=rest, owner=layer.owner, position=layer.position + at)
    return first, second


def _is_activating(node: Node) -> bool:
    """Whether a node is an activation, or a part of one."""
    return kind_of(node.op_type) in ACTIVATIONS or node.op_type == "Mul" or node.op_type in MOVES
