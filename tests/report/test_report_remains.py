"""The report on what is left of BatchNorms: golden pages, and what holds for any of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx_text import parsed

from inspector.flows import inspect_file
from inspector.report import render

HEAD = """<ir_version: 8, opset_import: ["": 17],
 producer_name: "pytorch", producer_version: "2.13.0">"""

KEPT = f"""{HEAD}
agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
<float[2, 2, 1, 1] fc__weight = {{1.0, 2.0, 3.0, 4.0}}, float[2] fc__bias = {{0.5, 1.0}},
 float[2, 2, 1, 1] conv__weight = {{1.0, -2.0, 0.5, 1.5}}, float[2] conv__bias = {{0.25, -0.25}},
 float[2] s = {{1.0, 2.0}}, float[2] b = {{0.5, -0.5}}, float[2] m = {{0.25, -4.0}},
 float[2] v = {{0.75, 8.75}}>
{{ [S_conv_S_Conv] c = Conv (x, conv__weight, conv__bias)
  [bn] n = BatchNormalization <epsilon = 0.25> (c, s, b, m, v)
  [relu] r = Relu (n)
  [bn2] n2 = BatchNormalization <epsilon = 0.25> (r, s, b, m, v)
  [head] y = Conv (n2, fc__weight, fc__bias) }}"""

LEFT = f"""{HEAD}
agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y, float[N, 2] z)
<float[2, 2, 1, 1] fc__weight = {{1.0, 2.0, 3.0, 4.0}}, float[2] fc__bias = {{0.5, 1.0}},
 float[2, 2, 1, 1] onnx__Conv_11 = {{1.0, -2.0, 0.33333334, 1.0}},
 float[2] onnx__Conv_12 = {{0.5, 2.0}},
 float[1, 2, 1, 1] slope = {{1.0, 0.6666667}}, float[1, 2, 1, 1] shift = {{0.25, 2.1666667}},
 float[2, 1, 1] s = {{1.0, 2.0}}, float[2, 1, 1] b = {{0.5, -0.5}},
 float[2, 1, 1] m = {{0.25, -4.0}}, float[2, 1, 1] v = {{0.75, 8.75}},
 float epsilon = {{0.25}}, float[2] gamma = {{1.0, 3.0}},
 int64[1] last = {{-1}}, float[2, 1, 1] g = {{1.5, 2.5}}, float[2, 1, 1] h = {{1.0, 0.0}}>
{{ [S_conv_S_Conv] c = Conv (x, onnx__Conv_11, onnx__Conv_12)
  r = Relu (c)
  [bn2_S_batchnorm_S_mul_1] p = Mul (r, slope)
  [bn2_S_batchnorm_S_add_1] n2 = Add (p, shift)
  [head] f = Conv (n2, fc__weight, fc__bias)
  e = Sigmoid (f)
  d = Sub (e, m)
  a = Add (v, epsilon)
  q = Sqrt (a)
  i = Div (d, q)
  k = Mul (i, s)
  [whole] y = Add (k, b)
  t = Tanh (y)
  u = Mul (t, g)
  [plain] o = Add (u, h)
  flat = GlobalAveragePool (o)
  vector = Flatten (flat)
  mean = ReduceMean <axes = [-1]> (vector)
  centred = Sub (vector, mean)
  squared = Mul (centred, centred)
  spread = ReduceMean <axes = [-1]> (squared)
  some = Add (spread, epsilon)
  root = Sqrt (some)
  normal = Div (centred, root)
  [tail] z = Mul (normal, gamma) }}"""


def as_torch_writes(name: str) -> str:
    """Names with dots and colons, which the text form does not know."""
    return name.replace("onnx__", "onnx::").replace("__", ".")


@pytest.fixture
def inspected(onnx_file, monkeypatch, tmp_path):
    """A report on one model against another, under names that are the same everywhere."""
    for name, text in (("kept", KEPT), ("left", LEFT)):
        proto = parsed(text)
        for node in proto.graph.node:
            node.name = node.name.replace("_S_", "/").replace("S_", "/")
            node.input[:] = [as_torch_writes(each) for each in node.input]
        for stored in proto.graph.initializer:
            stored.name = as_torch_writes(stored.name)
        Path(onnx_file(proto)).rename(tmp_path / f"{name}.onnx")
    monkeypatch.chdir(tmp_path)
    return lambda **options: inspect_file("left.onnx", **options)


@pytest.mark.parametrize("width", [80, 120])
def test_the_golden_pages(width, inspected, golden):
    page = render(inspected(against="kept.onnx"), "text", width=width)
    golden(f"remains_{width}.txt", page)
    assert max(map(len, page.splitlines())) <= width


def test_the_golden_json(inspected, golden):
    text = render(inspected(against="kept.onnx"), "json")
    golden("remains.json", text)
    body = json.loads(text)
    assert [each["form"] for each in body["batchnorms"]] == ["affine", "decomposed"]
    assert body["batchnorms"][0]["epsilon"] is None
    assert [each["fate"] for each in body["against"]["traced"]] == ["folded", "arithmetic"]
    assert [each["kind"] for each in body["lookalikes"]] == ["LayerNorm"]
    assert [each["name"] for each in body["affines"]] == ["plain"]
    assert [each["name"] for each in body["folded"]] == ["/conv/Conv"]


def test_without_a_reference_it_says_how_to_prove_it(inspected):
    page = " ".join(render(inspected(), "text").split())
    assert "traces are no proof; --against the model from before" in page
    assert "export again with `bninspect export torch`" in page


ADVICE = [
    ("pytorch 1.13", "`bninspect export torch`, or torch.onnx.export("),
    ("tf2onnx 1.17.0", "`bninspect export keras`; tf2onnx alone"),
    ("somebody 1", "`bninspect export keras` or `bninspect export torch`"),
]


@pytest.mark.parametrize(("producer", "advice"), ADVICE)
def test_advice_fits_the_producer(producer, advice, onnx_file):
    proto = parsed(
        """agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
        <float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, 1.0}>
        { y = Conv (x, w, b) }"""
    )
    proto.producer_name, proto.producer_version = producer.split(" ")
    page = " ".join(render(inspect_file(onnx_file(proto)), "text").split())
    assert "1 of 1 Conv carry biases, as in a net that was folded without a trace" in page
    assert advice in page
