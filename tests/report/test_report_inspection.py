"""The report of one model: golden files, and what holds for any of them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from onnx_text import FEW, parsed
from rich.cells import cell_len

from inspector.flows import inspect_file
from inspector.report import render

TABLE = 80
"""Columns that the table of ranges takes, however narrow the terminal is."""

IN_TABLE = re.compile(r" (min|max) |(slope|statistics)$|^  (Keras|PyTorch|ONNX) ")

EVIL = {
    "escapes": "\x1b[31mred\x1b[0m\x1b]8;;http://x\x07",
    "line breaks": "a\nb\rc\u2028d\x85e",
    "bidi": "safe\u202egnirts\u2066x",
    "markup": "[red]x[/red] [link=file:///etc]y[/link] :smile:",
    "long": "layer/" * 160 + "end",
    "wide": "正規化層" * 60,
    "spaces": "a  b   c",
    "nothing but a backslash": "\\",
    "surrogate-like": "\\udcff",
}


def norm_named(name: str):
    proto = parsed(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
        {{ y = BatchNormalization (x, s, b, m, nowhere) }}"""
    )
    proto.producer_name = name
    proto.graph.initializer[0].name = name
    node = proto.graph.node[0]
    node.name = name
    node.input[:] = ["x", name, "b", "m", f"{name}v"]
    proto.graph.node.insert(0, helper.make_node(name, ["x"], [f"{name}v"], domain=name))
    proto.opset_import.append(helper.make_opsetid(name, 1))
    proto.graph.initializer.append(helper.make_tensor(f"{name}u", TensorProto.FLOAT, [2], [0, 0]))
    return proto


SEVERAL = """<ir_version: 8, opset_import: ["": 17, "com.example": 1],
 producer_name: "maker", producer_version: "1.2">
agraph (float[N, 2, H, W] x, float[2] fed, bool k) => (float[N, 2, H, W] y)
<float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}, float[2] cb = {0.0, 0.0},
 float[2] s = {1.0, -2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -123456.0},
 float[2] v = {1.0, -9.0}, float[3] v3 = {1.0, 1.0, 1.0}, float[2] a = {1.0, 1.0},
 int64[2] shape = {0, -1}>
{ [conv] c = Conv (x, w, cb)
  [bn] n = BatchNormalization <epsilon = 0.001, momentum = 0.15> (c, s, b, m, v)
  [precise] p = BatchNormalization <epsilon = 1.0000001e-5, momentum = 0.9997> (n, s, b, m, a)
  [training] t = BatchNormalization <training_mode = 1, momentum = 0.99999994> (p, s, b, m, v)
  e = Exp (a)
  [partly] q = BatchNormalization (t, fed, b, e, v)
  [lengths] l = BatchNormalization (q, s, b, m, v3)
  h = Mul (l, a)
  y = If (k) <then_branch = yes () => (float[N, 2, H, W] z)
                { [inner] z = BatchNormalization (h, s, b, m, a) },
              else_branch = no () => (float[N, 2, H, W] z2) { z2 = Identity (h) }> }"""


@pytest.fixture
def report(onnx_file):
    def write(model, format: str = "text", **options: object) -> str:
        from dataclasses import replace

        fact = replace(inspect_file(onnx_file(model)), path="model.onnx")
        return render(fact, format, **options)

    return write


@pytest.mark.parametrize("width", [80, 120])
def test_the_golden_pages(width, report, golden):
    text = report(SEVERAL, width=width)
    golden(f"several_{width}.txt", text)
    adds_up(text)


def test_the_golden_json(report, golden):
    golden("several.json", report(SEVERAL, "json"))


def test_the_golden_page_in_colour(report, golden):
    golden("several_colour.txt", report(SEVERAL, color=True))


def test_colour_changes_nothing_but_colour(report):
    colourful = report(SEVERAL, color=True)
    assert "\x1b[" in colourful
    assert re.sub(r"\x1b\[[\d;]*m", "", colourful) == report(SEVERAL)


def adds_up(text: str) -> None:
    """Keras' total is the sum of its columns, and the sum that the page says it is."""
    row = re.search(r"Keras +([\d,]+) +([\d,]+) +([\d,]+)", text)
    total, learned, statistics = (int(part.replace(",", "")) for part in row.groups())
    assert total == learned + statistics
    said = re.search(r"([\d,]+) \(Keras\) = ([\d,]+) \(PyTorch\) \+ ([\d,]+)", text)
    assert (said is not None) == (statistics > 0)
    if said is not None:
        numbers = [int(part.replace(",", "")) for part in said.groups()]
        assert numbers == [total, learned, statistics]


def test_columns_stand_under_their_heads(report):
    lines = report(SEVERAL).splitlines()
    head = next(line for line in lines if line.rstrip().endswith("slope"))
    ends = [match.end() for match in re.finditer(r"\S+", head[35:])]
    rows = [line for line in lines if re.search(r" (min|max) ", line)]
    assert len(rows) == 12
    for row in rows:
        assert [match.end() for match in re.finditer(r"\S+", row[35:])] == ends, row


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
def test_names_are_harmless_whole_and_within_the_width(name, width, report):
    text = report(norm_named(name), width=width)
    lines = text.split("\n")
    for line in lines:
        assert line.isprintable(), line
        assert cell_len(line) <= (max(width, TABLE) if IN_TABLE.search(line) else width), line
    written = name if name.isprintable() else name.encode("unicode_escape").decode()
    joined = "".join(text.split())
    assert "".join(written.split()) in joined


def test_the_middle_of_a_name_without_end_is_left_out(report):
    text = report(norm_named("begin/" + "x" * 500_000 + "/end"))
    assert len(text) < 10_000
    joined = "".join(text.split())
    assert "begin/xxx" in joined
    assert "…(500,010characters)…" in joined
    assert "xxx/end" in joined


@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
def test_names_in_json_are_whole(name, report):
    text = report(norm_named(name), "json")
    assert text.isascii()
    (norm,) = json.loads(text)["batchnorms"]
    assert norm["name"] == name
    assert norm["parameters"]["scale"]["value"] == name
    assert all(line.isprintable() for line in text.splitlines())


def strict(text: str):
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_has_a_schema_a_version_and_no_nan(report):
    proto = parsed(SEVERAL)
    for tensor in proto.graph.initializer:
        if tensor.name == "m":
            tensor.CopyFrom(helper.make_tensor("m", 1, [2], [math.nan, math.inf]))
    body = strict(report(proto, "json"))
    assert (body["schema"], body["version"]) == ("bninspect.inspection", 1)
    first = body["batchnorms"][0]
    assert first["ranges"]["mean"] == {"min": "nan", "max": "nan", "non_finite": 2}
    assert first["momentum"] == {"onnx": 0.15, "keras": 0.15, "torch": 0.85, "stated": True}
    assert first["epsilon"] == 0.001
    assert "mean: 2 values NaN or infinite" in report(proto)
    totals = body["parameters"]
    assert totals["keras"]["total"] == totals["learned"] + totals["statistics"]
    assert sum(each["elements"] for each in totals["tensors"]) == totals["onnx"]["elements"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3.4e38, -1e-45])
def test_attributes_beyond_sense(value, report):
    proto = parsed(SEVERAL)
    for attribute in proto.graph.node[1].attribute:
        attribute.f = value
    strict(report(proto, "json"))
    for line in report(proto).splitlines():
        assert cell_len(line) <= TABLE, line


def test_no_norms_and_no_nodes(report, golden):
    golden("empty.txt", report("agraph () => () {}"))
    assert strict(report("agraph () => () {}", "json"))["batchnorms"] == []


def test_many_norms(report):
    nodes = "\n".join(f"h{at + 1} = BatchNormalization (h{at}, s, b, m, v)" for at in range(300))
    text = report(f"agraph (float[N, 2] h0) => (float[N, 2] h300) {FEW} {{ {nodes} }}")
    assert "300 layers: 300 native" in text
    assert text.count(" ONNX  min ") == 300
    adds_up(text)


def test_reports_of_the_corpus_fit(corpus: Path, corpus_rows):
    for row in corpus_rows:
        if row["load"] == "ok" and int(row["bn_count"]):
            fact = inspect_file(corpus / row["file"])
            strict(render(fact, "json"))
            for width in (80, 120):
                text = render(fact, "text", width=width)
                assert max(map(cell_len, text.splitlines())) <= width, row["file"]
                adds_up(text)
                assert "�" not in text


def test_unknown_formats_are_refused(report):
    with pytest.raises(ValueError, match="not one of"):
        report(SEVERAL, "yaml")
