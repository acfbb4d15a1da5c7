"""Quantised layers of ONNX Runtime's own, against the float ones they were made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare
from tests.compare.quantising import quantised

HIDDEN, FEATURES = 16, 8


def lstm(direction: str, *, wrong: str = "", seed: int = 0) -> onnx.ModelProto:
    """An LSTM and its last states; `wrong` names a tensor whose gates are in another order."""
    rng = np.random.default_rng(seed)
    many = 2 if direction == "bidirectional" else 1
    tensors: dict[str, Any] = {
        "W": rng.standard_normal((many, 4 * HIDDEN, FEATURES)) / FEATURES**0.5,
        "R": rng.standard_normal((many, 4 * HIDDEN, HIDDEN)) / HIDDEN**0.5,
        "B": 0.1 * rng.standard_normal((many, 8 * HIDDEN)),
    }
    if wrong:
        tensors[wrong] = np.roll(tensors[wrong], HIDDEN, axis=1)
    node = helper.make_node(
        "LSTM",
        ["x", "W", "R", "B"],
        ["y", "h"],
        name="lstm",
        hidden_size=HIDDEN,
        direction=direction,
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, "N", FEATURES])
    ends = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, many, "N", HIDDEN]),
        helper.make_tensor_value_info("h", TensorProto.FLOAT, [many, "N", HIDDEN]),
    ]
    stored = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in tensors.items()]
    graph = helper.make_graph([node], "g", [x], ends, stored)
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_quantised_lstm_is_the_one_it_was_made_of(
    compare: Compare, direction: str, seed: int
) -> None:
    left = lstm(direction, seed=seed)
    right = quantised(left, "dynamic", fold=False)
    assert any(each.op_type == "DynamicQuantizeLSTM" for each in right.graph.node)

    found = [compare(left, right, seed=seed), compare(right, left, seed=seed)]

    assert {each.verdict for each in found} == {Verdict.AGREES}, [e.reason for e in found]
    assert not any(each.causes for each in found)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("wrong", ["W", "R", "B"])
def test_a_quantised_lstm_with_other_weights_is_another(
    compare: Compare, direction: str, wrong: str
) -> None:
    right = quantised(lstm(direction, wrong=wrong), "dynamic", fold=False)

    found = compare(lstm(direction), right)

    assert found.verdict is Verdict.DIFFERENT, found.reason
    assert found.causes


def table(*, wrong: bool = False) -> onnx.ModelProto:
    """The mean of a few rows of a table, and two dense layers."""
    rng = np.random.default_rng(0)
    tensors = {
        "table": 5 * rng.standard_normal((50, 32)) / 32**0.5,
        "w": rng.standard_normal((32, 16)) / 4,
        "v": rng.standard_normal((16, 4)) / 4,
    }
    if wrong:
        tensors["table"] = np.roll(tensors["table"], 1, axis=0)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]>
        g (int64[N, 6] i) => (float[N, 4] y) {
            e = Gather(table, i)
            m = ReduceMean<axes=[1], keepdims=0>(e)
            a = MatMul(m, w)
            r = Relu(a)
            y = MatMul(r, v)
        }"""
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(each.astype(np.float32), name) for name, each in tensors.items()
    )
    for at, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{at}"
    return model


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_quantised_table_is_the_one_it_was_made_of(compare: Compare, seed: int) -> None:
    right = quantised(table(), "dynamic", fold=False)

    found = compare(table(), right, seed=seed)

    assert found.verdict is Verdict.AGREES, found.reason


def test_a_quantised_table_of_other_rows_is_another(compare: Compare) -> None:
    right = quantised(table(wrong=True), "dynamic", fold=False)

    found = compare(table(), right)

    assert found.verdict is Verdict.DIFFERENT, found.reason


def boxes(*, seed: int, wrong: bool = False) -> onnx.ModelProto:
    """Sizes of boxes and scores, of two convolutions: a few elements are far larger than others."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Any] = {
        "w": rng.standard_normal((16, 3, 3, 3)) / 27**0.5,
        "v": rng.standard_normal((18, 16, 1, 1)) / 2,
        "b": 0.1 * rng.standard_normal(18),
        "two": np.float32(2),
        "hundred": np.float32(100),
    }
    if wrong:
        tensors["b"][3] += 1.0
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]>
        g (float[1, 3, 64, 64] x) => (float[1, M, 6] y) {
            c = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(x, w)
            r = LeakyRelu<alpha=0.1>(c)
            l = Conv(r, v, b)
            s5 = Constant<value = int64[5] {0, 3, 6, 32, 32}>()
            f = Reshape(l, s5)
            t = Transpose<perm=[0, 1, 3, 4, 2]>(f)
            s3 = Constant<value = int64[3] {0, -1, 6}>()
            m = Reshape(t, s3)
            n = Sigmoid(m)
            sp = Constant<value = int64[2] {2, 4}>()
            size, score = Split<axis=2>(n, sp)
            d = Mul(size, two)
            q = Mul(d, d)
            z = Mul(q, hundred)
            y = Concat<axis=2>(z, score)
        }"""
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in tensors.items()
    )
    for at, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{at}"
    return model


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_quantised_boxes_are_those_they_were_made_of(compare: Compare, seed: int) -> None:
    left = boxes(seed=seed)
    right = quantised(left, "dynamic", fold=False)

    found = [compare(left, right, seed=each) for each in (0, 1)]

    assert {each.verdict for each in found} == {Verdict.AGREES}, [e.reason for e in found]


def test_quantised_boxes_of_another_bias_are_others(compare: Compare) -> None:
    right = quantised(boxes(seed=0, wrong=True), "dynamic", fold=False)

    found = compare(boxes(seed=0), right)

    assert found.verdict is Verdict.DIFFERENT, found.reason
