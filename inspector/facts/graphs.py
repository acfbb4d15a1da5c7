"""Graphs inside of nodes, and what they read from around them."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.facts.model import Graph, Node


def captured(node: Node) -> list[str]:
    """Names of outer values that the subgraphs of `node` read, each once."""
    found: dict[str, None] = {}
    for graph in subgraphs(node):
        own = {value.name for value in graph.inputs} | graph.initializers.keys()
        own.update(name for inner in graph.nodes for name in inner.outputs)
        for inner in graph.nodes:
            read = (*inner.inputs, *captured(inner))
            found.update((name, None) for name in read if name and name not in own)
        found.update((each.name, None) for each in graph.outputs if each.name not in own)
    return list(found)


def subgraphs(node: Node) -> Iterator[Graph]:
    """The graphs among a node's attributes."""
    for value in node.attributes.values():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Graph):
                yield each
