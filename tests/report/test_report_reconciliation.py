"""Why totals differ, in every format: golden files, and lists that add up as they are written."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import onnx
import pytest
from onnx_text import parsed
from rich.cells import cell_len

from inspector.facts.reconciliation import Amounts, Difference, Explanation, Reconciliation, Term
from inspector.flows import explain_total, reconcile_files
from inspector.report import render

FORMATS = {
    "80.txt": ("text", {"width": 80}),
    "120.txt": ("text", {"width": 120}),
    "colour.txt": ("text", {"width": 80, "color": True}),
    ".json": ("json", {}),
    ".csv": ("csv", {}),
    ".md": ("markdown", {}),
}
LEFT = """<ir_version: 8, opset_import: ["": 17]>
agraph (float[N, 2, 8, 8] x) => (float[N, 3] y)
<float[4, 2, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[4] cb = {1, 2, 3, 4},
 float[4] s = {1.0, 2.0, 3.0, 4.0}, float[4] b = {0.5, -0.5, 1.0, 2.0},
 float[4] m = {0.25, -4.0, 1.0, 2.0}, float[4] v = {1.0, 9.0, 1.0, 1.0},
 int64[2] shape = {0, -1}, float[4, 3] d, float[3] db = {1, 2, 3},
 float[3] slope = {0.1, 0.2, 0.3}>
{ [evil] c = Conv (x, w, cb)
  [long] n = BatchNormalization (c, s, b, m, v)
  g = GlobalAveragePool (n)
  f = Reshape (g, shape)
  [formula] h = Gemm (f, d, db)
  [bars] y = PRelu (h, slope) }"""
RIGHT = """<ir_version: 8, opset_import: ["": 17]>
agraph (float[N, 2, 12] x) => (float[N, 3] y)
<float[4, 2, 9] w = {WEIGHTS}, float[4, 3] d>
{ [html] n = Conv (x, w)
  g = GlobalAveragePool (n)
  f = Flatten (g)
  [formula] y = Gemm (f, d) }""".replace("WEIGHTS", ", ".join(str(each) for each in range(72)))
HOSTILE = {
    "evil": "\x1b[31mred\x1b[0m",
    "html": "<script>alert(1)<b>",
    "bars": "a|b||c\\|d\n`x`",
    "formula": "=1+cmd|'calc'!A0",
    "long": "x" * 300,
}


def hostile(text: str) -> onnx.ModelProto:
    proto = parsed(text)
    for node in proto.graph.node:
        node.name = HOSTILE.get(node.name, node.name)
    return proto


@pytest.fixture
def reconciliation(onnx_file) -> Reconciliation:
    found = reconcile_files(
        onnx_file(hostile(LEFT), "left.onnx"), onnx_file(hostile(RIGHT), "right.onnx")
    )
    return replace(found, left="before/left.onnx", right="after/right.onnx")


@pytest.fixture
def explanation(onnx_file) -> Explanation:
    found = explain_total(onnx_file(hostile(LEFT)), 33)
    return replace(found, path="left.onnx")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


Line = tuple[int, ...]


def from_text(text: str) -> list[Line]:
    """The amounts in front of each line that has any."""
    found = []
    for line in plain(text).splitlines():
        amounts = re.match(r"((?: +[+-]?[\d,]+)+)  \S", line)
        if amounts and line.startswith(" "):
            found.append(tuple(int(each.replace(",", "")) for each in amounts[1].split()))
    return found


def from_csv(text: str) -> list[Line]:
    head, *rows = csv.reader(io.StringIO(text))
    assert {len(row) for row in rows} == {len(head)}
    return [tuple(int(each) for each in row[3:]) for row in rows]


def from_markdown(text: str) -> list[Line]:
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", row)[1:-1] for row in rows]
    assert {len(row) for row in cells} == {6}
    return [tuple(int(each.replace(",", "")) for each in row[3:]) for row in cells]


def from_json(text: str) -> list[Line]:
    body = json.loads(text)
    amounts = [
        body["totals"][0],
        *(each["amounts"] for each in body["differences"]),
        body["unexplained"],
        body["totals"][1],
    ]
    return [(each["keras"], each["torch"], each["stored"]) for each in amounts]


READERS = {"text": from_text, "json": from_json, "csv": from_csv, "markdown": from_markdown}


@pytest.mark.parametrize("ending", FORMATS)
def test_the_golden_reconciliations(ending, reconciliation, golden):
    format, options = FORMATS[ending]
    text = render(reconciliation, format, **options)
    golden(f"reconcile{'' if ending[0] == '.' else '_'}{ending}", text)
    lines = READERS[format](text)
    assert len(lines) == len(reconciliation.differences) + 3
    for column in zip(*lines, strict=True):
        assert sum(column[:-1]) == column[-1]
    assert lines[0][0] == 8 + 4 + 16 + 12 + 3 + 3
    assert lines[-1][0] == 72 + 12


@pytest.mark.parametrize("ending", FORMATS)
def test_the_golden_explanations(ending, explanation, golden):
    format, options = FORMATS[ending]
    text = render(explanation, format, **options)
    golden(f"reconcile_total{'' if ending[0] == '.' else '_'}{ending}", text)
    if format == "text":
        lines = [each for (each,) in from_text(text)]
        at = lines.index(33)
        assert sum(lines[:at]) == 33
        others = text.split("The same number is also")[1:]
        assert len(others) == len(explanation.others)
        assert all(sum(each for (each,) in from_text(other)) == 33 for other in others)
    elif format == "json":
        body = json.loads(text)
        assert (body["schema"], body["total"]) == ("bninspect.explanation", 33)
        assert sum(each["elements"] for each in body["terms"]) + body["unexplained"] == 33
    elif format == "csv":
        rows = list(csv.reader(io.StringIO(text)))[1:]
        assert sum(int(row[-1]) for row in rows) + explanation.unexplained == 33
    else:
        rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
        rows = [row for row in rows if not row.startswith("| ---")]
        amounts = [int(row.rstrip(" |").rpartition("|")[2].replace(",", "")) for row in rows]
        totals = dict(line[2:].split(": ") for line in text.splitlines() if line.startswith("- "))
        assert sum(amounts) == int(totals["total"]) == 33


def test_the_csv_of_an_explanation_holds_what_is_left():
    """What is left unexplained is written wherever the terms are."""
    fact = Explanation(
        path="m.onnx", total=50, counted=Amounts(keras=8, torch=8, stored=8),
        terms=(Term(what="learned", elements=8),), unexplained=42,
    )  # fmt: skip
    rows = list(csv.reader(io.StringIO(render(fact, "csv"))))[1:]
    numbers = [int(row[-1]) for row in rows]
    assert 42 in numbers, "the rest is in no row of the CSV, and it has no totals"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_lines_are_within_the_width_and_harmless(width, reconciliation, explanation):
    for fact in (reconciliation, explanation):
        for line in render(fact, "text", width=width).split("\n"):
            assert line.isprintable(), line
            # Three columns of amounts are 39 wide; what they are wants some room beside them.
            assert cell_len(line) <= max(width, 61), line


def test_colour_changes_nothing_but_colour(reconciliation, explanation):
    for fact in (reconciliation, explanation):
        colourful = render(fact, "text", color=True)
        assert "\x1b[" in colourful
        assert plain(colourful) == render(fact, "text")


def test_the_rest_is_green_where_it_is_nothing_and_red_where_it_is_something(reconciliation):
    none = replace(reconciliation, unexplained=Amounts(), unexplained_where=())
    assert "\x1b[1;32mleft unexplained\x1b[0m" in render(none, "text", color=True)
    rest = replace(reconciliation, unexplained=Amounts(stored=1), unexplained_where=("a\x1bb",))
    text = render(rest, "text", color=True)
    assert "\x1b[1;31mleft unexplained\x1b[0m: a\\x1bb" in text


def test_csv_has_no_formulas_in_texts(reconciliation):
    evil = Difference(what="x", amounts=Amounts(keras=-1), where=("=1+1", "y"))
    fact = replace(reconciliation, left="=1+1.onnx", differences=(evil,), unexplained_where=("@a",))
    for row in csv.reader(io.StringIO(render(fact, "csv"))):
        for cell in row:
            assert cell[:1] not in ("=", "+", "@")
            assert cell[:1] != "-" or cell[1:].isdigit()


def test_markdown_has_no_tags_and_no_marks(reconciliation):
    text = render(reconciliation, "markdown")
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)[<`]", text)
    assert r"a\|b" in text


def test_all_names_are_in_the_table_and_some_in_the_text(reconciliation):
    names = tuple(f"layer{at}" for at in range(9))
    many = Difference(what="causes", amounts=Amounts(keras=1), where=names)
    fact = replace(reconciliation, differences=(many,))
    assert all(name in render(fact, "csv") for name in names)
    assert all(name in render(fact, "json") for name in names)
    text = " ".join(render(fact, "text").split())
    assert "causes: layer0, layer1, layer2, layer3 and 5 more" in text


def test_names_in_json_are_whole(reconciliation):
    text = render(reconciliation, "json")
    assert text.isascii()
    body = json.loads(text)
    assert (body["schema"], body["version"]) == ("bninspect.reconciliation", 1)
    named = {name for each in body["differences"] for name in each["where"]}
    assert {HOSTILE["long"], HOSTILE["bars"]} <= named


def test_large_amounts_stay_in_their_columns():
    amounts = Amounts(keras=-1_234_567_890, torch=1_234_567_890, stored=70_000_000_000)
    fact = Reconciliation(
        left="a", right="b", totals=(Amounts(), amounts),
        differences=(Difference(what="c", amounts=amounts),), unexplained=Amounts(),
    )  # fmt: skip
    rows = from_text(render(fact, "text"))
    expected = (amounts.keras, amounts.torch, amounts.stored)
    assert rows == [(0, 0, 0), expected, (0, 0, 0), expected]
