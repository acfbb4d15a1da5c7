"""Attributes that a file leaves to their defaults, filled in.

Defaults come from the operators' own schemas, and from the functions that nodes call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType

import onnx

from inspector.facts.model import Attribute, Graph, Model, Node


def with_default_attributes(model: Model) -> Model:
    """The same model with every defaulted attribute written out, in all graphs and functions.

    One exporter writes ``axis=1``, another leaves it to the default of its opset: after this
    both say the same.
    """
    writer = _Writer(model)
    functions = {
        key: replace(each, nodes=writer.nodes(each.nodes, each.opsets))
        for key, each in model.functions.items()
    }
    return replace(
        model,
        graph=writer.graph(model.graph, model.opsets),
        functions=MappingProxyType(functions),
    )


class _Writer:
    def __init__(self, model: Model) -> None:
        self._model = model

    def graph(self, graph: Graph, opsets: Mapping[str, int]) -> Graph:
        return replace(graph, nodes=self.nodes(graph.nodes, opsets))

    def nodes(self, nodes: tuple[Node, ...], opsets: Mapping[str, int]) -> tuple[Node, ...]:
        return tuple(self._node(node, opsets) for node in nodes)

    def _node(self, node: Node, opsets: Mapping[str, int]) -> Node:
        domain = "" if node.is_standard else node.domain
        function = self._model.function(node)
        if function is not None:
            defaults = function.attributes
        else:
            defaults = _defaults(node.op_type, opsets.get(domain, 1), domain)
        written = {name: self._attribute(value, opsets) for name, value in node.attributes.items()}
        return replace(node, attributes=MappingProxyType({**defaults, **written}))

    def _attribute(self, value: Attribute, opsets: Mapping[str, int]) -> Attribute:
        match value:
            case Graph():
                return self.graph(value, opsets)
            case tuple() if any(isinstance(each, Graph) for each in value):
                return tuple(self.graph(each, opsets) for each in value if isinstance(each, Graph))
            case _:
                return value


@cache
def _defaults(op_type: str, version: int, domain: str) -> Mapping[str, Attribute]:
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return MappingProxyType({})
    found: dict[str, Attribute] = {}
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if default.type != onnx.AttributeProto.UNDEFINED:
            value = onnx.helper.get_attribute_value(default)
            found[name] = tuple(value) if isinstance(value, list) else value
    return MappingProxyType(found)
