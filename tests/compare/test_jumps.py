"""Outputs behind operators that jump: rounding moves elements over a step, and is no difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inspector.facts.comparison import CauseKind, Proof, Verdict
from inspector.report import render
from tests.compare.conftest import Compare

SIZE, CLASSES = 48, 4
IMAGE = ["N", CLASSES, SIZE, SIZE]

Tail = Callable[["Net", str], tuple[str, int, list[Any]]]


class Net:
    """Four convolutions with BatchNorms, kept or folded, and a tail that makes its output."""

    def __init__(
        self, tail: Tail, *, folded: bool, epsilon: float = 1e-5, bias: float = 0.0
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        rng = np.random.default_rng(0)
        x, channels = "x", 3
        for at in range(4):
            wide = CLASSES if at == 3 else 12
            kernel = rng.standard_normal((wide, channels, 3, 3)) * (2 / (9 * channels)) ** 0.5
            scale, var = rng.uniform(0.8, 1.2, wide), rng.uniform(0.5, 2, wide)
            shift, mean = 0.1 * rng.standard_normal((2, wide))
            shift[0] += bias if at == 3 else 0.0
            used = epsilon if at == 2 else 1e-5
            pads = {"pads": [1, 1, 1, 1]}
            if folded:
                slope = scale / np.sqrt(var + used)
                stored = self.put(kernel * slope[:, None, None, None], shift - mean * slope)
                x = self.add("Conv", x, *stored, **pads)
            else:
                x = self.add("Conv", x, *self.put(kernel), **pads)
                x = self.add(
                    "BatchNormalization", x, *self.put(scale, shift, mean, var), epsilon=used
                )
            x, channels = (self.add("Relu", x) if at < 3 else x), wide
        name, kind, dims = tail(self, x)
        ends = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIZE, SIZE]),
            helper.make_tensor_value_info(name, kind, dims),
        ]
        graph = helper.make_graph(self.nodes, "g", ends[:1], ends[1:], self.tensors)
        opsets = [helper.make_opsetid("", 17)]
        self.model = helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.nodes)}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=names[0], **attributes))
        return names[-1]

    def put(self, *arrays: Any, dtype: type = np.float32) -> list[str]:
        names = [f"w{len(self.tensors) + at}" for at in range(len(arrays))]
        self.tensors += [
            numpy_helper.from_array(np.asarray(each, dtype), name)
            for each, name in zip(arrays, names, strict=True)
        ]
        return names


def whole(net: Net, x: str) -> tuple[str, int, list[Any]]:
    y = net.add("Mul", x, *net.put(300.0))
    return net.add("Cast", y, to=TensorProto.INT32), TensorProto.INT32, IMAGE


def rounded(net: Net, x: str) -> tuple[str, int, list[Any]]:
    y = net.add("Round", net.add("Mul", x, *net.put(300.0)))
    return net.add("Transpose", y, perm=[0, 2, 3, 1]), TensorProto.FLOAT, [None] * 4


def mask(net: Net, x: str) -> tuple[str, int, list[Any]]:
    """A step of a sawtooth, so that bounds lie everywhere."""
    y = net.add("Mod", net.add("Mul", x, *net.put(300.0)), *net.put(1.0), fmod=1)
    y = net.add("Greater", y, *net.put(0.5))
    return net.add("Cast", y, to=TensorProto.FLOAT), TensorProto.FLOAT, IMAGE


def classes(net: Net, x: str) -> tuple[str, int, list[Any]]:
    """Classes that nearly tie everywhere: two are the same but for their last digits."""
    y = net.add("Sin", net.add("Mul", x, *net.put(300.0)))
    y = net.add("Add", y, net.add("Mul", x, *net.put(1e-6)))
    return net.add("ArgMax", y, axis=1, keepdims=0), TensorProto.INT64, ["N", SIZE, SIZE]


def sorted_out(net: Net, x: str) -> tuple[str, int, list[Any]]:
    y = net.add("Reshape", x, *net.put([0, -1], dtype=np.int64))
    y = net.add("TopK", y, *net.put([2000], dtype=np.int64), outputs=2)
    return y, TensorProto.INT64, ["N", 2000]


def thresholded(net: Net, x: str) -> tuple[str, int, list[Any]]:
    y = net.add("Sin", net.add("Mul", x, *net.put(300.0)))
    y = net.add("ThresholdedRelu", y, alpha=0.5)
    return net.add("Mul", y, *net.put(2.0)), TensorProto.FLOAT, IMAGE


TAILS = [whole, rounded, mask, classes, sorted_out, thresholded]


@pytest.mark.parametrize("tail", TAILS)
def test_what_rounding_moves_over_a_step_is_no_difference(compare: Compare, tail: Tail) -> None:
    left, right = (Net(tail, folded=folded).model for folded in (False, True))

    found = [compare(left, right), compare(right, left, seed=1)]

    assert {each.verdict for each in found} == {Verdict.EQUIVALENT}, [e.reason for e in found]
    assert not any(each.causes for each in found)


def test_it_is_said_how_many(compare: Compare) -> None:
    found = compare(Net(whole, folded=False).model, Net(whole, folded=True).model)

    (output,) = found.outputs
    assert output.difference.max_abs == 1
    assert output.moved_over > 0
    assert output.moved_by.startswith("Cast")
    words = " ".join(render(found, "text").split())
    assert f"moves {output.moved_over} elements over a step of Cast" in words


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("change", [{"epsilon": 1e-3}, {"bias": 1e-2}])
def test_a_fault_in_front_of_it_is_the_only_cause(
    compare: Compare, tail: Tail, change: dict[str, float]
) -> None:
    found = compare(Net(tail, folded=False).model, Net(tail, folded=True, **change).model)

    assert found.verdict is Verdict.DIFFERENT
    (cause,) = found.causes
    assert cause.proof is Proof.NECESSARY
    assert cause.kind is (CauseKind.EPSILON if "epsilon" in change else CauseKind.FOLDING)
    assert found.explained


def _swapped(tail: Tail, old: str, new: str, **attributes: object) -> onnx.ModelProto:
    model = Net(tail, folded=True).model
    node = next(each for each in model.graph.node if each.op_type == old)
    node.op_type = new
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(*each) for each in attributes.items())
    return model


@pytest.mark.parametrize(
    ("tail", "change"),
    [
        (rounded, ("Round", "Floor", {})),
        (rounded, ("Round", "Ceil", {})),
        (mask, ("Greater", "Less", {})),
        (mask, ("Mod", "Sub", {})),
        (classes, ("ArgMax", "ArgMin", {"axis": 1, "keepdims": 0})),
        (thresholded, ("ThresholdedRelu", "ThresholdedRelu", {"alpha": 0.500001})),
        (thresholded, ("ThresholdedRelu", "ThresholdedRelu", {"alpha": 0.51})),
    ],
)
def test_another_step_is_a_difference(
    compare: Compare, tail: Tail, change: tuple[str, str, dict[str, Any]]
) -> None:
    old, new, attributes = change
    found = compare(Net(tail, folded=False).model, _swapped(tail, old, new, **attributes))

    small = attributes.get("alpha") == 0.500001
    assert found.verdict is (Verdict.AGREES if small else Verdict.DIFFERENT), found.reason
