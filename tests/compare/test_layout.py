from __future__ import annotations

import numpy as np
import pytest

from compare.nets import Net, Size, keras_like, torch_like, weights
from compare.read import model_of
from inspector.compare.pairing.layout import (
    Flat,
    channel_first,
    channel_last,
    find_layouts,
    name_of,
    permutation,
)

KERNEL = "<float[2, 3, 1, 1] w = {1, 2, 3, 4, 5, 6}>"


def axes_of(text: str) -> dict[str, tuple[int, ...]]:
    return dict(find_layouts(model_of(text)).axes)


def test_a_convolution_tells_the_layout_of_what_it_reads_and_gives() -> None:
    found = axes_of(f"(float[N, 3, 4, 4] x) => (y) {KERNEL} {{ a = Relu(x) y = Conv(a, w) }}")
    assert found["x"] == found["y"] == (0, 1, 2, 3)


def test_a_transpose_on_the_way_permutes() -> None:
    found = axes_of(
        f"(float[N, 4, 5, 3] x) => (y) {KERNEL}"
        "{ a = Transpose <perm=[0, 3, 1, 2]> (x) b = Conv(a, w)"
        " y = Transpose <perm=[0, 2, 3, 1]> (b) }"
    )
    assert found["x"] == found["y"] == (0, 2, 3, 1)
    assert name_of(found["x"]) == "NHWC"


@pytest.mark.parametrize("batch", ["N", "1"])
def test_a_reshape_that_only_moves_ones_is_a_transpose(batch: str) -> None:
    found = axes_of(
        f"(float[{batch}, 4, 5, 1] x) => (y)"
        " <float[1, 1, 1, 1] w = {1}, int64[4] s = {-1, 1, 4, 5}>"
        "{ a = Reshape(x, s) y = Conv(a, w) }"
    )
    assert found["x"] == (0, 2, 3, 1)


def test_a_reshape_that_mixes_axes_tells_nothing() -> None:
    found = axes_of(
        "(float[N, 4, 5, 3] x) => (y) <float[2, 3, 1, 1] w = {1, 2, 3, 4, 5, 6},"
        " int64[4] s = {-1, 3, 4, 5}> { a = Reshape(x, s) y = Conv(a, w) }"
    )
    assert "x" not in found


def test_nothing_is_told_by_shapes_alone() -> None:
    assert axes_of("(float[1, 8, 8, 8] x) => (y) { y = Relu(x) }") == {}


def test_the_flatten_in_front_of_a_dense_layer_is_known() -> None:
    size = Size(height=2, width=3, channels=2, filters=4)
    for make, axes in ((keras_like, (0, 2, 3, 1)), (torch_like, (0, 1, 2, 3))):
        model = model_of(make(Net(weights=weights(size), size=size)))
        layouts = find_layouts(model)
        dense = next(n for n in model.graph.nodes if n.op_type in ("MatMul", "Gemm"))
        assert layouts.flat[dense.input(0)].axes == axes


def test_the_order_of_a_flatten_undoes_it() -> None:
    image = np.arange(24).reshape(1, 2, 3, 4)  # NCHW
    last = image.transpose(0, 2, 3, 1)
    order = Flat(axes=(0, 2, 3, 1), dims=last.shape[1:]).order()
    np.testing.assert_array_equal(last.reshape(-1)[order], image.reshape(-1))


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_permutations_lead_from_one_layout_to_the_other(rank: int) -> None:
    first, last = channel_first(rank), channel_last(rank)
    values = np.arange(2**rank * 3).reshape(3, *(2,) * rank)[0]
    moved = values.transpose(permutation(first, last))
    np.testing.assert_array_equal(moved, np.moveaxis(values, 1, -1))
    np.testing.assert_array_equal(moved.transpose(permutation(last, first)), values)


def test_long_chains_settle_quickly() -> None:
    body = " ".join(f"v{at + 1} = Relu(v{at})" for at in range(600))
    found = axes_of(f"(float[N, 3, 4, 4] v0) => (y) {KERNEL} {{ {body} y = Conv(v600, w) }}")
    assert found["v0"] == (0, 1, 2, 3)
