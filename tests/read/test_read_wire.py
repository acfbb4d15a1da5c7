"""The walk past tensors' data: what comes out is the model that the official parser reads."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from same import Same

from inspector.errors import UnreadableError
from inspector.facts.model import Storage
from inspector.read import open as opening
from inspector.read.open import open_model
from inspector.read.wire import MESSAGES, skeleton

VALUES = np.random.default_rng(0).standard_normal(3000).astype(np.float32)


class Bytes:
    """What the walk reads from, counting how much."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.bytes_read = 0

    def read(self, offset: int, length: int) -> bytes:
        part = self._data[offset : offset + length]
        assert len(part) == length, "the walk asks for bytes behind the end"
        self.bytes_read += length
        return part


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "WHOLE", 0)
    monkeypatch.setattr(opening, "KEPT_WHOLE", 16)


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def field(number: int, payload: bytes | int) -> bytes:
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def model_of(*tensors: TensorProto, nodes: tuple = ()) -> ModelProto:
    graph = helper.make_graph(list(nodes), "g", [], [], initializer=list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_the_table_holds_every_way_to_a_tensor():
    """Against the descriptors of the installed onnx: a new field that can hold one shows here."""
    reaches = {"TensorProto"}
    while True:
        more = {
            name
            for name, descriptor in messages().items()
            if any(sub in reaches for sub in children(descriptor).values())
        } - reaches
        if not more:
            break
        reaches |= more
    expected = {
        name: {n: sub for n, sub in children(descriptor).items() if sub in reaches}
        for name, descriptor in messages().items()
        if name in reaches - {"TensorProto"}
    }
    # What no model file holds: messages that are files of their own.
    walked_into = {"ModelProto"}
    while True:
        below = {sub for name in walked_into for sub in expected[name].values()} - {"TensorProto"}
        if below <= walked_into:
            break
        walked_into |= below
    assert {name: dict(MESSAGES[name]) for name in MESSAGES} == {
        name: expected[name] for name in walked_into
    }


def messages() -> dict:
    return dict(ModelProto.DESCRIPTOR.file.message_types_by_name)


def children(descriptor) -> dict[int, str]:
    return {each.number: each.message_type.name for each in descriptor.fields if each.message_type}


def test_a_skeleton_is_the_model_but_for_the_data():
    small, large = VALUES[:4], VALUES
    proto = model_of(numpy_helper.from_array(small, "s"), numpy_helper.from_array(large, "l"))
    data = proto.SerializeToString()
    bare = skeleton(Bytes(data), len(data), "m")
    read = ModelProto.FromString(bare.data)
    assert read.graph.initializer[0] == proto.graph.initializer[0]
    (embedded,) = bare.embedded
    assert embedded.plain
    assert data[embedded.offset : embedded.offset + embedded.length] == large.tobytes()
    stub = read.graph.initializer[1]
    assert (stub.name, list(stub.dims), stub.data_type) == ("l", [3000], TensorProto.FLOAT)
    assert stub.external_data[0].value == bare.token
    assert len(bare.data) < len(data) - large.nbytes + 200


def test_data_is_not_read():
    weights = [numpy_helper.from_array(np.zeros(2**18, np.float32), f"w{at}") for at in range(20)]
    data = model_of(*weights).SerializeToString()
    file = Bytes(data)
    skeleton(file, len(data), "m")
    assert file.bytes_read < 20 * 3 * 4096 + 20_000 < len(data) / 50


def test_two_openings_have_two_tokens():
    data = model_of().SerializeToString()
    assert (
        skeleton(Bytes(data), len(data), "m").token != skeleton(Bytes(data), len(data), "m").token
    )


@pytest.mark.usefixtures("walked")
def test_a_file_cannot_point_into_itself(tmp_path: Path):
    """Neither its own name as a data file, nor any token, reaches bytes that are no tensor's."""
    stored = TensorProto(name="t", data_type=TensorProto.UINT8, dims=[40])
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="0" * 32)
    stored.external_data.add(key="offset", value="0")
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of(stored, numpy_helper.from_array(VALUES, "l")).SerializeToString())
    model = open_model(path)
    assert model.missing_data == {"0" * 32: 1}
    assert model.graph.initializers["t"].external == "0" * 32
    assert model.graph.initializers["l"].external == ""


FIELDS = {
    "raw": lambda: numpy_helper.from_array(VALUES, "t"),
    "float_data": lambda: helper.make_tensor("t", TensorProto.FLOAT, [3000], VALUES),
    "double_data": lambda: helper.make_tensor("t", TensorProto.DOUBLE, [3000], VALUES),
    "complex": lambda: helper.make_tensor("t", TensorProto.COMPLEX64, [3000], VALUES * 1j),
    "int64_data": lambda: helper.make_tensor("t", TensorProto.INT64, [3000], range(3000)),
    "uint64_data": lambda: helper.make_tensor("t", TensorProto.UINT64, [3000], range(3000)),
    "int32_data": lambda: helper.make_tensor("t", TensorProto.INT32, [3000], range(-9, 2991)),
    "fp16": lambda: helper.make_tensor("t", TensorProto.FLOAT16, [3000], VALUES),
    "bf16": lambda: helper.make_tensor("t", TensorProto.BFLOAT16, [3000], VALUES),
    "fp8": lambda: helper.make_tensor("t", TensorProto.FLOAT8E4M3FN, [3000], VALUES),
    "int4": lambda: helper.make_tensor("t", TensorProto.INT4, [3000], [1, -2, 3] * 1000),
    "bool": lambda: helper.make_tensor("t", TensorProto.BOOL, [3000], [True, False, False] * 1000),
    "strings": lambda: helper.make_tensor("t", TensorProto.STRING, [3000], [b"abc"] * 3000),
    "raw bf16": lambda: helper.make_tensor(
        "t", TensorProto.BFLOAT16, [3000], VALUES.tobytes()[:6000], raw=True
    ),
    "raw int4": lambda: helper.make_tensor(
        "t", TensorProto.INT4, [3000], VALUES.tobytes()[:1500], raw=True
    ),
}


@pytest.mark.usefixtures("walked")
@pytest.mark.parametrize("place", ["initializer", "Constant", "branch", "function", "sparse"])
@pytest.mark.parametrize("make", FIELDS.values(), ids=FIELDS)
def test_every_field_in_every_place(make, place, tmp_path: Path):
    tensor = make()
    if place == "sparse":
        if tensor.data_type == TensorProto.STRING:
            pytest.skip("a sparse tensor is zero between its values, and no string is")
        indices = numpy_helper.from_array(np.arange(3000) * 2, "i")
        proto = model_of()
        proto.graph.sparse_initializer.add(values=tensor, indices=indices, dims=[6000])
    else:
        node = helper.make_node("Constant", [], ["c"], value=tensor)
        graph = helper.make_graph([node], "inner", [], [])
        proto = model_of(
            *([tensor] if place == "initializer" else []),
            nodes={
                "Constant": (node,),
                "branch": (helper.make_node("If", ["x"], ["y"], then_branch=graph),),
            }.get(place, ()),
        )
        if place == "function":
            proto.functions.append(helper.make_function("d", "f", [], ["c"], [node], []))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    model = open_model(path)
    same = Same(model, proto)
    same.check()
    if place == "sparse":
        stored = model.graph.initializers["t"]
        assert stored.storage is Storage.SPARSE_INITIALIZER
        dense = model.weights.load(stored)
        assert dense[::2].tobytes() == numpy_helper.to_array(tensor).tobytes()
        assert not np.any(dense[1::2].astype(np.complex64))
    else:
        assert same.tensors == 1


@pytest.mark.usefixtures("walked")
def test_unpacked_data(tmp_path: Path):
    """One field an element, as old writers left it."""
    elements = b"".join(varint(4 << 3 | 5) + each.tobytes() for each in VALUES)
    tensor = field(1, 3000) + field(2, TensorProto.FLOAT) + elements + field(8, b"t")
    assert_read(tmp_path, tensor)


@pytest.mark.usefixtures("walked")
def test_data_in_two_chunks(tmp_path: Path):
    chunks = field(4, VALUES[:1000].tobytes()) + field(4, VALUES[1000:].tobytes())
    assert_read(tmp_path, field(1, 3000) + field(2, TensorProto.FLOAT) + chunks + field(8, b"t"))


@pytest.mark.usefixtures("walked")
def test_raw_data_twice_and_the_last_one_counts(tmp_path: Path):
    data = field(9, bytes(12_000)) + field(9, VALUES.tobytes())
    assert_read(tmp_path, field(8, b"t") + data + field(2, TensorProto.FLOAT) + field(1, 3000))


@pytest.mark.usefixtures("walked")
def test_names_and_lengths_in_more_bytes_than_they_need(tmp_path: Path):
    padded = varint(9 << 3 | 2) + b"\xe0\xdd\x80\x80\x00" + VALUES.tobytes()
    assert_read(tmp_path, field(8, b"t") + padded + field(2, 1) + field(1, 3000))


@pytest.mark.usefixtures("walked")
@pytest.mark.parametrize(
    "group", [b"\x9b\x06\x9c\x06", b"\x9b\x06\x08\x01\xa3\x06\xa4\x06\x12\x01a\x9c\x06"]
)
def test_groups_are_skipped(group, tmp_path: Path):
    """Field 99 as a group, an empty one and one with another inside."""
    head = field(8, b"t") + group + field(2, TensorProto.FLOAT)
    assert_read(tmp_path, head + field(9, VALUES.tobytes()) + group + field(1, 3000))


@pytest.mark.parametrize(
    "group", [b"\x9b\x06", b"\x9b\x06\xa4\x06", b"\x9c\x06", b"\x9b\x06" * 200]
)
def test_groups_without_an_end(group):
    data = group + field(1, 8)
    with pytest.raises(DecodeError):
        ModelProto.FromString(data)
    with pytest.raises(UnreadableError, match="or damaged: byte"):
        skeleton(Bytes(data), len(data), "m")


def assert_read(folder: Path, tensor: bytes) -> None:
    data = field(1, 8) + field(7, field(2, b"g") + field(5, tensor)) + field(8, field(2, 17))
    expected = onnx.load_model_from_string(data).graph.initializer[0]
    (folder / "m.onnx").write_bytes(data)
    model = open_model(folder / "m.onnx")
    values = model.weights.load(model.graph.initializers["t"])
    assert values.tobytes() == numpy_helper.to_array(expected).tobytes() == VALUES.tobytes()


@pytest.mark.usefixtures("walked")
def test_a_graph_in_two_parts_is_one(tmp_path: Path):
    """Protobuf merges what stands twice: https://protobuf.dev/programming-guides/encoding/."""
    one, two = (numpy_helper.from_array(VALUES, name) for name in "ab")
    data = model_of(one).SerializeToString() + model_of(two).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data)
    assert list(open_model(tmp_path / "m.onnx").graph.initializers) == ["a", "b"]


@pytest.mark.usefixtures("walked")
def test_an_attribute_with_two_tensors_is_refused_or_merged(tmp_path: Path):
    one, two = (numpy_helper.from_array(VALUES, name).SerializeToString() for name in "ab")
    attribute = field(1, b"value") + field(20, 4) + field(5, one) + field(5, two)
    node = field(2, b"c") + field(4, b"Constant") + field(5, attribute)
    data = field(1, 8) + field(7, field(1, node) + field(2, b"g"))
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(UnreadableError):
        open_model(tmp_path / "m.onnx")


@pytest.mark.usefixtures("walked")
def test_external_data_of_the_files_own_stays_so(tmp_path: Path):
    stored = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[3000])
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="m.data")
    stored.raw_data = bytes(12_000)  # says the opposite, and nobody reads it
    (tmp_path / "m.data").write_bytes(VALUES.tobytes())
    (tmp_path / "m.onnx").write_bytes(model_of(stored).SerializeToString())
    model = open_model(tmp_path / "m.onnx")
    assert model.weights.load(model.graph.initializers["t"]).tobytes() == VALUES.tobytes()


@pytest.mark.usefixtures("walked")
@pytest.mark.parametrize("dims", [[2999], [3001], [2**62, 2**62], [3000, 0]])
def test_dims_that_lie(dims, tmp_path: Path):
    stored = numpy_helper.from_array(VALUES, "t")
    del stored.dims[:]
    stored.dims.extend(dims)
    (tmp_path / "m.onnx").write_bytes(model_of(stored).SerializeToString())
    with pytest.raises(UnreadableError, match=r"takes .* bytes, and its data has 12,000"):
        open_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("whole", [0, opening.WHOLE], ids=["walked", "whole"])
def test_a_file_cut_off_in_its_graph_says_how_much_is_left(whole, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(opening, "WHOLE", whole)
    node = helper.make_node("A", [], ["b"])
    proto = model_of(numpy_helper.from_array(VALUES[:40], "t"), nodes=(node,))
    data, path = proto.SerializeToString(), tmp_path / "m.onnx"
    graph = proto.graph.SerializeToString()
    begin = data.index(graph)
    end = begin + len(graph)
    for length in range(begin, end):
        path.write_bytes(data[:length])
        words = f"cut off: it ends at byte {length:,} of {end:,} or more"
        with pytest.raises(UnreadableError, match=words):
            open_model(path)


def test_a_file_that_changes_under_way(tmp_path: Path):
    stored = numpy_helper.from_array(np.zeros(3_000_000, np.float32), "t")
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of(stored).SerializeToString())
    model = open_model(path)
    tensor = model.graph.initializers["t"]
    assert model.weights.load(tensor).shape == (3_000_000,)
    with path.open("r+b") as file:
        file.truncate(10_000)
    with pytest.raises(UnreadableError, match="changed while it was read"):
        model.weights.load(tensor)
    path.unlink()
    with pytest.raises(UnreadableError, match="no such file"):
        model.weights.load(tensor)


def test_a_file_beyond_two_gibibytes(tmp_path: Path):
    """No parser takes it whole; the hole in the middle takes no room on the disk."""
    elements = 2**29 + 8
    head = field(1, elements) + field(2, TensorProto.FLOAT) + field(8, b"t")
    head += varint(9 << 3 | 2) + varint(4 * elements)
    parameters = b"".join(
        field(5, numpy_helper.from_array(VALUES[:4], name).SerializeToString()) for name in "sbmv"
    )
    node = helper.make_node("BatchNormalization", list("xsbmv"), ["y"], name="bn")
    before = field(1, node.SerializeToString()) + field(2, b"g")
    before += varint(5 << 3 | 2) + varint(len(head) + 4 * elements) + head
    opset = field(8, field(1, b"") + field(2, 17))
    graph = varint(7 << 3 | 2) + varint(len(before) + 4 * elements + len(parameters))
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.write(field(1, 8) + graph + before)
        start = file.tell()
        file.seek(start + 4 * elements - 4)
        file.write(VALUES[:1].tobytes() + parameters + opset)
    assert path.stat().st_size > 2**31
    with pytest.raises(Exception, match=r"(?i)pars|decod|larg|limit|size"):
        onnx.load(path)
    model = open_model(path)
    large = model.graph.initializers["t"]
    assert large.elements == elements
    assert model.opset == 17
    for name in "sbmv":
        loaded = model.weights.load(model.graph.initializers[name])
        assert loaded.tobytes() == VALUES[:4].tobytes()


def any_message(rng: Random, depth: int = 0) -> bytes:
    """A message of known and unknown fields in any order, most of them well formed."""
    parts = []
    for _ in range(rng.randrange(1, 5)):
        number = rng.choice([1, 2, 5, 6, 7, 8, 10, 11, 15, 20, 22, 25, 99])
        match rng.randrange(5):
            case 0:
                parts.append(field(number, rng.randrange(2 ** rng.choice([3, 20, 63]))))
            case 1:
                parts.append(varint(number << 3 | 5) + rng.randbytes(4))
            case 2 if depth < 6:
                parts.append(field(number, any_message(rng, depth + 1)))
            case _:
                parts.append(field(number, rng.randbytes(rng.randrange(30))))
    return b"".join(parts)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 40))
def test_a_skeleton_with_nothing_left_out_is_the_message(rng: Random, above: int):
    """However deep it was walked into. What the parser refuses, the walk may let through to it."""
    data = any_message(rng)
    try:
        bare = skeleton(Bytes(data), len(data), "m", above=above)
        expected, read = ModelProto.FromString(data), ModelProto.FromString(bare.data)
    except (UnreadableError, DecodeError):
        assume(False)
    if not bare.embedded:
        assert read == expected


@pytest.mark.usefixtures("walked")
@pytest.mark.parametrize("kind", ["ints", "floats", "strings"])
def test_attributes_of_many_numbers(kind, tmp_path: Path, monkeypatch):
    """ONNX writes each as a field of its own, and a forest of trees has millions of them."""
    monkeypatch.setattr("inspector.read.wire.MOST_FIELDS", 2000)
    lists = {"ints": range(100_000), "floats": VALUES.tolist() * 30, "strings": ["a"] * 90_000}
    numbers = [*lists[kind]]
    node = helper.make_node("A", ["x"], ["y"], domain="d", numbers=numbers, after="end")
    proto = model_of(numpy_helper.from_array(VALUES, "t"), nodes=(node,))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = open_model(tmp_path / "m.onnx")
    Same(model, proto).check()
    assert len(model.graph.nodes[0].attributes["numbers"]) == len(numbers)


def test_more_fields_than_any_model_has(monkeypatch):
    monkeypatch.setattr("inspector.read.wire.MOST_FIELDS", 100)
    data = field(7, b"\x0a\x00" * 200)
    with pytest.raises(UnreadableError, match="more than 100 fields beside its tensors"):
        skeleton(Bytes(data), len(data), "m", above=16)


def test_the_facts_of_a_stub(tmp_path: Path):
    stored = numpy_helper.from_array(np.zeros((3000, 1000), np.float32), "t")
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of(stored).SerializeToString())
    tensor = open_model(path).graph.initializers["t"]
    assert (tensor.dims, tensor.dtype, tensor.external) == ((3000, 1000), "float32", "")
