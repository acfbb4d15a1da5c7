"""Padding of a convolution is one thing, in its attribute, as a mode, or in a Pad in front."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from inspector.compare.graphs.padding import explicit
from inspector.facts.comparison import CauseKind, Proof, Verdict
from inspector.facts.model import Node
from tests.compare.conftest import Compare

NODE, SAME = "node", "SAME_UPPER"


def net(
    padding: str | list[int],
    *,
    folded: bool = False,
    last: bool = False,
    size: int | str = 15,
    **given: Any,
) -> onnx.ModelProto:
    """Two strided convolutions with BatchNorms.

    Parameters
    ----------
    padding
        `NODE` for a Pad in front, an `auto_pad`, or the numbers themselves.
    last
        Whether the Pad is in front of a Transpose from channels last.
    given
        Of a Pad: `pads`, `mode`, `value`, or `shown`, where it is an output besides.
    """
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def put(array: Any, dtype: type = np.float32) -> str:
        tensors.append(numpy_helper.from_array(np.asarray(array, dtype), f"w{len(tensors)}"))
        return tensors[-1].name

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    x, padded = "x", []
    for at, channels in enumerate((3, 6)):
        kernel = rng.standard_normal((6, channels, 3, 3)) * (2 / (9 * channels)) ** 0.5
        scale, var = rng.uniform(0.8, 1.2, 6), rng.uniform(0.5, 2, 6)
        shift, mean = 0.1 * rng.standard_normal((2, 6))
        pads: dict[str, Any] = {"strides": [2, 2]}
        if padding == NODE:
            own = given.get("pads", [0, 0, 1, 1])
            if last:
                x = add("Transpose", x, perm=[0, 2, 3, 1])
                own = [0, own[0], own[1], 0, 0, own[2], own[3], 0]
            else:
                own = [0, 0, *own[:2], 0, 0, *own[2:]]
            read = [x, put(own, np.int64)]
            if "value" in given:
                read.append(put(given["value"]))
            x = add("Pad", *read, mode=given.get("mode", "constant"))
            padded.append(x)
            x = add("Transpose", x, perm=[0, 3, 1, 2]) if last else x
        elif isinstance(padding, str):
            pads["auto_pad"] = padding
        else:
            pads["pads"] = padding
        epsilon = given.get("epsilon", 1e-5) if at else 1e-5
        if folded:
            slope = scale / np.sqrt(var + epsilon)
            stored = put(kernel * slope[:, None, None, None]), put(shift - mean * slope)
            x = add("Conv", x, *stored, **pads)
        else:
            x = add("Conv", x, put(kernel), **pads)
            stored = tuple(put(each) for each in (scale, shift, mean, var))
            x = add("BatchNormalization", x, *stored, epsilon=epsilon)
        x = add("Relu", x)
    ends = [(x, [None] * 4)] + ([(padded[0], [None] * 4)] if given.get("shown") else [])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, dims) for n, dims in ends],
        tensors,
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"padding": NODE, "pads": [1, 1, 1, 1]}, {"padding": [1, 1, 1, 1]}),
        ({"padding": NODE, "pads": [1, 1, 1, 1]}, {"padding": SAME, "size": 13}),
        ({"padding": NODE, "pads": [0, 0, 1, 1]}, {"padding": SAME, "size": 16}),
        ({"padding": NODE, "pads": [0, 0, 1, 1], "value": 0.0}, {"padding": [0, 0, 1, 1]}),
        ({"padding": NODE, "pads": [0, 1, 2, 0], "last": True}, {"padding": [0, 1, 2, 0]}),
        ({"padding": "SAME_LOWER", "size": 16}, {"padding": [1, 1, 0, 0]}),
    ],
)
def test_one_padding_is_one_however_it_is_written(
    compare: Compare, one: dict[str, Any], other: dict[str, Any], folded: bool
) -> None:
    size = {"size": next((each["size"] for each in (one, other) if "size" in each), 15)}
    left, right = net(**{**size, **one}), net(folded=folded, **{**size, **other})

    for found in (compare(left, right), compare(right, left)):
        assert found.verdict is Verdict.EQUIVALENT, (found.reason, found.harmless)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"padding": NODE, "pads": [1, 1, 0, 0]}, {"padding": [0, 0, 1, 1]}),
        ({"padding": [1, 1, 0, 0]}, {"padding": NODE, "pads": [0, 0, 1, 1]}),
        ({"padding": SAME, "size": 16}, {"padding": [1, 1, 0, 0], "size": 16}),
        ({"padding": NODE, "last": True, "pads": [0, 1, 1, 0]}, {"padding": [1, 0, 0, 1]}),
    ],
)
def test_another_padding_is_the_first_cause(
    compare: Compare, one: dict[str, Any], other: dict[str, Any], folded: bool
) -> None:
    found = compare(net(**one), net(folded=folded, **other))

    assert found.verdict is Verdict.DIFFERENT
    assert {cause.kind for cause in found.causes} <= {CauseKind.ATTRIBUTE}
    assert "pad" in found.causes[0].what


@pytest.mark.parametrize("folded", [False, True])
def test_another_epsilon_behind_it_is_the_only_cause(compare: Compare, folded: bool) -> None:
    found = compare(net(NODE), net([0, 0, 1, 1], folded=folded, epsilon=1e-2))

    (cause,) = found.causes
    assert cause.kind is CauseKind.EPSILON
    assert cause.proof is Proof.NECESSARY


@pytest.mark.parametrize(
    "given",
    [
        {"value": 1e-12},
        {"mode": "edge"},
        {"mode": "reflect"},
        {"pads": [0, 0, 1, 2]},
        {"pads": [-1, 0, 1, 1]},
        {"shown": True},
    ],
)
def test_a_pad_of_its_own_stays_one(compare: Compare, given: dict[str, Any]) -> None:
    other = net(NODE, shown=True, pads=[0, 0, 1, 2]) if given.get("shown") else net([0, 0, 1, 1])
    assert compare(net(NODE, **given), other).verdict not in (
        Verdict.EQUIVALENT,
        Verdict.IDENTICAL,
    )


@given(
    length=st.integers(1, 12),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    mode=st.sampled_from(["SAME_UPPER", "SAME_LOWER"]),
)
def test_a_mode_comes_to_what_onnx_runtime_makes_of_it(
    length: int, kernel: int, stride: int, mode: str
) -> None:
    steps = {"strides": (stride,)}
    node = Node(
        op_type="Conv",
        domain="",
        name="",
        inputs=("x", "w"),
        outputs=("y",),
        attributes={"auto_pad": mode.encode(), **steps},
    )
    pads = explicit(node, [length], [kernel])
    assert (pads is None) == (stride > kernel and (length - 1) % stride >= kernel)
    if pads is None:
        return

    kernels = numpy_helper.from_array(np.arange(1.0, kernel + 1, dtype=np.float32)[None, None], "w")
    results = []
    for written in ({"auto_pad": mode}, {"pads": list(pads)}):
        conv = helper.make_node("Conv", ["x", "w"], ["y"], **steps, **written)
        graph = helper.make_graph(
            [conv],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, length])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, None])],
            [kernels],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        x = np.arange(1.0, length + 1, dtype=np.float32)[None, None]
        results.append(session.run(None, {"x": x})[0])
    np.testing.assert_array_equal(*results)
