"""Reshapes and Transposes that move a value otherwise on one side: causes, or no difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from inspector.facts.comparison import Comparison, Proof, Verdict
from tests.compare.conftest import Compare
from tests.compare.test_told_apart import assert_one, model

RNG = np.random.default_rng(12)


def drawn(*shape: int) -> np.ndarray[Any, Any]:
    return np.asarray(RNG.normal(size=shape) / 2, np.float32)


SCALE, SHIFT = drawn(1, 16, 1, 1), drawn(1, 16, 1, 1)
FIRST, LAST = drawn(12, 3, 1, 1), drawn(8, 12, 3, 3)
QUERY, KEY, VALUE, OUT = (drawn(16, 16) for _ in range(4))
SQUARE = drawn(12, 12)


def named(made: onnx.ModelProto) -> onnx.ModelProto:
    for node in made.graph.node:
        node.name = node.output[0]
    return made


def group_norm(groups: int) -> onnx.ModelProto:
    text = """t = Reshape (x, s) n = InstanceNormalization (t, one, zero) s0 = Shape (x)
        u = Reshape (n, s0) v = Mul (u, w) y = Add (v, b)"""
    ones = np.ones(groups, np.float32)
    stored = {"one": ones, "zero": 0 * ones, "w": SCALE, "b": SHIFT}
    return named(model(text, ("N", 16, 6, 6), s=np.array([0, groups, -1]), **stored))


def shuffle(groups: int) -> onnx.ModelProto:
    text = """c = Conv (x, k) t = Reshape (c, s) p = Transpose <perm = [0, 2, 1, 3, 4]> (t)
        u = Reshape (p, back) r = Relu (u) y = Conv (r, last)"""
    sizes = {"s": np.array([0, groups, -1, 6, 6]), "back": np.array([0, 12, 6, 6])}
    return named(model(text, ("N", 3, 6, 6), k=FIRST, last=LAST, **sizes))


def attention(heads: int, scale: float = 0.5) -> onnx.ModelProto:
    text = """q = MatMul (x, wq) k = MatMul (x, wk) v = MatMul (x, wv)
        qr = Reshape (q, s) kr = Reshape (k, s) vr = Reshape (v, s)
        qt = Transpose <perm = [0, 2, 1, 3]> (qr) kt = Transpose <perm = [0, 2, 3, 1]> (kr)
        vt = Transpose <perm = [0, 2, 1, 3]> (vr) a = MatMul (qt, kt) sc = Mul (a, c)
        sm = Softmax <axis = -1> (sc) o = MatMul (sm, vt)
        ot = Transpose <perm = [0, 2, 1, 3]> (o) f = Reshape (ot, back) y = MatMul (f, wo)"""
    stored = {"wq": QUERY, "wk": KEY, "wv": VALUE, "wo": OUT, "c": np.float32(scale)}
    sizes = {"s": np.array([0, 0, heads, 16 // heads]), "back": np.array([0, 0, 16])}
    return named(model(text, ("N", 5, 16), **stored, **sizes))


def pixels(perm: str) -> onnx.ModelProto:
    text = (
        f"c = Conv (x, k) t = Reshape (c, s) p = Transpose <perm = {perm}> (t) y = Reshape (p, u)"
    )
    sizes = {"s": np.array([0, 2, 2, 3, 4, 4]), "u": np.array([0, 3, 8, 8])}
    return named(model(text, ("N", 3, 4, 4), k=FIRST, **sizes))


def rows(*shape: int) -> onnx.ModelProto:
    text = """c = MatMul (x, w) t = Reshape (c, s) m = Softmax <axis = -1> (t)
        f = Reshape (m, back) y = MatMul (f, w)"""
    sizes = {"s": np.array(shape), "back": np.array([0, 12])}
    return named(model(text, ("N", 12), w=SQUARE, **sizes))


def the_first(found: Comparison) -> tuple[str, ...]:
    """What the first cause says, which is where the difference begins, too; all are proved."""
    assert found.verdict is Verdict.DIFFERENT
    assert {each.proof for each in found.causes} == {Proof.NECESSARY}
    first = found.causes[0]
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert found.localisation.first.right_where in first.right_where
    return first.right_where, first.what, first.left, first.right


@pytest.mark.parametrize(
    ("make", "one", "other", "said"),
    [
        (group_norm, (4,), (8,), ("shape", "(0, 4, -1)", "(0, 8, -1)")),
        (shuffle, (3,), (2,), ("shape", "(0, 3, -1, 6, 6)", "(0, 2, -1, 6, 6)")),
        (shuffle, (3,), (4,), ("shape", "(0, 3, -1, 6, 6)", "(0, 4, -1, 6, 6)")),
        (rows, (0, 3, 4), (0, 4, 3), ("shape", "(0, 3, 4)", "(0, 4, 3)")),
        (rows, (0, 3, 4), (0, 2, 2, 3), ("shape", "(0, 3, 4)", "(0, 2, 2, 3)")),
    ],
)
def test_another_target_of_a_reshape_is_the_cause(
    compare: Compare, make: Any, one: Any, other: Any, said: tuple[str, str, str]
) -> None:
    pair = make(*one), make(*other)
    assert the_first(compare(*pair)) == ("Reshape 't'", *said)
    assert the_first(compare(*pair[::-1])) == ("Reshape 't'", said[0], said[2], said[1])


def test_another_number_of_heads_is_one_cause_of_all_its_reshapes(compare: Compare) -> None:
    where = "3 operators, from Reshape 'qr' to Reshape 'vr'"
    said = (where, "shape", "(0, 0, 2, 8)", "(0, 0, 4, 4)")
    found = compare(attention(2), attention(4))
    assert the_first(found) == said
    assert len(found.causes) == 1
    found = compare(attention(2, 8**-0.5), attention(4, 4**-0.5))
    assert the_first(found) == said
    assert [each.right_where for each in found.causes[1:]] == ["Mul 'sc'"]


def test_another_order_of_a_transpose_is_the_cause(compare: Compare) -> None:
    one, other = "[0, 3, 4, 1, 5, 2]", "[0, 3, 4, 2, 5, 1]"
    found = compare(pixels(one), pixels(other))
    said = (one, other)
    perm = ("Transpose 'p'", "perm", *(each.replace("[", "(").replace("]", ")") for each in said))
    assert the_first(found) == perm


def test_a_transpose_that_one_side_lacks_is_put_in_and_taken_out(compare: Compare) -> None:
    way = "c = MatMul (x, w) {} m = Softmax <axis = -1> ({}) y = MatMul (m, w)"
    plain, turned = (
        named(model(way.format(*each), (12, 12), w=SQUARE))
        for each in (("", "c"), ("t = Transpose <perm = [1, 0]> (c)", "t"))
    )
    for pair in ((plain, turned), (turned, plain)):
        assert the_first(compare(*pair))[1] == "how axes are moved"


def test_targets_that_come_to_the_same_are_no_difference(compare: Compare) -> None:
    for one, other in (((0, 3, 4), (-1, 3, 4)), ((0, 3, -1), (0, 3, 4)), ((0, 3, 4), (0, -1, 4))):
        assert_one(compare, rows(*one), rows(*other))


def test_a_layout_is_no_cause_where_something_else_is(compare: Compare) -> None:
    """One side runs over the last axis of what the other runs over the middle one of."""
    text = """c = MatMul (x, w) t = Reshape (c, s) {} n = Softmax <axis = {}> ({}) {}
        f = Reshape ({}, back) y = {} (f)"""
    back = {"s": np.array([0, 3, 4]), "back": np.array([0, 12]), "w": SQUARE}
    turn = "<perm = [0, 2, 1]>"
    plain = text.format("", 1, "t", "", "n", "{}")
    turned = text.format(
        f"a = Transpose {turn} (t)", 2, "a", f"b = Transpose {turn} (n)", "b", "{}"
    )
    for left, right in ((plain, turned), (turned, plain)):
        found = compare(
            model(left.format("Tanh"), ("N", 12), **back),
            model(right.format("Sin"), ("N", 12), **back),
        )
        assert found.verdict is Verdict.DIFFERENT
        assert [each.what for each in found.causes] == ["Tanh against Sin"], [
            each.what for each in found.causes
        ]


def blocks(way: str, perm: str = "[0, 1, 4, 2, 5, 3]") -> onnx.ModelProto:
    """Depth put into space in one operator or in three."""
    three = f"t = Reshape (c, s) p = Transpose <perm = {perm}> (t) d = Reshape (p, u)"
    one = f'd = DepthToSpace <blocksize = 2, mode = "{way}"> (c)'
    sizes = {"s": np.array([2, 3, 2, 2, 4, 4]), "u": np.array([2, 3, 8, 8])}
    text = f"c = Conv (x, k) {one if way else three} y = Relu (d)"
    return named(model(text, (2, 3, 4, 4), k=FIRST, **(sizes if not way else {})))


def test_blocks_put_otherwise_into_space_are_one_cause(compare: Compare) -> None:
    for left, right in ((blocks("DCR"), blocks("")), (blocks(""), blocks("DCR"))):
        for each in (left, right):  # what is declared is no longer so in the patched copy
            each.CopyFrom(onnx.shape_inference.infer_shapes(each))
        found = compare(left, right)
        assert the_first(found)[1] == "how axes are moved"
        assert len(found.causes) == 1
        assert not found.harmless
    assert compare(blocks("CRD"), blocks("")).verdict is Verdict.AGREES


def test_axes_put_in_elsewhere_are_causes(compare: Compare) -> None:
    def net(one: int, other: int) -> onnx.ModelProto:
        text = """c = MatMul (x, w) d = MatMul (x, v) t = Unsqueeze (c, one)
            u = Unsqueeze (d, other) e = Sub (t, u) r = Tanh (e) y = MatMul (r, v)"""
        axes = {"one": np.array([one]), "other": np.array([other])}
        return named(model(text, ("N", 12), w=SQUARE, v=SQUARE.T.copy(), **axes))

    for pair in ((net(1, 2), net(2, 1)), (net(2, 1), net(1, 2))):
        found = compare(*pair)
        assert the_first(found)[0] == "Unsqueeze 't'"
        assert [each.right_where for each in found.causes] == ["Unsqueeze 't'", "Unsqueeze 'u'"]
