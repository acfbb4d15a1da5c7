"""What ONNX Runtime opens in place of a model gives the model's own outputs, wherever data lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inspector.compare.runtime.run import Fed, Runner
from inspector.errors import UndecidedError, UnreadableError
from inspector.facts.patch import Runnable, SetInput
from inspector.read import open as opening
from inspector.read.open import open_model
from inspector.read.shapes import with_inferred_shapes
from inspector.write import runnable as running
from inspector.write.patch import patched
from inspector.write.runnable import runnable

WEIGHT = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
BIAS = np.random.default_rng(1).standard_normal(64).astype(np.float32)
X = np.random.default_rng(2).standard_normal((3, 64)).astype(np.float32)
EXPECTED = np.maximum(X @ WEIGHT, 0) + BIAS


def net(*, field: str = "raw_data", inner: bool = False) -> onnx.ModelProto:
    """Relu(x · weight) + bias, the bias from a Constant node, or in a branch of an If."""
    if field == "raw_data":
        weight = numpy_helper.from_array(WEIGHT, "w")
    elif field == "double_data":
        weight = helper.make_tensor("w", TensorProto.DOUBLE, WEIGHT.shape, WEIGHT.ravel())
    else:
        weight = helper.make_tensor("w", TensorProto.FLOAT, WEIGHT.shape, WEIGHT.ravel())
        assert weight.float_data
    nodes = [
        helper.make_node("Cast", ["w"], ["w32"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w32"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
    ]
    bias = numpy_helper.from_array(BIAS, "b")
    initializers = [weight]
    if inner:
        y = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
        body = helper.make_graph([helper.make_node("Add", ["r", "b"], ["z"])], "g", [], [y], [bias])
        initializers.append(numpy_helper.from_array(np.array(True), "c"))
        nodes.append(helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body))
    else:
        nodes.append(helper.make_node("Constant", [], ["b"], value=bias))
        nodes.append(helper.make_node("Add", ["r", "b"], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs(source: Path | Runnable) -> np.ndarray:
    return Runner(source, name="m").run(Fed(values={"x": X}))["y"]


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor of more than 16 bytes is left in the file."""
    monkeypatch.setattr(opening, "WHOLE", 0)
    monkeypatch.setattr(opening, "KEPT_WHOLE", 16)


def saved(path: Path, proto: onnx.ModelProto, *, external: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(
        proto,
        path,
        save_as_external_data=external,
        location=f"{path.name}.data",
        size_threshold=1024,
        convert_attribute=False,
    )
    assert external == path.with_name(f"{path.name}.data").exists()
    return path


def test_a_file_in_one_piece_is_opened_itself(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", net())
    assert runnable(open_model(path)) == path


@pytest.mark.usefixtures("walked")
def test_a_large_file_in_one_piece_is_opened_itself(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", net())
    assert runnable(open_model(path)) == path


@pytest.mark.usefixtures("walked")
@pytest.mark.parametrize("inner", [False, True], ids=["Constant", "If"])
@pytest.mark.parametrize("field", ["raw_data", "float_data", "double_data"])
def test_a_file_beyond_the_parser_stays_where_it_lies(field, inner, tmp_path, monkeypatch) -> None:
    path = saved(tmp_path / "m.onnx", net(field=field, inner=inner))
    monkeypatch.setattr(running, "LIMIT", 8000)
    assert path.stat().st_size > running.LIMIT
    made = runnable(open_model(path))
    assert isinstance(made, Runnable)
    assert len(made.data) < 4000
    np.testing.assert_array_equal(outputs(made), outputs(path))
    np.testing.assert_allclose(outputs(made), EXPECTED, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("walked")
def test_what_has_to_be_inside_and_does_not_fit(tmp_path: Path, monkeypatch) -> None:
    proto = net()
    (kept,) = [each for each in proto.graph.node if each.op_type == "Constant"]
    kept.attribute[0].t.CopyFrom(numpy_helper.from_array(np.resize(BIAS, (200, 64)), "b"))
    path = saved(tmp_path / "m.onnx", proto)
    monkeypatch.setattr(running, "LIMIT", 8000)
    with pytest.raises(UndecidedError, match="a copy of it would take"):
        runnable(open_model(path))


def test_data_files(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", net(), external=True)
    made = runnable(open_model(path))
    assert isinstance(made, Runnable)
    np.testing.assert_array_equal(outputs(made), outputs(path))


def test_data_files_in_the_working_folder(tmp_path: Path, monkeypatch) -> None:
    path = saved(tmp_path / "m.onnx", net(), external=True)
    expected = outputs(path)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(outputs(runnable(open_model("m.onnx"))), expected)


def test_the_cache_of_hugging_face_runs(tmp_path: Path) -> None:
    path = saved(tmp_path / "blobs" / "model.onnx", net(), external=True)
    expected = outputs(path)
    path.rename(path.with_name("111"))
    path.with_name("model.onnx.data").rename(path.with_name("222"))
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.onnx").symlink_to("../../blobs/111")
    (snapshot / "model.onnx.data").symlink_to("../../blobs/222")
    np.testing.assert_array_equal(outputs(runnable(open_model(snapshot / "model.onnx"))), expected)


def test_data_in_a_folder_of_its_own(tmp_path: Path) -> None:
    path = saved(tmp_path / "model" / "m.onnx", net(), external=True)
    expected = outputs(path)
    (tmp_path / "data").mkdir()
    shutil.move(path.with_name("m.onnx.data"), tmp_path / "data")
    opened = open_model(path, external_dirs=[tmp_path / "data"])
    assert not opened.missing_data
    np.testing.assert_array_equal(outputs(runnable(opened)), expected)


def test_shapes_in_data_files(tmp_path: Path) -> None:
    """ONNX Runtime wants the values of shapes before it opens any data file."""
    proto = net()
    proto.graph.node[-1].output[0] = "flat"
    proto.graph.node.append(helper.make_node("Reshape", ["flat", "shape"], ["y"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-1, 64]), "shape"))
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    model = open_model(path)
    assert model.graph.initializers["shape"].external == "m.data"
    np.testing.assert_allclose(outputs(runnable(model)), EXPECTED, rtol=1e-5, atol=1e-5)
    assert with_inferred_shapes(model).graph.values["flat"].dims == ("n", 64)


def test_data_that_is_gone(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", net(), external=True)
    model = open_model(path)
    path.with_name("m.onnx.data").unlink()
    with pytest.raises((UnreadableError, UndecidedError), match=r"missing|does not load"):
        outputs(runnable(model))


def test_text_forms_run(tmp_path: Path) -> None:
    path = tmp_path / "m.textproto"
    onnx.save(net(), path)
    made = runnable(open_model(path))
    np.testing.assert_allclose(outputs(made), EXPECTED, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("walked")
@pytest.mark.parametrize("external", [False, True])
def test_patched_copies_leave_their_data_too(external: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", net(), external=external)
    made = patched(open_model(path), [SetInput(node="y", position=1, values=-BIAS)])
    assert len(made.data) < 4000
    np.testing.assert_allclose(outputs(made), EXPECTED - 2 * BIAS, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs(path), EXPECTED, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("walked")
def test_optimised_and_not_are_alike(tmp_path: Path) -> None:
    made = patched(open_model(saved(tmp_path / "m.onnx", net())), [])
    plain = Runner(made, name="m", optimise=False).run(Fed(values={"x": X}))["y"]
    np.testing.assert_allclose(plain, EXPECTED, rtol=1e-5, atol=1e-5)


def test_bytes_that_spell_another_format_are_read_as_onnx(tmp_path: Path) -> None:
    """ONNX Runtime takes bytes with ORTM at the fifth for its own format, and a path by .ort."""
    proto = net()
    proto.producer_name = "ORTMaker"
    path = saved(tmp_path / "m.onnx", proto, external=True)
    made = runnable(open_model(path))
    assert isinstance(made, Runnable)
    assert made.data[4:8] == b"ORTM"
    np.testing.assert_allclose(outputs(made), EXPECTED, rtol=1e-5, atol=1e-5)
    named = saved(tmp_path / "m.ort", net())
    assert runnable(open_model(named)) == named
    np.testing.assert_allclose(outputs(named), EXPECTED, rtol=1e-5, atol=1e-5)


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", net())
    odd = tmp_path / "m\udcff.onnx"
    path.rename(odd)
    made = runnable(open_model(odd))
    np.testing.assert_allclose(outputs(made), EXPECTED, rtol=1e-5, atol=1e-5)
