"""Small models of every way to store what the reader reads: where fuzzing begins.

`seeds` are valid and small. `bombs` are just under the size that the promises hold for, and as
hard to read as a file of that size can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from . import wire

DATA = Path(__file__).resolve().parents[2] / "tests" / "data"
LARGEST = 20_000
"""Bytes of a seed: larger ones make every mutation slow."""

BOMB = 990_000
"""Bytes of a bomb: a little under the 1,000,000 that the promises hold for."""

PARAMETERS = ("s", "b", "m", "v")
HEADER = '<ir_version: 8, opset_import: ["": 17]>'
FEW = "float[2] s = {1, 2}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4}, float[2] v = {1, 9}"

TEXTS = {
    "conv bn relu": f"""{HEADER} g (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
        <float[2, 2, 1, 1] w = {{1, 2, 3, 4}}, {FEW}>
        {{ c = Conv (x, w)
           n = BatchNormalization <epsilon = 0.001, momentum = 0.99> (c, s, b, m, v)
           y = Relu (n) }}""",
    "fed parameters": f"""{HEADER} g (float[N, 2] x, float[2] s, float[2] b, float[2] m, float[2] v)
        => (float[N, 2] y) {{ y = BatchNormalization (x, s, b, m, v) }}""",
    "if": f"""{HEADER} g (bool c, float[N, 2] x) => (float[N, 2] y) <{FEW}>
        {{ y = If (c) <then_branch = a () => (float[N, 2] t)
             {{ t = BatchNormalization (x, s, b, m, v) }},
           else_branch = e () => (float[N, 2] f) {{ f = Identity (x) }}> }}""",
    "loop": f"""{HEADER} g (int64 n, bool c, float[N, 2] x) => (float[N, 2] y) <{FEW}>
        {{ y = Loop (n, c, x) <body = a (int64 i, bool k, float[N, 2] z)
             => (bool k2, float[N, 2] t)
             {{ k2 = Identity (k) t = BatchNormalization (z, s, b, m, v) }}> }}""",
    "scan": f"""{HEADER} g (float[2] h, float[3, 2] x) => (float[2] y, float[3, 2] z)
        {{ y, z = Scan <num_scan_inputs = 1, body = a (float[2] p, float[2] q)
             => (float[2] r, float[2] t) {{ r = Add (p, q) t = Identity (r) }}> (h, x) }}""",
    "functions": f"""<ir_version: 10, opset_import: ["": 17, "local": 1]>
        g (float[N, 2] x) => (float[N, 2] y) <{FEW}>
        {{ h = local.outer <eps = 0.1> (x, s, b, m, v) y = local.outer (h, s, b, m, v) }}
        <opset_import: ["": 17, "local": 1], domain: "local">
        outer <eps: float = 0.01> (x, s, b, m, v) => (y) {{ y = local.inner (x, s, b, m, v) }}
        <opset_import: ["": 17], domain: "local">
        inner (x, s, b, m, v) => (y)
        {{ y = BatchNormalization <epsilon: float = @eps> (x, s, b, m, v) }}""",
    "arithmetic": f"""{HEADER} g (float[N, 2] x) => (float[N, 2] y)
        <{FEW}, float e = {{0.001}}, int64[2] last = {{1, 2}}, int64[1] axis = {{0}}>
        {{ a = Add (v, e) q = Sqrt (a) r = Reciprocal (q) k = Mul (r, s)
           w = Unsqueeze (k, axis) t = Reshape (m, last)
           d = Sub (x, t) h = Cast <to = 1> (d) p = Mul (h, w) n = Add (p, b)
           u = Mul (n, s) o = Relu (u) y = Add (o, b) }}""",
    "chains": f"""{HEADER} g (float[N, 2] x) => (float[N, 2] y)
        <{FEW}, int64[1] two = {{2}}, int64[1] zero = {{0}}, float[4] all = {{1, 2, 3, 4}},
         uint8[2] i = {{1, 9}}, float f = {{0.5}}>
        {{ n = ConstantOfShape <value = float[1] {{2}}> (two)
           c = Slice (all, zero, two) j = Concat <axis = 0> (c, s) l, o = Split <axis = 0> (j)
           d = DequantizeLinear (i, f) t = Expand (d, two) z = Pow (v, f) k = Tile (f, two)
           h = BatchNormalization (x, n, l, o, t)
           y = BatchNormalization (h, k, z, c, d) }}""",
    "layer norm": f"""{HEADER} g (float[N, 2] x) => (float[N, 2] y) <{FEW}, float e = {{0.001}}>
        {{ a = ReduceMean <axes = [-1]> (x) c = Sub (x, a) q = Mul (c, c)
           k = ReduceMean <axes = [-1]> (q) l = Add (k, e) r = Sqrt (l) n = Div (c, r)
           p = Mul (n, s) y = Add (p, b) }}""",
    "two domains": f"""<ir_version: 8, opset_import: ["": 17, "ai.onnx": 17, "com.acme": 3]>
        g (float[N, 2] x) => (float[N, 2] y) <{FEW}>
        {{ h = com.acme.Blur <radius = 2, label = "x", sizes = [1, 2], rates = [0.5]> (x)
           y = BatchNormalization (h, s, b, m, v) }}""",
}


def seeds() -> dict[str, bytes]:
    """Every seed by its name."""
    found = {name: onnx.parser.parse_model(each) for name, each in TEXTS.items()}
    found |= dict(_opsets()) | dict(_storages()) | dict(_constants()) | dict(_attributes())
    found |= {
        "sparse initializers": _sparse(),
        "external data": _external(),
        "if in if": _nested(8),
        "training info": _training(),
        "metadata and types": _described(),
        "exported functions call functions": calls(3, 1),
        "no nodes": helper.make_model(helper.make_graph([], "g", [], [])),
    }
    written = {name: each.SerializeToString() for name, each in found.items()}
    written["unpacked"] = _unpacked()
    written |= _texts(found["conv bn relu"])
    for path in sorted(DATA.glob("*.onnx")):
        if path.stat().st_size <= LARGEST and path.stem in ("keras_small", "torch_small"):
            written[path.stem] = path.read_bytes()
    assert all(len(each) <= LARGEST for each in written.values())
    return written


def others() -> dict[str, bytes]:
    """The first bytes of files that are no models: each is named and refused."""
    return {
        "gzip": b"\x1f\x8b" + bytes(40),
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(40),
        "zip": b"PK\x03\x04" + bytes(40),
        "gguf": b"GGUF\x03" + bytes(40),
        "tflite": b"\x1c\0\0\0TFL3" + bytes(40),
        "pickle": b"\x80\x02}q\x00." + bytes(40),
        "numpy": b"\x93NUMPY\x01\x00" + bytes(40),
        "a link of git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        "html": b"\n<!doctype html>\n<p>not found",
        "a tensor": TensorProto(
            name="t", data_type=1, dims=[1], raw_data=bytes(4)
        ).SerializeToString(),
        "a graph": onnx.parser.parse_model(TEXTS["scan"]).graph.SerializeToString(),
    }


def _texts(model: onnx.ModelProto) -> dict[str, bytes]:
    """The same model in ONNX's three text forms, which `target.py` tells by their first byte."""
    return {
        f"in {form}": onnx.serialization.registry.get(form).serialize_proto(model)
        for form in ("onnxtxt", "json", "textproto")
    }


def _bn(
    tensors: Iterable[TensorProto] = (),
    nodes: Sequence[onnx.NodeProto] = (),
    *,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    **attributes: object,
) -> onnx.ModelProto:
    """One BatchNormalization of two channels; `tensors` take the place of its own by name."""
    own = {name: numpy_helper.from_array(np.float32([1, 2]), name) for name in PARAMETERS}
    own |= {each.name: each for each in tensors}
    for node in nodes:
        own = {name: each for name, each in own.items() if name not in node.output}
    node = helper.make_node(
        "BatchNormalization", ["x", *PARAMETERS], list(outputs), name="bn", **attributes
    )
    graph = helper.make_graph(
        [*nodes, node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        initializer=list(own.values()),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _opsets() -> Iterator[tuple[str, onnx.ModelProto]]:
    five = ("y", "m2", "v2", "m3", "v3")
    yield "opset 1", _bn(opset=1, consumed_inputs=[0, 0, 0, 1, 1], is_test=1, spatial=1)
    yield "opset 6, training", _bn(opset=6, is_test=0, outputs=five)
    yield "opset 7, spatial", _bn(opset=7, spatial=0)
    yield "opset 9, training", _bn(opset=9, outputs=five)
    yield "opset 14, training", _bn(opset=14, outputs=five[:3], training_mode=1)
    yield "opset 15", _bn(opset=15, epsilon=0.1)
    old = _bn(opset=8)
    old.ir_version = 3
    old.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in PARAMETERS
    )
    yield "initializers listed as inputs", old


def _storages() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Every data type, in the field that ONNX has for its values and in `raw_data`."""
    typed = []
    for name, number in TensorProto.DataType.items():
        if number != TensorProto.UNDEFINED:
            values = [b"a", b"\xff"] if number == TensorProto.STRING else [1, 0]
            typed.append(helper.make_tensor(name.lower(), number, [2], values))
    raw = [
        numpy_helper.from_array(numpy_helper.to_array(each), each.name)
        for each in typed
        if each.data_type != TensorProto.STRING
    ]
    yield "stored by type", _bn(typed)
    yield "stored raw", _bn(raw)
    for each in typed:
        if each.name in ("float16", "bfloat16", "double", "int4"):
            each.name = "s"
            yield f"parameter of {TensorProto.DataType.Name(each.data_type).lower()}", _bn([each])


def _constants() -> Iterator[tuple[str, onnx.ModelProto]]:
    """The ways in which a Constant says its value."""
    values: dict[str, object] = {
        "value": numpy_helper.from_array(np.float32([1, 2])),
        "value_float": 1.5,
        "value_floats": [1.0, 2.0],
        "value_int": 3,
        "value_ints": [1, 2],
        "value_string": b"x",
        "value_strings": [b"x", b"y"],
        "sparse_value": _sparse_tensor("", [2], [0.5], [1], [1]),
    }
    outputs = dict(zip(values, ("v", "t1", "s", "t2", "t3", "t4", "t5", "b"), strict=True))
    yield (
        "constants",
        _bn(
            nodes=[
                helper.make_node("Constant", [], [outputs[name]], **{name: value})
                for name, value in values.items()
            ]
        ),
    )


def _attributes() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Attributes of kinds that no standard operator has, and one that leaves its kind out."""
    tensor = numpy_helper.from_array(np.float32([1, 2]), "t")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "sub", [], [])
    sparse = _sparse_tensor("sp", [4], [1.0], [2], [1])
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    node = helper.make_node("Odd", ["x"], ["o"], domain="com.acme")
    for name, value in {
        **{"tensors": [tensor, tensor], "graphs": [graph, graph], "graph": graph},
        **{"sparses": [sparse, sparse], "sparse": sparse, "kind": kind, "kinds": [kind]},
        **{"text": "x", "texts": ["a", "b"], "whole": 3, "wholes": [1, 2], "real": 0.5},
    }.items():
        node.attribute.append(helper.make_attribute(name, value))
    node.attribute.append(AttributeProto(name="untyped", f=0.5))
    node.attribute.append(AttributeProto(name="empty"))
    yield "attributes of every kind", _bn(nodes=[node])


def _sparse_tensor(
    name: str, dims: list[int], values: list[float], indices: list[int], shape: list[int]
) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values),
        helper.make_tensor("", TensorProto.INT64, shape, indices),
        dims,
    )


def _sparse() -> onnx.ModelProto:
    model = _bn()
    del model.graph.initializer[:2]
    model.graph.sparse_initializer.append(_sparse_tensor("s", [2], [3.0], [1], [1]))
    model.graph.sparse_initializer.append(_sparse_tensor("b", [2, 1], [3.0], [1, 0], [1, 2]))
    return model


def _external() -> onnx.ModelProto:
    """Values in the data file that `target.py` lays beside every input."""
    model = _bn()
    for at, tensor in enumerate(model.graph.initializer):
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="data.bin")
        if at:
            tensor.external_data.add(key="offset", value=str(8 * at))
            tensor.external_data.add(key="length", value="8")
    return model


def _nested(depth: int) -> onnx.ModelProto:
    graph = onnx.parser.parse_model(TEXTS["conv bn relu"]).graph
    for at in range(depth):
        node = helper.make_node("If", ["c"], ["y"], name=f"if{at}")
        node.attribute.append(helper.make_attribute("then_branch", graph))
        graph = helper.make_graph([node], f"level{at}", [], [])
    return helper.make_model(graph)


def _training() -> onnx.ModelProto:
    model = _bn()
    info = model.training_info.add()
    info.initialization.CopyFrom(model.graph)
    info.algorithm.CopyFrom(model.graph)
    info.update_binding.add(key="s", value="b")
    return model


def _described() -> onnx.ModelProto:
    """Every field that says something about the model rather than computing anything."""
    model = _bn()
    model.producer_name, model.producer_version = "fuzz", "1"
    model.domain, model.model_version, model.doc_string = "a.b", 3, "words"
    model.metadata_props.add(key="bninspect.manifest", value='{"version": 1}')
    model.metadata_props.add(key="k", value="v")
    model.graph.metadata_props.add(key="k", value="v")
    model.graph.node[0].doc_string = "words"
    model.graph.node[0].metadata_props.add(key="k", value="v")
    model.graph.quantization_annotation.add(tensor_name="s")
    make = helper.make_tensor_type_proto(TensorProto.FLOAT, [1, "N", None])
    kinds = {
        "sequence": helper.make_sequence_type_proto(make),
        "optional": helper.make_optional_type_proto(make),
        "map": helper.make_map_type_proto(TensorProto.INT64, make),
        "sparse": helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]),
        "dense": make,
    }
    model.graph.value_info.extend(
        helper.make_value_info(name, each) for name, each in kinds.items()
    )
    return model


def calls(levels: int, times: int) -> onnx.ModelProto:
    """Functions that each call the next one, `times` times."""
    model = _bn()
    for at in range(levels):
        function = model.functions.add(name=f"f{at}", domain="local", input=["x"], output=["y"])
        function.opset_import.add(domain="", version=17)
        callee = f"f{at + 1}" if at + 1 < levels else "Relu"
        for time in range(times):
            function.node.add(op_type=callee, domain="local", input=["x"], output=[f"y{time}"])
        if at + 1 == levels:
            function.node.append(model.graph.node[0])
    model.graph.node.add(op_type="f0", domain="local", input=["x"], output=["z"])
    return model


def _unpacked() -> bytes:
    """Repeated numbers one by one, as proto2 allows where proto3 and onnx pack them."""
    dims = b"\x08\x02"  # field 1, a varint of 2
    floats = b"".join(b"\x25" + np.float32(value).tobytes() for value in (1, 2))
    tensor = dims + b"\x10\x01" + floats + wire.field(8, b"s")
    bare = _bn()
    del bare.graph.initializer[0]
    graph = bare.graph.SerializeToString() + wire.field(5, tensor)
    bare.ClearField("graph")
    return bare.SerializeToString() + wire.field(7, graph)


# --- bombs

_NODE, _NAME, _INITIALIZER, _SPARSE, _INPUT, _VALUE_INFO = 1, 2, 5, 15, 11, 13
_GRAPH, _FUNCTION, _METADATA, _OPSET = 7, 25, 14, 8
_IR = b"\x08\x08"


def bombs(size: int = BOMB) -> dict[str, bytes]:
    """Files of at most `size` bytes, each of as much as possible of one thing.

    Some need only a few bytes to ask for a lot.
    """
    node = wire.field(_NODE, b"")
    norm = onnx.NodeProto(op_type="BatchNormalization", input=["", *PARAMETERS]).SerializeToString()
    attribute = wire.field(_NODE, wire.field(5, b"") * 30)
    deep = _nested(20).graph.SerializeToString()
    many: dict[str, bytes] = {
        "nodes": wire.field(_GRAPH, _filled(size, node)),
        "batchnorms": wire.field(_GRAPH, _filled(size, wire.field(_NODE, norm))),
        "attributes": wire.field(_GRAPH, _filled(size, attribute)),
        "attributes of one node": wire.field(
            _GRAPH, wire.field(_NODE, _filled(size, wire.field(5, b"")))
        ),
        "inputs of one node": wire.field(
            _GRAPH, wire.field(_NODE, _filled(size, wire.field(1, b"")))
        ),
        "one name read again and again": wire.field(
            _GRAPH, _filled(size, wire.field(_NODE, wire.field(1, b"x") + wire.field(2, b"x")))
        ),
        "initializers": wire.field(_GRAPH, _filled(size, wire.field(_INITIALIZER, b""))),
        "named initializers": wire.field(_GRAPH, _numbered(size, _INITIALIZER, 8)),
        "sparse initializers": wire.field(_GRAPH, _filled(size, wire.field(_SPARSE, b""))),
        "inputs": wire.field(_GRAPH, _filled(size, wire.field(_INPUT, b""))),
        "named inputs": wire.field(_GRAPH, _numbered(size, _INPUT, 1)),
        "named values": wire.field(_GRAPH, _numbered(size, _VALUE_INFO, 1)),
        "dims": wire.field(_GRAPH, wire.field(_INITIALIZER, _filled(size, b"\x08\x01"))),
        "dims, packed": wire.field(_GRAPH, wire.field(_INITIALIZER, wire.field(1, b"\x01" * size))),
        "graphs": wire.field(_GRAPH, b"") * (size // 2),
        "functions": wire.field(_GRAPH, b"") + _filled(size, wire.field(_FUNCTION, b"")),
        "metadata": wire.field(_GRAPH, b"") + _filled(size, wire.field(_METADATA, b"")),
        "opsets": wire.field(_GRAPH, b"") + _filled(size, wire.field(_OPSET, b"")),
        "external entries": wire.field(
            _GRAPH, wire.field(_INITIALIZER, _filled(size, wire.field(13, b"")) + b"\x70\x01")
        ),
        "external tensors": wire.field(_GRAPH, _filled(size, wire.field(_INITIALIZER, _outside()))),
        "a long name": wire.field(_GRAPH, wire.field(_NODE, wire.field(3, b"n" * size))),
        "a long name of controls": wire.field(
            _GRAPH, wire.field(_NODE, wire.field(3, b"\x1b" * size) + norm)
        ),
        "nested graphs": wire.field(_GRAPH, _filled(size, deep)),
        "unknown fields": wire.field(_GRAPH, b"") + _filled(size, wire.field(1000, b"")),
        "groups": wire.field(_GRAPH, b"\x0b" * (size // 2) + b"\x0c" * (size // 2)),
    }
    found = {name: _IR + each for name, each in many.items()}
    for levels, times in ((40, 2), (14, 2), (2, 4000), (200, 1)):
        found[f"functions, {times} calls on {levels} levels"] = calls(
            levels, times
        ).SerializeToString()
    for name, dims in {"flat": [2**28], "square": [2**14, 2**14], "empty": [2**62, 0]}.items():
        found[f"sparse and {name}"] = batchnorm_of_sparse(dims).SerializeToString()
    for number in (TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT4):
        found[f"dims of {TensorProto.DataType.Name(number).lower()} without values"] = _bn(
            [TensorProto(name="s", data_type=number, dims=[2**29])]
        ).SerializeToString()
    return found


def _filled(size: int, element: bytes) -> bytes:
    return element * (size // len(element))


def _numbered(size: int, number: int, name_field: int) -> bytes:
    """As many elements as fit, each of its own name."""
    one = len(wire.field(number, wire.field(name_field, b"000000")))
    return b"".join(
        wire.field(number, wire.field(name_field, b"%06d" % at)) for at in range(size // one)
    )


def _outside() -> bytes:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="data.bin")
    return tensor.SerializeToString()


def batchnorm_of_sparse(dims: list[int]) -> onnx.ModelProto:
    """A BatchNorm's parameter that a few bytes spread out to whatever `dims` say."""
    model = _bn()
    del model.graph.initializer[0]
    sparse = model.graph.sparse_initializer.add(dims=dims)
    sparse.values.CopyFrom(helper.make_tensor("s", TensorProto.FLOAT, [0], []))
    sparse.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, [0], []))
    return model
