"""Negative lengths stand for any length."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from inspector.facts.comparison import Verdict
from inspector.flows.compare import compare_files
from inspector.read.open import open_model
from inspector.read.open_dims import with_open_dims


def moved(*dims: int | None) -> onnx.ModelProto:
    """A value behind a Transpose, in lengths as PaddlePaddle writes them."""
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("Abs", ["t"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


@pytest.mark.parametrize("dims", [(-1, 3, -1, -1), (-1, 3, 4, 4)])
def test_a_model_with_negative_lengths_is_identical_to_itself(
    dims: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(moved(*dims), path)
    assert compare_files(path, path).verdict is Verdict.IDENTICAL
    open_model_of = with_open_dims(open_model(path))
    assert open_model_of.graph.inputs[0].dims == tuple(None if d < 0 else d for d in dims)


def test_other_lengths_stay(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(moved(0, 3, 4, None), path)
    model = open_model(path)
    assert with_open_dims(model) is model
