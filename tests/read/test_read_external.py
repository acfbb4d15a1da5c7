"""External data: read where it belongs, refused everywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inspector.errors import UnreadableError
from inspector.flows import inspect_file
from inspector.read.open import open_model

VALUES = np.arange(4, dtype=np.float32)


def external(location: str | None = "m.data", **fields: object) -> onnx.ModelProto:
    """A BatchNorm whose scale lies in a data file, as [4] float32."""
    scale = TensorProto(name="s", data_type=TensorProto.FLOAT, dims=[4])
    scale.data_location = TensorProto.EXTERNAL
    if location is not None:
        scale.external_data.add(key="location", value=location)
    for key, value in fields.items():
        scale.external_data.add(key=key, value=str(value))
    others = [helper.make_tensor(n, TensorProto.FLOAT, [4], np.ones(4)) for n in "bmv"]
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], name="bn")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph([node], "g", [x], [y], initializer=[scale, *others])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def saved(folder: Path, proto: onnx.ModelProto, data: bytes | None = VALUES.tobytes()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    if data is not None:
        (folder / "m.data").write_bytes(data)
    return folder / "m.onnx"


def scale_of(path: Path) -> list[float]:
    model = open_model(path)
    return model.weights.load(model.graph.initializers["s"]).tolist()


def refused(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        open_model(path)
    assert "tensor 's'" in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_the_whole_file(tmp_path: Path):
    assert scale_of(saved(tmp_path, external())) == VALUES.tolist()


def test_a_stretch_of_the_file(tmp_path: Path):
    data = b"\xff" * 8 + VALUES.tobytes() + b"\xff" * 3
    path = saved(tmp_path, external(offset=8, length=16), data)
    assert scale_of(path) == VALUES.tolist()


def test_a_stretch_without_a_length_ends_with_the_tensor(tmp_path: Path):
    path = saved(tmp_path, external(offset=8), b"\xff" * 8 + VALUES.tobytes() + b"\xff" * 3)
    assert scale_of(path) == VALUES.tolist()


def test_a_data_file_in_a_folder_below(tmp_path: Path):
    path = saved(tmp_path, external("sub/m.data"), None)
    saved(tmp_path / "sub", external())
    assert scale_of(path) == VALUES.tolist()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"offset": 1}, "lie outside"),
        ({"offset": 2**70, "length": 16}, "lie outside"),
        ({"offset": -16}, "lie outside"),
        ({"offset": -16, "length": 16}, "lie outside"),
        ({"length": -16}, "it takes 16 bytes"),
        ({"length": 8}, "it takes 16 bytes"),
        ({"length": 17}, "it takes 16 bytes"),
        ({"offset": "eight"}, "not a number"),
        ({"length": "9" * 5000}, "not a number"),
    ],
)
def test_stretches_that_are_not_there(fields, words, tmp_path: Path):
    assert words in refused(saved(tmp_path, external(**fields)))


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../m.data", "sub/../../m.data", "", "a\0b", None],
)
def test_locations_that_leave_the_folder(location, tmp_path: Path):
    saved(tmp_path, external())
    path = saved(tmp_path / "sub", external(location))
    assert "plain file name" in refused(path)


@pytest.mark.parametrize("location", [".", "folder", "pipe"])
def test_data_that_is_no_file(location, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(saved(tmp_path, external(location)))


def test_names_too_long_for_a_file(tmp_path: Path):
    assert "cannot be read" in refused(saved(tmp_path, external("x" * 5000)))


def test_a_link_out_of_the_folder(tmp_path: Path):
    (tmp_path / "secret").write_bytes(VALUES.tobytes())
    path = saved(tmp_path / "sub", external(), None)
    (tmp_path / "sub" / "m.data").symlink_to(tmp_path / "secret")
    assert "leads out" in refused(path)


def test_a_folder_that_links_out_of_the_folder(tmp_path: Path):
    saved(tmp_path / "secret", external())
    path = saved(tmp_path / "sub", external("in/m.data"), None)
    (tmp_path / "sub" / "in").symlink_to(tmp_path / "secret")
    assert "leads out" in refused(path)


def test_a_neighbour_whose_name_begins_alike_is_outside(tmp_path: Path):
    saved(tmp_path / "model-secret", external())
    path = saved(tmp_path / "model", external("in/m.data"), None)
    (tmp_path / "model" / "in").symlink_to(tmp_path / "model-secret")
    assert "leads out" in refused(path)


def test_a_link_within_the_folder(tmp_path: Path):
    path = saved(tmp_path, external("link"))
    (tmp_path / "link").symlink_to("m.data")
    assert scale_of(path) == VALUES.tolist()


def test_the_cache_of_hugging_face_opens(tmp_path: Path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc" / "onnx"
    saved(blobs, external("model.onnx_data"))
    (blobs / "m.onnx").rename(blobs / "111")
    (blobs / "m.data").rename(blobs / "222")
    snapshot.mkdir(parents=True)
    (snapshot / "model.onnx").symlink_to("../../../blobs/111")
    (snapshot / "model.onnx_data").symlink_to("../../../blobs/222")
    assert scale_of(snapshot / "model.onnx") == VALUES.tolist()


def test_a_relative_path_in_the_working_folder(tmp_path: Path, monkeypatch):
    saved(tmp_path, external())
    monkeypatch.chdir(tmp_path)
    assert scale_of(Path("m.onnx")) == VALUES.tolist()


def test_without_its_data_a_model_opens_and_values_are_unknown(tmp_path: Path):
    path = saved(tmp_path, external(), None)
    fact = inspect_file(path)
    (norm,) = fact.norms
    assert norm.norm.channels == 4
    assert norm.values.scale is None
    assert norm.values.slope is None
    assert norm.values.mean is not None
    assert fact.count.learned == 8
    assert fact.notes == ("values are unknown where data files are missing: 'm.data'",)


def test_a_file_that_is_cut_off_after_opening(tmp_path: Path):
    model = open_model(saved(tmp_path, external()))
    (tmp_path / "m.data").write_bytes(b"")
    with pytest.raises(UnreadableError, match="lie outside"):
        model.weights.load(model.graph.initializers["s"])
    (tmp_path / "m.data").unlink()
    with pytest.raises(UnreadableError, match="data files are missing: 'm\\.data'"):
        model.weights.load(model.graph.initializers["s"])


def test_data_in_attributes_is_contained_too(tmp_path: Path):
    proto = external()
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "g", [], [])
    proto.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=inner))
    path = saved(tmp_path, proto)
    with pytest.raises(UnreadableError, match="tensor 't': its data location"):
        open_model(path)
