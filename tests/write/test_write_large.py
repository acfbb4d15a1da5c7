"""A model whose weights lie beside it: whole or not there, and never over another's data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from inspector.compare.runtime.run import Fed, Runner
from inspector.errors import UnreadableError, UsageError
from inspector.write.large import prepared


def net(seed: int = 0) -> onnx.ModelProto:
    """Two sums: one of a large tensor and a small one, one inside of an If."""
    rng = np.random.default_rng(seed)
    large, inner = (rng.standard_normal((64, 32)).astype("f4") for _ in range(2))
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "inner"], ["t"])],
        "body",
        [],
        [helper.make_tensor_value_info("t", 1, [64, 32])],
        [numpy_helper.from_array(inner, "inner")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "large"], ["r"]),
            helper.make_node("Add", ["r", "small"], ["s"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, [64, 32])],
        [helper.make_tensor_value_info("y", 1, [64, 32])],
        [
            numpy_helper.from_array(large, "large"),
            numpy_helper.from_array(np.float32([seed]), "small"),
            numpy_helper.from_array(np.bool_(True), "yes"),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9)


X = np.ones((64, 32), "f4")


def wanted(proto: onnx.ModelProto) -> np.ndarray:
    return ReferenceEvaluator(proto).run(None, {"x": X})[0]


def found(path: Path) -> np.ndarray:
    onnx.checker.check_model(str(path))
    return Runner(path, name="m").run(Fed(values={"x": X}))["y"]


def write(proto: onnx.ModelProto, path: Path) -> None:
    with prepared(proto, path) as made:
        made.place()


def test_it_computes_the_same_where_it_is_made_and_where_it_is_put(tmp_path: Path) -> None:
    proto = net()
    expected = wanted(proto)
    path = tmp_path / "m.onnx"
    with prepared(proto, path) as made:
        np.testing.assert_array_equal(found(made.path), expected)
        assert not path.exists()
        made.place()
    np.testing.assert_array_equal(found(path), expected)
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "m.onnx.data"]
    model = onnx.load(str(path), load_external_data=False)
    kept = {each.name: each for each in model.graph.initializer}
    assert kept["large"].data_location == onnx.TensorProto.EXTERNAL
    assert kept["small"].data_location == onnx.TensorProto.DEFAULT
    offsets = [
        int(e.value) for each in kept.values() for e in each.external_data if e.key == "offset"
    ]
    assert all(each % 4096 == 0 for each in offsets)


def test_what_is_changed_in_the_model_is_written_again(tmp_path: Path) -> None:
    proto = net()
    with prepared(proto, tmp_path / "m.onnx") as made:
        proto.doc_string = "more"
        size = made.rewrite(proto)
        made.place()
    assert onnx.load(str(tmp_path / "m.onnx")).doc_string == "more"
    assert size == sum(each.stat().st_size for each in tmp_path.iterdir())


def test_the_data_of_another_model_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write(net(), path)
    other = path.rename(tmp_path / "other.onnx")
    write(net(1), path)
    np.testing.assert_array_equal(found(other), wanted(net()))
    np.testing.assert_array_equal(found(path), wanted(net(1)))
    write(net(1), path)  # the same again has its name already
    np.testing.assert_array_equal(found(path), wanted(net(1)))


def test_what_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write(net(), path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match="verify"), prepared(net(1), path):
        raise RuntimeError("verify")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_no_space_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inspector.write.large._appended", full)
    with (
        pytest.raises(UnreadableError, match="No space left"),
        prepared(net(), tmp_path / "m.onnx"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError), prepared(net(), tmp_path / "no" / "m.onnx"):
        pass
