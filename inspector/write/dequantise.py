"""A quantised model with its grids taken away: what it computes but for quantising activations.

Of a model in QDQ form (QuantizeLinear and DequantizeLinear around float operators), and of those
that can be written so (`inspector.write.qoperators`), to hold its structure and its weights against
a float model's, and to run: what still differs then is not the quantising of activations. A grid
that begins at 0 does a Relu's work, and quantisers take that Relu out: it comes back. One that ends
at 6 besides does that of a Clip at 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from inspector.facts.model import Model
from inspector.read.data import is_outside
from inspector.read.weights import ProtoWeights
from inspector.write.blocks import BLOCK_OPERATORS, along_blocks, expand_blocks, widened
from inspector.write.nodes import CannotExpandError, has_all, read_within
from inspector.write.qoperators import computes_with_integers, expand
from inspector.write.upgrade import opened

_GRIDS = ("QuantizeLinear", "DequantizeLinear")

_NEVER_NEGATIVE = frozenset("Relu Sigmoid Softmax HardSigmoid Abs Exp Sqrt".split())

_KEEP_SIGN = frozenset(
    "MaxPool AveragePool GlobalAveragePool GlobalMaxPool Flatten Reshape Transpose Identity "
    "Squeeze Unsqueeze ReduceMean ReduceMax ReduceSum Slice Split Gather Expand Resize "
    "Dropout".split()
)

_FEW_BITS = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}
"""First and last number of types of which a whole number goes into a byte."""

_SIX = 6.0
"""Where Relu6 ends: the range of its outputs, as calibration finds it, ends there to the bit."""

_JOIN = frozenset("Add Concat Max Mean Mul Sum".split())
"""Operators that give nothing negative where they are given nothing negative."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dequantised:
    """A model without its grids.

    `steps` are the distances between the numbers that stored weights could have, by the name that
    they have in `model`, in the same shape or one that goes with it. `calibrated` says that
    activations lay on grids whose ranges are stored.
    """

    model: Model
    steps: Mapping[str, Any]
    calibrated: bool


def dequantised(model: Model) -> Dequantised | None:
    """The same layers with weights as real numbers and activations as they are.

    None where nothing is quantised in a form that is known (scales that are computed, operators
    that `inspector.write.qoperators` and `inspector.write.blocks` do not know), or where a node or
    a tensor is not well-formed: ONNX Runtime says then what is wrong with it.
    """
    if not isinstance(model.weights, ProtoWeights) or model.missing_data:
        return None
    if not any(_is_quantised(each.op_type) for each in model.graph.nodes):
        return None  # most models: nothing is copied for them
    proto = onnx.ModelProto()
    proto.CopyFrom(model.weights.proto)
    grids = _Grids(proto.graph, model.weights)
    try:
        grids.take_away()
    except CannotExpandError:  # left as it is, which None says
        return None
    return Dequantised(model=opened(model, proto), steps=grids.steps, calibrated=grids.calibrated)


def _is_quantised(op: str) -> bool:
    return (
        op in _GRIDS or op in BLOCK_OPERATORS or computes_with_integers(onnx.NodeProto(op_type=op))
    )


class _Grids:
    def __init__(self, graph: onnx.GraphProto, weights: ProtoWeights) -> None:
        self._graph = graph
        self._weights = weights
        self._stored = {each.name: each for each in graph.initializer}
        self._within = {name for node in graph.node for name in read_within(node)}
        # What a subgraph reads keeps its name, as the model's outputs do.
        self._ends = {each.name for each in graph.output} | self._within
        self._instead: dict[str, str] = {}
        """What is read in place of a value on a grid."""
        # What is fed lies within the grid of an input.
        self._never_negative = {each.name for each in graph.input}
        self.steps: dict[str, Any] = {}
        self.calibrated = False

    def take_away(self) -> None:
        """Take all of them away: no value on a grid is left.

        Raises
        ------
        CannotExpandError
            There is one that is not known, or is not well-formed.
        """
        self.steps.update(expand_blocks(self._graph, self._values))
        expand(self._graph, self._values)
        self._stored = {each.name: each for each in self._graph.initializer}
        kept = [each for node in self._graph.node for each in self._without_grid(node)]
        copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in kept]
        del self._graph.node[:]
        self._graph.node.extend(copies)
        self._forget_values()

    def _without_grid(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """What stands for a node; nothing where others read what it was given."""
        for at, name in enumerate(node.input):
            node.input[at] = self._instead.get(name, name)
        if node.op_type not in _GRIDS:
            if self._is_never_negative(node):
                self._never_negative.update(node.output)
            yield node
            return
        if not has_all(node, inputs=2):
            raise CannotExpandError("a grid without a scale, or of nothing")
        given, made = node.input[0], node.output[0]
        self.calibrated |= node.op_type == "QuantizeLinear"
        if node.op_type == "QuantizeLinear" and made in self._within:
            raise CannotExpandError("a value on a grid that a subgraph reads")
        if node.op_type == "QuantizeLinear" and self._begins_at_zero(node):
            self._never_negative.add(made)
            yield self._cut_off(node)
        elif node.op_type == "DequantizeLinear" and given in self._stored:
            self._store_real(node)
        elif made in self._ends:
            yield helper.make_node("Identity", [given], [made])
        else:
            self._instead[made] = given

    def _is_never_negative(self, node: onnx.NodeProto) -> bool:
        if not node.input:
            return False
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
        step = np.zeros(()) if scale is None else _checked_scale(self._values(scale))
        end = float(step.reshape(-1)[0]) * (points.max - points.min) if step.size == 1 else 0.0
        if abs(end - _SIX) > 1e-4:
            return helper.make_node("Relu", node.input[:1], node.output[:1], name=f"{name}/Relu")
        ends = [f"{name}/{each}" for each in ("min", "max")]
        for name, value in zip(ends, (0.0, _SIX), strict=True):
            bound = numpy_helper.from_array(np.array(value, step.dtype), name)
            self._graph.initializer.append(bound)
        given = [node.input[0], *ends]
        return helper.make_node("Clip", given, node.output[:1], name=f"{node.name}/Clip")

    def _store_real(self, node: onnx.NodeProto) -> None:
        """Stored weights as real numbers, and their steps, under the name of what is read."""
        name = node.output[0]
        real, steps = self._real(node)
        self._graph.initializer.append(numpy_helper.from_array(real, name))
        if steps is not None:
            self.steps[name] = steps

    def _real(self, node: onnx.NodeProto) -> tuple[Any, Any]:
        """Stored weights as real numbers, and their steps."""
        given = {each.name: each.i for each in node.attribute}
        tensors = [self._stored.get(name) for name in node.input if name]
        if any(each is None for each in tensors):
            raise CannotExpandError("a grid that is computed")
        values, scale, *zero = [self._values(each) for each in tensors if each is not None]
        axis, block = given.get("axis", 1), given.get("block_size", 0)
        scale = _along(_checked_scale(scale), values, axis, block)
        # Infinite products are what the operator gives, too.
        with np.errstate(over="ignore", invalid="ignore"):
            if not _is_integer(values):  # an 8-bit float: its steps grow with it
                if not _is_float(values):
                    raise CannotExpandError("values that no grid has")
                return values.astype(scale.dtype) * scale, None
            point = _point(zero[0], values, axis, block) if zero else np.int32(0)
            # As the operator has it: integers are subtracted as such, and then scaled.
            real = (values.astype(np.int32) - point).astype(scale.dtype) * scale
            steps = np.abs(scale)
        ends = _FEW_BITS.get(values.dtype.name)
        if ends is not None:
            steps = widened(steps, values.astype(np.int32), ends)
        return np.ascontiguousarray(real.reshape(values.shape)), steps

    def _values(self, tensor: onnx.TensorProto) -> Any:
        whole = self._weights.data.filled(tensor) if is_outside(tensor) else tensor
        try:
            return numpy_helper.to_array(whole)
        # What onnx and numpy raise on bytes that do not fit a tensor's dims and type.
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            raise CannotExpandError(f"a damaged tensor: {error}") from error

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


def _along(grid: Any, values: Any, axis: int, block: int) -> Any:
    """One number, or one for each place or block of an axis, in a shape that goes with `values`."""
    if block:
        return along_blocks(grid, values.shape, axis, block)
    if grid.size == 1:
        return grid.reshape(())
    fits = grid.ndim == 1 and -values.ndim <= axis < values.ndim
    if not fits or grid.size != values.shape[axis]:
        raise CannotExpandError("a scale or a zero point that does not go with its values")
    shape = [1] * values.ndim
    shape[axis] = -1
    return grid.reshape(shape)


def _point(zero: Any, values: Any, axis: int, block: int) -> Any:
    """Zero points in integers that their distances from `values` fit."""
    if not _is_integer(zero):
        raise CannotExpandError("a zero point that is no integer")
    return _along(zero.astype(np.int32), values, axis, block)


def _checked_scale(scale: Any) -> Any:
    if not _is_float(scale):
        raise CannotExpandError("a scale that is no real number")
    return scale


def _is_integer(values: Any) -> bool:
    """Those of four bits too, whose kind NumPy does not know."""
    return bool(values.dtype.kind in "iu" or values.dtype.name.startswith(("int", "uint")))


def _is_float(values: Any) -> bool:
    return bool(values.dtype.kind == "f" or values.dtype.name.startswith(("bfloat", "float")))
