"""Attributes that a file leaves to their defaults, filled in from the operators' own schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType

import onnx

from inspector.facts.model import Attribute, Model, Node


def with_default_attributes(model: Model) -> Model:
    """The same model with every defaulted attribute of the main graph's nodes written out.

    One exporter writes ``axis=1``, another leaves it to the default of its opset: after this
    both say the same.
    """
    nodes = tuple(_explicit(node, model.opsets) for node in model.graph.nodes)
    return replace(model, graph=replace(model.graph, nodes=nodes))


def _explicit(node: Node, opsets: Mapping[str, int]) -> Node:
    domain = "" if node.is_standard else node.domain
    defaults = _defaults(node.op_type, opsets.get(domain, 1), domain)
    if defaults.keys() <= node.attributes.keys():
        return node
    return replace(node, attributes=MappingProxyType({**defaults, **node.attributes}))


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
