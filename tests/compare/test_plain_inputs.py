"""What says no more than its absence: states of zeros, regions, defaults, axes of one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from inspector.facts.comparison import Verdict
from inspector.read.open import open_model
from inspector.write.constants import with_constants
from tests.compare.conftest import Compare

FLOAT = TensorProto.FLOAT
HIDDEN, WIDTH, STEPS = 5, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def drawn(*dims: int, seed: int = 0) -> Any:
    return (0.5 * np.random.default_rng([seed, *dims]).standard_normal(dims)).astype("f4")


def model(
    nodes: list[onnx.NodeProto],
    stored: dict[str, Any],
    shape: list[Any],
    *,
    opset: int = 17,
    fed: list[onnx.ValueInfoProto] | None = None,
    rank: int | None = None,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape), *(fed or [])],
        [helper.make_tensor_value_info("y", FLOAT, None if rank is None else [None] * rank)],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def recurrent(op: str, state: str = "", **attributes: Any) -> ModelProto:
    """A recurrent layer; `state` says what it begins with."""
    gates = GATES[op]
    stored: dict[str, Any] = {
        "w": drawn(1, gates * HIDDEN, WIDTH),
        "r": drawn(1, gates * HIDDEN, HIDDEN),
        "b": drawn(1, 2 * gates * HIDDEN),
    }
    nodes = []
    read = ["x", "w", "r", "b"]
    fed = []
    if state:
        stored |= {"one": np.array([1]), "hidden": np.array([HIDDEN]), "at": np.array(1)}
        nodes = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "at"], ["batch"]),
            helper.make_node("Reshape", ["batch", "one"], ["rows"]),
            helper.make_node("Concat", ["one", "rows", "hidden"], ["dims"], axis=0),
        ]
        value = np.array([0.0 if "zero" in state else 0.7], "f4")
        if state.startswith("made"):
            kind = numpy_helper.from_array(value, "v")
            nodes.append(helper.make_node("ConstantOfShape", ["dims"], ["s"], value=kind))
        else:
            stored["v"] = value
            nodes.append(helper.make_node("Expand", ["v", "dims"], ["s"]))
            if state.startswith("fed"):
                fed = [helper.make_tensor_value_info("v", FLOAT, [1])]
        read += ["", "s", "s"][: 3 if op == "LSTM" else 2]
    nodes.append(helper.make_node(op, read, ["y"], hidden_size=HIDDEN, **attributes))
    return model(nodes, stored, [STEPS, "N", WIDTH], fed=fed, rank=4)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("state", ["made zero", "spread zero"])
def test_a_state_of_zeros_is_none(op: str, state: str, compare: Compare) -> None:
    for found in (
        compare(recurrent(op), recurrent(op, state)),
        compare(recurrent(op, state), recurrent(op)),
    ):
        assert found.verdict is Verdict.EQUIVALENT, found.reason


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("state", ["made", "spread"])
def test_any_other_state_is_one(op: str, state: str, compare: Compare) -> None:
    found = compare(recurrent(op), recurrent(op, state))
    assert found.verdict is Verdict.DIFFERENT, found.reason
    found = compare(recurrent(op, "made zero"), recurrent(op, state))
    assert found.verdict is Verdict.DIFFERENT, found.reason


def test_zeros_that_may_be_fed_are_no_zeros(compare: Compare) -> None:
    """Its default is fed nowhere here, and yet whoever runs the model may feed another."""
    found = compare(recurrent("GRU"), recurrent("GRU", "fed zero"))
    assert found.verdict is not Verdict.EQUIVALENT


@pytest.mark.parametrize(
    ("op", "usual", "other"),
    [
        ("LSTM", ["Sigmoid", "Tanh", "Tanh"], ["Sigmoid", "Tanh", "Relu"]),
        ("LSTM", ["sigmoid", "tanh", "tanh"], ["HardSigmoid", "Tanh", "Tanh"]),
        ("GRU", ["Sigmoid", "Tanh"], ["Sigmoid", "Relu"]),
        ("RNN", ["Tanh"], ["Relu"]),
    ],
)
def test_usual_activations_need_no_words(
    op: str, usual: list[str], other: list[str], compare: Compare
) -> None:
    assert compare(recurrent(op), recurrent(op, activations=usual)).verdict is Verdict.EQUIVALENT
    found = compare(recurrent(op), recurrent(op, activations=other))
    assert found.verdict is Verdict.DIFFERENT
    assert found.causes[0].what == "activations"


def resize(region: bool, how: str, begins: float = 0.0) -> ModelProto:
    stored: dict[str, Any] = {"scales": np.array([1, 1, 2, 2], "f4")}
    if region:
        stored["region"] = np.array([0, 0, begins, 0, 1, 1, 1, 1], "f4")
    node = helper.make_node(
        "Resize", ["x", "region" if region else "", "scales"], ["y"], mode="linear",
        coordinate_transformation_mode=how,
    )  # fmt: skip  # a call of many names
    return model([node], stored, [1, 2, 5, 5], rank=4)


def test_a_region_counts_where_a_resize_crops(compare: Compare) -> None:
    plain, with_region = (resize(each, "half_pixel", 0.5) for each in (False, True))
    assert compare(plain, with_region).verdict is Verdict.EQUIVALENT
    crops = [resize(True, "tf_crop_and_resize", begins) for begins in (0.0, 0.5)]
    assert compare(*crops).verdict is Verdict.DIFFERENT


def pool(op: str = "AveragePool", opset: int = 17, **attributes: Any) -> ModelProto:
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[2, 2], **attributes)
    return model([node], {}, [1, 2, 6, 6], opset=opset, rank=4)


def test_padding_that_is_not_there_is_not_counted(compare: Compare) -> None:
    counted, plain = pool(count_include_pad=1, strides=[2, 2]), pool(strides=[2, 2])
    assert compare(counted, plain).verdict is Verdict.EQUIVALENT
    padded = [pool(count_include_pad=each, pads=[1, 1, 0, 0]) for each in (0, 1)]
    found = compare(*padded)
    assert found.verdict is Verdict.DIFFERENT
    assert found.causes[0].what == "count_include_pad"
    same = [pool(count_include_pad=each, auto_pad="SAME_UPPER") for each in (0, 1)]
    assert compare(*same).verdict is Verdict.DIFFERENT


def test_what_an_older_opset_cannot_say_is_what_it_does(compare: Compare) -> None:
    old, new = pool(opset=9), pool(opset=19)
    assert compare(old, new).verdict is Verdict.EQUIVALENT
    assert compare(pool("MaxPool", opset=7), pool("MaxPool")).verdict is Verdict.EQUIVALENT


def line(plane: bool, **attributes: Any) -> ModelProto:
    """A convolution and a pooling over a line, or over a plane that is one high."""
    kernel = drawn(3, 2, 3)
    given = {"strides": [2], "dilations": [2], "pads": [1, 0], "kernel_shape": [3], **attributes}
    pooled: dict[str, Any] = {"kernel_shape": [2], "strides": [2]}
    stored: dict[str, Any] = {"k": kernel[:, :, None] if plane else kernel}
    nodes = []
    value = "x"
    if plane:
        stored["axis"] = np.array([2])
        nodes.append(helper.make_node("Unsqueeze", ["x", "axis"], ["wide"]))
        value = "wide"
        given = {
            name: [0, each[0], 0, each[1]] if name == "pads" else [1, each[0]]
            for name, each in given.items()
        }
        pooled = {name: [1, each[0]] for name, each in pooled.items()}
    nodes += [
        helper.make_node("Conv", [value, "k"], ["c"], **given),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p" if plane else "y"], **pooled),
    ]
    if plane:
        nodes.append(helper.make_node("Squeeze", ["p", "axis"], ["y"]))
    return model(nodes, stored, ["N", 2, 32], rank=3)


def test_a_line_is_a_plane_that_is_one_high(compare: Compare) -> None:
    for found in (compare(line(True), line(False)), compare(line(False), line(True))):
        assert found.verdict is Verdict.EQUIVALENT, found.reason
    found = compare(line(True), line(False, dilations=[1], pads=[0, 0], strides=[2]))
    assert found.verdict is Verdict.DIFFERENT


def padded(computed: bool, ends: int = 1) -> ModelProto:
    """A Pad whose numbers are stored, or put together as TorchScript does."""
    stored: dict[str, Any] = {"k": drawn(3, 2, 3, 3), "zero": np.array(0.0, "f4")}
    nodes = []
    whole = [0, 0, 0, 0, 0, 0, ends, ends]
    if computed:
        stored |= {"few": np.array([0, ends, 0, ends]), "rest": np.array([4])}
        stored |= {"pairs": np.array([-1, 2]), "flat": np.array([-1])}
        stored |= {"from": np.array([-1]), "to": np.array([-(2**31)]), "by": np.array([-1])}
        stored |= {"axis": np.array([0])}
        nodes = [
            helper.make_node("ConstantOfShape", ["rest"], ["none"],
                             value=numpy_helper.from_array(np.array([0]), "v")),
            helper.make_node("Concat", ["few", "none"], ["all"], axis=0),
            helper.make_node("Reshape", ["all", "pairs"], ["by_axis"]),
            helper.make_node("Slice", ["by_axis", "from", "to", "axis", "by"], ["turned"]),
            helper.make_node("Transpose", ["turned"], ["columns"], perm=[1, 0]),
            helper.make_node("Reshape", ["columns", "flat"], ["row"]),
            helper.make_node("Cast", ["row"], ["pads"], to=TensorProto.INT64),
        ]  # fmt: skip  # one node a line
    else:
        stored["pads"] = np.array(whole)
    nodes += [
        helper.make_node("Pad", ["x", "pads", "zero"], ["wide"]),
        helper.make_node("Conv", ["wide", "k"], ["y"]),
    ]
    return model(nodes, stored, ["N", 2, 7, 7], rank=4)


def test_pads_put_together_from_constants_are_pads(compare: Compare) -> None:
    assert compare(padded(True), padded(False)).verdict is Verdict.EQUIVALENT
    found = compare(padded(False), padded(True, ends=0))
    assert found.verdict is Verdict.DIFFERENT


@pytest.mark.parametrize(
    ("op", "stored"),
    [
        ("ConstantOfShape", {"dims": np.array([2**20, 2**20])}),
        ("Expand", {"one": np.ones(1, "f4"), "dims": np.array([2**40])}),
        ("Tile", {"one": np.ones(1, "f4"), "dims": np.array([2**40])}),
        ("Range", {"from": np.array(0.0), "to": np.array(1e12), "by": np.array(1.0)}),
        ("Range", {"from": np.array(0), "to": np.array(5), "by": np.array(0)}),
        ("ConstantOfShape", {"dims": np.array([-3])}),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_constant_that_would_be_huge_is_not_computed(
    op: str, stored: dict[str, Any], tmp_path: Path
) -> None:
    nodes = [
        helper.make_node(op, list(stored), ["huge"]),
        helper.make_node("Neg", ["huge"], ["turned"]),
        helper.make_node("Add", ["x", "turned"], ["y"]),
    ]
    path = tmp_path / "huge.onnx"
    onnx.save(model(nodes, stored, ["N", 3], rank=2), path)
    assert with_constants(open_model(path)) is None
