"""Turn the official protobuf messages into the facts of `inspector.facts.model`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto

from inspector.errors import UnreadableError
from inspector.facts.model import (
    Attribute,
    AttributeReference,
    Function,
    Graph,
    Node,
    Storage,
    Tensor,
    Value,
)
from inspector.read.weights import ProtoWeights, storage_of

_NUMPY_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}


def dtype_name(number: int) -> str:
    """ONNX's element type as numpy writes it; a number ONNX does not know as `type N`."""
    try:
        name: str = TensorProto.DataType.Name(number)
    except ValueError:
        return f"type {number}"
    return _NUMPY_NAMES.get(name, name.lower())


class Converter:
    """Converts one model's messages; its tensors go to `weights`, which hands out their keys."""

    def __init__(self, weights: ProtoWeights, where: str) -> None:
        self._weights = weights
        self._where = where

    def graph(self, proto: onnx.GraphProto) -> Graph:
        """A graph with its subgraphs."""
        initializers = {each.name: self.tensor(each) for each in proto.initializer}
        for sparse in proto.sparse_initializer:
            initializers[sparse.values.name] = self._sparse(sparse)
        inputs = tuple(_value(each) for each in proto.input)
        outputs = tuple(_value(each) for each in proto.output)
        values = {each.name: _value(each) for each in proto.value_info}
        values |= {each.name: each for each in (*inputs, *outputs)}
        return Graph(
            name=proto.name,
            nodes=tuple(self._node(each) for each in proto.node),
            inputs=inputs,
            outputs=outputs,
            initializers=MappingProxyType(initializers),
            values=MappingProxyType(values),
        )

    def function(self, proto: onnx.FunctionProto) -> Function:
        """A model-local function."""
        return Function(
            domain=proto.domain,
            name=proto.name,
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            nodes=tuple(self._node(each) for each in proto.node),
            opsets=MappingProxyType(
                {"" if o.domain == "ai.onnx" else o.domain: o.version for o in proto.opset_import}
            ),
        )

    def tensor(self, proto: onnx.TensorProto, storage: Storage = Storage.INITIALIZER) -> Tensor:
        """A stored tensor, known by its place."""
        external = next((e.value for e in proto.external_data if e.key == "location"), "")
        return Tensor(
            name=proto.name,
            dtype=dtype_name(proto.data_type),
            dims=self._dims(proto.name, proto.dims),
            storage=storage,
            key=self._weights.add(proto),
            external=external if proto.data_location == TensorProto.EXTERNAL else "",
        )

    def _sparse(self, proto: onnx.SparseTensorProto) -> Tensor:
        return Tensor(
            name=proto.values.name,
            dtype=dtype_name(proto.values.data_type),
            dims=self._dims(proto.values.name, proto.dims),
            storage=storage_of(proto),
            key=self._weights.add(proto),
        )

    def _dims(self, name: str, dims: Any) -> tuple[int, ...]:
        checked = tuple(dims)
        if any(dim < 0 for dim in checked):
            raise UnreadableError(
                f"tensor {name!r} has a negative dimension: {list(checked)}",
                where=self._where,
                hint="export the model again",
            )
        return checked

    def _node(self, proto: onnx.NodeProto) -> Node:
        return Node(
            op_type=proto.op_type,
            domain=proto.domain,
            name=proto.name,
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes=MappingProxyType(
                {each.name: self._attribute(each) for each in proto.attribute}
            ),
        )

    def _attribute(self, proto: onnx.AttributeProto) -> Attribute:
        if proto.ref_attr_name:
            return AttributeReference(name=proto.ref_attr_name)
        match proto.type:
            case AttributeProto.INT:
                return int(proto.i)
            case AttributeProto.FLOAT:
                return float(proto.f)
            case AttributeProto.STRING:
                return bytes(proto.s)
            case AttributeProto.TENSOR:
                return self.tensor(proto.t, Storage.ATTRIBUTE)
            case AttributeProto.GRAPH:
                return self.graph(proto.g)
            case AttributeProto.INTS:
                return tuple(proto.ints)
            case AttributeProto.FLOATS:
                return tuple(proto.floats)
            case AttributeProto.STRINGS:
                return tuple(proto.strings)
            case AttributeProto.TENSORS:
                return tuple(self.tensor(each, Storage.ATTRIBUTE) for each in proto.tensors)
            case AttributeProto.GRAPHS:
                return tuple(self.graph(each) for each in proto.graphs)
            case AttributeProto.SPARSE_TENSOR:
                return self._sparse(proto.sparse_tensor)
            case _:
                return _untyped(proto)


def _untyped(proto: onnx.AttributeProto) -> Attribute:
    """Files of IR version 1 may leave the type out: the one field that is set tells it."""
    if proto.ints:
        return tuple(proto.ints)
    if proto.floats:
        return tuple(proto.floats)
    if proto.HasField("f"):
        return float(proto.f)
    if proto.HasField("s"):
        return bytes(proto.s)
    return int(proto.i) if proto.HasField("i") else None


def _value(proto: onnx.ValueInfoProto) -> Value:
    if not proto.type.HasField("tensor_type"):
        return Value(name=proto.name, dtype=None, dims=None)
    tensor = proto.type.tensor_type
    return Value(
        name=proto.name,
        dtype=dtype_name(tensor.elem_type) if tensor.elem_type else None,
        dims=tuple(_dim(each) for each in tensor.shape.dim) if tensor.HasField("shape") else None,
    )


def _dim(proto: Any) -> int | str | None:
    match proto.WhichOneof("value"):
        case "dim_value":
            return int(proto.dim_value)
        case "dim_param":
            return str(proto.dim_param)
        case _:
            return None
