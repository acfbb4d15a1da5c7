"""Operators that read one value under several views, or views that are moved otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare
from tests.compare.test_told_apart import ONE, assert_one, hidden, shown

SHAPES = {"heads": np.array([0, 2, 2]), "joined": np.array([-1, 4]), "one": [1], "zero": [0]}


def made(make: Any, text: str, **more: Any) -> onnx.ModelProto:
    words = set(text.replace(",", " ").replace("(", " ").replace(")", " ").split())
    known = {name: np.array(value, np.int64) for name, value in SHAPES.items()}
    return make(text, **{k: v for k, v in (known | more).items() if k in words})


def assert_apart(compare: Compare, one: str, other: str, **more: Any) -> None:
    for make, wanted in ((hidden, Verdict.AGREES), (shown, Verdict.DIFFERENT)):
        left, right = made(make, one, **more), made(make, other, **more)
        for pair in ((left, right), (right, left)):
            found = compare(*pair)
            assert found.verdict is wanted, found.reason


def assert_together(compare: Compare, one: str, other: str, **more: Any) -> None:
    for make in (hidden, shown):
        assert_one(compare, made(make, one, **more), made(make, other, **more))


@pytest.mark.parametrize("op", ["MatMul", "Sub"])
def test_two_views_of_one_value_stand_in_their_places(compare: Compare, op: str) -> None:
    turn = "t = Transpose (x) "
    assert_apart(compare, f"{turn} b = {op} (x, t)", f"{turn} b = {op} (t, x)")
    twice = "u = Transpose (x) t = Transpose (u) s = Transpose (t) "
    assert_together(compare, f"{turn} b = {op} (x, t)", f"{twice} b = {op} (t, s)")


def test_where_an_operator_does_not_mind_their_order_it_is_none(compare: Compare) -> None:
    turn = "t = Transpose (x) "
    assert_together(compare, f"{turn} b = Mul (x, t)", f"{turn} b = Mul (t, x)")
    assert_apart(compare, f"{turn} b = Mul (x, t)", "b = Mul (x, x)")


def pairwise(first: int, second: int, extra: str = "") -> str:
    """Which of the first row's numbers are above which."""
    return (
        f"r = Gather <axis = 0> (x, first) u = Unsqueeze (r, a{first}) v = Unsqueeze (r, a{second})"
        f" {extra} g = Sub (u, v) b = Identity (g)"
    )


def test_numbers_held_against_each_other_by_row_or_by_column(compare: Compare) -> None:
    more = {"first": np.int64(0), "a0": np.array([0]), "a1": np.array([1])}
    assert_apart(compare, pairwise(0, 1), pairwise(1, 0), **more)
    shapes = {"row": np.array([1, 4]), "column": np.array([-1, 1])}
    written = (
        "r = Gather <axis = 0> (x, first) u = Reshape (r, row) v = Reshape (r, column)"
        " b = Sub (u, v)"
    )
    assert_together(compare, pairwise(0, 1), written, **more, **shapes)


def test_a_vector_that_is_computed_is_put_along_one_axis(compare: Compare) -> None:
    text = "r = Gather <axis = 0> (x, first) u = Unsqueeze (r, a{}) b = Mul (x, u)"
    more = {"first": np.int64(0), "a0": np.array([0]), "a1": np.array([1])}
    assert_apart(compare, text.format(0), text.format(1), **more)
    plain = "r = Gather <axis = 0> (x, first) b = Mul (x, r)"
    assert_together(compare, text.format(0), plain, **more)


def heads(way: str) -> str:
    return f"h = Reshape (x, heads) {way} e = Tanh (t) b = Reshape (e, joined)"


def test_what_is_turned_behind_a_reshape_is_held_against_it(compare: Compare) -> None:
    one = heads("t = Transpose <perm = [0, 2, 1]> (h)")
    assert_apart(compare, one, heads("t = Transpose <perm = [2, 0, 1]> (h)"))
    assert_apart(compare, one, heads("t = Identity (h)"))
    twice = "u = Transpose <perm = [1, 0, 2]> (h) t = Transpose <perm = [1, 2, 0]> (u)"
    assert_together(compare, one, heads(twice))


def test_a_batch_of_one_may_stand_anywhere(compare: Compare) -> None:
    """What the order of axes of length 1 is, no operator behind a Reshape can tell."""
    shapes = {"wide": np.array([1, 4, 4]), "back": np.array([4, 4])}
    text = "h = Reshape (x, wide) t = {} (h) e = Tanh (t) b = Reshape (e, back)"
    moved = text.format("Transpose <perm = [1, 0, 2]>")
    for make in (hidden, shown):
        found = compare(made(make, text.format("Identity"), **shapes), made(make, moved, **shapes))
        assert found.verdict in ONE


KERNEL = np.arange(1, 17, dtype=np.float32).reshape(4, 4, 1, 1) / 16
IMAGE = ("N", 4, 4, 4)
SWAP = "Transpose <perm = [0, 1, 3, 2]>"


def image(make: Any, way: str) -> onnx.ModelProto:
    return make(f"m = Conv (x, k) {way}", IMAGE, k=KERNEL)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("b = Relu (m)", f"t = {SWAP} (m) b = Relu (t)"),
        ("b = Conv (m, k)", f"t = {SWAP} (m) b = Conv (t, k)"),
        ("b = MatMul (m, m)", f"t = {SWAP} (m) b = MatMul (t, t)"),
    ],
)
def test_height_and_width_are_held_together_where_a_layout_is_told(
    compare: Compare, one: str, other: str
) -> None:
    for make, wanted in ((hidden, Verdict.AGREES), (shown, Verdict.DIFFERENT)):
        for pair in ((one, other), (other, one)):
            found = compare(*(image(make, way) for way in pair))
            assert found.verdict is wanted, found.reason


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("b = Relu (m)", f"t = {SWAP} (m) r = Relu (t) b = {SWAP} (r)"),
        (
            "r = Relu (m) b = Conv (r, k)",
            "t = Transpose <perm = [0, 2, 3, 1]> (m) r = Relu (t)"
            " u = Transpose <perm = [0, 3, 1, 2]> (r) b = Conv (u, k)",
        ),
        ("b = MatMul (m, m)", f"t = {SWAP} (m) s = {SWAP} (t) b = MatMul (m, s)"),
    ],
)
@pytest.mark.parametrize("make", [hidden, shown])
def test_what_is_turned_back_is_one_where_a_layout_is_told(
    compare: Compare, one: str, other: str, make: Any
) -> None:
    assert_one(compare, image(make, one), image(make, other))


LAST, FIRST = "Transpose <perm = [0, 2, 3, 1]>", "Transpose <perm = [0, 3, 1, 2]>"


def reversed_along(make: Any, layout: str, axis: int) -> onnx.ModelProto:
    """Numbers from back to front along an axis."""
    ends = {"start": [3], "end": [-9], "axis": [axis], "step": [-1]}
    cut = "Slice ({}, start, end, axis, step)"
    text = f"b = {cut.format('m')}"
    if layout == "NHWC":
        text = f"t = {LAST} (m) s = {cut.format('t')} b = {FIRST} (s)"
    given = {name: np.array(each, np.int64) for name, each in ends.items()}
    return make(f"m = Conv (x, k) {text}", IMAGE, k=KERNEL, **given)


def test_what_is_sliced_is_counted_in_the_layout_it_is_in(compare: Compare) -> None:
    for make, wanted in ((hidden, Verdict.AGREES), (shown, Verdict.DIFFERENT)):
        channels = reversed_along(make, "NCHW", 1)
        assert compare(channels, reversed_along(make, "NHWC", 1)).verdict is wanted
        for layout, axis in (("NHWC", 3), ("NHWC", -1), ("NCHW", -3)):
            assert_one(compare, channels, reversed_along(make, layout, axis))


WHERE = {
    "a0": np.array([0]),
    "a1": np.array([1]),
    "square": np.array([4, 4]),
    "nought": np.float32(0),
}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([1, 0, 1, 0], bool), "u = Unsqueeze (v, a{}) b = Where (u, x, nought)"),
        (
            np.array([1, 2, 3, 4], np.int64),
            "i = Cast <to = 7> (x) u = Unsqueeze (v, a{}) m = Min (i, u) b = Cast <to = 1> (m)",
        ),
        (
            np.array([1, 2, 3, 4], np.float32),
            "u = Unsqueeze (v, a{}) e = Expand (u, square) b = Mul (x, e)",
        ),
        (np.array([1, 2, 3, 4], np.float32), "u = Unsqueeze (v, a{}) e = Neg (u) b = Mul (x, e)"),
        (
            np.array([1, 2, 3, 4], np.float32),
            "u = Unsqueeze (v, a{}) m = MatMul (x, w) b = Add (m, u)",
        ),
    ],
    ids=["flags", "integers", "Expand", "Neg", "bias"],
)
def test_a_stored_vector_lies_along_one_axis(compare: Compare, values: Any, text: str) -> None:
    more = {**WHERE, "v": values, "w": np.eye(4, dtype=np.float32) + 1}
    assert_apart(compare, text.format(0), text.format(1), **more)
    # Read as it is stored, it is a row.
    plain = text.replace("u = Unsqueeze (v, a{})", "u = Identity (v)")
    assert_together(compare, text.format(0), plain, **more)


def test_a_bias_of_a_convolution_is_one_for_each_channel(compare: Compare) -> None:
    along = {"channels": [4, 1, 1], "width": [1, 1, 4]}
    for make, wanted in ((hidden, Verdict.AGREES), (shown, Verdict.DIFFERENT)):

        def biased(text: str, make: Any = make, **shape: Any) -> onnx.ModelProto:
            bias = np.array([1, 2, 3, 4], np.float32)
            given = {name: np.array(each, np.int64) for name, each in shape.items()}
            return make(text, IMAGE, k=KERNEL, v=bias, **given)

        text = "m = Conv (x, k) u = Reshape (v, to) b = Add (m, u)"
        right = biased(text, to=along["channels"])
        assert compare(right, biased(text, to=along["width"])).verdict is wanted
        assert_one(compare, right, biased("b = Conv (x, k, v)"))


SHUFFLE = "h = Reshape (x, cube) t = Transpose <perm = {}> (h) e = Reshape (t, square) b = Tanh (e)"


def test_elements_that_are_shuffled_are_told(compare: Compare) -> None:
    shapes = {"cube": np.array([4, 2, 2]), "square": np.array([4, 4])}
    text = SHUFFLE.format([0, 2, 1])
    assert_apart(compare, text, "b = Tanh (x)", **shapes)
    assert_apart(compare, text, SHUFFLE.format([1, 0, 2]), **shapes)
    assert_together(compare, SHUFFLE.format([0, 1, 2]), "b = Tanh (x)", **shapes)
    back = (
        "h = Reshape (x, cube) t = Transpose <perm = [0, 2, 1]> (h) e = Reshape (t, square)"
        " i = Reshape (e, cube) j = Transpose <perm = [0, 2, 1]> (i) k = Reshape (j, square)"
        " b = Tanh (k)"
    )
    assert_together(compare, back, "b = Tanh (x)", **shapes)
