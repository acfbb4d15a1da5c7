"""Outputs behind operators that jump where one side computes in float16 or with integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inspector.facts.comparison import Verdict
from inspector.report import render
from tests.compare.conftest import Compare
from tests.compare.quantising import quantised
from tests.compare.test_jumps import IMAGE, SIZE, Net, Tail


def classes(net: Net, x: str) -> tuple[str, int, list[Any]]:
    return net.add("ArgMax", x, axis=1, keepdims=0), TensorProto.INT64, ["N", SIZE, SIZE]


def first_two(net: Net, x: str) -> tuple[str, int, list[Any]]:
    y = net.add("TopK", x, *net.put([2], dtype=np.int64), axis=1, outputs=2)
    return y, TensorProto.INT64, ["N", 2, SIZE, SIZE]


def mask(net: Net, x: str) -> tuple[str, int, list[Any]]:
    """Its bound is another number in float16, with which some values tie."""
    return net.add("Greater", x, *net.put(0.3)), TensorProto.BOOL, IMAGE


def float_mask(net: Net, x: str) -> tuple[str, int, list[Any]]:
    y = net.add("Less", x, *net.put(0.3))
    y = net.add("Cast", y, to=TensorProto.FLOAT)
    return net.add("Mul", y, *net.put(2.0)), TensorProto.FLOAT, IMAGE


def whole(net: Net, x: str) -> tuple[str, int, list[Any]]:
    y = net.add("Round", net.add("Mul", x, *net.put(8.0)))
    return net.add("Cast", y, to=TensorProto.INT32), TensorProto.INT32, IMAGE


TAILS = [classes, first_two, mask, float_mask, whole]

FAULTS: list[dict[str, float]] = [{"epsilon": 0.5}, {"bias": 0.5}]
"""An epsilon of a BatchNorm, and a bias that is off in one class."""

ROWS = 6


def in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes in float16 between inputs and outputs of the types they had."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    graph = copy.graph
    for each in graph.initializer:
        if each.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(each).astype(np.float16)
            each.CopyFrom(numpy_helper.from_array(values, each.name))
    for node in graph.node:
        node.input[:] = ["x_half" if name == "x" else name for name in node.input]
        for each in node.attribute:
            if node.op_type == "Cast" and each.i == TensorProto.FLOAT:
                each.i = TensorProto.FLOAT16
    graph.node.insert(0, helper.make_node("Cast", ["x"], ["x_half"], to=TensorProto.FLOAT16))
    (end,) = graph.output
    if end.type.tensor_type.elem_type == TensorProto.FLOAT:
        graph.node[-1].output[0] = "half"
        graph.node.append(helper.make_node("Cast", ["half"], [end.name], to=TensorProto.FLOAT))
    return copy


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_float16_moves_over_a_step_is_no_difference(
    compare: Compare, tail: Tail, seed: int
) -> None:
    left = Net(tail, folded=False).model
    right = in_float16(Net(tail, folded=True).model)

    found = [
        compare(left, right, seed=seed, samples=ROWS),
        compare(right, left, seed=seed, samples=ROWS),
    ]

    for each in found:
        assert each.verdict is Verdict.AGREES, each.reason
        assert "float16 rounding" in each.reason
        (output,) = each.outputs
        assert output.moved_over > 0
        assert "over a step of" in " ".join(render(each, "text").split())


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("change", FAULTS)
def test_a_fault_in_front_of_it_is_one_in_float16(
    compare: Compare, tail: Tail, change: dict[str, float]
) -> None:
    right = in_float16(Net(tail, folded=True, **change).model)

    found = compare(Net(tail, folded=False).model, right, samples=ROWS)

    assert found.verdict is Verdict.DIFFERENT, found.reason


def exchanged(model: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    next(each for each in copy.graph.node if each.op_type == old).op_type = new
    return copy


@pytest.mark.parametrize(
    ("tail", "old", "new"),
    [(classes, "ArgMax", "ArgMin"), (mask, "Greater", "Less"), (whole, "Round", "Floor")],
)
def test_another_operator_is_a_difference(compare: Compare, tail: Tail, old: str, new: str) -> None:
    left = Net(tail, folded=True).model
    wrong = exchanged(left, old, new)

    found = [
        compare(left, each, samples=ROWS)
        for each in (in_float16(wrong), quantised(wrong, "dynamic"))
    ]

    assert {each.verdict for each in found} == {Verdict.DIFFERENT}, [e.reason for e in found]


@pytest.mark.parametrize("bound", [0.31, 0.29])
def test_another_bound_is_a_difference(compare: Compare, bound: float) -> None:
    left = Net(mask, folded=True).model

    def other(net: Net, x: str) -> tuple[str, int, list[Any]]:
        return net.add("Greater", x, *net.put(bound)), TensorProto.BOOL, IMAGE

    found = compare(left, in_float16(Net(other, folded=True).model), samples=ROWS)

    assert found.verdict is Verdict.DIFFERENT, found.reason


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
def test_what_quantising_moves_over_a_step_is_no_difference(
    compare: Compare, tail: Tail, form: str
) -> None:
    left = Net(tail, folded=False).model

    found = compare(left, quantised(left, form), samples=ROWS)

    assert found.verdict is Verdict.AGREES, found.reason
    (output,) = found.outputs
    assert output.moved_over > 0
    assert "over a step of" in " ".join(render(found, "text").split())


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("change", FAULTS)
@pytest.mark.parametrize("form", ["QDQ", "dynamic"])
def test_a_fault_in_front_of_it_is_one_in_integers(
    compare: Compare, tail: Tail, change: dict[str, float], form: str
) -> None:
    wrong = quantised(Net(tail, folded=False, **change).model, form)

    found = compare(Net(tail, folded=False).model, wrong, samples=ROWS)

    assert found.verdict is Verdict.DIFFERENT, found.reason
