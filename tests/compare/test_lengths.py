"""Lengths that models leave open, and orders of axes that nothing but shapes tells."""

from __future__ import annotations

import pytest

from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def tokens(target: str) -> str:
    """[N, T, 4] made flat and given its shape back, as `target` says."""
    baked = target.isdigit()
    return (
        HEAD
        + f"""g (float[N, T, 4] x) => (float[N, M, 4] y)
        <int64[1] flat = {{-1}},
         int64[3] baked = {{-1, {target if baked else 1}, 4}}, float[4] w = {{1, 2, 3, 4}}>
        {{
            s = Shape (x)
            f = Reshape (x, flat)
            t = Tanh (f)
            u = Reshape (t, {"baked" if baked else "s"})
            y = Mul (u, w)
        }}"""
    )


@pytest.mark.parametrize("length", ["32", "64", "224"])
def test_a_length_that_was_traced_is_no_equivalence(compare: Compare, length: str) -> None:
    for sides in ((tokens("any"), tokens(length)), (tokens(length), tokens("any"))):
        found = compare(*sides)
        assert found.verdict in (Verdict.AGREES, Verdict.DIFFERENT)


def test_the_side_that_does_not_run_is_named(compare: Compare) -> None:
    found = compare(tokens("any"), tokens("64"))
    assert found.verdict is Verdict.AGREES
    assert "with 33 for lengths that it leaves open, the right model alone does not run" in (
        found.reason
    )


def gated(bound: int) -> str:
    """x, and −x of what is longer than `bound`."""
    return (
        HEAD
        + f"""g (float[N, T] x) => (float[N, T] y)
        <int64 b = {{{bound}}}, int64 one = {{1}}, float plus = {{1}}, float minus = {{-1}}>
        {{
            s = Shape (x)
            n = Gather (s, one)
            long = Greater (n, b)
            sign = Where (long, minus, plus)
            h = Tanh (x)
            y = Mul (h, sign)
        }}"""
    )


def test_what_only_longer_inputs_show(compare: Compare) -> None:
    found = compare(gated(1000), gated(32))
    assert found.verdict is Verdict.DIFFERENT
    assert any("differ for 33" in each for each in found.information)


def test_models_that_take_any_length_stay_equivalent(compare: Compare) -> None:
    plain = HEAD + "g (float[N, T] x) => (float[N, T] y) { h = Tanh (x) y = Add (h, h) }"
    twin = (
        HEAD
        + "g (float[N, T] x) => (float[N, T] y) <float two = {2}> { h = Tanh (x) y = Mul (h, two) }"
    )
    found = compare(plain, twin)
    assert found.verdict in (Verdict.EQUIVALENT, Verdict.AGREES)
    assert "does not run" not in found.reason


def test_an_order_that_shapes_alone_tell_is_said(compare: Compare) -> None:
    left = HEAD + "g (float[N, 6, 8] x) => (float[N, 6, 8] y) { y = Tanh (x) }"
    right = (
        HEAD
        + """g (float[N, 8, 6] x) => (float[N, 6, 8] y)
        { t = Transpose <perm = [0, 2, 1]> (x) y = Tanh (t) }"""
    )
    found = compare(left, right)
    assert found.verdict is Verdict.EQUIVALENT
    assert any("no operator tells it" in each for each in found.information)
