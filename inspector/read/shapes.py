"""Shapes of intermediate values, by onnx's own inference on the graph without its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

import onnx

from inspector.errors import UnreadableError
from inspector.facts.model import Model, Value
from inspector.read.convert import Values
from inspector.read.copies import SMALL
from inspector.read.data import is_outside
from inspector.read.weights import ProtoWeights

MOST_STRETCHED = 2.0**20
"""Times that a Resize makes anything longer."""

MOST_ROUNDS = 64
"""Times that the nodes of an unsorted file are gone through; sorted ones take one."""


def with_inferred_shapes(model: Model) -> Model:
    """The same model with the shapes of intermediate values of the main graph filled in.

    Where inference fails, the model comes back as it is: shapes are evidence, not a promise.
    """
    weights = model.weights
    if not isinstance(weights, ProtoWeights) or _stretches_beyond_sense(weights.proto.graph):
        return model
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(weights), data_prop=True)
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        ValueError,
        RuntimeError,
        UnreadableError,
    ):
        return model
    values: dict[str, Value] = dict(Values(inferred.graph))
    # What the file declares stands; what it leaves open (an output without a shape) is filled in.
    values |= {
        name: each
        for name, each in model.graph.values.items()
        if each.dims is not None or name not in values
    }
    graph = replace(model.graph, values=MappingProxyType(values))
    return replace(model, graph=graph)


def _stretches_beyond_sense(graph: onnx.GraphProto) -> bool:
    """Whether a Resize has scales of which onnx makes negative lengths: it ends the process then.

    NaN or 1e38 becomes an int64 without a look (1.23), and a Slice behind it fails an assertion.
    """
    scales = {
        node.input[2 if len(node.input) > 2 else 1]
        for node in graph.node
        if node.op_type in ("Resize", "Upsample") and len(node.input) > 1
    }
    stored = [each for each in graph.initializer if each.name in scales]
    for node in graph.node:
        if node.op_type == "Constant" and scales.intersection(node.output):
            stored += [each.t for each in node.attribute if each.HasField("t")]
    stated = [
        value
        for node in graph.node
        if node.op_type == "Upsample"
        for each in node.attribute
        for value in (*each.floats, each.f)
    ]
    return any(not _is_a_scale(each) for each in (*stated, *_numbers(stored)))


def _numbers(stored: Sequence[onnx.TensorProto]) -> Iterator[float]:
    for each in stored:
        if each.data_type != onnx.TensorProto.FLOAT or is_outside(each) or each.ByteSize() > SMALL:
            continue
        with suppress(ValueError):  # what is damaged is left out: inference does not read it either
            yield from onnx.numpy_helper.to_array(each).reshape(-1).tolist()


def _is_a_scale(value: float) -> bool:
    return abs(value) <= MOST_STRETCHED  # NaN is not


def _without_weights(weights: ProtoWeights) -> onnx.ModelProto:
    """A copy that shares nothing and leaves the values of large initializers out."""
    proto = weights.proto
    bare = onnx.ModelProto(ir_version=proto.ir_version)
    bare.opset_import.extend(proto.opset_import)
    bare.functions.extend(proto.functions)
    graph = bare.graph
    graph.name = proto.graph.name or "graph"
    graph.node.extend(_in_order(proto.graph))
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    graph.value_info.extend(proto.graph.value_info)
    for tensor in weights.proto.graph.initializer:
        outside = is_outside(tensor)
        if (weights.data.length_outside(tensor) if outside else tensor.ByteSize()) <= SMALL:
            graph.initializer.append(weights.data.filled(tensor))
        else:
            # External data that is never opened: inference looks at type and dims alone.
            stub = graph.initializer.add(name=tensor.name, data_type=tensor.data_type)
            stub.dims.extend(tensor.dims)
            stub.data_location = onnx.TensorProto.EXTERNAL
            stub.external_data.add(key="location", value="left out")
    return bare


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes behind what they read: inference wants it, and ONNX Runtime runs files without it."""
    waiting = {name for node in graph.node for name in node.output if name}
    found: list[onnx.NodeProto] = []
    rest = list(graph.node)
    for _ in range(MOST_ROUNDS):
        late = []
        for node in rest:
            if waiting.isdisjoint(node.input):
                found.append(node)
                waiting.difference_update(node.output)
            else:
                late.append(node)
        if len(late) in (0, len(rest)):
            return found + late
        # A file in reverse order comes out in one round from its end.
        rest = late[::-1]
    return found + rest
