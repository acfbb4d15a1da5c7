"""Turn the official protobuf messages into the facts of `inspector.facts.model`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from inspector.read.constants import as_value
from inspector.read.strings import text
from inspector.read.weights import ProtoWeights, storage_of

_NUMPY_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}

MOST_AXES = 64
"""NumPy's own limit; a tensor with more is damage or malice."""


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
        initializers = {text(each.name): self.tensor(each) for each in proto.initializer}
        for sparse in proto.sparse_initializer:
            initializers[text(sparse.values.name)] = self._sparse(sparse)
        inputs = tuple(_value(each) for each in proto.input)
        outputs = tuple(_value(each) for each in proto.output)
        known = (*(_value(each) for each in proto.value_info), *inputs, *outputs)
        values = {each.name: each for each in known}
        return Graph(
            name=text(proto.name),
            nodes=tuple(self._node(each) for each in proto.node),
            inputs=inputs,
            outputs=outputs,
            initializers=MappingProxyType(initializers),
            values=MappingProxyType(values),
        )

    def function(self, proto: onnx.FunctionProto) -> Function:
        """A model-local function."""
        return Function(
            domain=text(proto.domain),
            name=text(proto.name),
            inputs=tuple(map(text, proto.input)),
            outputs=tuple(map(text, proto.output)),
            nodes=tuple(self._node(each) for each in proto.node),
            opsets=opsets(proto.opset_import),
            attributes=self._attributes(proto.attribute_proto),
        )

    def tensor(self, proto: onnx.TensorProto, storage: Storage = Storage.INITIALIZER) -> Tensor:
        """A stored tensor, known by its place."""
        external = next((text(e.value) for e in proto.external_data if e.key == "location"), "")
        return Tensor(
            name=text(proto.name),
            dtype=dtype_name(proto.data_type),
            dims=self._dims(text(proto.name), proto.dims),
            storage=storage,
            key=self._weights.add(proto),
            external=external if proto.data_location == TensorProto.EXTERNAL else "",
        )

    def _sparse(self, proto: onnx.SparseTensorProto) -> Tensor:
        name = text(proto.values.name)
        return Tensor(
            name=name,
            dtype=dtype_name(proto.values.data_type),
            dims=self._dims(name, proto.dims),
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
        if len(checked) > MOST_AXES:
            raise UnreadableError(
                f"tensor {name!r} has {len(checked)} dimensions, more than {MOST_AXES}",
                where=self._where,
                hint="export the model again",
            )
        return checked

    def _node(self, proto: onnx.NodeProto) -> Node:
        op_type, domain = text(proto.op_type), text(proto.domain)
        constant = op_type == "Constant" and domain in ("", "ai.onnx")
        return Node(
            op_type=op_type,
            domain=domain,
            name=text(proto.name),
            inputs=tuple(map(text, proto.input)),
            outputs=tuple(map(text, proto.output)),
            attributes=self._attributes(
                map(as_value, proto.attribute) if constant else proto.attribute
            ),
            overload=text(proto.overload),
        )

    def _attributes(self, protos: Iterable[onnx.AttributeProto]) -> Mapping[str, Attribute]:
        return MappingProxyType({text(each.name): self.attribute(each) for each in protos})

    def attribute(self, proto: onnx.AttributeProto) -> Attribute:
        """The value of an attribute, in Python's types or as facts."""
        if proto.ref_attr_name:
            return AttributeReference(name=text(proto.ref_attr_name))
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
            case AttributeProto.SPARSE_TENSORS:
                return tuple(self._sparse(each) for each in proto.sparse_tensors)
            case _:
                return _untyped(proto)


def opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> Mapping[str, int]:
    """Version of each domain; the standard one has two spellings, and some files import both."""
    named = ((text(each.domain), each.version) for each in imports)
    return MappingProxyType({"" if name == "ai.onnx" else name: version for name, version in named})


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
        return Value(name=text(proto.name), dtype=None, dims=None)
    tensor = proto.type.tensor_type
    return Value(
        name=text(proto.name),
        dtype=dtype_name(tensor.elem_type) if tensor.elem_type else None,
        dims=tuple(_dim(each) for each in tensor.shape.dim) if tensor.HasField("shape") else None,
    )


def _dim(proto: Any) -> int | str | None:
    match proto.WhichOneof("value"):
        case "dim_value":
            return int(proto.dim_value)
        case "dim_param":
            return text(proto.dim_param)
        case _:
            return None
