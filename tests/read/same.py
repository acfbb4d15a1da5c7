"""Hold what the reader yields against onnx's own objects, down to the last bit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from inspector.facts.model import AttributeReference, Graph, Model, Node, Tensor

TYPES = {
    AttributeProto.INT: int,
    AttributeProto.FLOAT: float,
    AttributeProto.STRING: bytes,
    AttributeProto.TENSOR: Tensor,
    AttributeProto.GRAPH: Graph,
    AttributeProto.SPARSE_TENSOR: Tensor,
}


class Same:
    """Compares a model with onnx's; `tensors` counts those whose bits were compared."""

    def __init__(self, model: Model, proto: onnx.ModelProto) -> None:
        self.model = model
        self.proto = proto
        self.tensors = 0

    def check(self) -> None:
        model, proto = self.model, self.proto
        assert model.ir_version == proto.ir_version
        assert dict(model.opsets) == {
            "" if each.domain == "ai.onnx" else each.domain: each.version
            for each in proto.opset_import
        }
        assert dict(model.metadata) == {each.key: each.value for each in proto.metadata_props}
        self.graph(model.graph, proto.graph)
        assert len(model.functions) == len(
            {(f.domain, f.name, f.overload) for f in proto.functions}
        )
        for each in proto.functions:
            name = f"{each.name}:{each.overload}" if each.overload else each.name
            function = model.functions[each.domain, name]
            assert function.inputs == tuple(each.input)
            assert function.outputs == tuple(each.output)
            self.nodes(function.nodes, each.node)

    def graph(self, graph: Graph, proto: onnx.GraphProto) -> None:
        assert graph.name == proto.name
        self.nodes(graph.nodes, proto.node)
        assert [each.name for each in graph.inputs] == [each.name for each in proto.input]
        assert [each.name for each in graph.outputs] == [each.name for each in proto.output]
        declared = {each.name: each for each in (*proto.value_info, *proto.input, *proto.output)}
        assert graph.values.keys() == declared.keys()
        for name, value in declared.items():
            assert graph.values[name].dims == dims_of(value)
        stored = {each.name: each for each in proto.initializer}
        sparse = {each.values.name: each for each in proto.sparse_initializer}
        assert list(graph.initializers) == list(stored | sparse)
        for name, each in stored.items():
            if name not in sparse:
                self.tensor(graph.initializers[name], each)

    def nodes(self, nodes: Iterable[Node], protos: Iterable[onnx.NodeProto]) -> None:
        for node, proto in zip(nodes, protos, strict=True):
            assert (node.op_type, node.domain, node.name) == (
                proto.op_type,
                proto.domain,
                proto.name,
            )
            assert (node.inputs, node.outputs) == (tuple(proto.input), tuple(proto.output))
            refers = any(each.ref_attr_name for each in proto.attribute)
            if proto.op_type == "Constant" and proto.domain in ("", "ai.onnx") and not refers:
                self.constant(node, proto)
                continue
            assert list(node.attributes) == [each.name for each in proto.attribute]
            for each in proto.attribute:
                self.attribute(node.attributes[each.name], each)

    def constant(self, node: Node, proto: onnx.NodeProto) -> None:
        """Every way to write a constant becomes a tensor: the one that onnx's own types make."""
        (attribute,) = proto.attribute
        tensor = node.attributes.get("value") or node.attributes.get("sparse_value")
        assert isinstance(tensor, Tensor)
        if attribute.name == "value":
            self.tensor(tensor, attribute.t)
        elif attribute.name.startswith("value_"):
            value = helper.get_attribute_value(attribute)
            assert self.model.weights.load(tensor).tolist() == value

    def attribute(self, value: Any, proto: onnx.AttributeProto) -> None:
        if proto.ref_attr_name:
            assert value == AttributeReference(name=proto.ref_attr_name)
            return
        match proto.type:
            case AttributeProto.TENSOR:
                self.tensor(value, proto.t)
            case AttributeProto.GRAPH:
                self.graph(value, proto.g)
            case AttributeProto.TENSORS:
                for one, each in zip(value, proto.tensors, strict=True):
                    self.tensor(one, each)
            case AttributeProto.GRAPHS:
                for one, each in zip(value, proto.graphs, strict=True):
                    self.graph(one, each)
            case AttributeProto.FLOAT:
                assert np.float32(value).tobytes() == np.float32(proto.f).tobytes()
            case AttributeProto.FLOATS:
                assert np.float32(value).tobytes() == np.float32(list(proto.floats)).tobytes()
            case AttributeProto.UNDEFINED:
                pass  # IR version 1 left the type out, and onnx reads no value from such
            case _:
                expected = helper.get_attribute_value(proto)
                assert value == (tuple(expected) if isinstance(expected, list) else expected)

    def tensor(self, tensor: Tensor, proto: onnx.TensorProto) -> None:
        assert tensor.name == proto.name
        assert tensor.dims == tuple(proto.dims)
        folder = str(Path(self.model.path).parent)
        if tensor.external in self.model.missing_data:
            return
        expected = numpy_helper.to_array(proto, folder)
        values = self.model.weights.load(tensor)
        assert values.dtype == expected.dtype
        assert values.shape == expected.shape
        if proto.data_type == onnx.TensorProto.STRING:
            assert values.tolist() == expected.tolist()
        else:
            assert values.tobytes() == expected.tobytes()
        self.tensors += 1


def dims_of(value: onnx.ValueInfoProto) -> tuple[int | str | None, ...] | None:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(
        dim.dim_value
        if dim.HasField("dim_value")
        else dim.dim_param or None
        if not dim.HasField("dim_param")
        else dim.dim_param
        for dim in dims
    )
