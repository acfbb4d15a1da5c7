"""Axes that are turned on one side alone, where inputs show it and where they do not."""

from __future__ import annotations

import pytest

from inspector.facts.comparison import Proof, Verdict
from tests.compare.conftest import Compare

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def gated(turned: str) -> str:
    """x · x, and x · (x turned) where something is far beyond what is fed."""
    return (
        HEAD
        + f"""g (float[4, 4] x) => (float[4, 4] y) <float far = {{1000}}>
        {{
            h = Tanh (x)
            most = ReduceMax <keepdims = 0> (x)
            above = Greater (most, far)
            t = {turned} (h)
            b = Mul (h, t)
            c = Mul (h, h)
            y = Where (above, b, c)
        }}"""
    )


TURN, PLAIN = "Transpose <perm = [1, 0]>", "Identity"


def test_a_transpose_that_inputs_do_not_show_is_listed(compare: Compare) -> None:
    for sides in ((PLAIN, TURN), (TURN, PLAIN)):
        found = compare(*map(gated, sides))
        assert found.verdict is Verdict.AGREES
        assert [each.what for each in found.harmless] == ["order of axes"]
    assert compare(gated(TURN), gated(TURN)).verdict is Verdict.IDENTICAL


def attention(turned: str) -> str:
    return (
        HEAD
        + f"""g (float[N, 6, 6] x) => (float[N, 6, 6] y)
        <float[6] w = {{1, 2, 3, 4, 5, 6}}>
        {{ v = Mul (x, w) h = Tanh (v) t = {turned} (h) y = Softmax <axis = 2> (t) }}"""
    )


def test_it_is_the_cause_where_they_do(compare: Compare) -> None:
    found = compare(attention("Identity"), attention("Transpose <perm = [0, 2, 1]>"))
    assert found.verdict is Verdict.DIFFERENT
    (cause,) = found.causes
    assert (cause.what, cause.proof) == ("how axes are moved", Proof.NECESSARY)


@pytest.mark.parametrize(
    "twice",
    [
        "u = Transpose <perm = [0, 2, 1]> (h) t = Transpose <perm = [0, 2, 1]> (u)",
        "u = Transpose <perm = [1, 2, 0]> (h) t = Transpose <perm = [2, 0, 1]> (u)",
        "u = Transpose (h) t = Transpose (u)",
    ],
)
def test_turned_and_turned_back_is_plain(compare: Compare, twice: str) -> None:
    other = (
        HEAD
        + f"""g (float[N, 6, 6] x) => (float[N, 6, 6] y)
        <float[6] w = {{1, 2, 3, 4, 5, 6}}>
        {{ v = Mul (x, w) h = Tanh (v) {twice} y = Softmax <axis = 2> (t) }}"""
    )
    assert compare(attention("Identity"), other).verdict is Verdict.EQUIVALENT
