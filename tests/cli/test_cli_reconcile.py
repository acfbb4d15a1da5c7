"""`bninspect reconcile` as its users meet it: exact streams and exit codes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

NET = """<ir_version: 8, opset_import: ["": 17], producer_name: "maker">
agraph (float[N, 2, 8, 8] x) => (float[N, 4, 6, 6] y)
<float[4, 2, 3, 3] w, float[4] cb = {CB}, float[4] s = {1, 2, 3, 4}, float[4] b = {1, 2, 3, 4},
 float[4] m = {1, 2, 3, 4}, float[4] v = {1, 2, 3, 4}>
{ [conv] c = Conv (x, w, cb)
  [bn] y = BatchNormalization (c, s, b, m, v) }"""
ZERO, FULL = NET.replace("{CB}", "{0, 0, 0, 0}"), NET.replace("{CB}", "{1, 0, 0, 0}")
NONE = ZERO.replace("float[4] cb = {0, 0, 0, 0}, ", "").replace("(x, w, cb)", "(x, w)")
SMALL = NONE.replace("float[4, 2, 3, 3]", "float[4, 2, 1, 1]").replace("6, 6] y", "8, 8] y")
FLAT = (
    NONE.replace("float[4, 2, 3, 3]", "float[4, 2, 1]")
    .replace("8, 8] x", "8] x")
    .replace("6, 6] y", "8] y")
)
"""A kernel of another size, and one of another rank."""


@pytest.fixture(autouse=True)
def nets(onnx_file, tmp_path: Path, monkeypatch) -> None:
    """Models in the working folder, by their bare names."""
    for name, text in {
        "zero": ZERO,
        "full": FULL,
        "none": NONE,
        "small": SMALL,
        "flat": FLAT,
    }.items():
        onnx_file(text, f"{name}.onnx")
    monkeypatch.chdir(tmp_path)


def test_two_models(run):
    ran = run("reconcile", "zero.onnx", "none.onnx")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "zero.onnx → none.onnx\n"
        "\n"
        "        Keras      PyTorch       stored\n"
        "           92           84           92  zero.onnx\n"
        "           -4           -4           -4  bias of zeros that the left alone has:\n"
        "                                         conv\n"
        "           +0           +0           +0  left unexplained\n"
        "           88           80           88  none.onnx\n"
    )


def test_a_model_and_itself(run):
    ran = run("reconcile", "zero.onnx", "zero.onnx")
    assert (ran.code, ran.err) == (0, "")
    assert "left unexplained" in ran.out
    body = json.loads(run("reconcile", "zero.onnx", "zero.onnx", "--format", "json").out)
    assert body["differences"] == []


def test_what_nothing_explains_is_a_finding(run):
    ran = run("reconcile", "none.onnx", "flat.onnx")
    assert (ran.code, ran.err) == (1, "")
    assert "-64          -64          -64  left unexplained: weight of 'conv'" in ran.out
    for format in ("json", "csv", "markdown"):
        assert run("reconcile", "none.onnx", "flat.onnx", "--format", format).code == 1


def test_a_kernel_of_another_size(run):
    ran = run("reconcile", "none.onnx", "small.onnx")
    assert (ran.code, ran.err) == (0, "")
    assert "-64          -64          -64  layers of another size on either side:" in ran.out


def test_a_total(run):
    ran = run("reconcile", "full.onnx", "--total", 92)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("full.onnx  and a total of 92\n")
    amounts = [int(line.split()[0]) for line in ran.out.splitlines()[2:] if line[:1] == " "
               and line.split()[0].lstrip("+-").isdigit()]  # fmt: skip
    assert sum(amounts[: amounts.index(92)]) == 92


def test_a_total_that_nothing_explains(run):
    ran = run("reconcile", "full.onnx", "--total", 1_000_000)
    assert (ran.code, ran.err) == (1, "")
    assert "+999,908  left unexplained" in ran.out
    assert "    1,000,000  the total asked about" in ran.out


@pytest.mark.parametrize("format", ["text", "json", "csv", "markdown"])
@pytest.mark.parametrize("total", [83, 84, 92, 93, 1_000_000])
def test_formats_agree_on_the_exit_code(total, format, run):
    ran = run("reconcile", "full.onnx", "--total", total, "--format", format)
    assert ran.code == run("reconcile", "full.onnx", "--total", total).code
    assert ran.err == ""


def test_every_format_of_two_models(run):
    args = ("reconcile", "zero.onnx", "none.onnx", "--format")
    body = json.loads(run(*args, "json").out)
    assert (body["schema"], body["version"]) == ("bninspect.reconciliation", 1)
    assert body["differences"][0]["amounts"] == {"keras": -4, "torch": -4, "stored": -4}
    head, *rows = csv.reader(io.StringIO(run(*args, "csv").out))
    assert head == ["Row", "What", "Where", "Keras", "PyTorch", "Stored"]
    assert sum(int(row[3]) for row in rows[:-1]) == int(rows[-1][3]) == 88
    text = run(*args, "markdown").out
    assert "| zero.onnx |  | 92 | 84 | 92 |\n" in text
    assert "| none.onnx |  | 88 | 80 | 88 |\n" in text


def test_every_format_of_a_total(run):
    args = ("reconcile", "full.onnx", "--total", "93", "--format")
    body = json.loads(run(*args, "json").out)
    assert (body["schema"], body["version"]) == ("bninspect.explanation", 1)
    assert sum(each["elements"] for each in body["terms"]) + body["unexplained"] == 93
    assert run(*args, "csv").out.startswith("Row,What,Elements\n")
    assert "- total: 93\n" in run(*args, "markdown").out


WRONG = {
    ("reconcile",): "missing argument 'A'",
    ("reconcile", "zero.onnx"): "one model alone; give either B or --total N",
    ("reconcile", "zero.onnx", "none.onnx", "--total", "5"): "a second model and a total",
    ("reconcile", "zero.onnx", "none.onnx", "full.onnx"): "unexpected",
    ("reconcile", "zero.onnx", "--total", "many"): "'many'",
    ("reconcile", "zero.onnx", "--total", "1.5"): "'1.5' is no number of parameters",
    ("reconcile", "zero.onnx", "--total", "9" * 99): "is no number of parameters",
    ("reconcile", "zero.onnx", "--total", "-5"): "-5",
    ("reconcile", "zero.onnx", "none.onnx", "--format", "yaml"): "'yaml'",
    ("reconcile", "zero.onnx", "none.onnx", "--bogus"): "no such option: --bogus",
}


@pytest.mark.parametrize(("args", "message"), WRONG.items(), ids=str)
def test_wrong_usage(args, message, run):
    ran = run(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_a_total_is_written_as_summaries_print_it(run):
    asked = run("reconcile", "full.onnx", "--total", "1000000")
    assert run("reconcile", "full.onnx", "--total", "1,000,000") == asked
    assert "a total of 1,000,000\n" in asked.out


def test_a_total_of_zero_is_a_number(run):
    ran = run("reconcile", "zero.onnx", "--total", 0)
    assert (ran.code, ran.err) == (1, "")
    assert "a total of 0\n" in ran.out


@pytest.mark.parametrize(
    "args",
    [("none.onnx", "no.onnx"), ("no.onnx", "none.onnx"), ("no.onnx", "--total", "5")],
    ids=["right", "left", "total"],
)
def test_what_cannot_be_read(args, run):
    ran = run("reconcile", *args)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "error: no.onnx: no such file; check the path\n"


def test_a_broken_file_is_named(run):
    Path("broken.onnx").write_bytes(b"hello\n")
    ran = run("reconcile", "zero.onnx", "broken.onnx")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("error: broken.onnx: this is a text file")


def test_colour_only_where_it_is_asked_for(run):
    args = ("reconcile", "zero.onnx", "none.onnx")
    assert "\x1b" not in run(*args).out
    assert "\x1b[" in run(*args, env={"FORCE_COLOR": "1"}).out
    assert run(*args, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}) == run(*args)
    for format in ("json", "csv", "markdown"):
        plain = run(*args, "--format", format)
        assert run(*args, "--format", format, env={"FORCE_COLOR": "1"}) == plain


@pytest.mark.parametrize("columns", [1, 40, 60, 80])
def test_narrow_terminals(columns, run):
    """Amounts stay in their columns, and what they are wraps beside them."""
    ran = run("reconcile", "zero.onnx", "none.onnx", columns=columns)
    assert (ran.code, ran.err) == (0, "")
    wide = run("reconcile", "zero.onnx", "none.onnx", columns=200)
    assert ran.out.split() == wide.out.split()
    assert max(map(len, ran.out.splitlines())) <= max(columns, 61)


def test_streams_that_know_ascii_alone(run):
    ran = run("reconcile", "zero.onnx", "none.onnx", encoding="ascii")
    assert ran.code == 0
    assert ran.out.startswith("zero.onnx -> none.onnx\n")


def test_a_name_of_a_file_with_everything_in_it(run):
    name = "a\x1b[31m|=b.onnx"
    Path("zero.onnx").rename(name)
    for format in ("text", "csv", "markdown", "json"):
        ran = run("reconcile", name, "none.onnx", "--format", format)
        assert ran.code == 0
        assert "\x1b" not in ran.out


def test_help(run):
    ran = run("reconcile", "--help")
    assert (ran.code, ran.err) == (0, "")
    for word in ("--total", "--format", "markdown", "Exits with 1"):
        assert word in ran.out
