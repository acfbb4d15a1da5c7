"""Layers of one shape that hold each other's weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from inspector.facts.comparison import Comparison, Proof, Verdict
from tests.compare.conftest import Compare
from tests.compare.test_told_apart import assert_one, model

RNG = np.random.default_rng(3)
ONE, OTHER, THIRD, LAST = (np.asarray(RNG.normal(size=(8, 8)) / 2, np.float32) for _ in range(4))
A, B = (np.asarray(RNG.normal(size=(4, 3, 3, 3)), np.float32) for _ in range(2))
FIRST, SECOND = (np.asarray(RNG.normal(size=4), np.float32) for _ in range(2))

ATTENTION = """q = MatMul (x, wq) k = MatMul (x, wk) v = MatMul (x, wv)
    qr = Reshape (q, s) kr = Reshape (k, s) vr = Reshape (v, s)
    qt = Transpose <perm = [0, 2, 1, 3]> (qr) kt = Transpose <perm = [0, 2, 3, 1]> (kr)
    vt = Transpose <perm = [0, 2, 1, 3]> (vr) a = MatMul (qt, kt) sm = Softmax <axis = -1> (a)
    o = MatMul (sm, vt) ot = Transpose <perm = [0, 2, 1, 3]> (o) f = Reshape (ot, s2)
    y = MatMul (f, wo)"""


def attention(text: str = ATTENTION, **more: Any) -> onnx.ModelProto:
    stored = {"wq": ONE, "wk": OTHER, "wv": THIRD, "wo": LAST} | more
    sizes = {"s": np.array([0, 0, 2, 4]), "s2": np.array([0, 0, 8])}
    return model(text, (2, 5, 8), **stored, **sizes)


def the_cause(found: Comparison) -> tuple[str, str]:
    assert found.verdict is Verdict.DIFFERENT
    (cause,) = found.causes
    assert cause.proof is Proof.NECESSARY
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert found.localisation.first.left_where in cause.left_where
    return cause.left_where, cause.right


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"wq": OTHER, "wk": ONE}, "Dense 'q' and Dense 'k'"),
        ({"wk": THIRD, "wv": OTHER}, "Dense 'k' and Dense 'v'"),
    ],
)
def test_swapped_projections_are_one_cause(
    compare: Compare, more: dict[str, Any], where: str
) -> None:
    named, wrong = attention(), attention(**more)
    for each in (named, wrong):
        for node in each.graph.node:
            node.name = node.output[0]
    for pair in ((named, wrong), (wrong, named)):
        assert the_cause(compare(*pair)) == (where, "swapped")


def test_three_weights_that_moved_round_are_one_cause(compare: Compare) -> None:
    found = compare(attention(), attention(wq=OTHER, wk=THIRD, wv=ONE))
    assert the_cause(found)[1] == "moved round 3 layers"


def test_queries_and_keys_that_are_wired_crosswise_are_one_cause(compare: Compare) -> None:
    crossed = attention(
        ATTENTION.replace("Reshape (q, s)", "Reshape (_, s)")
        .replace("Reshape (k, s)", "Reshape (q, s)")
        .replace("Reshape (_, s)", "Reshape (k, s)")
    )
    assert the_cause(compare(attention(), crossed))[1] == "swapped"
    assert the_cause(compare(crossed, attention()))[1] == "swapped"


def branches(second: str, **stored: Any) -> onnx.ModelProto:
    text = f"""a = Conv <pads = [1, 1, 1, 1]> (x, ka, ba) ra = Relu (a)
        b = Conv <pads = [1, 1, 1, 1]> (x, kb, bb) rb = {second} (b) s = Add (ra, rb)
        y = Tanh (s)"""
    return model(text, (2, 3, 5, 5), **{"ka": A, "kb": B, "ba": FIRST, "bb": SECOND} | stored)


def test_branches_with_each_others_weights_differ_where_they_do_unlike_things(
    compare: Compare,
) -> None:
    whole = {"ka": B, "kb": A, "ba": SECOND, "bb": FIRST}
    for stored, what in ((whole, "kernel and bias"), ({"ka": B, "kb": A}, "kernel")):
        found = compare(branches("Sigmoid"), branches("Sigmoid", **stored))
        the_cause(found)
        assert found.causes[0].what == what
    assert_one(compare, branches("Relu"), branches("Relu", **whole))
