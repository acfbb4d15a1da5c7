"""What a file is: named by its right name when it is no model, and never refused when it is."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import os
import pickle
import re
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_text import FEW, parsed

from inspector.errors import UnreadableError
from inspector.read.archives import name_archive
from inspector.read.fields import may_be_message
from inspector.read.formats import HEAD, check_head, check_is_file, open_regular
from inspector.read.messages import what_message
from inspector.read.open import open_model
from inspector.read.texts import TEXT_LIMIT, parse_text, text_kind

NET = f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
{{ y = BatchNormalization (x, s, b, m, v) }}"""


def refusal(path: Path) -> UnreadableError:
    """What is said of a file: at its opening, of its head, or of the message in it."""
    try:
        with open_regular(path) as file:
            data = file.readall()
        check_head(data[:HEAD], str(path), len(data))
    except UnreadableError as error:
        found = error
    else:
        named = what_message(data, str(path))
        assert named, data[:64]
        found = UnreadableError(f"this is {named[0]}", where=str(path), hint=named[1])
    assert found.where == str(path)
    assert found.what
    assert found.hint
    assert "\n" not in str(found)
    assert "{" not in found.hint
    return found


def field(number: int, data: bytes | int) -> bytes:
    """A field of protobuf's wire format."""
    key = varint(number << 3 | (0 if isinstance(data, int) else 2))
    return key + (varint(data) if isinstance(data, int) else varint(len(data)) + data)


def varint(value: int) -> bytes:
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"), io.BytesIO())
    return file.getvalue()


def saved(value: object) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def archived(**values: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


def safetensors(text: bytes) -> bytes:
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(16)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 102442450\n" % (b"4d" * 32)
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00(X\x10\x00\x00"
ENGINE = json.dumps({"description": "Ultralytics YOLO", "imgsz": [640, 640]}).encode()
TF_NODE = (
    field(1, b"x") + field(2, b"Placeholder") + field(5, field(1, b"dtype") + field(2, b"0\1"))
)
GRAPH_DEF = field(1, TF_NODE) + field(1, field(1, b"y") + field(2, b"Relu") + field(3, b"x"))
GRAPH_DEF += field(4, field(1, 1087))
META = field(1, field(4, b"serve") + field(5, b"2.21.0")) + field(2, GRAPH_DEF)
CAFFE = field(1, b"net") + field(100, field(1, b"conv1") + field(2, b"Convolution"))
OLD_CAFFE = field(1, b"net") + field(2, field(3, b"conv1") + field(4, b"conv1") + field(5, 4))
COREML = field(1, 4) + field(2, field(1, field(1, b"x"))) + field(500, field(1, b"xyz" * 300))

SAMPLES = {
    "empty": (b"", "the file is empty", "export or download it again"),
    "LFS pointer": (LFS, "Git LFS pointer, not the model itself (102,442,450 bytes)", "lfs pull"),
    "LFS without size": (LFS[:43], "Git LFS pointer, not the model itself", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s3--a.onnx\n", "git-annex pointer", "git annex get"),
    "HTML": (b"<!DOCTYPE html>\n<html></html>", "an HTML page", "the file itself"),
    "HTML later": (b"\n <html lang='en'>" + b"x" * 600, "an HTML page", "the file itself"),
    "XHTML": (b'<?xml version="1.0"?><html></html>', "an HTML page", "the file itself"),
    "gzip": (gzip.compress(b"x" * 99), "a gzip archive", "`gzip -dc FILE > unpacked.onnx`"),
    "tar.gz": (gzip.compress(tarred()), "a gzip archive of a tar", "`tar -xf FILE`"),
    "bzip2": (bz2.compress(b"x" * 99), "a bzip2 archive", "bzip2 -dc FILE"),
    "xz": (lzma.compress(b"x" * 99), "an xz archive", "xz -dc FILE"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x58\x09\x00\x00xyz" + bytes(9), "a zstd archive", "zstd -dc"),
    "lz4": (b"\x04\x22\x4d\x18\x64\x40\xa7\x03" + bytes(9), "an lz4 archive", "lz4 -dc FILE"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(30), "a 7z archive", "7z x FILE"),
    "rar": (b"Rar!\x1a\x07\x01\x00" + b"\xff" * 99, "a RAR archive", "unrar x FILE"),
    "tar": (tarred(), "a tar archive", "tar -xf FILE"),
    "zip": (zipped("a/b.txt"), "a zip archive", "`unzip FILE`"),
    "zip of a model": (zipped("a/b.onnx"), "a zip archive", "name the model in it: a/b.onnx"),
    "empty zip": (zipped(), "a zip archive", "unzip FILE"),
    "docx": (zipped("[Content_Types].xml", "word/document.xml"), "a zip archive", "unzip"),
    "cut zip": (zipped("a", "b")[:-30], "a zip archive, cut off", "download it again"),
    "pt": (zipped("m/data.pkl", "m/version", "m/data/0"), "a PyTorch file (torch.save)", "torch"),
    "pt before 1.5": (LEGACY, "a PyTorch file (torch.save, legacy format)", "bninspect export"),
    "TorchScript": (
        zipped("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/version"),
        "a TorchScript program",
        "bninspect export torch file.py:callable -o model.onnx",
    ),
    "ptl": (zipped("m/data.pkl", "m/constants.pkl", "m/bytecode.pkl"), "for mobile", "torch"),
    "pt2": (zipped("m/models/model.json", "m/archive_format"), "(.pt2)", "export torch"),
    "old pt2": (zipped("serialized_exported_program.json", "version"), "(.pt2)", "export torch"),
    "keras": (
        zipped("config.json", "metadata.json", "model.weights.h5"),
        "a Keras model (.keras)",
        "rename it to m.keras, and export it: `bninspect export keras KERAS -o model.onnx`",
    ),
    "zipped SavedModel": (zipped("m/saved_model.pb"), "SavedModel", "--saved-model FOLDER"),
    "zipped mlpackage": (zipped("m.mlpackage/Manifest.json"), "Core ML package", "made from"),
    "HDF5": (
        b"\x89HDF\r\n\x1a\n" + bytes(99),
        "an HDF5 file (Keras .h5)",
        "rename it to m.h5, and export it: `bninspect export keras H5 -o model.onnx`",
    ),
    "TFLite": (
        b"\x1c\0\0\0TFL3" + bytes(99),
        "a TFLite model",
        "`python -m tf2onnx.convert --tflite FILE --output model.onnx`",
    ),
    "ORT": (b"\x34\0\0\0ORTM" + bytes(99), "ORT format", "name the ONNX file it was made from"),
    "pte": (b"\x38\0\0\0ET12eh00" + bytes(99), "an ExecuTorch program", "export torch"),
    "safetensors": (safetensors(b'{"w":{"dtype":"F32"}}'), "a safetensors file", "export torch"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(99), "a GGUF model", "to ONNX"),
    "TensorRT": (b"ftrt\x61\0\0\0" + bytes(99), "a TensorRT engine", "built from"),
    "old TensorRT": (b"ptrt\0\0\0\0" + bytes(99), "a TensorRT engine", "built from"),
    "Ultralytics": (
        len(ENGINE).to_bytes(4, "little") + ENGINE + b"ftrt" + bytes(99),
        "a TensorRT engine of Ultralytics",
        "name the ONNX file it was built from",
    ),
    "OpenVINO": (
        b'<?xml version="1.0"?>\n<net name="torch_jit" version="11">\n\t<layers>',
        "an OpenVINO model in XML",
        "name the ONNX file it was made from",
    ),
    "ncnn": (b"7767517\n2 2\nInput data 0 1 data\n", "an ncnn network", "made from"),
    "RKNN": (b"RKNN\0\0\0\0" + bytes(99), "an RKNN model", "made from"),
    "npy": (saved(np.ones(3)), "a NumPy array (.npy)", "the model you meant"),
    "npz": (archived(a=np.ones(3)), "a NumPy archive of arrays (.npz)", "the model you meant"),
    **{
        f"pickle {protocol}": (
            pickle.dumps({"weights": [1.0, "two"]}, protocol),
            "a Python pickle, which may run code",
            "export the model in it",
        )
        for protocol in (2, 3, 4, 5)
    },
    "PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(9), "a PNG image", "you meant"),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a JPEG image", "you meant"),
    "GIF": (b"GIF89a" + bytes(9), "a GIF image", "you meant"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document", "you meant"),
    "ELF": (b"\x7fELF\x02\x01\x01" + bytes(99), "(ELF)", "you meant"),
    "SQLite": (b"SQLite format 3\0" + bytes(99), "an SQLite database", "you meant"),
    "AppleDouble": (b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(9), "AppleDouble", "belongs to"),
    "text": (b"hello there\n", "a text file, not a binary ONNX model", "you meant"),
    "long text": ("größer\n".encode() * 99, "a text file, not a binary ONNX model", "you meant"),
    "UTF-16": ("Grüße\r\n".encode("utf-16"), "a text file, not a binary ONNX model", "you meant"),
    "YAML": (b"---\nmodel: net.onnx\n", "a text file, not a binary ONNX model", "you meant"),
    "JSON": (b'{"name": "x"}', "a text file of JSON, not an ONNX model", "you meant"),
    "JSON list": (b' [\n {"a": 1}]', "a text file of JSON, not an ONNX model", "you meant"),
    "TF.js": (b'{"format": "layers-model", "modelTopology": {}}', "TensorFlow.js", "to ONNX"),
    "YAML like a model": (b"domain: x\ngraph: y\n", "a text file, not", "you meant"),
    "Graphviz": (b"graph { node [shape=box] }", "a text file, not a binary", "you meant"),
    "arrow function": (b"f (x) => { return x }", "a text file, not a binary", "you meant"),
    "JSON of a graph": (b'{"graph": {"edges": []}}', "a text file of JSON, not", "you meant"),
    "XML": (b'<?xml version="1.0"?><a/>', "a text file of XML, not an ONNX model", "you meant"),
    "onnxtxt": (
        b'# a comment\n<ir_version: 8, opset_import: ["" : 17]>\nagraph () => () {}',
        "a text file with an ONNX model in ONNX's text form",
        "rename it to m.onnxtxt",
    ),
    "onnxtxt without header": (
        b"agraph (float[N] x) => (float[N] y) { y = Relu (x) }",
        "a text file with an ONNX model in ONNX's text form",
        "rename it to m.onnxtxt",
    ),
    "textproto": (
        b'ir_version: 8\nproducer_name: "x"\ngraph {\n}\n',
        "a text file with an ONNX model in protobuf's text format",
        "rename it to m.textproto",
    ),
    "ONNX as JSON": (
        b'{\n  "irVersion": "8",\n  "graph": {}}',
        "a text file with an ONNX model in JSON",
        "rename it to m.json",
    ),
    "saved_model.pb": (field(1, 1) + field(2, META), "a TensorFlow saved_model.pb", "FOLDER"),
    "GraphDef": (GRAPH_DEF, "a TensorFlow graph (GraphDef)", "tf2onnx.convert --graphdef FILE"),
    "Caffe": (CAFFE, "a Caffe model (.caffemodel)", ".prototxt"),
    "old Caffe": (OLD_CAFFE, "a Caffe model (.caffemodel)", ".prototxt"),
    "Core ML": (COREML, "a Core ML model (.mlmodel)", "made from"),
    "a mangled model": (
        parsed(NET).SerializeToString().decode("utf-8", "replace").encode(),
        "a binary file that was rewritten as text",
        ".gitattributes",
    ),
}


@pytest.mark.parametrize(("data", "what", "hint"), SAMPLES.values(), ids=SAMPLES)
def test_what_a_file_is(data, what, hint, tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    found = refusal(path)
    with pytest.raises(UnreadableError, match=re.escape(str(found))):
        open_model(path)
    assert what in found.what
    for word, extension in {"FILE": "onnx", "KERAS": "keras", "H5": "h5"}.items():
        hint = hint.replace(word, str(path.with_suffix(f".{extension}")))
    assert hint in found.hint


def test_commands_in_hints_can_be_pasted(tmp_path: Path):
    path = tmp_path / "my model; x.onnx"
    path.write_bytes(gzip.compress(b"x"))
    assert f"`gzip -dc '{path}' > unpacked.onnx`" in refusal(path).hint
    path.write_bytes(zipped("a"))
    assert f"`unzip '{path}'`" in refusal(path).hint


def test_what_keras_exports_needs_no_other_name(tmp_path: Path):
    for name, data in (("m.keras", SAMPLES["keras"][0]), ("m.h5", SAMPLES["HDF5"][0])):
        (tmp_path / name).write_bytes(data)
        assert refusal(tmp_path / name).hint == (
            f"export it: `bninspect export keras {tmp_path / name} -o model.onnx`"
        )


MODEL = parsed(NET)
NODE = MODEL.graph.node[0]
ONES = numpy_helper.from_array(np.ones((2, 3), np.float32), "x")


class Packed:
    """A tensor as protobuf's other dialect writes it."""

    def SerializeToString(self) -> bytes:
        return field(1, b"\x02\x80\x01") + field(2, 6) + field(5, b"\x01" * 256)


MESSAGES = {
    "graph": (MODEL.graph, "GraphProto"),
    "tensor": (ONES, "TensorProto"),
    "graph of nodes alone": (
        helper.make_graph([helper.make_node("A", ["x"], ["y"], a=1)] * 3, "g", [], []),
        "GraphProto",
    ),
    "scalar": (numpy_helper.from_array(np.array(3, np.int64)), "TensorProto"),
    "tensor of no values": (numpy_helper.from_array(np.zeros(0, np.float32), "x"), "TensorProto"),
    "tensor of strings": (helper.make_tensor("x", TensorProto.STRING, [1], [b"a"]), "TensorProto"),
    "tensor of floats": (helper.make_tensor("x", TensorProto.FLOAT, [1], [1.0]), "TensorProto"),
    "tensor of ints": (helper.make_tensor("", TensorProto.INT64, [2], [1, 70000]), "TensorProto"),
    "tensor with external data": (
        TensorProto(
            dims=[3], data_type=1, name="x", data_location=TensorProto.EXTERNAL,
            external_data=[onnx.StringStringEntryProto(key="location", value="x.bin")],
        ),
        "TensorProto",
    ),
    "tensor with packed dims": (Packed(), "TensorProto"),
    "sequence": (numpy_helper.from_list([np.ones(3, np.float32)] * 2, "s"), "SequenceProto"),
    "node": (NODE, "NodeProto"),
    "node with attributes": (helper.make_node("Relu", ["a"], ["b"], alpha=1.0), "NodeProto"),
    "function": (
        helper.make_function(
            "my", "F", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])],
            [helper.make_opsetid("", 17)],
        ),
        "FunctionProto",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("message", "kind"), MESSAGES.values(), ids=MESSAGES)
def test_messages_of_onnx_that_are_no_model(message, kind, tmp_path: Path):
    path = tmp_path / "x.pb"
    path.write_bytes(message.SerializeToString())
    assert f"({kind})" in refusal(path).what


def test_of_a_large_message_the_beginning_is_enough():
    values = np.ones(2**20, np.float32)
    graph = helper.make_graph([NODE], "g", [], [], [numpy_helper.from_array(values, "w")])
    named = what_message(graph.SerializeToString()[: 2**20])
    assert named is not None
    assert "GraphProto" in named[0]
    named = what_message(numpy_helper.from_array(values).SerializeToString()[: 2**20])
    assert named is not None
    assert "TensorProto" in named[0]


@pytest.mark.parametrize(
    "data", [b"\x08\x08\x12\x01x", b"\x08\x08", b"\x08\x09\x12\0\x1a\0", b"\xff" * 99, b"\x0b"]
)
def test_messages_that_may_be_anything_have_no_name(data):
    assert what_message(data) is None


def test_a_model_is_no_other_message(tmp_path: Path):
    model = parsed(NET)
    assert what_message(model.SerializeToString()) is None
    model.ClearField("graph")
    model.producer_name = "a producer"
    model.metadata_props.add(key="k", value="v")
    assert what_message(model.SerializeToString()) is None


@pytest.mark.parametrize("ir_version", [7, 8, 10])
def test_a_model_with_a_damaged_byte_is_no_tensor(ir_version):
    model = parsed(NET)
    model.ir_version = ir_version
    data = model.SerializeToString()
    assert data.startswith(bytes([8, ir_version, 0x3A]))  # the graph follows
    for at, value in itertools.product(range(8), range(256)):
        damaged = data[:at] + bytes([value]) + data[at + 1 :]
        named = what_message(damaged)
        assert named is None or "TensorProto" not in named[0], (at, value)


INTS = helper.make_tensor("x", TensorProto.INT64, [2], [1, 70000]).SerializeToString()
NO_TENSORS = {
    "too few bytes": ONES.SerializeToString().replace(b"\x08\x03", b"\x08\x04", 1),
    "type unknown": ONES.SerializeToString().replace(b"\x10\x01", b"\x10\x3f", 1),
    "two kinds of data": ONES.SerializeToString() + field(4, bytes(24)),
    "two names": ONES.SerializeToString() + field(8, b"y"),
    "a name of bytes": ONES.SerializeToString().replace(b"B\x01x", b"B\x01\x10", 1),
    "a dim below 0": field(1, 2**64 - 1) + field(2, 1) + field(9, bytes(24)),
    "too many dims": field(1, b"\1" * 65) + field(2, 1) + field(9, bytes(4)),
    "ints of another type": INTS.replace(b"\x10\x07", b"\x10\x06", 1),
    "too few ints": INTS.replace(b"\x08\x02", b"\x08\x03", 1),
    "strings as raw data": field(1, 1) + field(2, 8) + field(9, b"a"),
    "external data nowhere": field(1, 1) + field(2, 1) + field(13, field(1, b"offset")),
    "a graph": (
        field(2, 7)
        + field(1, sum(byte < 128 for byte in MODEL.graph.SerializeToString()))
        + field(7, MODEL.graph.SerializeToString())
    ),
}


@pytest.mark.parametrize("data", NO_TENSORS.values(), ids=NO_TENSORS)
def test_a_tensor_whose_parts_disagree_has_no_name(data):
    assert what_message(data) is None


def test_tensors_of_every_type_are_named():
    for number in TensorProto.DataType.values():
        if number == TensorProto.UNDEFINED:
            continue
        data: list[object] = [b"s" if number == TensorProto.STRING else 1] * 3000
        tensor = helper.make_tensor("x", number, [2, 1500], data)
        named = what_message(tensor.SerializeToString())
        assert named is not None, number
        assert "TensorProto" in named[0]


def test_tensors_of_onnx_itself_are_named():
    files = sorted(Path(onnx.__file__).parent.glob("backend/test/data/**/*.pb"))
    if not files:
        pytest.skip("this release of onnx ships no test data")
    for path in files:
        named = what_message(path.read_bytes())
        assert named is not None, path
        assert "TensorProto" in named[0], path


PIECES = [
    each.SerializeToString()
    for each in (
        onnx.ModelProto(ir_version=8),
        onnx.ModelProto(producer_name="net"),
        onnx.ModelProto(doc_string="A text\n" * 90),
        onnx.ModelProto(model_version=2**40),
        onnx.ModelProto(opset_import=[helper.make_opsetid("", 17)]),
        onnx.ModelProto(metadata_props=[onnx.StringStringEntryProto(key="k", value="v")]),
    )
]
GRAPH = onnx.ModelProto(graph=parsed(NET).graph).SerializeToString()
# Fields that ONNX does not have, with bytes that look like something else.
STRANGERS = [
    b"bA" + b"a" * 65,
    b"{bAxyz" + b"a" * 62 + b"|",
    b"ptrt" + b"\nr" + b"a" * 114,
    b"BZh91AY&SYxxx" + b"a" * 72 + b"\n\x05xxxxx",
    b"\x89HDF\r\n\x1a\n\x08\x08",
    b"\x80\x02}",
    b"%PDF-",
]


@given(
    pieces=st.permutations([*PIECES, GRAPH]),
    strangers=st.lists(st.sampled_from(STRANGERS), max_size=3),
)
def test_a_model_is_never_refused_by_its_head(pieces, strangers):
    data = b"".join(strangers + pieces)
    assert onnx.ModelProto.FromString(data).HasField("graph")
    check_head(data[:HEAD], "m.onnx", len(data))


@given(st.binary(max_size=40) | st.builds(bytes.__add__, st.sampled_from(STRANGERS), st.binary()))
def test_only_what_protobuf_refuses_is_no_message(data):
    try:
        onnx.ModelProto.FromString(data)
    except DecodeError:
        return
    for end in range(len(data) + 1):
        assert may_be_message(data[:end], len(data))


def test_a_model_that_begins_like_a_text_opens(tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes((b"2A" + b"a" * 65) * 9 + parsed(NET).SerializeToString())
    assert path.read_bytes()[:HEAD].isalnum()
    assert len(open_model(path).graph.nodes) == 1


def test_files_of_the_corpus(corpus: Path, corpus_rows):
    names = {}
    for row in corpus_rows:
        path = corpus / row["file"]
        if row["load"] == "ok":
            with path.open("rb") as file:
                head = file.read(HEAD)
            check_head(head, str(path), path.stat().st_size)
            if path.stat().st_size < 2**20:
                assert what_message(path.read_bytes()) is None, path
        elif row["load"] == "empty-or-not-model":
            assert what_message(path.read_bytes()) is None, path
        else:
            names[path.name.rsplit(".", 2)[0]] = what_of(path)
    assert len(names) == 16
    assert sum("in protobuf's text format" in each for each in names.values()) == 6
    assert sum("AppleDouble" in each for each in names.values()) == 2
    assert sum("LFS pointer" in each for each in names.values()) == 1
    assert sum("a text file, not" in each for each in names.values()) == 4
    assert sum("rewritten as text" in each for each in names.values()) == 1


def what_of(path: Path) -> str:
    try:
        check_head(path.read_bytes()[:HEAD], str(path), path.stat().st_size)
    except UnreadableError as error:
        return error.what
    return (what_message(path.read_bytes()) or [""])[0]


def test_reference_data_of_the_corpus(corpus: Path):
    found = [what_of(path) for path in corpus.glob("models/*/*.ref/**/*.pb")]
    assert all("(TensorProto)" in what for what in found), found


def test_a_missing_file(tmp_path: Path):
    assert str(refusal(tmp_path / "m")).endswith("m: no such file; check the path")
    (tmp_path / "link").symlink_to(".git/annex/objects/x.onnx")
    found = refusal(tmp_path / "link")
    assert "a link to '.git/annex/objects/x.onnx', which is not there" in found.what
    assert "git annex get" in found.hint


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a\0b", "NUL character"),
        ("x" * 5000, "name too long"),
        ("é\udcff", "no such file"),
        ("\ud800", "no file here can have such a name"),
    ],
    ids=["NUL", "long", "bytes", "surrogate"],
)
def test_names_that_no_file_has(name, what):
    assert what in refusal(Path(name)).what


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may have 108 bytes at most
    started = time.monotonic()
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert refusal(Path("socket")).what == "this is a socket, not a regular file"
    assert refusal(Path("pipe")).what == "this is a pipe, not a regular file"
    for device in ("/dev/null", "/dev/zero"):
        assert refusal(Path(device)).what == "this is a device, not a regular file"
    # A file that becomes a pipe between the two looks at it.
    Path("file").write_bytes(b"x")
    status = Path("file").stat()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", lambda *_, **__: status)
        assert refusal(Path("pipe")).what == "this is a pipe, not a regular file"
    assert time.monotonic() - started < 5


def test_no_permission(tmp_path: Path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert str(refusal(path)).endswith("cannot be read; check its permissions")

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert str(refusal(path)).endswith("cannot be read; check its permissions")


def test_the_size_of_a_file(tmp_path: Path):
    (tmp_path / "m").write_bytes(b"abc")
    assert check_is_file(tmp_path / "m") == 3
    with open_regular(tmp_path / "m") as file:
        assert file.read() == b"abc"
        assert not os.get_inheritable(file.fileno())


FOLDERS = {
    "empty": ([], "a folder, and there is no .onnx file in it", "name a model file"),
    "one": (["m.onnx", "._m.onnx", "m.data"], "is a folder", "name the model in it: HERE/m.onnx"),
    "many": (
        ["b.onnx", "a.onnx", "d.onnx", "c.onnx"],
        "this is a folder",
        "name one of the models in it: HERE/a.onnx, HERE/b.onnx, HERE/c.onnx (1 more)",
    ),
    "hub": (["config.json", "onnx/m.onnx"], "this is a folder", "HERE/onnx/m.onnx"),
    "SavedModel": (
        ["saved_model.pb", "variables/x"],
        "a folder of a TensorFlow SavedModel",
        "`python -m tf2onnx.convert --saved-model HERE --output model.onnx`",
    ),
    "mlpackage": (["Manifest.json", "Data/com.apple.CoreML"], "a Core ML package", "made from"),
    "mlmodelc": (["coremldata.bin"], "a compiled Core ML model", "made from"),
    "transformers": (
        ["config.json", "model.safetensors"],
        "a folder of a Transformers model",
        "optimum-cli export onnx --model HERE onnx/",
    ),
    "torch": (["data.pkl", "version"], "an unpacked PyTorch file", "bninspect export torch"),
}


@pytest.mark.parametrize(("files", "what", "hint"), FOLDERS.values(), ids=FOLDERS)
def test_what_a_folder_is(files, what, hint, tmp_path: Path):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = refusal(tmp_path)
    assert what in found.what
    assert hint.replace("HERE", str(tmp_path)) in found.hint


def test_a_mistyped_path_is_told_without_heavy_packages():
    program = (
        "import sys, pathlib, inspector.read.formats as f\n"
        "try: f.check_is_file(pathlib.Path('none'))\n"
        "except f.UnreadableError: print({'onnx', 'numpy', 'google.protobuf'} & set(sys.modules))"
    )
    ran = subprocess.run(  # noqa: S603  # the program is this test's own
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "set()\n"


def test_a_list_of_names_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch):
    (tmp_path / "m.zip").write_bytes(zipped(*map("{:0200}".format, range(50))))
    monkeypatch.setattr("inspector.read.archives._LONGEST", 1000)
    assert name_archive(tmp_path / "m.zip")[0] == "a zip archive"


KINDS = {
    ".onnxtxt": "onnxtxt", ".onnxtext": "onnxtxt", ".json": "json", ".onnxjson": "json",
    ".txtpb": "textproto", ".textproto": "textproto", ".prototxt": "textproto",
    ".pbtxt": "textproto", ".onnx": None, ".pb": None, "": None, ".txt": None,
}  # fmt: skip


def test_text_forms_go_by_the_extensions_of_onnx():
    from onnx.serialization import registry

    for extension, kind in KINDS.items():
        assert text_kind(Path(f"a.onnx{extension}" if extension else "a")) == kind
        known = registry.get_format_from_file_extension(extension)
        assert kind == known or (kind is None and known == "protobuf")
    assert text_kind(Path("A.ONNXTXT")) == "onnxtxt"


@pytest.mark.parametrize("extension", [each for each, kind in KINDS.items() if kind])
@pytest.mark.filterwarnings("ignore:The onnxtxt format is experimental")
def test_text_forms_open(extension, tmp_path: Path):
    path = tmp_path / f"m{extension}"
    # onnx writes initializers of its text form as it reads them; see the model that comes back.
    onnx.save_model(parsed(NET), path, format=KINDS[extension])
    proto = parse_text(path.read_bytes(), KINDS[extension], str(path))
    assert proto == onnx.load_model(path, format=KINDS[extension])
    assert proto.graph.node == parsed(NET).graph.node
    assert len(open_model(path).graph.nodes) == 1


def test_texts_of_windows(tmp_path: Path):
    text = '<ir_version: 8, opset_import: ["" : 17]>\r\ng () => () {}\r\n'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert parse_text(text.encode(encoding), "onnxtxt", "m.onnxtxt").graph.name == "g"
    data = '\ufeff{"irVersion": "8", "graph": {"name": "größer"}}'.encode()
    assert parse_text(data, "json", "m.json").graph.name == "größer"


HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
BROKEN = {
    "onnxtxt cut": (
        "onnxtxt",
        f"{HEADER}g (float[N] x) => (float[N] y)\n{{ y = Relu(x ",
        "ONNX's text form: line 3, column 14: Expected character ) not found",
    ),
    "onnxtxt number": ("onnxtxt", f"<ir_version: {'9' * 30}> g () => () {{}}", "is too large"),
    "onnxtxt float": ("onnxtxt", f"{HEADER}g () => () {{y = A <a = 1e999> ()}}", "parse float"),
    "onnxtxt header": ("onnxtxt", HEADER, "line 2, column 1: Identifier expected"),
    "onnxtxt of nothing": ("onnxtxt", " ", "line 1, column"),
    "onnxtxt long line": ("onnxtxt", f"{HEADER}g () => () {{ {'a, ' * 9999} }}", "line 2, column"),
    "deep types": ("onnxtxt", f"{HEADER}g ({'seq(' * 99999}", "nested deeper than 100"),
    "deep graphs": (
        "onnxtxt",
        f"{HEADER}g () => () {{{'y = If (c) <a = g () => (float y) {' * 9999}",
        "nested deeper than 100",
    ),
    "deep graphs behind strings": (
        "onnxtxt",
        f"{HEADER}g () => () {{"
        + 'y = If (c) <b = "\\")})})})", a = g () => (float y) { # )})})}" \n' * 9999,
        "nested deeper than 100",
    ),
    "graphs deeper than protobuf": (
        "onnxtxt",
        f"{HEADER}g () => () {{{'y = If (c) <a = g () => (float y) {' * 45}y = A(){'}>' * 45}}}",
        "MaxDepth",
    ),
    "textproto": (
        "textproto",
        "ir_version: 8\ngraph { nam: 3 }",
        "line 2, column ",
    ),
    "textproto of another": ("textproto", 'name: "n"\nlayer {}', 'no field named "name"'),
    "textproto without graph": ("textproto", "ir_version: 8", "holds no graph"),
    "textproto of nothing": ("textproto", "# only this\n", "holds no graph"),
    "deep textproto": (
        "textproto",
        f"graph {{{'node { attribute { g {' * 9999}",
        "it is nested too deep",
    ),
    "JSON cut": ("json", '{"graph": {', "Failed to load JSON"),
    "JSON of another": ("json", '{"a": 1}', 'no field named "a"'),
    "JSON list": ("json", "[]", "holds no graph"),
    "JSON number": ("json", "3", "not an ONNX model in JSON"),
    "JSON twice": ("json", '{"graph": {}, "graph": {}}', "duplicate key graph"),
    "JSON of no number": ("json", '{"irVersion": NaN}', "not an ONNX model in JSON"),
    "deep JSON": ("json", '{"graph":' * 99999, "recursion depth"),
    "deep JSON graphs": (
        "json",
        '{"graph":' + '{"node":[{"attribute":[{"g":' * 200 + "{}" + "}]}]}" * 200 + "}",
        "not an ONNX model in JSON",
    ),
    "JSON as onnxtxt": ("onnxtxt", '{"irVersion": 8}', "line 1, column 1"),
}


@pytest.mark.parametrize(("kind", "text", "what"), BROKEN.values(), ids=BROKEN)
def test_texts_that_are_no_model(kind, text, what):
    with pytest.raises(UnreadableError) as caught:
        parse_text(text.encode(), kind, "dir/m.x")
    error = caught.value
    assert what in error.what
    assert error.hint
    assert "\n" not in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("data", "kind", "what", "hint"),
    [
        (LFS, "json", "a Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "onnxtxt", "an HTML page", "the file itself"),
        (gzip.compress(b"x"), "json", "a gzip archive", "gzip -dc m.json"),
        (MODEL.SerializeToString(), "json", "is no text", "rename it to .onnx"),
        (b'{"irVersion": 8}', "onnxtxt", "not an ONNX model", "rename it to m.json"),
        (b"ir_version: 8", "onnxtxt", "not an ONNX model", "rename it to m.textproto"),
        (b"<ir_version: 8>", "textproto", "not an ONNX model", "rename it to m.onnxtxt"),
        (b"x" * (TEXT_LIMIT + 1), "onnxtxt", "longer than 67,108,864 bytes", "binary .onnx"),
    ],
    ids=["LFS", "HTML", "gzip", "binary", "JSON", "textproto", "onnxtxt", "long"],
)
def test_other_files_under_the_extension_of_a_text(data, kind, what, hint):
    with pytest.raises(UnreadableError) as caught:
        parse_text(data, kind, f"m.{kind}")
    assert what in caught.value.what
    assert hint in caught.value.hint


@pytest.mark.parametrize("extension", [".onnxtxt", ".textproto", ".json"])
@pytest.mark.filterwarnings("ignore:The onnxtxt format is experimental")
def test_text_forms_under_another_name_are_named(extension, tmp_path: Path):
    onnx.save_model(parsed(NET), tmp_path / f"m{extension}", format=KINDS[extension])
    path = (tmp_path / f"m{extension}").rename(tmp_path / "m.onnx")
    found = refusal(path)
    assert "a text file with an ONNX model in" in found.what
    assert found.hint == f"rename it to m{extension}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_files_of_pytorch(tmp_path: Path):
    torch = pytest.importorskip("torch", reason="its own writer makes the samples")
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2)).eval()
    shown = torch.zeros(1, 1, 2, 2)
    torch.save(module.state_dict(), tmp_path / "new.pt")
    torch.save(module.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.trace(module, shown), tmp_path / "script.pt")
    torch.export.save(torch.export.export(module, (shown,)), tmp_path / "program.pt2")
    for name, what in {
        "new.pt": "a PyTorch file (torch.save): weights without a graph",
        "old.pth": "a PyTorch file (torch.save, legacy format): weights without a graph",
        "script.pt": "a TorchScript program",
        "program.pt2": "a PyTorch exported program (.pt2)",
    }.items():
        assert refusal(tmp_path / name).what == f"this is {what}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_files_of_keras_and_tensorflow(tmp_path: Path):
    keras = pytest.importorskip("keras", reason="its own writer makes the samples")
    tensorflow = pytest.importorskip("tensorflow", reason="its own writer makes the samples")
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.BatchNormalization()])
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    model.export(tmp_path / "saved", verbose=False)
    call = tensorflow.function(tensorflow.nn.relu).get_concrete_function(
        tensorflow.TensorSpec([2], "float32")
    )
    (tmp_path / "frozen.pb").write_bytes(call.graph.as_graph_def().SerializeToString())
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([call])
    (tmp_path / "m.tflite").write_bytes(converter.convert())
    for name, what in {
        "m.keras": "a Keras model (.keras)",
        "m.h5": "an HDF5 file (Keras .h5)",
        "saved": "a folder of a TensorFlow SavedModel",
        "saved/saved_model.pb": "a TensorFlow saved_model.pb",
        "frozen.pb": "a TensorFlow graph (GraphDef)",
        "m.tflite": "a TFLite model",
    }.items():
        assert refusal(tmp_path / name).what == f"this is {what}"
