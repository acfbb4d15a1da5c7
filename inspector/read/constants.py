"""Constant nodes have six ways to write a value; after this they have one."""

from __future__ import annotations

from inspector.read.protos import AttributeProto, TensorProto

_VALUE_KINDS = {
    "value_float": ("f", TensorProto.FLOAT, "float_data"),
    "value_floats": ("floats", TensorProto.FLOAT, "float_data"),
    "value_int": ("i", TensorProto.INT64, "int64_data"),
    "value_ints": ("ints", TensorProto.INT64, "int64_data"),
    "value_string": ("s", TensorProto.STRING, "string_data"),
    "value_strings": ("strings", TensorProto.STRING, "string_data"),
}


def as_value(proto: AttributeProto) -> AttributeProto:
    """A Constant's `value_floats` and the like as the `value` tensor they stand for.

    Source: https://onnx.ai/onnx/operators/onnx__Constant.html.
    """
    kind = _VALUE_KINDS.get(proto.name)
    if kind is None or proto.ref_attr_name:
        return proto
    field, data_type, storage = kind
    held = getattr(proto, field)
    several = proto.name.endswith("s")
    tensor = TensorProto(data_type=data_type, dims=[len(held)] if several else [])
    getattr(tensor, storage).extend(held if several else [held])
    return AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor)
