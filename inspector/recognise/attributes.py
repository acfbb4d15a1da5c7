"""Attributes of a function's nodes, which a call may fill in.

Inside a function's body an attribute can refer to one of the call's
(https://onnx.ai/onnx/repo-docs/IR.html#model-local-functions, ``ref_attr_name``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from inspector.facts.model import Attribute, AttributeReference, Function, Graph, Node


def called(function: Function, node: Node) -> tuple[Node, ...]:
    """The body of `function` as `node` calls it: what the call leaves out has its default."""
    return _filled(function.nodes, {**function.attributes, **node.attributes})


def _filled(nodes: Sequence[Node], given: Mapping[str, Attribute]) -> tuple[Node, ...]:
    return tuple(_node(node, given) for node in nodes)


def _node(node: Node, given: Mapping[str, Attribute]) -> Node:
    if not any(isinstance(each, _MAY_REFER) for each in node.attributes.values()):
        return node
    filled = {}
    for name, value in node.attributes.items():
        match value:
            case AttributeReference():
                # What neither the call nor the function gives is as if it were not written.
                if value.name in given:
                    filled[name] = given[value.name]
            case Graph():
                filled[name] = _graph(value, given)
            case (Graph(), *_):
                graphs = (each for each in value if isinstance(each, Graph))
                filled[name] = tuple(_graph(each, given) for each in graphs)
            case _:
                filled[name] = value
    return replace(node, attributes=MappingProxyType(filled))


def _graph(graph: Graph, given: Mapping[str, Attribute]) -> Graph:
    return replace(graph, nodes=_filled(graph.nodes, given))


_MAY_REFER = (AttributeReference, Graph, tuple)
