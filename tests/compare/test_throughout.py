"""Weights that both sides folded a BatchNorm into, and padding of a MaxPool in a Pad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare
from tests.compare.test_plain_inputs import drawn, model


def folded(how: str = "", op: str = "Conv") -> ModelProto:
    """A layer with a BatchNorm folded into it: in float64, or step by step in float32."""
    kernel, bias = drawn(8, 4, 3, 3), drawn(8)
    if op == "Gemm":
        kernel = drawn(8, 4)
    scale, shift, mean = drawn(8, seed=1) + 1, drawn(8, seed=2), drawn(8, seed=3)
    var = np.abs(drawn(8, seed=4)) + 0.5
    exact: Any = np.float32 if how == "float32" else np.float64
    slope = (scale.astype(exact) / np.sqrt(var.astype(exact) + exact(1e-3))).astype(exact)
    shaped = slope.reshape(8, *[1] * (kernel.ndim - 1))
    stored = {
        "k": (kernel.astype(exact) * shaped).astype("f4"),
        "b": ((bias.astype(exact) - mean.astype(exact)) * slope + shift.astype(exact)).astype("f4"),
    }
    if how == "one weight":
        stored["k"].flat[7] = np.nextafter(stored["k"].flat[7], np.float32(9))
    if how == "one bias":
        stored["b"][2] = np.nextafter(stored["b"][2], np.float32(9))
    if how == "float16":
        stored["k"] = stored["k"].astype("f2").astype("f4")
    if how == "epsilon":
        stored["k"] = (stored["k"] * np.float32(1 + 1e-5)).astype("f4")
    attributes = {"transB": 1} if op == "Gemm" else {}
    nodes = [helper.make_node(op, ["x", "k", "b"], ["c"], **attributes)]
    nodes.append(helper.make_node("Relu", ["c"], ["y"]))
    dims: list[Any] = ["N", 4] if op == "Gemm" else ["N", 4, 9, 9]
    return model(nodes, stored, dims, rank=len(dims))


@pytest.mark.parametrize("op", ["Conv", "Gemm"])
def test_each_side_may_round_what_it_folds(op: str, compare: Compare) -> None:
    for found in (
        compare(folded(op=op), folded("float32", op)),
        compare(folded("float32", op), folded(op=op)),
    ):
        assert found.verdict is Verdict.EQUIVALENT, found.reason
        assert any("with its own rounding" in each for each in found.information)
        assert found.parameters is not None
        assert found.parameters.accounted_for


@pytest.mark.parametrize("how", ["one weight", "one bias", "float16", "epsilon"])
def test_what_no_folding_leaves_is_a_difference(how: str, compare: Compare) -> None:
    found = compare(folded(), folded(how))
    assert found.verdict in (Verdict.AGREES, Verdict.DIFFERENT)
    assert found.harmless or found.causes


def pooled(
    fill: float | None, *, ceil: int = 0, pads: tuple[int, ...] = (1, 1, 1, 1)
) -> ModelProto:
    """A MaxPool with its padding, or with a Pad of `fill` in front."""
    given: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": ceil}
    stored: dict[str, Any] = {"k": drawn(5, 3, 3, 3)}
    nodes = [helper.make_node("Conv", ["x", "k"], ["c"])]
    if fill is None:
        nodes.append(helper.make_node("MaxPool", ["c"], ["y"], pads=pads, **given))
    else:
        stored |= {"fill": np.array(fill, "f4"), "pads": [0, 0, *pads[:2], 0, 0, *pads[2:]]}
        nodes.append(helper.make_node("Pad", ["c", "pads", "fill"], ["p"]))
        nodes.append(helper.make_node("MaxPool", ["p"], ["y"], **given))
    return model(nodes, stored, ["N", 3, 12, 12], rank=4)


def test_minus_infinity_around_a_maximum_is_padding(compare: Compare) -> None:
    for found in (
        compare(pooled(None), pooled(-np.inf)),
        compare(pooled(-np.inf), pooled(None)),
    ):
        assert found.verdict is Verdict.EQUIVALENT, found.reason
    # Where all of a window is -inf, the least number is more.
    least = float(np.finfo(np.float32).min)
    assert compare(pooled(None), pooled(least)).verdict is Verdict.AGREES
    found = compare(pooled(-np.inf), pooled(None, pads=(0, 0, 2, 2)))
    assert found.verdict is Verdict.DIFFERENT
    assert found.causes[0].what == "pads"


def test_zeros_around_a_maximum_are_not(compare: Compare) -> None:
    found = compare(pooled(None), pooled(0.0))
    assert found.verdict is Verdict.DIFFERENT
    assert compare(pooled(None, ceil=1), pooled(-np.inf, ceil=1)).verdict is not Verdict.EQUIVALENT


def test_numpy_rounds_as_the_test_says() -> None:
    """What is folded in two ways differs in many elements, and by units in the last place."""
    one, other = (numpy_helper.to_array(each.graph.initializer[0]) for each in
                  (folded(), folded("float32")))  # fmt: skip  # two of one kind
    assert np.mean(one != other) > 0.1
    np.testing.assert_allclose(one, other, rtol=4e-7)
