"""Put a BatchNormalization in the place of the arithmetic that a BatchNorm was ground down to.

The first operator becomes the BatchNormalization, and the others hand on what they get.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from inspector.facts.fix import NewTensor, WriteNative
from inspector.write.fix_bodies import (
    CannotFixError,
    forget,
    names_of,
    node_names,
    place_of,
    producer,
    prune,
    reads,
    remove,
    rename_reads,
    unique,
)

FIRST_WITHOUT_INPUTS = 4
"""From this IR version on, initializers need not be listed as inputs of the graph."""


def write_native(change: WriteNative, graph: onnx.GraphProto, proto: onnx.ModelProto) -> None:
    """Make the change in the graph that the arithmetic stands in.

    Raises
    ------
    inspector.write.fix_bodies.CannotFixError
        The arithmetic is not found again.
    """
    nodes = [producer(graph, output) for output, _ in change.links]
    for _, flow in change.links[1:]:
        producer(graph, flow)
    check_room(graph, proto)
    first, data = nodes[0], change.links[0][1]
    dropped = {name for node in nodes for name in node.input}
    vanished: set[str] = set()
    for node, (output, flow) in zip(nodes[1:], change.links[1:], strict=True):
        before = producer(graph, flow)
        remove(graph, node)
        before.output[list(before.output).index(flow)] = output
        # Others may still read its dims.
        rename_reads(graph, flow, output)
        vanished.add(flow)
    inputs = [
        held(each, graph, proto) if not each.held else each.held for each in change.parameters
    ]
    taken = node_names(proto.graph) - {node.name for node in nodes}
    target = first.output[0]
    first.op_type, first.name = "BatchNormalization", unique(change.name, taken)
    first.ClearField("domain")
    del first.attribute[:]
    first.attribute.append(helper.make_attribute("epsilon", change.epsilon))
    if change.axis == 1:
        _connect(first, [data, *inputs], target)
    else:
        dropped.add(data)
        vanished |= _turned(change, first, inputs, graph, proto)
    forget(graph, vanished)
    prune(proto.graph, dropped)


def check_room(graph: onnx.GraphProto, proto: onnx.ModelProto) -> None:
    """Refuse a graph that can hold no tensors of its own.

    Raises
    ------
    inspector.write.fix_bodies.CannotFixError
        See above.
    """
    if proto.ir_version < FIRST_WITHOUT_INPUTS and graph is not proto.graph:
        raise CannotFixError("graphs in a graph hold no tensors before IR version 4")


def held(new: NewTensor, graph: onnx.GraphProto, proto: onnx.ModelProto) -> str:
    """Store a tensor beside a graph's nodes; its name."""
    name = unique(new.name, names_of(proto.graph))
    tensor = numpy_helper.from_array(np.ascontiguousarray(new.values), name)
    if proto.ir_version < FIRST_WITHOUT_INPUTS:
        graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    graph.initializer.append(tensor)
    return name


def _turned(
    change: WriteNative,
    node: onnx.NodeProto,
    parameters: Sequence[str],
    graph: onnx.GraphProto,
    proto: onnx.ModelProto,
) -> set[str]:
    """Connect a node whose channels lie on another axis; the values that are no more."""
    there = (0, change.axis, *(at for at in range(1, change.rank) if at != change.axis))
    back = tuple(there.index(at) for at in range(change.rank))
    data, target = change.links[0][1], node.output[0]
    names, called = names_of(proto.graph), node_names(proto.graph)
    gone: set[str] = set()
    front = next((each for each in graph.node if data in each.output), None)
    behind = _only_reader(target, graph, proto)
    if front is not None and _is_transpose(front, back):
        source = front.input[0]
    else:
        source = unique(f"{data}_channels_first", names)
        _insert(graph, _transpose(data, source, there, unique(f"{node.name}_in", called)), node)
    if behind is not None and _is_transpose(behind, there):
        _connect(node, [source, *parameters], behind.output[0])
        remove(graph, behind)
        return {*gone, target}
    turned = unique(f"{target}_channels_first", names)
    _connect(node, [source, *parameters], turned)
    made = _transpose(turned, target, back, unique(f"{node.name}_out", called))
    _insert(graph, made, node, after=True)
    return gone


def _connect(node: onnx.NodeProto, inputs: Sequence[str], output: str) -> None:
    del node.input[:]
    node.input.extend(inputs)
    node.output[0] = output


def _transpose(data: str, output: str, perm: Sequence[int], name: str) -> onnx.NodeProto:
    return helper.make_node("Transpose", [data], [output], name=name, perm=perm)


def _insert(
    graph: onnx.GraphProto, new: onnx.NodeProto, beside: onnx.NodeProto, *, after: bool = False
) -> None:
    graph.node.insert(place_of(graph, beside) + after, new)


def _only_reader(
    value: str, graph: onnx.GraphProto, proto: onnx.ModelProto
) -> onnx.NodeProto | None:
    """The node of this graph that reads a value, where that is the only thing that does."""
    if reads(proto.graph)[value] != 1:
        return None
    return next((each for each in graph.node if value in each.input), None)


def _is_transpose(node: onnx.NodeProto, perm: Sequence[int]) -> bool:
    if node.op_type != "Transpose" or node.domain not in ("", "ai.onnx"):
        return False
    return any(each.name == "perm" and tuple(each.ints) == perm for each in node.attribute)
