"""Nodes in an order in which each comes after what it reads, whatever the file's order is.

ONNX asks for it (https://onnx.ai/onnx/repo-docs/IR.html, "topologically sorted") and ONNX Runtime
does not: files that break the rule run, and would be misread by whoever walks them once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from inspector.facts.graphs import captured, subgraphs
from inspector.facts.model import Attribute, Graph, Model, Node


def in_order(model: Model) -> Model:
    """The same model with the nodes of every graph and function sorted; most are already."""
    functions = {
        key: replace(each, nodes=_sorted(tuple(_inside(node) for node in each.nodes)))
        for key, each in model.functions.items()
    }
    return replace(model, graph=_graph(model.graph), functions=MappingProxyType(functions))


def _graph(graph: Graph) -> Graph:
    return replace(graph, nodes=_sorted(tuple(_inside(node) for node in graph.nodes)))


def _inside(node: Node) -> Node:
    if not any(True for _ in subgraphs(node)):
        return node
    attributes = {name: _attribute(value) for name, value in node.attributes.items()}
    return replace(node, attributes=MappingProxyType(attributes))


def _attribute(value: Attribute) -> Attribute:
    match value:
        case Graph():
            return _graph(value)
        case tuple() if any(isinstance(each, Graph) for each in value):
            return tuple(_graph(each) for each in value if isinstance(each, Graph))
        case _:
            return value


def _sorted(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Kahn's algorithm, stable; nodes of a circle keep their place at the end."""
    producer = {name: at for at, node in enumerate(nodes) for name in node.outputs if name}
    needs = [_needs(node, producer) for node in nodes]
    if all(here < at for at, each in enumerate(needs) for here in each):
        return tuple(nodes)
    waiting = [len(each) for each in needs]
    users: dict[int, list[int]] = defaultdict(list)
    for at, each in enumerate(needs):
        for here in each:
            users[here].append(at)
    order = [at for at, count in enumerate(waiting) if count == 0]
    for at in order:
        for user in users[at]:
            waiting[user] -= 1
            if waiting[user] == 0:
                order.append(user)
    order += [at for at, count in enumerate(waiting) if count > 0]
    return tuple(nodes[at] for at in order)


def _needs(node: Node, producer: Mapping[str, int]) -> frozenset[int]:
    names = (*node.inputs, *captured(node))
    return frozenset(producer[name] for name in names if name in producer)
