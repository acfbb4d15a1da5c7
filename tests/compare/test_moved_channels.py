"""A scale or BatchNorm behind a Transpose or Reshape, and one folded into the layer in front."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare
from tests.compare.test_told_apart import assert_one, hidden, shown

RNG = np.random.default_rng(6)
MATRIX = RNG.normal(size=(4, 4)).astype(np.float32)
KERNEL = RNG.normal(size=(4, 4, 1, 1)).astype(np.float32)
SLOPE = np.array([1, 2, 3, 4], np.float32)
NORM = {
    "k": SLOPE,
    "zero": np.zeros(4, np.float32),
    "one": np.full(4, 1 - 1e-5, np.float32),
}
NORMED = "BatchNormalization (t, k, zero, zero, one)"
IMAGE = (2, 4, 2, 2)


def stored(text: str, **more: Any) -> dict[str, Any]:
    """What `text` reads of all that is stored."""
    words = set(text.replace(",", " ").replace("(", " ").replace(")", " ").split())
    known = NORM | {"high": SLOPE[:, None, None]} | more
    return {name: value for name, value in known.items() if name in words}


def dense(way: str, make: Any) -> onnx.ModelProto:
    """A matrix product, and `way` from m to b behind it."""
    return make(f"m = MatMul (x, w) {way}", (4, 4), w=MATRIX, **stored(way))


def folded_dense(way: str, make: Any) -> onnx.ModelProto:
    return make(f"m = MatMul (x, w) {way}", (4, 4), w=MATRIX * SLOPE)


def conv(way: str, make: Any, **more: Any) -> onnx.ModelProto:
    return make(f"m = Conv (x, w) {way}", IMAGE, w=KERNEL, **stored(way, **more))


def folded_conv(make: Any) -> onnx.ModelProto:
    return make("m = Conv (x, w) b = Identity (m)", IMAGE, w=KERNEL * SLOPE[:, None, None, None])


AS_ROWS = {"rows": np.array([-1, 4]), "back": np.array(IMAGE)}
ROWS = "t = Reshape (m, rows) a = {} b = Reshape (a, back)"


@pytest.mark.parametrize("way", ["a = Mul (t, k)", f"a = {NORMED}"])
def test_a_scale_behind_a_transpose_is_of_another_axis(compare: Compare, way: str) -> None:
    turned = f"t = Transpose (m) {way} b = Transpose (a)"
    for make, wanted in ((hidden, Verdict.AGREES), (shown, Verdict.DIFFERENT)):
        one, other = dense(turned, make), folded_dense("b = Identity (m)", make)
        for pair in ((one, other), (other, one)):
            assert compare(*pair).verdict is wanted


@pytest.mark.parametrize("way", ["Mul (t, k)", NORMED])
def test_a_scale_behind_a_reshape_is_of_another_axis(compare: Compare, way: str) -> None:
    for make, wanted in ((hidden, Verdict.AGREES), (shown, Verdict.DIFFERENT)):
        found = compare(conv(ROWS.format(way), make, **AS_ROWS), folded_conv(make))
        assert found.verdict is wanted


@pytest.mark.parametrize(
    "way",
    [
        "t = Transpose (m) u = Transpose (t) b = Mul (u, k)",
        "n = Transpose (m) t = Transpose (n) b = " + NORMED,
    ],
)
@pytest.mark.parametrize("make", [hidden, shown])
def test_what_is_turned_back_before_it_is_one(compare: Compare, way: str, make: Any) -> None:
    assert_one(compare, dense(way, make), folded_dense("b = Identity (m)", make))


TO_LAST, TO_FIRST = "Transpose <perm = [0, 2, 3, 1]>", "Transpose <perm = [0, 3, 1, 2]>"
LINES = {"line": np.array([2, 4, 4]), "back": np.array(IMAGE)}
LAST_ROWS = {"rows": np.array([-1, 4]), "back": np.array([2, 2, 2, 4])}


@pytest.mark.parametrize(
    ("way", "shapes"),
    [
        (f"t = {TO_LAST} (m) a = Mul (t, k) b = {TO_FIRST} (a)", {}),
        ("b = Mul (m, high)", {}),
        (f"t = Reshape (m, line) a = {NORMED} b = Reshape (a, back)", LINES),
        (
            f"n = {TO_LAST} (m) t = Reshape (n, rows) a = {NORMED} "
            f"e = Reshape (a, back) b = {TO_FIRST} (e)",
            LAST_ROWS,
        ),
    ],
)
@pytest.mark.parametrize("make", [hidden, shown])
def test_channels_that_are_followed_are_one(
    compare: Compare, way: str, shapes: dict[str, Any], make: Any
) -> None:
    """Channels last, and Reshapes that leave channels what they are."""
    assert_one(compare, conv(way, make, **shapes), folded_conv(make))


def test_two_norms_along_other_axes_of_an_input_are_listed(compare: Compare) -> None:
    """No layer in front says what is the channel: the way to each has to be one."""
    written = "t = {} (m) e = Mul (t, k) a = Sub (e, zero) b = {} (a)"
    normed = "t = Identity (m) a = " + NORMED + " b = Identity (a)"
    for make, wanted in ((hidden, Verdict.AGREES), (shown, Verdict.DIFFERENT)):
        one = make(f"m = Relu (x) {normed}", (4, 4), **stored(normed))
        text = written.format("Transpose", "Transpose")
        assert compare(one, make(f"m = Relu (x) {text}", (4, 4), **stored(text))).verdict is wanted
        text = written.format("Identity", "Identity")
        assert_one(compare, one, make(f"m = Relu (x) {text}", (4, 4), **stored(text)))
