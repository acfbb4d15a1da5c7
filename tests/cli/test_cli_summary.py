"""`bninspect summary` as its users meet it: exact streams and exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

NET = """<ir_version: 8, opset_import: ["": 17], producer_name: "pytorch">
agraph (float[N, 2, 8, 8] x) => (float[N, 3] y)
<float[4, 2, 3, 3] conv_weight, float[4] s = {1, 2, 3, 4}, float[4] b = {1, 2, 3, 4},
 float[4] m = {1, 2, 3, 4}, float[4] v = {1, 2, 3, 4}, float[144, 3] d>
{ c = Conv (x, conv_weight)
  n = BatchNormalization (c, s, b, m, v)
  f = Flatten (n)
  y = MatMul (f, d) }"""
LEARNED, STATISTICS = 72 + 8 + 432, 8


@pytest.fixture
def net(onnx_file, tmp_path: Path, monkeypatch) -> str:
    """A model in the working folder, by its bare name."""
    onnx_file(NET)
    monkeypatch.chdir(tmp_path)
    return "model.onnx"


def test_keras_style(run, net):
    ran = run("summary", net, "--style", "keras")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith('Model: "model.onnx"\n')
    for name, total in {
        "Total": LEARNED + STATISTICS,
        "Trainable": LEARNED,
        "Non-trainable": STATISTICS,
    }.items():
        assert f"\n{name} params: {total:,}\n" in ran.out
    assert re.search(r"conv2d \(Conv2D\) +\(None, 6, 6, 4\) +72\n", ran.out)
    assert re.search(r"\(BatchNormalization\) +\(None, 6, 6, 4\) +16\n", ran.out)


def test_torch_style(run, net):
    ran = run("summary", net, "--style", "torch")
    assert (ran.code, ran.err) == (0, "")
    assert f"\nTotal params: {LEARNED:,}\n" in ran.out
    assert re.search(r"\n +Conv2d-1 +\[-1, 4, 6, 6\] +72\n", ran.out)
    assert re.search(r"\n +BatchNorm2d-2 +\[-1, 4, 6, 6\] +8\n", ran.out)
    assert "Estimated Total Size (MB): " in ran.out


def test_onnx_style(run, net):
    ran = run("summary", net, "--style", "onnx")
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"\nc +Conv +\[N, 4, 6, 6\] +72\n", ran.out)
    assert re.search(rf"\nStored elements +{LEARNED + STATISTICS}\n", ran.out)


def test_without_a_style_it_is_the_models_own(run, net):
    assert run("summary", net) == run("summary", net, "--style", "torch")


@pytest.mark.parametrize("style", ["keras", "torch", "onnx"])
def test_every_format(style, run, net):
    total = LEARNED + (0 if style == "torch" else STATISTICS)
    ran = run("summary", net, "--style", style, "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    body = json.loads(ran.out)
    assert (body["schema"], body["version"], body["style"]) == ("bninspect.table", 1, style)
    assert sum(list(row.values())[-1] for row in body["rows"]) == total
    ran = run("summary", net, "--style", style, "--format", "csv")
    assert (ran.code, ran.err) == (0, "")
    rows = list(csv.reader(io.StringIO(ran.out)))[1:]
    assert sum(int(row[-1]) for row in rows) == total
    ran = run("summary", net, "--style", style, "--format", "markdown")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("| ")
    assert f": {total:,}\n" in ran.out


def test_options_before_and_after_the_file(run, net):
    whole = run("summary", net, "--style", "keras", "--format", "csv")
    assert run("summary", "--style=keras", "--format=csv", net) == whole


def test_colour_only_where_it_is_asked_for(run, net):
    assert "\x1b" not in run("summary", net).out
    for style in ("keras", "torch", "onnx"):
        colourful = run("summary", net, "--style", style, env={"FORCE_COLOR": "1"})
        assert "\x1b[" in colourful.out
        both = run("summary", net, "--style", style, env={"FORCE_COLOR": "1", "NO_COLOR": "1"})
        assert both == run("summary", net, "--style", style)
        for format in ("json", "csv", "markdown"):
            args = ("summary", net, "--style", style, "--format", format)
            assert run(*args, env={"FORCE_COLOR": "1"}) == run(*args)


@pytest.mark.parametrize("columns", [1, 20, 40, 64, 80, 200])
@pytest.mark.parametrize("style", ["keras", "torch", "onnx"])
def test_narrow_terminals(style, columns, run, net):
    """Nothing is lost on a terminal too narrow for the table."""
    ran = run("summary", net, "--style", style, columns=columns)
    assert (ran.code, ran.err) == (0, "")
    wide = run("summary", net, "--style", style, columns=200)

    def letters(text: str) -> list[str]:
        return sorted("".join(re.sub(r"([-_=])\1+", "", text).split()))

    assert letters(ran.out) == letters(wide.out)
    assert max(map(len, ran.out.splitlines())) <= max(columns, 66)


def test_streams_that_know_ascii_alone(run, net):
    ran = run("summary", net, encoding="ascii")
    assert (ran.code, ran.err) == (0, "")


WRONG = {
    ("summary",): "missing argument 'MODEL'",
    ("summary", "a", "b"): "unexpected",
    ("summary", "model.onnx", "--style", "caffe"): "'caffe'",
    ("summary", "model.onnx", "--format", "yaml"): "'yaml'",
    ("summary", "model.onnx", "--bogus"): "no such option: --bogus",
}


@pytest.mark.parametrize(("args", "message"), WRONG.items(), ids=str)
def test_wrong_usage(args, message, run, net):
    ran = run(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1


BROKEN = {
    "missing": (None, "no such file; check the path"),
    "empty": (b"", "the file is empty; export or download it again"),
    "text": (b"hello\n", "this is a text file, not a binary ONNX model"),
}


@pytest.mark.parametrize("format", ["text", "json", "csv", "markdown"])
@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read(data, message, format, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if data is not None:
        Path("m.onnx").write_bytes(data)
    ran = run("summary", "m.onnx", "--format", format)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith(f"error: m.onnx: {message}")
    assert ran.err.count("\n") == 1


def test_help(run):
    ran = run("summary", "--help")
    assert (ran.code, ran.err) == (0, "")
    for option in ("--style", "--format", "--external-dir", "keras", "markdown"):
        assert option in ran.out


def test_a_graph_without_nodes_and_a_broken_manifest_say_so(run, onnx_file):
    from onnx import helper
    from onnx_text import parsed

    proto = parsed("agraph () => () {}")
    helper.set_model_props(proto, {"bninspect.manifest": "{}"})
    ran = run("summary", onnx_file(proto), "--style", "keras")
    said = " ".join(ran.out.split())
    assert ran.code == 0
    assert "note: the graph has no nodes" in said
    assert "note: the export manifest is not readable" in said
