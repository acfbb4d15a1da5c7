"""Values are those of onnx's own reader, bit for bit, wherever a tensor keeps them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inspector.errors import UnreadableError
from inspector.facts.model import Storage, Tensor
from inspector.read.external import stored_bytes
from inspector.read.open import open_model

RNG = np.random.default_rng(0)
TYPES = [number for name, number in TensorProto.DataType.items() if name != "UNDEFINED"]


def model_of(*tensors: TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph([], "g", [], [], initializer=list(tensors))
    return helper.make_model(graph)


def of_type(number: int, *, raw: bool) -> TensorProto:
    if number == TensorProto.STRING:
        return helper.make_tensor("t", number, [2], [b"a", "é".encode()])
    dtype = helper.tensor_dtype_to_np_dtype(number)
    values = RNG.integers(0, 2, 7).astype(dtype)
    if not raw:
        return helper.make_tensor("t", number, [7], values)
    return numpy_helper.from_array(values, "t")


def bits(array: np.ndarray) -> tuple[object, ...]:
    if array.dtype == object:
        return array.dtype, array.shape, tuple(array.reshape(-1))
    return array.dtype, array.shape, array.tobytes()


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed field"])
@pytest.mark.parametrize("number", TYPES, ids=TensorProto.DataType.Name)
def test_every_type_in_raw_data_and_in_its_field(number, raw, onnx_file):
    try:
        stored = of_type(number, raw=raw)
        expected = numpy_helper.to_array(stored)
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        pytest.skip(f"onnx itself has no such tensor: {error}")
    model = open_model(onnx_file(model_of(stored)))
    tensor = model.graph.initializers["t"]
    assert bits(model.weights.load(tensor)) == bits(expected)
    assert tensor.dims == tuple(stored.dims)


FIELDS = [
    ("FLOAT", "float_data", [1.5, float("nan"), -0.0]),
    ("DOUBLE", "double_data", [1e-300, float("inf"), 3.0]),
    ("INT64", "int64_data", [-(2**63), 0, 2**63 - 1]),
    ("UINT64", "uint64_data", [0, 1, 2**64 - 1]),
    ("UINT32", "uint64_data", [0, 1, 2**32 - 1]),
    ("INT32", "int32_data", [-(2**31), 0, 2**31 - 1]),
    ("FLOAT16", "int32_data", [0x3C00, 0x7E00, 0x8000]),
    ("BFLOAT16", "int32_data", [0x3F80, 0x7FC0, 0x8000]),
    ("INT8", "int32_data", [-128, 0, 127]),
    ("UINT16", "int32_data", [0, 1, 65535]),
    ("BOOL", "int32_data", [0, 1, 1]),
    ("FLOAT8E4M3FN", "int32_data", [0x38, 0x7F, 0x80]),
    ("STRING", "string_data", [b"", b"x", "é".encode()]),
]


@pytest.mark.parametrize(("name", "field", "values"), FIELDS, ids=[f[0] for f in FIELDS])
def test_every_storage_field(name, field, values, onnx_file):
    stored = TensorProto(name="t", data_type=TensorProto.DataType.Value(name), dims=[3])
    getattr(stored, field).extend(values)
    model = open_model(onnx_file(model_of(stored)))
    loaded = model.weights.load(model.graph.initializers["t"])
    assert bits(loaded) == bits(numpy_helper.to_array(stored))


def test_half_floats_in_int32_data_are_bit_patterns(onnx_file):
    stored = TensorProto(name="t", data_type=TensorProto.FLOAT16, dims=[2])
    stored.int32_data.extend([0x3C00, 0xC000])
    model = open_model(onnx_file(model_of(stored)))
    assert model.weights.load(model.graph.initializers["t"]).tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    "indices", [[[0, 2], [1, 1]], [2, 4]], ids=["coordinates", "linear positions"]
)
def test_sparse_initializers_are_spread_out(indices, onnx_file):
    sparse = onnx.SparseTensorProto(dims=[2, 3])
    sparse.values.CopyFrom(numpy_helper.from_array(np.array([3, 4], np.float32), "w"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array(indices, np.int64)))
    proto = model_of()
    proto.graph.sparse_initializer.append(sparse)
    model = open_model(onnx_file(proto))
    tensor = model.graph.initializers["w"]
    assert tensor.storage is Storage.SPARSE_INITIALIZER
    assert model.weights.load(tensor).tolist() == [[0, 0, 3], [0, 4, 0]]


@pytest.mark.parametrize(
    ("dims", "raw", "field"),
    [([2], b"\0\0\0\0", []), ([2], b"", [1.0]), ([10**12], b"", []), ([3], b"\0\0\0", [])],
    ids=["short", "field too short", "huge", "odd bytes"],
)
def test_bytes_that_do_not_fit_the_dims_are_damage(dims, raw, field, onnx_file):
    stored = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=dims)
    if raw:
        stored.raw_data = raw
    stored.float_data.extend(field)
    with pytest.raises(UnreadableError, match=r"tensor 't' of dims .* takes .*, and its data has"):
        open_model(onnx_file(model_of(stored)))


@pytest.mark.parametrize(
    ("dims", "words"), [([-1, 2], "negative dimension"), ([1] * 100, "100 dimensions")]
)
def test_dims_that_no_tensor_has(dims, words, onnx_file):
    stored = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=dims)
    with pytest.raises(UnreadableError, match=words):
        open_model(onnx_file(model_of(stored)))


@pytest.mark.parametrize(
    ("attribute", "dtype", "values"),
    [
        ({"value_float": 1.5}, "float32", 1.5),
        ({"value_floats": [1.0, 2.0]}, "float32", [1.0, 2.0]),
        ({"value_int": 3}, "int64", 3),
        ({"value_ints": [3, 4]}, "int64", [3, 4]),
    ],
)
def test_a_constant_holds_a_tensor_however_it_is_written(attribute, dtype, values, onnx_file):
    node = helper.make_node("Constant", [], ["c"], **attribute)
    graph = helper.make_graph([node], "g", [], [])
    model = open_model(onnx_file(helper.make_model(graph)))
    tensor = model.graph.nodes[0].attributes["value"]
    assert isinstance(tensor, Tensor)
    assert (tensor.dtype, tensor.storage) == (dtype, Storage.ATTRIBUTE)
    assert model.weights.load(tensor).tolist() == values


@pytest.mark.parametrize("number", TYPES, ids=TensorProto.DataType.Name)
def test_sizes_in_bytes_are_those_of_raw_data(number):
    try:
        raw = of_type(number, raw=True).raw_data
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        pytest.skip(f"onnx itself has no such tensor: {error}")
    needed = stored_bytes(TensorProto(data_type=number, dims=[7]))
    if number == TensorProto.STRING:
        assert needed is None
    elif needed is not None:
        assert needed == len(raw)


def test_a_tensor_without_a_type(onnx_file):
    stored = TensorProto(name="t", dims=[1])
    with pytest.raises(UnreadableError, match="tensor 't' has no element type"):
        open_model(onnx_file(model_of(stored)))
