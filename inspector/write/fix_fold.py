"""Fold a BatchNormalization into the Conv, ConvTranspose or Gemm in front of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from inspector.facts.fix import Fold, NewTensor
from inspector.facts.model import Node
from inspector.write.fix_bodies import (
    CannotFixError,
    forget,
    keep,
    producer,
    prune,
    reads,
    remove,
    rename_reads,
)
from inspector.write.fix_native import check_room, held

Array = NDArray[Any]


def folded(
    node: Node, weights: Array, bias: Array | None, slope: Array, intercept: Array
) -> tuple[Array, Array]:
    """Weights and bias of an operator that does what a BatchNorm behind it did.

    All is computed in float64, and rounded once to the type of the weights.

    Parameters
    ----------
    node
        A Conv with weights [M, C/group, …], a ConvTranspose with [C, M/group, …], or a Gemm with
        [K, N], or [N, K] under transB; alpha stays as it is, and beta becomes one.
    bias
        [M], or of a Gemm what broadcasts to [rows, N]; None where there is none.
    slope, intercept
        Of the BatchNorm, float64 of shape [M].
    """
    wide = weights.astype(np.float64)
    channels = slope.size
    offset = np.zeros(channels) if bias is None else bias.astype(np.float64)
    with np.errstate(all="ignore"):  # who asks looks at what is not finite
        match node.op_type:
            case "Conv":
                wide = wide * slope.reshape(-1, *(1 for _ in wide.shape[1:]))
            case "ConvTranspose":
                group = node.int_attribute("group", 1)
                split = wide.reshape(group, -1, *wide.shape[1:])
                by = slope.reshape(group, 1, -1, *(1 for _ in wide.shape[2:]))
                wide = (split * by).reshape(wide.shape)
            case _:
                by = slope.reshape(-1, 1) if node.int_attribute("transB", 0) else slope
                wide = wide * by
                offset = offset * node.float_attribute("beta", 1.0)
        offset = offset * slope + intercept
        return wide.astype(weights.dtype), offset.astype(weights.dtype)


def fold(change: Fold, graph: onnx.GraphProto, proto: onnx.ModelProto) -> None:
    """Make the change in the graph that both nodes stand in.

    Raises
    ------
    inspector.write.fix_bodies.CannotFixError
        The two are not found again.
    """
    norm, linear = producer(graph, change.output), producer(graph, change.into)
    dropped = {*norm.input[1:], *linear.input[1:]}
    between, value = [], norm.input[0]
    while value != change.into:
        node = producer(graph, value)
        if node.op_type != "Identity":
            raise CannotFixError(f"{node.op_type} stands between the two")
        between.append(node)
        value = node.input[0]
    check_room(graph, proto)
    wanted = linear.name or change.into
    _store(change.weights, linear, 1, f"{wanted}_weight", graph, proto)
    _store(change.bias, linear, 2, f"{wanted}_bias", graph, proto)
    if linear.op_type == "Gemm":
        keep(linear.attribute, lambda each: each.name != "beta")
    remove(graph, norm)
    vanished = {change.into, *(each.output[0] for each in between)}
    for each in between:
        remove(graph, each)
    linear.output[0] = change.output
    for name in vanished:  # others may still read its dims
        rename_reads(graph, name, change.output)
    forget(graph, vanished)
    prune(proto.graph, dropped)


def _store(
    values: Array,
    node: onnx.NodeProto,
    position: int,
    wanted: str,
    graph: onnx.GraphProto,
    proto: onnx.ModelProto,
) -> None:
    """Let a node read these values: in the place of its own, where nobody else reads those."""
    while len(node.input) <= position:
        node.input.append("")
    name = node.input[position]
    own = next((each for each in graph.initializer if each.name == name), None)
    listed = any(each.name == name for each in proto.graph.input)
    same = own is not None and tuple(own.dims) == values.shape and not listed
    if own is not None and same and reads(proto.graph)[name] == 1:
        made = numpy_helper.from_array(np.ascontiguousarray(values), name)
        if own.HasField("doc_string"):
            made.doc_string = own.doc_string
        made.metadata_props.extend(own.metadata_props)
        own.CopyFrom(made)
        return
    new = NewTensor(name=f"{name}_folded" if name else wanted, values=values)
    node.input[position] = held(new, graph, proto)
