"""Layer tables in every style and format: golden files, and columns that add up to the totals."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from onnx_text import FEW, parsed
from rich.cells import cell_len

from inspector.count.tables import STYLES, table
from inspector.errors import UsageError
from inspector.facts.table import Table
from inspector.flows import summarise_file
from inspector.report import render

FORMATS = {
    "80.txt": ("text", {"width": 80}),
    "120.txt": ("text", {"width": 120}),
    "colour.txt": ("text", {"width": 80, "color": True}),
    ".json": ("json", {}),
    ".csv": ("csv", {}),
    ".md": ("markdown", {}),
}

HOSTILE = {
    "evil": "\x1b[31mred\x1b[0m\x1b]8;;x\x07",
    "html": "<img src=x onerror=alert(1)>&amp;",
    "bars": "a|b||c\\|d",
    "formula": "=1+cmd|'calc'!A0",
    "long": "x" * 300,
    "lines": "a\nb\r\u2028c",
}
"""What the plain names of `NET` are replaced with."""

NET = """<ir_version: 8, opset_import: ["": 17], producer_name: "maker">
agraph (float[N, 2, 8, 8] image) => (float[N, 3] y)
<float[4, 2, 3, 3] w, float[4] wb = {1.0, 2.0, 3.0, 4.0},
 float[4] s = {1.0, 2.0, 3.0, 4.0}, float[4] b = {0.5, -0.5, 1.0, 2.0},
 float[4] m = {0.25, -4.0, 1.0, 2.0}, float[4] v = {1.0, 9.0, 1.0, 1.0},
 float[4, 1, 1] odd = {0.5, 0.25, 1.5, 0.75},
 int64[2] shape = {0, -1}, float[144, 3] d, float[3] doubtful>
{ [net_S_evil_S_Conv] c = Conv (image, w, wb)
  [net_S_html_S_Norm] n = BatchNormalization (c, s, b, m, v)
  [net_S_bars_S_Relu] r = Relu (n)
  [net_S_formula_S_Mul] o = Mul (r, odd)
  [net_S_long_S_Reshape] f = Reshape (o, shape)
  [net_S_lines_S_Gemm] y = Gemm (f, d, doubtful) }"""
"""Keras: 76 + 16 + 435 = 527; PyTorch: 8 less; stored: 4 of unknown role and 2 lengths more."""

SUMS = {"keras": 527, "torch": 519, "onnx": 533}


def hostile() -> onnx.ModelProto:
    proto = parsed(NET)
    for node in proto.graph.node:
        scopes = node.name.split("_S_")
        node.name = "/".join(HOSTILE.get(each, each) for each in scopes)
    return proto


@pytest.fixture
def made(onnx_file):
    def make(model, style: str) -> Table:
        return table(replace(summarise_file(onnx_file(model)), path="model.onnx"), style)

    return make


# What a reader of each format gets: the numbers of the last column, and the totals.

Read = tuple[list[int], dict[str, float]]


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def number(text: str) -> float:
    return float(text.replace(",", ""))


def from_text(text: str) -> Read:
    """Rows are as long as the rules around them (torchsummary's are one shorter), parts are not."""
    lines = plain(text).splitlines()
    rules = [at for at, line in enumerate(lines) if re.fullmatch(r"([-=_])\1{9,}", line)]
    start, end = [at for at in rules if lines[at][0] == "="] or rules[:2]
    whole = cell_len(lines[start])
    rows = [each for each in lines[start + 1 : end] if whole - cell_len(each) in (0, 1)]
    column = [int(number(row.rsplit(maxsplit=1)[-1])) for row in rows]
    totals = {}
    for line in lines[end + 1 :]:
        found = re.fullmatch(r"(\w.*?)(?:: |  +)(-?[\d,]+(?:\.\d+)?)", line)
        if found and not line.startswith("note"):
            totals[found[1]] = number(found[2])
    return column, totals


def from_json(text: str) -> Read:
    body = json.loads(text)
    return [list(row.values())[-1] for row in body["rows"]], body["totals"]


def from_csv(text: str) -> Read:
    head, *rows = csv.reader(io.StringIO(text))
    assert {len(row) for row in rows} <= {len(head)}
    return [int(row[-1]) for row in rows], {}


def cells(line: str) -> list[str]:
    """Cells of a Markdown row: what stands between bars that are not escaped."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    return re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]


def from_markdown(text: str) -> Read:
    lines = text.splitlines()
    head, rule, *rows = [line for line in lines if line.startswith("|")]
    assert {len(cells(row)) for row in rows} <= {len(cells(head))} == {rule.count(" --- ") + 1}
    totals = {}
    for line in lines:
        if line.startswith("- ") and not line.startswith("- note: "):
            name, _, value = line[2:].partition(": ")
            totals[name] = number(value) if value[0] != "?" else None
    return [int(number(cells(row)[-1])) for row in rows], totals


READERS = {"text": from_text, "json": from_json, "csv": from_csv, "markdown": from_markdown}


def adds_up(text: str, format: str, made: Table) -> int:
    """The column adds up to the printed total, and the totals to each other."""
    column, totals = READERS[format](text)
    assert len(column) == len(made.rows)
    if format == "csv":  # rows alone: what they add up to is told elsewhere
        totals = dict(made.totals)
    total = totals["Stored elements" if made.style == "onnx" else "Total params"]
    assert sum(column) == total
    if made.style == "onnx":
        assert sum(each for each in totals.values()) - total == total
    else:
        assert totals["Trainable params"] + totals["Non-trainable params"] == total
    return int(total)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("style", STYLES)
def test_the_golden_tables(style, ending, made, golden):
    format, options = FORMATS[ending]
    fact = made(hostile(), style)
    text = render(fact, format, **options)
    joint = "" if ending.startswith(".") else "_"
    golden(f"summary_{style}{joint}{ending}", text)
    assert adds_up(text, format, fact) == SUMS[style]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("style", STYLES)
def test_lines_are_within_the_width_and_harmless(style, width, made):
    fact = made(hostile(), style)
    for line in render(fact, "text", width=width).split("\n"):
        assert cell_len(line) <= width, line
        assert line.isprintable(), line
    if style != "torch":  # torchsummary has no names
        text = render(fact, "text", width=width)
        assert sum(map(len, re.findall(r"(?<!\w)x{8,}", text))) == 300
        assert "\\x1b[31mred" in text


@pytest.mark.parametrize("style", STYLES)
def test_colour_changes_nothing_but_colour(style, made):
    fact = made(hostile(), style)
    colourful = render(fact, "text", color=True)
    assert "\x1b[" in colourful
    assert plain(colourful) == render(fact, "text")


def test_names_are_whole_in_json(made):
    for style, key in (("keras", "layer"), ("torch", "name")):
        text = render(made(hostile(), style), "json")
        names = [row[key] for row in json.loads(text)["rows"]]
        assert names[-6:] == list(HOSTILE.values())
        assert text.isascii()


def test_csv_has_no_formulas_and_one_line_a_row(made):
    text = render(made(hostile(), "keras"), "csv")
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["Layer", "Type", "Output Shape", "Param #"]
    assert text.count("\n") == len(rows) + 1
    names = [row[0] for row in rows]
    assert names[0] == "image"
    assert names[3] == "a|b||c\\|d"
    assert names[4] == "'=1+cmd|'calc'!A0"
    assert rows[1][2] == "?x6x6x4"


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
@pytest.mark.parametrize("style", STYLES)
def test_what_a_spreadsheet_takes_for_a_formula(style, start, made):
    """Names of nodes, inputs, layers, operators, domains and lengths come from anyone."""
    evil = f"{start}1+1"
    proto = parsed(f"agraph (float[L] x) => (float[L] y) {FEW} {{ y = Foo (x) z = Mul (y, s) }}")
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = evil
    proto.graph.input[0].name = evil
    first, second = proto.graph.node
    first.input[0], first.name, first.op_type, first.domain = evil, evil, evil, evil
    second.name = f"{evil}/{evil}/{evil}"
    proto.opset_import.append(helper.make_opsetid(evil, 1))
    for row in csv.reader(io.StringIO(render(made(proto, style), "csv"))):
        for cell in row:
            assert cell[:1] not in ("=", "+", "-", "@") or re.fullmatch(r"-1(x[\d?]+)*", cell), cell


def test_markdown_escapes_marks_and_tags(made):
    text = render(made(hostile(), "keras"), "markdown")
    names = [cells(line)[0].strip() for line in text.splitlines() if line.startswith("|")]
    assert names[4] == r"\<img src=x onerror=alert(1)\>&amp;amp;"
    assert not re.search(r"(?<!\\)<", text)
    assert "\x1b" not in text
    assert r"\\x1b\[31mred" in text


def test_unknown_shapes_and_free_lengths(made):
    text = """agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
    <float[2, 2, 1, 1] w> { c = Conv (x, w) y = Relu (c) }"""
    rows = [row[2] for row in made(text, "keras").rows]
    assert rows == [(None, None, None, 2)] * 3
    assert "(None, None, None, 2)" in render(made(text, "keras"), "text")
    fact = made(text, "torch")
    assert fact.rows[0][2] == (-1, 2, None, None)
    totals = dict(fact.totals)
    assert totals["Input size (MB)"] is None
    assert totals["Params size (MB)"] == 16 / 1024**2
    assert totals["Estimated Total Size (MB)"] is None
    shown = render(fact, "text")
    assert "[-1, 2, ?, ?]" in shown
    assert "Input size (MB): ? (a length of the input is not fixed)" in shown
    assert json.loads(render(fact, "json"))["totals"]["Input size (MB)"] is None


def test_a_value_without_a_shape_is_a_question_mark(made):
    text = "agraph (float[N, 2] x) => (y) { h = Foo (x) y = Bar (h) }"
    for style in STYLES:
        fact = made(text, style)
        assert fact.rows[-1][2] is None
        assert " ? " in render(fact, "text")
        assert render(fact, "csv").splitlines()[-1].endswith(",,0")


def test_shapes_of_one_length_and_of_none(made):
    text = "agraph (float[5] x, float s) => (float[5] y) { y = Mul (x, s) }"
    shown = render(made(text, "keras"), "text")
    assert re.search(r"x \(InputLayer\) +\(5,\)", shown)
    assert re.search(r"s \(InputLayer\) +\(\) ", shown)


EVIL = {
    "escapes": "\x1b[31mred\x1b[0m\x1b]8;;http:x\x07",
    "line breaks": "a\nb\rc\u2028d\x85e",
    "bidi": "safe\u202egnirts\u2066x",
    "markup": "[red]x[red] **bold** <b>b",
    "long": "layer" * 160 + "end",
    "wide": "正規化層" * 60,
    "marks": "e\u0301" * 80,
    "backslash": "\\",
    "nothing": " ",
    "bar": "|",
}


def named(name: str) -> onnx.ModelProto:
    """A model in which everything that has a name has this one."""
    proto = parsed(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
        {{ z = Relu (x) y = BatchNormalization (z, s, b, m, v) }}"""
    )
    proto.producer_name = name
    first, second = proto.graph.node
    first.op_type, first.domain, first.name = name, name, f"net/{name}/{name}"
    second.name = f"net/{name}1/{name}"
    proto.opset_import.append(helper.make_opsetid(name, 1))
    proto.graph.input[0].name = first.input[0] = name
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = name
    loose = helper.make_tensor(f"{name}u", TensorProto.FLOAT, [2], [0, 0])
    proto.graph.initializer.append(loose)
    return proto


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
def test_names_are_harmless_whole_and_within_the_width(name, style, width, made):
    fact = made(named(name), style)
    text = render(fact, "text", width=width)
    for line in text.split("\n"):
        assert line.isprintable(), line
        assert cell_len(line) <= width, line
    adds_up(text, "text", fact)
    written = name if name.isprintable() else name.encode("unicode_escape").decode()
    if style == "keras":
        assert "".join(written.split()) in "".join(text.split())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
def test_names_break_no_format(name, style, made):
    fact = made(named(name), style)
    for format in ("json", "csv", "markdown"):
        text = render(fact, format)
        adds_up(text, format, fact)
        assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("style", STYLES)
def test_long_classes_from_notes_fit(style, width, made):
    """Torch's notes name classes, and a file may come from anyone."""
    proto = parsed(
        "agraph (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w> { y = MatMul (x, w) }"
    )
    proto.producer_name = "pytorch"
    for key, value in (
        ("pkg.torch.onnx.class_hierarchy", f"['a.{'Net' * 60}', 'a.\x1b[31m{'Layer' * 60}', 'op']"),
        ("pkg.torch.onnx.name_scopes", "['', 'layer', 'op']"),
    ):
        entry = proto.graph.node[0].metadata_props.add()
        entry.key, entry.value = key, value
    fact = made(proto, style)
    text = render(fact, "text", width=width)
    for line in text.split("\n"):
        assert line.isprintable(), line
        assert cell_len(line) <= width, line
    adds_up(text, "text", fact)


@pytest.mark.parametrize("style", STYLES)
def test_a_long_path_wraps(style, onnx_file):
    fact = replace(summarise_file(onnx_file(hostile())), path=f"{'deep/' * 60}\x1bm.onnx")
    for line in render(table(fact, style), "text").split("\n"):
        assert line.isprintable()
        assert cell_len(line) <= 80, line


@pytest.mark.parametrize("style", STYLES)
def test_a_graph_without_nodes(style, made):
    fact = made("agraph () => () {}", style)
    for format in ("text", "json", "markdown"):
        text = render(fact, format)
        column, totals = READERS[format](text)
        assert sum(column) == 0
        if format != "text":
            assert next(iter(totals.values())) == 0
    assert render(fact, "csv") == ",".join(fact.columns) + "\n"
    assert "the graph has no nodes" in render(fact, "text")


def test_keras_prints_its_totals_as_keras_does(made):
    text = render(made(hostile(), "keras"), "text")
    assert text.startswith('Model: "model.onnx"\n____')
    assert "\nTotal params: 527\nTrainable params: 519\nNon-trainable params: 8\n" in text


def test_torch_prints_its_totals_as_torchsummary_does(made):
    text = render(made(hostile(), "torch"), "text")
    lines = text.splitlines()
    assert lines[0] == "-" * 64
    assert lines[1] == "        Layer (type)               Output Shape         Param #"
    assert lines[3] == "            Conv2d-1              [-1, 4, 6, 6]              76"
    values = 4 * 36 * 4 + 144 + 3
    for name, size in {
        "Input size": 128,
        "Forward/backward pass size": 2 * values,
        "Params size": 519,
        "Estimated Total Size": 128 + 2 * values + 519,
    }.items():
        assert f"{name} (MB): {size * 4 / 1024**2:.2f}" in lines


def test_the_notes_say_what_the_totals_leave_out(made):
    for style in STYLES:
        text = " ".join(render(made(hostile(), style), "text").split())
        assert "note: 4 elements are of unknown role and in no total" in text
        assert "note: 3 of the learned elements are in doubt" in text
        assert "'doubtful'" in text
        assert "PyTorch would also keep 1 num_batches_tracked" in text


def test_the_style_is_the_models_own_unless_another_is_asked_for(made):
    for producer, style in (("pytorch", "torch"), ("tf2onnx", "keras"), ("maker", "onnx")):
        text = NET.replace("maker", producer)
        assert made(text, "").style == style
        assert made(text, "keras").style == "keras"
    with pytest.raises(UsageError, match="no style 'caffe'"):
        made(NET, "caffe")


def test_many_rows(made):
    nodes = "\n".join(f"h{at + 1} = BatchNormalization (h{at}, s, b, m, v)" for at in range(300))
    text = f"agraph (float[N, 2] h0) => (float[N, 2] h300) {FEW} {{ {nodes} }}"
    for style, rows in (("keras", 301), ("torch", 300), ("onnx", 300)):
        fact = made(text, style)
        assert len(fact.rows) == rows
        adds_up(render(fact, "text"), "text", fact)


def test_millions_are_grouped(made):
    text = """agraph (float[N, 1200] x) => (float[N, 1000] y) <float[1200, 1000] w>
    { y = MatMul (x, w) }"""
    for style in STYLES:
        fact = made(text, style)
        assert "1,200,000" in render(fact, "text")
        assert "| 1,200,000 |" in render(fact, "markdown")
        assert ",1200000\n" in render(fact, "csv")
        adds_up(render(fact, "markdown"), "markdown", fact)


def test_goldens_are_all_in_use():
    """No golden table is left behind by a style or a format that is gone."""
    folder = Path(__file__).resolve().parent.parent / "golden"
    found = {each.name for each in folder.glob("summary_*")}
    endings = [each if each.startswith(".") else f"_{each}" for each in FORMATS]
    assert found == {f"summary_{style}{ending}" for style in STYLES for ending in endings}
