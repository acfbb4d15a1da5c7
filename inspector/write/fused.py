"""A model with what ONNX Runtime's optimiser fused written as the operators that it fused.

An optimised file holds FusedConv, QuickGelu or SkipLayerNormalization (domain com.microsoft) where
another holds a Conv with a Relu behind, a Sigmoid and a Mul, an Add and a LayerNormalization. As
they stand, nothing between the two is ever held together. What each computes is told by
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from inspector.facts.model import Model
from inspector.read.weights import ProtoWeights
from inspector.write.fix_bodies import names_of, unique
from inspector.write.upgrade import opened

MICROSOFT = "com.microsoft"

_FIRST_WITH_BOUNDS_AS_INPUTS = 11
"""The opset from which on a Clip reads its bounds."""

ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}
"""Activations that are fused, and the names of their attributes in order."""

_PARAMETERS = {**ACTIVATIONS, "Clip": ("min", "max")}
"""The same with the one whose parameters are inputs."""

_FLOATS = frozenset({"float16", "float32", "float64"})

_OWN = {
    "FusedConv": {"activation", "activation_params"},
    "FusedGemm": {"activation", "activation_alpha", "activation_beta", "activation_gamma"},
    "FusedMatMul": {"transA", "transB", "transBatchA", "transBatchB", "alpha"},
    "QuickGelu": {"alpha"},
    "Gelu": set(),
    "BiasGelu": set(),
    "SkipLayerNormalization": {"epsilon"},
}
"""Operators that are fused, and attributes that none of those beneath has."""

_READS = {
    "FusedConv": (2, 4),
    "FusedGemm": (2, 3),
    "FusedMatMul": (2, 2),
    "QuickGelu": (1, 1),
    "Gelu": (1, 1),
    "BiasGelu": (2, 2),
    "SkipLayerNormalization": (3, 5),
}
"""How many inputs they have, at least and at most; those that must be there come first."""

_TYPES = {
    "activation": AttributeProto.STRING,
    "activation_params": AttributeProto.FLOATS,
    "activation_alpha": AttributeProto.FLOAT,
    "activation_beta": AttributeProto.FLOAT,
    "alpha": AttributeProto.FLOAT,
    "epsilon": AttributeProto.FLOAT,
}

_LAYER_NORMS_FROM = 17
"""The first opset with a LayerNormalization."""


def with_fused_apart(model: Model) -> Model | None:
    """The same function; None where nothing is fused, or the opset is too old."""
    weights = model.weights
    if not isinstance(weights, ProtoWeights) or model.opset < _FIRST_WITH_BOUNDS_AS_INPUTS:
        return None
    if not any(_is_fused(each) for each in weights.proto.graph.node):
        return None
    proto = onnx.ModelProto()
    proto.CopyFrom(weights.proto)
    apart = _Apart(model, names_of(proto.graph))
    nodes = [made for node in proto.graph.node for made in apart.nodes(node)]
    if not apart.found:
        return None
    copies = [NodeProto.FromString(each.SerializeToString()) for each in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    proto.graph.initializer.extend(apart.stored)
    return opened(model, proto)


def _is_fused(node: NodeProto) -> bool:
    return node.domain == MICROSOFT and node.op_type in _OWN


def _is_whole(node: NodeProto) -> bool:
    """Whether a node has the inputs and the types of attributes that it is declared with."""
    least, most = _READS[node.op_type]
    typed = all(_TYPES.get(each.name, each.type) == each.type for each in node.attribute)
    there = least <= len(node.input) <= most and all(node.input[:least])
    return typed and there and bool(node.output and node.output[0])


class _Apart:
    """Writes fused nodes as several; `stored` are numbers that these read."""

    def __init__(self, model: Model, names: set[str]) -> None:
        self._model = model
        self._taken = names
        self.found = False
        self.stored: list[TensorProto] = []

    def nodes(self, node: NodeProto) -> Iterator[NodeProto]:
        if not _is_fused(node) or not _is_whole(node):
            yield node
            return
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        made = list(self._parts(node, attributes) or ())
        self.found |= bool(made)
        yield from made or [node]

    def _parts(self, node: NodeProto, attributes: dict[str, Any]) -> Iterator[NodeProto] | None:
        match node.op_type:
            case "FusedMatMul":
                return self._matmul(node, attributes)
            case "QuickGelu":
                return self._quick_gelu(node, float(attributes.get("alpha", 1.702)))
            case "Gelu" | "BiasGelu":
                return self._gelu(node)
            case "SkipLayerNormalization":
                return self._skip(node, attributes)
            case _:
                return self._product(node, attributes)

    def _quick_gelu(self, node: NodeProto, alpha: float) -> Iterator[NodeProto]:
        x, whole = node.input[0], node.output[0]
        read = x
        if alpha != 1.0:
            read = unique(f"{whole}/scaled", self._taken)
            number = self._number(f"{whole}/alpha", alpha, node)
            yield helper.make_node("Mul", [x, number], [read])
        gate = unique(f"{whole}/gate", self._taken)
        yield helper.make_node("Sigmoid", [read], [gate], name=node.name)
        yield helper.make_node("Mul", [x, gate], [whole])

    def _gelu(self, node: NodeProto) -> Iterator[NodeProto]:
        x, whole = node.input[0], node.output[0]
        if node.op_type == "BiasGelu":
            x = unique(f"{whole}/sum", self._taken)
            yield helper.make_node("Add", list(node.input), [x])
        root, one, half = (
            self._number(f"{whole}/{name}", value, node)
            for name, value in (("root", 2**0.5), ("one", 1.0), ("half", 0.5))
        )
        names = ("scaled", "erf", "raised", "product")
        steps = [unique(f"{whole}/{name}", self._taken) for name in names]
        yield helper.make_node("Div", [x, root], [steps[0]])
        yield helper.make_node("Erf", [steps[0]], [steps[1]], name=node.name)
        yield helper.make_node("Add", [steps[1], one], [steps[2]])
        yield helper.make_node("Mul", [x, steps[2]], [steps[3]])
        yield helper.make_node("Mul", [steps[3], half], [whole])

    def _skip(self, node: NodeProto, attributes: dict[str, Any]) -> Iterator[NodeProto] | None:
        given = [bool(name) for name in node.output]
        if self._model.opset < _LAYER_NORMS_FROM or any(given[1:3]):
            return None  # mean and deviation are of training
        return self._skipped(node, float(attributes.get("epsilon", 1e-12)))

    def _skipped(self, node: NodeProto, epsilon: float) -> Iterator[NodeProto]:
        read, whole = [*node.input, "", ""], node.output[0]
        total = node.output[3] if len(node.output) > 3 else ""
        total = total or unique(f"{whole}/sum", self._taken)
        value = read[0]
        if read[4]:
            biased = unique(f"{whole}/biased", self._taken)
            yield helper.make_node("Add", [value, read[4]], [biased])
            value = biased
        yield helper.make_node("Add", [value, read[1]], [total])
        norm = [total, read[2], read[3]] if read[3] else [total, read[2]]
        yield helper.make_node(
            "LayerNormalization", norm, [whole], name=node.name, axis=-1, epsilon=epsilon
        )

    def _product(self, node: NodeProto, attributes: dict[str, Any]) -> Iterator[NodeProto] | None:
        activation = attributes.get("activation", b"").decode("utf-8", "replace")
        if activation not in _PARAMETERS:
            return None
        wanted = _PARAMETERS[activation]
        if node.op_type == "FusedConv":
            given = list(attributes.get("activation_params", ()))
            if len(given) != len(wanted):
                return None
        else:
            names = [f"activation_{name}" for name in wanted]
            if "Clip" in activation or not attributes.keys() >= set(names):
                return None  # which of its numbers is which bound is told nowhere
            given = [attributes[name] for name in names]
        return self._activated(node, activation, dict(zip(wanted, given, strict=True)))

    def _activated(
        self, node: NodeProto, activation: str, parameters: dict[str, float]
    ) -> Iterator[NodeProto]:
        whole, read = node.output[0], list(node.input)
        value = unique(f"{whole}/apart", self._taken)
        below = helper.make_node(node.op_type.removeprefix("Fused"), read[:3], [value])
        below.name = node.name
        below.attribute.extend(e for e in node.attribute if e.name not in _OWN[node.op_type])
        yield below
        if len(read) > len(below.input) and read[3]:
            total = unique(f"{value}/sum", self._taken)
            yield helper.make_node("Add", [value, read[3]], [total])
            value = total
        if activation != "Clip":
            made = helper.make_node(activation, [value], [whole])
            made.attribute.extend(helper.make_attribute(*each) for each in parameters.items())
            yield made
            return
        bounds = [self._number(f"{whole}/{name}", each, node) for name, each in parameters.items()]
        yield helper.make_node("Clip", [value, *bounds], [whole])

    def _matmul(self, node: NodeProto, attributes: dict[str, Any]) -> Iterator[NodeProto] | None:
        if attributes.get("transBatchA") or attributes.get("transBatchB"):
            return None
        ranks = [self._rank(name) for name in node.input]
        turned = [bool(attributes.get(name)) for name in ("transA", "transB")]
        if any(turns and rank is None for turns, rank in zip(turned, ranks, strict=True)):
            return None
        return self._written(node, turned, ranks, float(attributes.get("alpha", 1.0)))

    def _written(
        self, node: NodeProto, turned: list[bool], ranks: list[int | None], alpha: float
    ) -> Iterator[NodeProto]:
        whole, read = node.output[0], list(node.input)
        for at, (turns, rank) in enumerate(zip(turned, ranks, strict=True)):
            if turns and rank is not None and rank > 1:  # a vector is no matrix to be turned
                axes = [*range(rank - 2), rank - 1, rank - 2]
                read[at] = unique(f"{whole}/turned {at}", self._taken)
                yield helper.make_node("Transpose", [node.input[at]], [read[at]], perm=axes)
        value = whole if alpha == 1.0 else unique(f"{whole}/apart", self._taken)
        yield helper.make_node("MatMul", read, [value], name=node.name)
        if alpha != 1.0:
            number = self._number(f"{whole}/alpha", alpha, node)
            yield helper.make_node("Mul", [value, number], [whole])

    def _rank(self, name: str) -> int | None:
        graph = self._model.graph
        stored = graph.initializers.get(name)
        if stored is not None:
            return len(stored.dims)
        known = graph.values.get(name)
        return None if known is None or known.dims is None else len(known.dims)

    def _number(self, name: str, value: float, node: NodeProto) -> str:
        """A stored number of the type that a node computes in."""
        name = unique(name, self._taken)
        graph = self._model.graph
        near = [graph.initializers.get(each) or graph.values.get(each) for each in node.input]
        dtype = next((e.dtype for e in near if e is not None and e.dtype in _FLOATS), "float32")
        self.stored.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name
