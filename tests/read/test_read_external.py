"""External data: read where it belongs, refused everywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inspector.errors import UnreadableError, UsageError
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


def scale_of(path: Path, *external_dirs: Path) -> list[float]:
    model = open_model(path, external_dirs=external_dirs)
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
        ({"offset": 2**60, "length": 16}, "lie outside"),
        ({"offset": 2**70, "length": 16}, "no number of bytes"),
        ({"offset": -16}, "no number of bytes"),
        ({"offset": -16, "length": 16}, "no number of bytes"),
        ({"length": -16}, "no number of bytes"),
        ({"offset": "1_0"}, "no number of bytes"),
        ({"offset": " 8"}, "no number of bytes"),
        ({"length": 8}, "it takes 16 bytes"),
        ({"length": 17}, "it takes 16 bytes"),
        ({"offset": "eight"}, "no number of bytes"),
        ({"length": "9" * 5000}, "no number of bytes"),
    ],
)
def test_stretches_that_are_not_there(fields, words, tmp_path: Path):
    assert words in refused(saved(tmp_path, external(**fields)))


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/etc/passwd", "is an absolute path"),
        ("C:/m.data", "is an absolute path"),
        ("C:m.data", "is an absolute path"),
        ("\\\\host\\share\\m.data", "is an absolute path"),
        ("../m.data", "by '..'"),
        ("sub/../../m.data", "by '..'"),
        ("..\\m.data", "by '..'"),
        ("", "names no data file"),
        (None, "names no data file"),
        ("a\0b", "no file's name"),
        ("*/_ORT_MEM_ADDR_/*", "no file's name"),
    ],
)
def test_locations_that_leave_the_folder(location, words, tmp_path: Path):
    saved(tmp_path, external())
    path = saved(tmp_path / "sub", external(location))
    assert words in refused(path)


def test_a_location_that_is_given_twice(tmp_path: Path):
    proto = external()
    tensor = next(each for each in proto.graph.initializer if each.external_data)
    tensor.external_data.add(key="location", value="other")
    assert "given twice" in refused(saved(tmp_path, proto))


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
    (note,) = fact.notes
    assert note.startswith("values are unknown where data files are missing: 'm.data' (1 tensor); ")


def test_a_file_that_is_cut_off_after_opening(tmp_path: Path):
    model = open_model(saved(tmp_path, external()))
    (tmp_path / "m.data").write_bytes(b"")
    with pytest.raises(UnreadableError, match="has changed"):
        model.weights.load(model.graph.initializers["s"])
    (tmp_path / "m.data").unlink()
    with pytest.raises(UnreadableError, match="data files are missing: 'm\\.data'"):
        model.weights.load(model.graph.initializers["s"])


def test_a_data_file_with_a_second_hard_link(tmp_path: Path):
    """Refused as onnx itself does, unless its folder is vouched for."""
    path = saved(tmp_path / "model", external())
    os.link(tmp_path / "model" / "m.data", tmp_path / "elsewhere")
    assert "has 2 hard links, and may be another folder's file" in refused(path)
    with pytest.raises(onnx.checker.ValidationError, match="hard link"):
        onnx.load(path)
    assert scale_of(path, tmp_path / "model") == VALUES.tolist()


def test_a_folder_of_the_users_own_choice(tmp_path: Path):
    path = saved(tmp_path / "model", external("sub/m.data"), None)
    saved(tmp_path / "data" / "sub", external())
    assert scale_of(path, tmp_path / "data") == VALUES.tolist()
    assert open_model(path).missing_data == {"sub/m.data": 1}


def test_a_link_into_the_folder_of_the_users_own_choice(tmp_path: Path):
    saved(tmp_path / "data", external())
    path = saved(tmp_path / "model", external(), None)
    (tmp_path / "model" / "m.data").symlink_to(tmp_path / "data" / "m.data")
    assert scale_of(path, tmp_path / "data") == VALUES.tolist()
    assert "leads out" in refused(path)


def test_a_link_out_of_the_folder_of_the_users_own_choice(tmp_path: Path):
    (tmp_path / "secret").write_bytes(VALUES.tobytes())
    path = saved(tmp_path / "model", external(), None)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "m.data").symlink_to(tmp_path / "secret")
    assert open_model(path, external_dirs=[tmp_path / "data"]).missing_data == {"m.data": 1}


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(UsageError, match="no such folder for external data"):
        open_model(saved(tmp_path, external()), external_dirs=[tmp_path / "nothing"])


def test_a_model_that_links_to_a_folder_opens_nothing_below_it(tmp_path: Path):
    """The cache of Hugging Face is flat; deeper down is no part of it."""
    saved(tmp_path / "blobs", external("in/m.data"), None)
    saved(tmp_path / "blobs" / "deep", external())
    (tmp_path / "snapshot" / "in").mkdir(parents=True)
    (tmp_path / "snapshot" / "m.onnx").symlink_to(tmp_path / "blobs" / "m.onnx")
    (tmp_path / "snapshot" / "in" / "m.data").symlink_to(tmp_path / "blobs" / "deep" / "m.data")
    assert "leads out" in refused(tmp_path / "snapshot" / "m.onnx")


def test_a_data_file_that_is_a_pointer_or_cut_off(tmp_path: Path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 16\n"
    proto = external(offset=100)
    said = refused(saved(tmp_path, proto, pointer))
    assert f"of {len(pointer)} bytes, which is a Git LFS pointer, not the data itself" in said
    assert "`git lfs pull`" in said
    said = refused(saved(tmp_path, proto, b"x" * 65))
    assert "of 65 bytes; copy or download the data file again" in said


def test_many_missing_files_are_one_message(tmp_path: Path):
    proto = external()
    for at in range(40):
        tensor = proto.graph.initializer.add(name=f"t{at}", data_type=TensorProto.FLOAT, dims=[4])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=f"shard_{at % 10}.bin")
    fact = inspect_file(saved(tmp_path, proto, None))
    (note,) = fact.notes
    assert "'m.data' (1 tensor), 'shard_0.bin' (4 tensors), " in note
    assert " and 5 more; " in note


@pytest.mark.parametrize("number", [TensorProto.STRING, TensorProto.UNDEFINED])
def test_types_without_a_size_lie_in_no_data_file(number, tmp_path: Path):
    """They would take the whole of it, however large."""
    proto = external()
    tensor = next(each for each in proto.graph.initializer if each.external_data)
    tensor.data_type = number
    with pytest.raises(UnreadableError, match=r"cannot lie in data files|no element type"):
        open_model(saved(tmp_path, proto))


def test_a_link_to_a_model_with_its_data_beside_it(tmp_path: Path):
    saved(tmp_path / "store", external())
    (tmp_path / "link.onnx").symlink_to(tmp_path / "store" / "m.onnx")
    assert scale_of(tmp_path / "link.onnx") == VALUES.tolist()


def test_a_data_file_that_is_replaced_after_it_was_checked(tmp_path: Path):
    model = open_model(saved(tmp_path, external()))
    (tmp_path / "new").write_bytes(VALUES.tobytes())
    (tmp_path / "new").replace(tmp_path / "m.data")
    with pytest.raises(UnreadableError, match="has changed"):
        model.weights.load(model.graph.initializers["s"])


def test_more_channels_than_any_layer_has(tmp_path: Path):
    """A hole in a data file costs nothing, and its bytes would fill the memory."""
    proto = external()
    tensor = next(each for each in proto.graph.initializer if each.external_data)
    tensor.dims[0] = 2**29
    path = saved(tmp_path, proto)
    with (tmp_path / "m.data").open("r+b") as file:
        file.truncate(2**31)
    with pytest.raises(UnreadableError, match="'bn' has 536,870,912 channels"):
        inspect_file(path)


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
