"""What two bodies of an If or a Loop differ in is told, and not that they do alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inspector.facts.comparison import Comparison, Verdict
from tests.compare.conftest import Compare

RNG = np.random.default_rng(2)
STORED = {name: RNG.standard_normal((4, 4), np.float32) for name in ("w", "v")}


def branching(then: str = "t = LeakyRelu<alpha = 0.1>(a)", **other: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float[N, 4] y) {{
            s = ReduceSum<keepdims = 0>(x)
            z = Constant<value = float {{0.0}}>()
            c = Greater(s, z)
            y = If(c) <
                then_branch = f () => (float[N, 4] t) {{ a = MatMul(x, w) {then} }},
                else_branch = e () => (float[N, 4] u) {{ b = MatMul(x, v) u = Tanh(b) }}
            >
        }}"""
    )
    for name, values in {**STORED, **other}.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def looping(body: str = "t = Add(m, h)") -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float[N, 4] y) {{
            n = Constant<value = int64 {{3}}>()
            c = Constant<value = bool {{1}}>()
            y = Loop(n, c, x) <body = b (int64 i, bool k, float[N, 4] h)
                => (bool l, float[N, 4] t) {{ l = Identity(k) m = MatMul(h, w) {body} }}>
        }}"""
    )
    model.graph.initializer.append(numpy_helper.from_array(STORED["w"] / 4, "w"))
    return model


def told(found: Comparison) -> str:
    assert found.verdict is Verdict.DIFFERENT
    return f"{found.causes[0].what}: {found.causes[0].left} | {found.causes[0].right}"


@pytest.mark.parametrize(
    ("left", "right", "wanted"),
    [
        (branching(), branching("t = LeakyRelu<alpha = 0.3>(a)"), "alpha of LeakyRelu"),
        (branching(), branching("t = Relu(a)"), ": LeakyRelu | subgraph of 2 nodes"),
        (branching(), branching(v=STORED["v"] * 2), "else_branch"),
        (branching(), branching(v=STORED["v"] + np.float32(0.5)), "values up to 0.5 away"),
        (looping(), looping("o = Tanh(m) t = Add(o, h)"), ": nothing more | subgraph of 4 nodes"),
        (looping(), looping("t = Add(m, m)"), "input 1 of Add"),
    ],
)
def test_what_bodies_differ_in_is_told(
    compare: Compare, left: onnx.ModelProto, right: onnx.ModelProto, wanted: str
) -> None:
    assert wanted in told(compare(left, right))
