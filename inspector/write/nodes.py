"""Nodes as protobuf has them: what they have, what they read, and new ones."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import onnx
from onnx import helper


class CannotExpandError(Exception):
    """An operator, or a use of one, that is not known in this form, or is not well-formed."""


def has_all(node: onnx.NodeProto, *, inputs: int, outputs: int = 1) -> bool:
    """Whether a node has its first inputs and outputs, none of them left empty."""
    given, made = node.input[:inputs], node.output[:outputs]
    return all(given) and all(made) and (len(given), len(made)) == (inputs, outputs)


def node_of(
    op: str,
    names: Sequence[str],
    outputs: Sequence[str],
    name: str,
    attributes: Sequence[onnx.AttributeProto],
) -> onnx.NodeProto:
    """A node with attributes of another one, whatever their types are."""
    node = helper.make_node(op, list(names), list(outputs), name=name)
    node.attribute.extend(attributes)
    return node


def attributes_but(node: onnx.NodeProto, names: Container[str]) -> list[onnx.AttributeProto]:
    """The attributes of a node, without those of these names."""
    return [each for each in node.attribute if each.name not in names]


def attribute(node: onnx.NodeProto, name: str, real: float = 0.0) -> onnx.AttributeProto:
    """An attribute of a node; where it has none, one of a default."""
    found = (each for each in node.attribute if each.name == name)
    return next(found, onnx.AttributeProto(f=real))


def all_read(node: onnx.NodeProto) -> Iterator[str]:
    """What a node and its subgraphs read."""
    yield from node.input
    yield from read_within(node)


def read_within(node: onnx.NodeProto) -> Iterator[str]:
    """What the subgraphs of a node read."""
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.HasField("g") else []
        for graph in (*graphs, *attribute.graphs):
            for each in graph.node:
                yield from all_read(each)
            yield from (each.name for each in graph.output)


def in_use(nodes: Sequence[onnx.NodeProto], ends: set[str]) -> list[onnx.NodeProto]:
    """Without what multiplies scales that nothing reads any more."""
    wanted, kept = set(ends), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(all_read(node))
    return kept[::-1]
