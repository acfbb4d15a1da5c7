"""A model line by line, as ``--diff`` shows it: ONNX's text form without its tensors' values.

Nothing here is made safe for a terminal: names are as the file has them.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from inspector.read.strings import text

_CONTEXT = 1
_SHOWN = 8
"""Elements up to which a tensor's values are written."""


def difference(before: onnx.ModelProto, after: onnx.ModelProto, path: str) -> tuple[str, ...]:
    """Lines of a unified diff of two models; none where they are the same."""
    left, right = list(_model(before)), list(_model(after))
    found = difflib.unified_diff(left, right, path, f"{path} (fixed)", n=_CONTEXT, lineterm="")
    return tuple(found)


def _model(proto: onnx.ModelProto) -> Iterator[str]:
    yield f"ir_version: {proto.ir_version}"
    for each in proto.opset_import:
        yield f'opset_import: "{text(each.domain)}" {each.version}'
    for entry in proto.metadata_props:
        yield f"metadata {text(entry.key)}: {_digest(str(entry.value).encode())}"
    yield from _graph(proto.graph, "")
    for function in proto.functions:
        yield f"function {text(function.domain)}.{text(function.name)}"
        yield from _nodes(function.node, "  ")


def _graph(graph: onnx.GraphProto, indent: str) -> Iterator[str]:
    yield f"{indent}graph {text(graph.name)}"
    indent += "  "
    for value in graph.input:
        yield f"{indent}input {_type(value)} {text(value.name)}"
    for value in graph.output:
        yield f"{indent}output {_type(value)} {text(value.name)}"
    for tensor in graph.initializer:
        yield f"{indent}{_tensor(tensor)}"
    yield from _nodes(graph.node, indent)


def _nodes(nodes: Any, indent: str) -> Iterator[str]:
    for node in nodes:
        plain = []
        inside = []
        for each in node.attribute:
            if each.HasField("g") or each.graphs:
                inside.append(each)
            else:
                plain.append(f"{text(each.name)} = {_attribute(each)}")
        name = f"[{text(node.name)}] " if node.name else ""
        operator = f"{text(node.domain)}.{node.op_type}" if node.domain else text(node.op_type)
        told = f" <{', '.join(plain)}>" if plain else ""
        outputs = ", ".join(text(each) for each in node.output)
        inputs = ", ".join(text(each) for each in node.input)
        yield f"{indent}{name}{outputs} = {operator}{told} ({inputs})"
        for each in inside:
            for graph in (*((each.g,) if each.HasField("g") else ()), *each.graphs):
                yield f"{indent}  {text(each.name)}:"
                yield from _graph(graph, indent + "    ")


def _type(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = [
        text(each.dim_param) if each.dim_param else str(each.dim_value) for each in tensor.shape.dim
    ]
    return f"{_dtype(tensor.elem_type)}[{','.join(dims)}]"


def _tensor(tensor: TensorProto) -> str:
    dims = ",".join(str(each) for each in tensor.dims)
    return f"{_dtype(tensor.data_type)}[{dims}] {text(tensor.name)} = {_values(tensor)}"


def _values(tensor: TensorProto) -> str:
    """A tensor's values where they are few, else what tells them from others."""
    if tensor.data_location == TensorProto.EXTERNAL:
        told = {each.key: each.value for each in tensor.external_data}
        return f"in {text(told.get('location', '?'))} from {told.get('offset', '0')} on"
    try:
        values = numpy_helper.to_array(tensor)
    # Whatever numpy and onnx make of damaged bytes: they are told apart all the same.
    except (ValueError, TypeError, KeyError, IndexError):
        return _digest(tensor.SerializeToString(deterministic=True))
    if values.size <= _SHOWN and values.dtype.kind in "fiub":
        return f"{{{', '.join(map(str, values.reshape(-1).tolist()))}}}"
    if values.dtype.hasobject:  # an array of strings holds where they lie, which is never the same
        return _digest(tensor.SerializeToString(deterministic=True))
    return _digest(np.ascontiguousarray(values).tobytes())


def _attribute(each: AttributeProto) -> str:
    if each.ref_attr_name:
        return f"@{text(each.ref_attr_name)}"
    match each.type:
        case AttributeProto.FLOAT:
            return str(np.float32(each.f))
        case AttributeProto.INT:
            return str(each.i)
        case AttributeProto.INTS:
            return f"[{', '.join(map(str, each.ints))}]"
        case AttributeProto.TENSOR:
            return _tensor(each.t)
        case AttributeProto.STRING:
            return repr(each.s.decode("utf-8", "replace"))
        case _:
            return _digest(each.SerializeToString(deterministic=True))


def _digest(data: bytes) -> str:
    return f"{{… {hashlib.sha256(data).hexdigest()[:12]}}}"


def _dtype(number: int) -> str:
    try:
        return str(helper.tensor_dtype_to_string(number)).rpartition(".")[2].lower()
    except KeyError:  # no type of ONNX
        return f"type {number}"
