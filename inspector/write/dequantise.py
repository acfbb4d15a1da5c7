"""A quantised model with its grids taken away: what it computes but for quantising activations.

Of a model in QDQ form (QuantizeLinear and DequantizeLinear around float operators), to hold its
structure and its weights against a float model's, and to run: what still differs then is not the
quantising of activations. A grid that begins at 0 does a Relu's work, and quantisers take that Relu
out: it comes back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from inspector.facts.model import Model
from inspector.read.data import is_outside
from inspector.read.weights import ProtoWeights
from inspector.write.upgrade import opened

_GRIDS = ("QuantizeLinear", "DequantizeLinear")

_NEVER_NEGATIVE = frozenset("Relu Sigmoid Softmax HardSigmoid Abs Exp Sqrt".split())

_KEEP_SIGN = frozenset(
    "MaxPool AveragePool GlobalAveragePool GlobalMaxPool Flatten Reshape Transpose Identity "
    "Squeeze Unsqueeze".split()
)

_JOIN = frozenset("Add Concat Max Mean Mul Sum".split())
"""Operators that give nothing negative where they are given nothing negative."""


def dequantised(model: Model) -> Model | None:
    """The same layers with weights as real numbers and activations as they are.

    None where nothing is quantised in this form, or in another as well (integers that operators
    compute with, scales that are computed, blocks).
    """
    if not isinstance(model.weights, ProtoWeights) or model.missing_data:
        return None
    if not any(each.op_type in _GRIDS for each in model.graph.nodes):
        return None  # most models: nothing is copied for them
    proto = onnx.ModelProto()
    proto.CopyFrom(model.weights.proto)
    nodes = [each for each in proto.graph.node if each.op_type in _GRIDS]
    if not nodes or any("Integer" in n.op_type or "QLinear" in n.op_type for n in proto.graph.node):
        return None
    if not _Grids(proto.graph, model.weights).take_away():
        return None
    return opened(model, proto)


class _Grids:
    def __init__(self, graph: onnx.GraphProto, weights: ProtoWeights) -> None:
        self._graph = graph
        self._weights = weights
        self._stored = {each.name: each for each in graph.initializer}
        self._ends = {each.name for each in graph.output}
        self._instead: dict[str, str] = {}
        """What is read in place of a value on a grid."""
        self._never_negative: set[str] = set()

    def take_away(self) -> bool:
        """Whether it went: no value on a grid is left."""
        kept: list[onnx.NodeProto] = []
        for node in self._graph.node:
            for at, name in enumerate(node.input):
                node.input[at] = self._instead.get(name, name)
            if node.op_type not in _GRIDS:
                kept.append(node)
                if self._is_never_negative(node):
                    self._never_negative.update(node.output)
            elif node.op_type == "QuantizeLinear" and self._begins_at_zero(node):
                kept.append(helper.make_node("Relu", [node.input[0]], [node.output[0]]))
                kept[-1].name = f"{node.name or node.output[0]}/Relu"
                self._never_negative.add(node.output[0])
            elif node.op_type == "DequantizeLinear" and node.input[0] in self._stored:
                values = self._real(node)
                if values is None:
                    return False
                self._graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            elif node.output[0] in self._ends:
                kept.append(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
            else:
                self._instead[node.output[0]] = node.input[0]
        copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in kept]
        del self._graph.node[:]
        self._graph.node.extend(copies)
        self._forget_values()
        return True

    def _is_never_negative(self, node: onnx.NodeProto) -> bool:
        if node.op_type in _KEEP_SIGN:
            return node.input[0] in self._never_negative
        if node.op_type in _JOIN:
            return self._never_negative.issuperset(node.input)
        return node.op_type in _NEVER_NEGATIVE

    def _begins_at_zero(self, node: onnx.NodeProto) -> bool:
        """Whether a grid has no negative numbers for a value that may be one."""
        if node.input[0] in self._never_negative:
            return False
        if len(node.input) < 3 or not node.input[2]:
            return True  # uint8 from 0 on
        zero = self._stored.get(node.input[2])
        if zero is None:
            return False
        points = self._values(zero)
        return bool(points.dtype.kind in "iu" and (points == np.iinfo(points.dtype).min).all())

    def _real(self, node: onnx.NodeProto) -> Any:
        """Stored weights as real numbers; None where their grid is not stored or is of blocks."""
        given = {each.name: each.i for each in node.attribute}
        tensors = [self._stored.get(name) for name in node.input if name]
        if any(each is None for each in tensors) or given.get("block_size"):
            return None
        values, scale, *zero = [self._values(each) for each in tensors if each is not None]
        along = [1] * values.ndim
        if scale.ndim == 1 and scale.size > 1:
            along[given.get("axis", 1)] = -1
        point = zero[0].astype(np.int32).reshape(along) if zero else np.int32(0)
        # As the operator has it: integers are subtracted as such, and then scaled.
        real = (values.astype(np.int32) - point).astype(scale.dtype) * scale.reshape(along)
        return np.ascontiguousarray(real.reshape(values.shape))

    def _values(self, tensor: onnx.TensorProto) -> Any:
        whole = self._weights.data.filled(tensor) if is_outside(tensor) else tensor
        return numpy_helper.to_array(whole)

    def _forget_values(self) -> None:
        """Declared types of values on a grid are no longer true; inference finds the others."""
        known = {name for node in self._graph.node for name in node.output}
        declared = [each for each in self._graph.value_info if each.name in known]
        copies = [onnx.ValueInfoProto.FromString(each.SerializeToString()) for each in declared]
        del self._graph.value_info[:]
        self._graph.value_info.extend(copies)
        read = {name for node in self._graph.node for name in node.input} | self._ends
        stored = [each for each in self._graph.initializer if each.name in read]
        kept = [onnx.TensorProto.FromString(each.SerializeToString()) for each in stored]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
