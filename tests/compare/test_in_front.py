"""What differs in front of a run of affine operators is not decided by the run."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from inspector.facts.comparison import CauseKind, Verdict
from tests.compare.conftest import Compare

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
TAILS = {
    "Mul": "y = Mul (r, two)",
    "Div": "y = Div (r, half)",
    "twice": "h = Mul (r, half) h2 = Mul (h, two) y = Mul (h2, two)",
}
NUMBERS = "float two = {2}, float half = {0.5}, float zero = {0}, float top = {15}"


def behind(first: str, tail: str) -> str:
    return HEAD + f"g (float[N, 8] x) => (float[N, 8] y) <{NUMBERS}> {{ {first} {TAILS[tail]} }}"


@pytest.mark.parametrize("tail", ["Div", "twice"])
def test_an_operator_that_ordinary_inputs_do_not_tell_apart(compare: Compare, tail: str) -> None:
    relu, clip = "r = Relu (x)", "r = Clip (x, zero, top)"
    for sides in (
        (behind(relu, "Mul"), behind(clip, tail)),
        (behind(clip, tail), behind(relu, "Mul")),
    ):
        found = compare(*sides)
        assert found.verdict is Verdict.DIFFERENT
        assert {each.kind for each in found.causes} == {CauseKind.OPERATOR}
    assert compare(behind(relu, "Mul"), behind(relu, tail)).verdict is Verdict.EQUIVALENT


def embedded(op: str, *, broken: bool) -> onnx.ModelProto:
    """A table of 5,000 rows, times 8."""
    rows = np.random.default_rng(2).standard_normal((5000, 8)).astype(np.float32)
    if broken:
        rows[4321] = 0
    model = onnx.parser.parse_model(
        HEAD
        + f"""g (int64[N] x) => (float[N, 8] y)
        <float by = {{{8 if op == "Mul" else 0.125}}}> {{ e = Gather (t, x) y = {op} (e, by) }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(rows, "t"))
    return model


def test_a_row_of_a_table_that_was_not_asked_for(compare: Compare) -> None:
    found = compare(embedded("Mul", broken=False), embedded("Div", broken=True))
    assert found.verdict in (Verdict.AGREES, Verdict.DIFFERENT)
    assert {each.kind for each in (*found.causes, *found.harmless)} == {CauseKind.PARAMETER}
    same = compare(embedded("Mul", broken=False), embedded("Div", broken=False))
    assert same.verdict is Verdict.EQUIVALENT


def scaled(op: str, slope: float) -> str:
    return (
        HEAD
        + f"""g (float[N, 4] x) => (float[N, 4] y)
        <float[4] s = {{0.1, 0.2, {slope}, 0.4}}, float two = {{2}}, float half = {{0.5}}>
        {{ p = PRelu (x, s) y = {op} (p, {"two" if op == "Mul" else "half"}) }}"""
    )


def test_the_parameter_in_front_is_the_cause(compare: Compare) -> None:
    found = compare(scaled("Mul", 0.3), scaled("Div", 0.5))
    assert found.verdict is Verdict.DIFFERENT
    assert [each.left_where for each in found.causes] == ["PRelu 'p'"]


def test_an_offset_alone_is_not_called_a_slope(compare: Compare) -> None:
    norm = (
        HEAD
        + """g (float[N, 4] x) => (float[N, 4] y)
        <float[4] s = {1, 2, 3, 4}, float[4] b = {0.5, 0.5, 0.5, 0.5},
         float[4] m = {0, 0, 0, 0}, float[4] v = {0.99999, 0.99999, 0.99999, 0.99999}>
        { r = Tanh (x) y = BatchNormalization <epsilon = 1.0e-5> (r, s, b, m, v) }"""
    )
    written = (
        HEAD
        + """g (float[N, 4] x) => (float[N, 4] y)
        <float[4] s = {1, 2, 3, 4}, float[4] b = {0.5, 0.7, 0.5, 0.5}>
        { r = Tanh (x) h = Mul (r, s) y = Add (h, b) }"""
    )
    found = compare(norm, written)
    assert found.verdict is Verdict.DIFFERENT
    assert [each.what for each in found.causes] == ["offset (bias or mean)"]
