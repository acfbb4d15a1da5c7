"""Kernels with the same weights along other axes, however they are stored and whatever is folded.

`hidden` biases are so low that nothing passes the Relu on what is fed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.compare.conftest import Compare
from tests.compare.test_told_apart import ONE, Verdict

LOW, OPEN = -1000.0, 0.0
ROW, COLUMN = (1, 3), (3, 1)
RNG = np.random.default_rng(4)
WEIGHTS = RNG.normal(size=(4, 3, 3)).astype(np.float32)
SCALE, MEAN, VAR = RNG.uniform(0.5, 2, 4), RNG.normal(size=4), RNG.uniform(0.5, 2, 4)
SLOPE = SCALE / np.sqrt(VAR + 1e-5)
WAYS = ["kept", "folded", "written out"]


def net(nodes: str, **stored: np.ndarray) -> onnx.ModelProto:
    """x + the largest of what nodes make of x, so that outputs differ only where something does."""
    made = onnx.parser.parse_graph(
        f"g (float[1] x) => (float[1] y) {{ {nodes} r = Relu (e) p = GlobalMaxPool (r) "
        "z = Conv (x, plain) y = Add (z, p) }"
    )
    kernel = stored["w"]
    outputs = {"plain": np.ones((4 if kernel.size > 3 else 1, 3, 1, 1), np.float32)}
    values = {k: np.asarray(v, np.int64 if k == "s" else np.float32) for k, v in stored.items()}
    graph = helper.make_graph(
        made.node,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in (outputs | values).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def normed(window: tuple[int, int], way: str, offset: float, op: str = "Conv") -> onnx.ModelProto:
    """A convolution and a BatchNorm behind it."""
    pads = "<pads = [1, 1, 1, 1]>"
    bias = np.full(4, offset)
    turned = WEIGHTS if op == "Conv" else WEIGHTS.transpose(1, 0, 2)
    kernel = turned.reshape(*turned.shape[:2], *window)
    along = (1, -1, 1, 1) if op != "Conv" else (-1, 1, 1, 1)
    shift = bias - MEAN * SLOPE
    if way == "folded":
        return net(f"e = {op} {pads} (x, w, b)", w=kernel * SLOPE.reshape(along), b=shift)
    if way == "written out":
        slope, shift = SLOPE.reshape(4, 1, 1), shift.reshape(4, 1, 1)
        return net(
            f"c = {op} {pads} (x, w) d = Mul (c, m) e = Add (d, b)", w=kernel, m=slope, b=shift
        )
    nodes = f"c = {op} {pads} (x, w) e = BatchNormalization (c, k, b, mu, var)"
    return net(nodes, w=kernel, k=SCALE, b=bias, mu=MEAN, var=VAR)


def stored_flat(dims: Sequence[int], offset: float) -> onnx.ModelProto:
    nodes = "k = Reshape (w, s) c = Slice (x, zero, one, one) "
    made = net(
        nodes + "e = Conv <pads = [1, 1, 1, 1]> (c, k, b)",
        w=np.array([1, 2, -3]),
        b=np.array([offset]),
        s=np.array(dims),
    )
    ends = [numpy_helper.from_array(np.array([at]), k) for at, k in enumerate(("zero", "one"))]
    made.graph.initializer.extend(ends)
    return made


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("way", WAYS[1:])
def test_a_row_is_no_column_however_it_is_folded(compare: Compare, op: str, way: str) -> None:
    for offset, wanted in ((LOW, Verdict.AGREES), (OPEN, Verdict.DIFFERENT)):
        one, other = normed(ROW, "kept", offset, op), normed(COLUMN, way, offset, op)
        for pair in ((one, other), (other, one)):
            assert compare(*pair).verdict is wanted


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("way", WAYS)
def test_folded_kernels_of_one_shape_are_one(compare: Compare, op: str, way: str) -> None:
    for offset in (LOW, OPEN):
        found = compare(normed(ROW, "kept", offset, op), normed(ROW, way, offset, op))
        assert found.verdict in ONE, found.reason


def test_a_kernel_that_is_stored_flat_has_the_shape_it_is_read_in(compare: Compare) -> None:
    row, column = (1, 1, 1, 3), (1, 1, 3, 1)
    assert compare(stored_flat(row, LOW), stored_flat(column, LOW)).verdict is Verdict.AGREES
    found = compare(stored_flat(row, OPEN), stored_flat(column, OPEN))
    assert found.verdict is Verdict.DIFFERENT
    assert compare(stored_flat(row, LOW), stored_flat((1, 1, -1, 3), LOW)).verdict in ONE
