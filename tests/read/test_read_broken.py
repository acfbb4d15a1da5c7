"""Whatever a file holds: it opens, or one UnreadableError says what it is instead."""

from __future__ import annotations

import gzip
import os
import socket
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_text import FEW, parsed

from inspector.errors import ExitCode, UnreadableError
from inspector.flows import inspect_file
from inspector.read.open import open_model
from inspector.report import render

NET = f"""agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
<float[2, 2, 1, 1] w = {{1.0, 2.0, 3.0, 4.0}}, {FEW[1:-1]}>
{{ c = Conv (x, w)
   y = BatchNormalization <epsilon = 0.001> (c, s, b, m, v) }}"""


def refused(path: str | os.PathLike[str]) -> str:
    with pytest.raises(UnreadableError) as caught:
        open_model(path)
    error = caught.value
    assert error.exit_code is ExitCode.UNREADABLE
    assert error.what
    assert error.where
    assert error.hint
    assert "\n" not in str(error)
    return str(error)


CONTENTS = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello there\n", "a text file"),
    "text of an ONNX model": (b'ir_version: 3\ngraph { name: "g" }\n', "a text file"),
    "long text": ("größer\n".encode() * 400, "a text file"),
    "LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        "git lfs pull",
    ),
    "HTML": (b"<!DOCTYPE html><html></html>", "an HTML page"),
    "HTML in small letters": (b"\n <!doctype html>\n<p>not found", "an HTML page"),
    "XML": (b'<?xml version="1.0"?><net/>', "XML"),
    "gzip": (gzip.compress(b"x" * 99), "a gzip archive"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "AppleDouble": (b"\x00\x05\x16\x07" + bytes(99), "AppleDouble"),
    "GGUF": (b"GGUF" + bytes(99), "GGUF"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(99), "TFLite"),
    "ORT format": (b"\x1c\0\0\0ORTM" + bytes(99), "ORT format"),
    "zeros": (bytes(1000), "byte 0 of 1,000 begins no field"),
    "noise": (np.random.default_rng(0).bytes(5000), "or damaged: byte "),
    "a message without a graph": (b"\x08\x08\x12\x01x", "holds no graph"),
    "only a version": (b"\x08\x08", "holds no graph"),
}


@pytest.mark.parametrize(("data", "words"), CONTENTS.values(), ids=CONTENTS)
def test_other_kinds_of_files_are_named(data, words, tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    message = refused(path)
    assert words in message
    assert str(path) in message


def test_a_zip_archive(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "m.onnx", "w") as archive:
        archive.writestr("a", "b")
    assert "zip archive" in refused(tmp_path / "m.onnx")


def test_no_file_at_all(tmp_path: Path):
    assert "no such file" in refused(tmp_path / "none.onnx")
    assert "no such file" in refused(str(tmp_path / "no" / "folder.onnx"))


def test_a_path_through_a_file(tmp_path: Path):
    (tmp_path / "f").write_text("x")
    assert "not a directory" in refused(tmp_path / "f" / "m.onnx")


def test_a_folder(tmp_path: Path):
    assert "is a folder" in refused(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe")


def test_a_device():
    assert "not a regular file" in refused("/dev/null")
    assert "not a regular file" in refused("/dev/zero")


def test_a_socket(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may have 108 bytes at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert "not a regular file" in refused("s")


def test_links_that_lead_nowhere(tmp_path: Path):
    (tmp_path / "lost").symlink_to("nothing")
    assert "no such file" in refused(tmp_path / "lost")
    (tmp_path / "circle").symlink_to("circle")
    assert "symbolic links" in refused(tmp_path / "circle")


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "é\udcff.onnx", ""])
def test_paths_that_no_file_can_have(path):
    with pytest.raises(UnreadableError) as caught:
        open_model(path)
    assert caught.value.where


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "m.onnx").chmod(0)
    assert "permissions" in refused(tmp_path / "m.onnx")


def test_a_file_that_may_not_be_read_as_any_user(tmp_path: Path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "permissions" in refused(tmp_path / "m.onnx")


def opens_or_refuses(path: Path) -> bool:
    """Whether the whole inspection works; any other error than ours fails the test."""
    try:
        fact = inspect_file(path)
    except UnreadableError:
        return False
    for line in render(fact, "text").splitlines():
        assert line.isprintable(), line
    render(fact, "json")
    return True


def test_every_prefix_of_a_model(tmp_path: Path):
    data = parsed(NET).SerializeToString()
    path = tmp_path / "m.onnx"
    opened = []
    for end in range(len(data)):
        path.write_bytes(data[:end])
        if opens_or_refuses(path):
            opened.append(end)
    path.write_bytes(data)
    assert opens_or_refuses(path)
    # A cut inside the graph, which is nearly all of the file, never goes unnoticed.
    graph = len(parsed(NET).graph.SerializeToString())
    assert all(end >= graph for end in opened), opened


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes(seed, tmp_path: Path):
    good = parsed(NET).SerializeToString()
    dice = np.random.default_rng(seed)
    path = tmp_path / "m.onnx"
    outcomes = set()
    for _ in range(400):
        data = bytearray(good)
        for _ in range(int(dice.choice([1, 1, 2, 8]))):
            at = int(dice.integers(len(data)))
            match int(dice.integers(3)):
                case 0:
                    data[at] = int(dice.integers(256))
                case 1:
                    data[at] ^= 1 << int(dice.integers(8))
                case _:
                    data[at:at] = dice.bytes(int(dice.integers(1, 5)))
        path.write_bytes(data)
        outcomes.add(opens_or_refuses(path))
    assert outcomes == {True, False}


def test_names_that_are_no_utf8_are_written_as_escapes(tmp_path: Path):
    data = parsed(NET).SerializeToString()
    # Field 3 of a node is its name; here the output "c" becomes a byte that begins nothing.
    damaged = data.replace(b"\x12\x01c", b"\x12\x01\xff").replace(b"\n\x01c", b"\n\x01\xff")
    assert damaged != data
    (tmp_path / "m.onnx").write_bytes(damaged)
    model = open_model(tmp_path / "m.onnx")
    assert model.graph.nodes[0].outputs == ("\\xff",)
    assert model.graph.nodes[1].input(0) == "\\xff"


def test_graphs_nested_deeper_than_protobuf_reads(tmp_path: Path):
    graph = b""
    for depth in range(2000):
        attribute = b"\x0a\x01t" + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, b"\x22\x02If" + field(5, attribute))
        if depth in (5, 20, 30, 50, 1999):
            (tmp_path / "m.onnx").write_bytes(b"\x08\x08" + field(7, graph))
            assert opens_or_refuses(tmp_path / "m.onnx") is (depth < 33)


def field(number: int, data: bytes) -> bytes:
    """A field of protobuf's wire format that holds `data`."""
    length, size = len(data), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + data


def test_an_untyped_attribute_of_the_oldest_files(tmp_path: Path):
    proto = parsed(NET)
    for attribute in proto.graph.node[1].attribute:
        attribute.ClearField("type")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    node = open_model(tmp_path / "m.onnx").graph.nodes[1]
    assert node.float_attribute("epsilon", 0.0) == pytest.approx(0.001)


def test_the_files_of_the_corpus_that_onnx_refuses(corpus: Path, corpus_rows):
    refusals = [row for row in corpus_rows if row["load"] != "ok"]
    assert refusals
    for row in refusals:
        if row["load"] != "empty-or-not-model":
            refused(corpus / row["file"])


def test_reading_a_model_of_no_nodes(onnx_file):
    path = onnx_file(helper.make_model(helper.make_graph([], "g", [], [])))
    assert open_model(path).graph.nodes == ()


def test_both_spellings_of_the_standard_domain_are_one(onnx_file):
    proto = parsed(NET)
    proto.opset_import.append(onnx.OperatorSetIdProto(domain="ai.onnx", version=17))
    assert dict(open_model(onnx_file(proto)).opsets) == {"": 17}


def test_more_subgraphs_than_any_model_has(onnx_file):
    node = helper.make_node("A", ["x"], ["y"], domain="d")
    attribute = node.attribute.add(name="graphs", type=onnx.AttributeProto.GRAPHS)
    for _ in range(10_001):
        attribute.graphs.add(name="g")
    proto = helper.make_model(helper.make_graph([node], "g", [], []))
    with pytest.raises(UnreadableError, match="more than 10,000 subgraphs"):
        open_model(onnx_file(proto))
