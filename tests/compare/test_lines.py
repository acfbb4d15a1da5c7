"""Operators over a line written over a plane, and one place along an axis, however it is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from inspector.facts.comparison import Verdict
from inspector.read.open import open_model
from inspector.read.shapes import with_inferred_shapes
from inspector.write.lines import with_lines
from tests.compare.conftest import Compare
from tests.compare.test_plain_inputs import drawn, model

Nodes = list[onnx.NodeProto]


def keras_like(change: Callable[[Nodes, dict[str, Any]], None] | None = None) -> ModelProto:
    """Conv1D and MaxPooling1D on channels last, as tf2onnx writes them."""
    stored: dict[str, Any] = {
        "k1": drawn(6, 3, 1, 3), "b1": drawn(6), "k2": drawn(4, 6, 1, 2), "one": np.array([1]),
        "two": np.array([2]), "pads": np.array([0, 2, 0, 0, 0, 0]), "flat": np.array([-1, 32]),
        "w": drawn(32, 5), "zero": np.array(0.0, "f4"),
    }  # fmt: skip  # a table
    nodes = [
        helper.make_node("Pad", ["x", "pads", "zero"], ["padded"]),
        helper.make_node("Unsqueeze", ["padded", "one"], ["plane"]),
        helper.make_node("Transpose", ["plane"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "Conv", ["first", "k1", "b1"], ["c1"], strides=[1, 2], kernel_shape=[1, 3], pads=[0] * 4
        ),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Squeeze", ["r1", "two"], ["s1"]),
        helper.make_node("Unsqueeze", ["s1", "two"], ["u2"]),
        helper.make_node("Conv", ["u2", "k2"], ["c2"], auto_pad="SAME_UPPER"),
        helper.make_node("Squeeze", ["c2", "two"], ["s2"]),
        helper.make_node("Unsqueeze", ["s2", "two"], ["u3"]),
        helper.make_node("MaxPool", ["u3"], ["p"], kernel_shape=[1, 2], strides=[1, 2]),
        helper.make_node("Squeeze", ["p", "two"], ["s3"]),
        helper.make_node("Transpose", ["s3"], ["last"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["last", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], ["y"]),
    ]
    if change is not None:
        change(nodes, stored)
    return model(nodes, stored, ["N", 31, 3], rank=2)


def torch_like(**first: Any) -> ModelProto:
    """The same over a line, channels first."""
    flat = drawn(32, 5).reshape(8, 4, 5).transpose(1, 0, 2).reshape(32, 5)
    stored = {
        "k1": drawn(6, 3, 1, 3)[:, :, 0], "b1": drawn(6), "k2": drawn(4, 6, 1, 2)[:, :, 0],
        "w": flat,
    }  # fmt: skip  # a table
    given = {"strides": [2], "pads": [2, 0], **first}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["t", "k1", "b1"], ["c1"], **given),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "k2"], ["c2"], auto_pad="SAME_UPPER"),
        helper.make_node("MaxPool", ["c2"], ["p"], kernel_shape=[2], strides=[2]),
        helper.make_node("Flatten", ["p"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], ["y"]),
    ]
    return model(nodes, stored, ["N", 31, 3], rank=2)


def written(given: ModelProto, folder: Path) -> ModelProto | None:
    path = folder / "model.onnx"
    onnx.save(given, path)
    found = with_lines(with_inferred_shapes(open_model(path)))
    return None if found is None else found.weights.proto  # type: ignore[attr-defined]  # of a file


def ran(given: ModelProto) -> Any:
    session = onnxruntime.InferenceSession(given.SerializeToString())
    dims = [3 if isinstance(each, str) else each for each in session.get_inputs()[0].shape]
    return session.run(None, {"x": drawn(*dims, seed=7)})[0]


def test_over_lines_it_computes_the_same(tmp_path: Path) -> None:
    view = written(keras_like(), tmp_path)
    assert view is not None
    onnx.checker.check_model(view, full_check=True)
    ops = [each.op_type for each in view.graph.node]
    assert not {"Squeeze", "Unsqueeze"} & set(ops), ops
    np.testing.assert_allclose(ran(keras_like()), ran(view), rtol=1e-5, atol=1e-6)


def test_a_line_of_keras_is_one_of_torch(compare: Compare) -> None:
    for found in (compare(keras_like(), torch_like()), compare(torch_like(), keras_like())):
        assert found.verdict is Verdict.EQUIVALENT, found.reason


def test_a_fault_is_named_across_the_two(compare: Compare) -> None:
    found = compare(keras_like(), torch_like(pads=[1, 1]))
    assert found.verdict is Verdict.DIFFERENT
    assert found.causes[0].what == "pads"
    faulty = torch_like()
    (bias,) = (each for each in faulty.graph.initializer if each.name == "b1")
    values = numpy_helper.to_array(bias).copy()
    values[2] += 0.5
    bias.CopyFrom(numpy_helper.from_array(values, "b1"))
    found = compare(keras_like(), faulty)
    assert found.verdict is Verdict.DIFFERENT
    assert found.causes[0].what.startswith("bias")
    assert len(found.causes) == 1


def _two_high(nodes: Nodes, stored: dict[str, Any]) -> None:
    stored["k1"] = drawn(6, 3, 2, 3)
    nodes[3] = helper.make_node("Conv", ["first", "k1", "b1"], ["c1"], strides=[1, 2],
                                pads=[1, 0, 0, 0])  # fmt: skip  # as it is above


def _padded(nodes: Nodes, stored: dict[str, Any]) -> None:
    (pads,) = (each for each in nodes[3].attribute if each.name == "pads")
    pads.ints[:] = [1, 0, 0, 0]


def _read_twice(nodes: Nodes, stored: dict[str, Any]) -> None:
    nodes.append(helper.make_node("ReduceMax", ["c1"], ["most"], keepdims=0))
    nodes.append(helper.make_node("Add", ["z", "most"], ["y"]))
    nodes[-3].output[0] = "z"


def _other_axis(nodes: Nodes, stored: dict[str, Any]) -> None:
    """The plane's other axis is taken away, whose length does not let the rest run."""
    stored["three"] = np.array([3])
    nodes[5].input[1] = "three"


@pytest.mark.parametrize("change", [_two_high, _padded, _read_twice, _other_axis])
def test_what_needs_the_plane_keeps_it(
    change: Callable[[Nodes, dict[str, Any]], None], tmp_path: Path
) -> None:
    given = keras_like(change)
    # Where it does not fit the ranks of what follows are not known, and nothing is written anew.
    view = written(given, tmp_path) or given
    assert [each.op_type for each in view.graph.node][1] == "Unsqueeze"


def test_a_kernel_that_is_fed_keeps_its_dims(tmp_path: Path) -> None:
    given = keras_like()
    given.graph.input.append(helper.make_tensor_value_info("k1", 1, [6, 3, 1, 3]))
    view = written(given, tmp_path)
    assert view is not None
    assert [each.op_type for each in view.graph.node][1] == "Unsqueeze"


def last_step(how: str, place: int = -1) -> ModelProto:
    """A place of a sequence [T, N, C] or [N, T, C], behind a product and in front of another."""
    stored: dict[str, Any] = {
        "w": drawn(4, 6), "v": drawn(6, 3), "at": np.array(place), "from": np.array([place]),
        "to": np.array([2**31 - 1 if place == -1 else place + 1]), "first": np.array([0]),
        "second": np.array([1]),
    }  # fmt: skip  # a table
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"])]
    if how == "Gather":
        nodes.append(helper.make_node("Gather", ["h", "at"], ["l"], axis=1))
    elif how == "Slice":
        nodes.append(helper.make_node("Slice", ["h", "from", "to", "second"], ["s"]))
        nodes.append(helper.make_node("Squeeze", ["s", "second"], ["l"]))
    else:
        nodes.append(helper.make_node("Transpose", ["h"], ["t"], perm=[1, 0, 2]))
        nodes.append(helper.make_node("Slice", ["t", "from", "to", "first"], ["s"]))
        nodes.append(helper.make_node("Squeeze", ["s", "first"], ["l"]))
    nodes.append(helper.make_node("MatMul", ["l", "v"], ["y"]))
    return model(nodes, stored, ["N", 9, 4], rank=2)


@pytest.mark.parametrize("how", ["Slice", "turned"])
def test_the_last_step_is_one_however_it_is_taken(how: str, compare: Compare) -> None:
    for place in (-1, 8, 3):
        gathered = last_step("Gather", place)
        assert compare(gathered, last_step(how, place)).verdict is Verdict.EQUIVALENT
    found = compare(last_step("Gather"), last_step(how, 8))
    assert found.verdict is Verdict.EQUIVALENT
    found = compare(last_step("Gather"), last_step(how, 7))
    assert found.verdict is Verdict.DIFFERENT
    assert "Gather" in found.causes[0].left_where


def test_a_place_that_may_be_fed_is_told(compare: Compare) -> None:
    gathered, sliced = last_step("Gather", 8), last_step("Slice", 8)
    gathered.graph.input.append(helper.make_tensor_value_info("at", TensorProto.INT64, []))
    assert compare(gathered, sliced).verdict is Verdict.AGREES


def test_an_end_beyond_the_axis_is_its_end(compare: Compare) -> None:
    def tail(end: int) -> ModelProto:
        stored = {"from": np.array([4]), "to": np.array([end]), "axis": np.array([1])}
        node = helper.make_node("Slice", ["x", "from", "to", "axis"], ["y"])
        return model([node], stored, ["N", 9, 4], rank=3)

    for end in (9, 2**31 - 1, 2**63 - 1):
        assert compare(tail(9), tail(end)).verdict in (Verdict.EQUIVALENT, Verdict.IDENTICAL)
    assert compare(tail(9), tail(8)).verdict is Verdict.DIFFERENT
