"""BatchNormalizations of old opsets and drafts that no operator of today does, written out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto

if TYPE_CHECKING:
    from inspector.write.modern import Writer

_AXES_AS_INPUT = 13
"""The first opset in which Unsqueeze takes its axes as an input."""


def per_activation(writer: Writer, node: NodeProto, given: dict[str, Any]) -> None:
    """`spatial` 0: a parameter for each place, of the shape of one row."""
    x, scale, bias, mean, var = node.input
    epsilon = writer.store(np.float32(given.get("epsilon", 1e-5)))
    deviation = writer.add("Sqrt", [writer.add("Add", [var, epsilon])])
    centred = writer.add("Sub", [x, mean])
    normal = writer.add("Div", [centred, deviation])
    scaled = writer.add("Mul", [normal, scale])
    writer.add("Add", [scaled, bias], node.output[0], name=node.name or None)


def training(writer: Writer, node: NodeProto, given: dict[str, Any]) -> None:
    """Normalised by the batch: Y, the moved mean and variance, the batch's mean and variance."""
    x, scale, bias, mean, var = node.input
    rank = writer.rank(x)
    axes = [axis for axis in range(rank) if axis != 1]
    along = list(range(1, rank - 1))

    def channels(name: str) -> str:
        if not along:
            return name
        return _with_axes(writer, "Unsqueeze", name, along)

    epsilon = writer.store(np.float32(given.get("epsilon", 1e-5)))
    # ReduceMean takes its axes as an attribute up to opset 17: that is all that is written here.
    own_mean = writer.add("ReduceMean", [x], axes=axes, keepdims=0)
    centred = writer.add("Sub", [x, channels(own_mean)])
    squares = writer.add("Mul", [centred, centred])
    own_var = writer.add("ReduceMean", [squares], axes=axes, keepdims=0)
    deviation = writer.add("Sqrt", [writer.add("Add", [own_var, epsilon])])
    normal = writer.add("Div", [centred, channels(deviation)])
    scaled = writer.add("Mul", [normal, channels(scale)])
    writer.add("Add", [scaled, channels(bias)], node.output[0], name=node.name or None)
    momentum = given.get("momentum", 0.9)
    for at, (old, new) in enumerate(((mean, own_mean), (var, own_var)), 1):
        if at < len(node.output) and node.output[at]:
            kept = writer.add("Mul", [old, writer.store(np.float32(momentum))])
            fresh = writer.add("Mul", [new, writer.store(np.float32(1 - momentum))])
            writer.add("Add", [kept, fresh], node.output[at])
    for at, new in enumerate((own_mean, own_var), 3):
        if at < len(node.output) and node.output[at]:
            writer.add("Identity", [new], node.output[at])


def _with_axes(writer: Writer, op_type: str, name: str, axes: list[int]) -> str:
    if writer.target < _AXES_AS_INPUT:
        return writer.add(op_type, [name], axes=axes)
    return writer.add(op_type, [name, writer.store(np.asarray(axes, np.int64))])
