"""A quantised model with its grids taken away: what it computes but for quantising activations.

Of a model in QDQ form (QuantizeLinear and DequantizeLinear around float operators), and of those
that can be written so (`inspector.write.qoperators`), to hold its structure and its weights against
a float model's, and to run: what still differs then is not the quantising of activations. A grid
that begins at 0 does a Relu's work, and quantisers take that Relu out: it comes back. One that ends
at 6 besides does that of a Clip at 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from inspector.facts.model import Model
from inspector.read.data import is_outside
from inspector.read.weights import ProtoWeights
from inspector.write.qoperators import CannotExpandError, computes_with_integers, expand
from inspector.write.upgrade import opened

_GRIDS = ("QuantizeLinear", "DequantizeLinear")

_NEVER_NEGATIVE = frozenset("Relu Sigmoid Softmax HardSigmoid Abs Exp Sqrt".split())

_KEEP_SIGN = frozenset(
    "MaxPool AveragePool GlobalAveragePool GlobalMaxPool Flatten Reshape Transpose Identity "
    "Squeeze Unsqueeze ReduceMean ReduceMax ReduceSum Slice Split Gather Expand Resize "
    "Dropout".split()
)

_SIX = 6.0
"""Where Relu6 ends: the range of its outputs, as calibration finds it, ends there to the bit."""

_JOIN = frozenset("Add Concat Max Mean Mul Sum".split())
"""Operators that give nothing negative where they are given nothing negative."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dequantised:
    """A model without its grids.

    `steps` are the distances between the numbers that stored weights could have, by the name that
    they have in `model`, in the same shape or one that goes with it.
    """

    model: Model
    steps: Mapping[str, Any]


def dequantised(model: Model) -> Dequantised | None:
    """The same layers with weights as real numbers and activations as they are.

    None where nothing is quantised in a form that is known (scales that are computed, blocks,
    operators that `inspector.write.qoperators` does not know).
    """
    if not isinstance(model.weights, ProtoWeights) or model.missing_data:
        return None
    if not any(_is_quantised(each.op_type) for each in model.graph.nodes):
        return None  # most models: nothing is copied for them
    proto = onnx.ModelProto()
    proto.CopyFrom(model.weights.proto)
    grids = _Grids(proto.graph, model.weights)
    if not grids.take_away():
        return None
    return Dequantised(model=opened(model, proto), steps=grids.steps)


def _is_quantised(op: str) -> bool:
    return op in _GRIDS or computes_with_integers(onnx.NodeProto(op_type=op))


class _Grids:
    def __init__(self, graph: onnx.GraphProto, weights: ProtoWeights) -> None:
        self._graph = graph
        self._weights = weights
        self._stored = {each.name: each for each in graph.initializer}
        self._ends = {each.name for each in graph.output}
        self._instead: dict[str, str] = {}
        """What is read in place of a value on a grid."""
        # What is fed lies within the grid of an input.
        self._never_negative = {each.name for each in graph.input}
        self.steps: dict[str, Any] = {}

    def take_away(self) -> bool:
        """Whether it went: no value on a grid is left."""
        try:
            expand(self._graph, self._values)
        except CannotExpandError:
            return False
        self._stored = {each.name: each for each in self._graph.initializer}
        kept: list[onnx.NodeProto] = []
        for node in self._graph.node:
            for at, name in enumerate(node.input):
                node.input[at] = self._instead.get(name, name)
            if node.op_type not in _GRIDS:
                kept.append(node)
                if self._is_never_negative(node):
                    self._never_negative.update(node.output)
            elif node.op_type == "QuantizeLinear" and self._begins_at_zero(node):
                kept.append(self._cut_off(node))
                self._never_negative.add(node.output[0])
            elif node.op_type == "DequantizeLinear" and node.input[0] in self._stored:
                values = self._real(node)
                if values is None:
                    return False
                self._graph.initializer.append(numpy_helper.from_array(values[0], node.output[0]))
                if values[1] is not None:
                    self.steps[node.output[0]] = values[1]
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

    def _cut_off(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """What a grid that begins at zero does: a Relu, or a Clip at 6 where it ends there."""
        name = f"{node.name or node.output[0]}"
        scale = self._stored.get(node.input[1])
        zero = self._stored.get(node.input[2]) if len(node.input) > 2 else None
        points = np.iinfo(np.uint8 if zero is None else self._values(zero).dtype)
        step = np.zeros(()) if scale is None else self._values(scale)
        end = float(step.reshape(-1)[0]) * (points.max - points.min)
        if step.size != 1 or abs(end - _SIX) > 1e-4:
            return helper.make_node("Relu", node.input[:1], node.output[:1], name=f"{name}/Relu")
        ends = [f"{name}/{each}" for each in ("min", "max")]
        for name, value in zip(ends, (0.0, _SIX), strict=True):
            bound = numpy_helper.from_array(np.array(value, step.dtype), name)
            self._graph.initializer.append(bound)
        given = [node.input[0], *ends]
        return helper.make_node("Clip", given, node.output[:1], name=f"{node.name}/Clip")

    def _real(self, node: onnx.NodeProto) -> tuple[Any, Any] | None:
        """Stored weights as real numbers, and their steps.

        None where no grid is stored, or it has blocks.
        """
        given = {each.name: each.i for each in node.attribute}
        tensors = [self._stored.get(name) for name in node.input if name]
        if any(each is None for each in tensors) or given.get("block_size"):
            return None
        values, scale, *zero = [self._values(each) for each in tensors if each is not None]
        if scale.ndim > 1:
            return None
        along = [1] * values.ndim
        if scale.ndim == 1 and scale.size > 1:
            along[given.get("axis", 1)] = -1
        scale = _along(scale, along)
        if values.dtype.kind not in "iu":  # an 8-bit float: its steps grow with it
            real = values.astype(scale.dtype) * scale
            return real, None
        point = _along(zero[0].astype(np.int32), along) if zero else np.int32(0)
        # As the operator has it: integers are subtracted as such, and then scaled.
        real = (values.astype(np.int32) - point).astype(scale.dtype) * scale
        return np.ascontiguousarray(real.reshape(values.shape)), np.abs(scale)

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


def _along(values: Any, shape: list[int]) -> Any:
    """One number, or one for each place along an axis, to go with a tensor."""
    return values.reshape(()) if values.size == 1 else values.reshape(shape)
