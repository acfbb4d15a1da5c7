"""Graphs inside of nodes, and what they read from around them."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.facts.model import Graph, Node


def captured(node: Node) -> Iterator[str]:
    """Names of outer values that the subgraphs of `node` read."""
    for graph in subgraphs(node):
        own = {value.name for value in graph.inputs} | graph.initializers.keys()
        for inner in graph.nodes:
            own.update(inner.outputs)
        read = [name for inner in graph.nodes for name in (*inner.inputs, *captured(inner))]
        read += (value.name for value in graph.outputs)
        yield from (name for name in read if name and name not in own)


def subgraphs(node: Node) -> Iterator[Graph]:
    """The graphs among a node's attributes."""
    for value in node.attributes.values():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Graph):
                yield each
