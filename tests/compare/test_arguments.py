"""Stored integers that tell an operator what to do, as causes that a patch proves."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from inspector.facts.comparison import Proof, Verdict
from tests.compare.conftest import Compare
from tests.compare.test_told_apart import model

RNG = np.random.default_rng(8)
KERNEL = np.asarray(RNG.normal(size=(8, 3, 3, 3)), np.float32)
LAST = np.asarray(RNG.normal(size=(5, 8, 3, 3)), np.float32)


def net(text: str, **stored: Any) -> onnx.ModelProto:
    around = f"c = Conv <pads = [1, 1, 1, 1]> (x, k) {text} z = Relu (m) y = Conv (z, last)"
    integers = {name: np.array(each) for name, each in stored.items()}
    return model(around, (2, 3, 8, 8), k=KERNEL, last=LAST, **integers)


SLICE = "m = Slice (c, starts, ends, axes, steps)"
SPLIT = "a, b = Split <axis = 1> (c, parts) r = Relu (a) q = Neg (b) m = Concat <axis = 1> (r, q)"


@pytest.mark.parametrize(
    ("text", "one", "other", "said"),
    [
        (
            SLICE,
            {"starts": [0], "ends": [5], "axes": [2], "steps": [1]},
            {"starts": [1], "ends": [6], "axes": [2], "steps": [1]},
            ("starts and ends", "0:5 along axis 2", "1:6 along axis 2"),
        ),
        (
            SLICE,
            {"starts": [0], "ends": [99], "axes": [2], "steps": [1]},
            {"starts": [-1], "ends": [-99], "axes": [2], "steps": [-1]},
            ("starts and ends and steps", "0:99 along axis 2", "-1:-99:-1 along axis 2"),
        ),
        (SPLIT, {"parts": [3, 5]}, {"parts": [5, 3]}, ("split", "[3, 5]", "[5, 3]")),
        (
            SLICE,
            {"starts": [0, 1], "ends": [5, 6], "axes": [2, 3], "steps": [1, 1]},
            {"starts": [1, 0], "ends": [6, 5], "axes": [2, 3], "steps": [1, 1]},
            (
                "starts and ends",
                "0:5 along axis 2, 1:6 along axis 3",
                "1:6 along axis 2, 0:5 along axis 3",
            ),
        ),
    ],
)
def test_stored_integers_that_differ_are_one_cause(
    compare: Compare, text: str, one: Any, other: Any, said: tuple[str, str, str]
) -> None:
    pair = net(text, **one), net(text, **other)
    for left, right, words in ((*pair, said), (*pair[::-1], (said[0], said[2], said[1]))):
        found = compare(left, right)
        assert found.verdict is Verdict.DIFFERENT
        (cause,) = found.causes
        assert (cause.what, cause.left, cause.right) == words
        assert cause.proof is Proof.NECESSARY


def test_steps_that_one_side_leaves_out_are_put_in_and_taken_away(compare: Compare) -> None:
    bounds = {"starts": [0], "ends": [8], "axes": [1]}
    around = "a = Slice (c, starts, ends, axes{}) m = Concat <axis = 1> (a, c) "
    take = "p = Slice (m, none, eight, one) y = Neg (p)"
    text = f"c = Conv <pads = [1, 1, 1, 1]> (x, k) {around}{take}"
    stored = {
        name: np.array(each)
        for name, each in (bounds | {"none": [0], "eight": [4], "one": [1]}).items()
    }
    plain = model(text.format(""), (2, 3, 8, 8), k=KERNEL, **stored)
    every = {"steps": np.array([2])}
    second = model(text.format(", steps"), (2, 3, 8, 8), k=KERNEL, **stored | every)
    for pair in ((plain, second), (second, plain)):
        found = compare(*pair)
        assert found.verdict is Verdict.DIFFERENT
        assert [(each.what, each.proof) for each in found.causes] == [("steps", Proof.NECESSARY)]
