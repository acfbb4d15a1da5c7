"""Masks of attention: few numbers, as large as there are, and none of them rounded weights."""

from __future__ import annotations

import warnings
from itertools import permutations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inspector.compare.causes.grouped import GRID, Rounding, rounded_to
from inspector.facts.comparison import CauseKind, Proof, Verdict
from tests.compare.conftest import Compare

RNG = np.random.default_rng(5)
ABOVE = np.triu(np.ones((8, 8)), 1) > 0
MASKS = {
    "infinite": np.where(ABOVE, -np.inf, 0).astype(np.float32),
    "largest": np.where(ABOVE, np.finfo(np.float32).min, 0).astype(np.float32),
    "large": np.where(ABOVE, -1e9, 0).astype(np.float32),
    "small": np.where(ABOVE, -1e4, 0).astype(np.float32),
    "other": np.where(np.triu(ABOVE, 2), np.finfo(np.float32).min, 0).astype(np.float32),
    "NaN": np.where(ABOVE, np.nan, 0).astype(np.float32),
}
KERNEL = RNG.standard_normal((8, 8)).astype(np.float32)


def attention(mask: str, by: float = 0.0) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 8, 8] x) => (float[N, 8, 8] y) {
            q = MatMul(x, w)
            k = Transpose<perm = [0, 2, 1]>(q)
            s = MatMul(q, k)
            t = Add(s, m)
            p = Softmax<axis = -1>(t)
            y = MatMul(p, q)
        }"""
    )
    kernel = KERNEL.copy()
    kernel[0, 0] += by
    model.graph.initializer.append(numpy_helper.from_array(kernel, "w"))
    model.graph.initializer.append(numpy_helper.from_array(MASKS[mask], "m"))
    return model


@pytest.mark.parametrize(("one", "other"), list(permutations(MASKS, 2)))
def test_a_mask_is_not_rounded_to_another_one(one: str, other: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rounded_to(MASKS[one], MASKS[other]) is None


@pytest.mark.parametrize("mask", ["infinite", "large"])
def test_a_fault_beside_a_mask_is_the_one_cause(mask: str, compare: Compare) -> None:
    found = compare(attention("largest"), attention(mask, by=0.5))
    assert found.verdict is Verdict.DIFFERENT
    (cause,) = found.causes
    assert (cause.kind, cause.what) == (CauseKind.PARAMETER, "kernel")
    assert not any("rounded" in each.what for each in (*found.causes, *found.harmless))


def on_grid(values: np.ndarray, steps: np.ndarray | float) -> np.ndarray:
    return (np.round(values / steps) * steps).astype(np.float32)


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("dims", [(64, 64), (32, 16, 3, 3)])
def test_weights_on_a_grid_are(dims: tuple[int, ...], by_channel: bool) -> None:
    weights = RNG.standard_normal(dims).astype(np.float32)
    axes = tuple(range(1, len(dims))) if by_channel else None
    steps = np.abs(weights).max(axis=axes, keepdims=True) / np.float32(127)
    rounded = on_grid(weights, steps)
    assert rounded_to(weights, rounded) == Rounding(GRID, on_right=True)
    assert rounded_to(rounded, weights) == Rounding(GRID, on_right=False)


def test_so_are_those_of_fewer_numbers_on_a_finer_grid() -> None:
    fine = on_grid(RNG.standard_normal((8, 16)), 1 / 64)
    assert rounded_to(fine, on_grid(fine, 1 / 4 + 1e-4)) == Rounding(GRID, on_right=True)


def test_what_float16_cannot_hold_is_rounded_where_the_rest_is() -> None:
    weights = RNG.standard_normal((8, 8)).astype(np.float32)
    weights[0, 0] = 1e6
    with np.errstate(over="ignore"):
        half = weights.astype(np.float16).astype(np.float32)
    assert rounded_to(weights, half) == Rounding("float16", on_right=True)


@pytest.mark.parametrize("fill", [-1e9, np.finfo(np.float32).min])
@pytest.mark.parametrize("how", ["Where(m, l, f)", "Add(l, g)"])
def test_a_masked_output_hides_nothing_of_what_is_not_masked(
    compare: Compare, how: str, fill: float
) -> None:
    def net(by: float) -> onnx.ModelProto:
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            g (float[N, 8] x, bool[N, 8] m) => (float[N, 8] y)
            {{ l = MatMul(x, w) g = Where(m, z, f) y = {how} }}"""
        )
        kernel = KERNEL.copy()
        kernel[2, 3] += np.float32(by)
        for name, values in (("w", kernel), ("f", np.float32(fill)), ("z", np.float32(0))):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return model

    assert compare(net(0.0), net(0.0)).verdict is Verdict.IDENTICAL
    found = compare(net(0.0), net(1e-3))
    assert found.verdict is Verdict.DIFFERENT
    assert [each.what for each in found.causes] == ["kernel"]
    assert compare(net(0.0), net(1e-9)).verdict is not Verdict.DIFFERENT


@pytest.mark.parametrize("mask", ["largest", "large"])
def test_a_mask_on_the_way_does_not_hide_where_it_begins(compare: Compare, mask: str) -> None:
    def net(by: float) -> onnx.ModelProto:
        model = onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[N, 8, 8] x) => (float[N, 8, 8] y) {
                q = MatMul(x, w)
                u = Sigmoid(q)
                k = Transpose<perm = [0, 2, 1]>(x)
                s = MatMul(u, k)
                t = Add(s, m)
                p = Softmax<axis = -1>(t)
                y = MatMul(p, x)
            }"""
        )
        kernel = KERNEL.copy()
        kernel[0, 0] += np.float32(by)
        model.graph.initializer.append(numpy_helper.from_array(kernel, "w"))
        model.graph.initializer.append(numpy_helper.from_array(MASKS[mask], "m"))
        return model

    found = compare(net(0.0), net(0.5))
    assert found.verdict is Verdict.DIFFERENT
    assert [(each.what, each.proof) for each in found.causes] == [("kernel", Proof.NECESSARY)]
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert found.localisation.first.right == "q"


def test_an_output_with_a_mask_in_it_is_not_dead(compare: Compare) -> None:
    """A last place of 1e9 is 64, by which what stands beside it never moves."""

    def net(body: str) -> onnx.ModelProto:
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            g (float[N, 8] x) => (float[N, 8] y) {{ {body} }}"""
        )
        for name, values in {"w": KERNEL, "m": MASKS["large"][3], "o": np.float32(1)}.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return model

    found = compare(
        net("s = MatMul(x, w) y = Add(s, m)"), net("t = Mul(x, o) s = MatMul(t, w) y = Add(m, s)")
    )
    assert found.verdict is Verdict.EQUIVALENT
