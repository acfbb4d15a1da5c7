"""The command line as its users meet it: exact streams and exit codes."""

from __future__ import annotations

import gc
import json
import re
from pathlib import Path

import pytest
import typer
from onnx_text import FEW

import inspector.flows
from inspector.cli.usage import usage_error
from inspector.errors import UsageError

NET = f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
{{ [bn] y = BatchNormalization (x, s, b, m, v) }}"""


@pytest.fixture
def net(onnx_file, tmp_path: Path, monkeypatch) -> str:
    """A model in the working folder, by its bare name."""
    onnx_file(NET)
    monkeypatch.chdir(tmp_path)
    return "model.onnx"


def test_a_bare_file_is_inspected(run, net, golden):
    short, whole = run(net), run("inspect", net)
    assert short == whole
    assert (short.code, short.err) == (0, "")
    golden("cli_inspect.txt", short.out)


@pytest.mark.parametrize("order", [("--format", "json", "FILE"), ("FILE", "--format=json")])
def test_options_before_and_after_the_file(order, run, net):
    ran = run(*(net if word == "FILE" else word for word in order))
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["schema"] == "bninspect.inspection"
    assert ran.out.endswith("}\n")


def test_lines_follow_the_terminals_width(run, net):
    name = "x" * 200 + ".onnx"
    Path(net).rename(name)
    for columns in (80, 120):
        assert max(map(len, run(name, columns=columns).out.splitlines())) == columns


def test_colour_only_where_it_is_asked_for(run, net):
    assert "\x1b" not in run(net).out
    assert "\x1b[" in run(net, env={"FORCE_COLOR": "1"}).out
    assert "\x1b" not in run(net, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).out
    assert "\x1b" not in run(net, "--format", "json", env={"FORCE_COLOR": "1"}).out
    assert "\x1b" not in run("none", env={}).err
    assert run("none", env={"FORCE_COLOR": "1"}).err.startswith("\x1b[1;31merror:\x1b[0m none")


def test_streams_that_know_ascii_alone(run, net):
    ran = run(net, encoding="ascii")
    assert ran.code == 0
    assert "input -> BatchNorm -> output" in ran.out


BROKEN = {
    "missing": (None, "no such file; check the path"),
    "empty": (b"", "the file is empty; export or download it again"),
    "text": (
        b"hello\n",
        "this is a text file, not a binary ONNX model; check that it is the model you meant",
    ),
    "truncated": (
        b"\x08\x08\x3a\xff\x01\x0a",
        "cut off: it ends at byte 6 of 260 or more; copy, download or export it again",
    ),
}


@pytest.mark.parametrize("command", [["inspect"], []], ids=["inspect", "bare"])
@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_one_line_for_what_cannot_be_read(data, message, command, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if data is not None:
        Path("m.onnx").write_bytes(data)
    ran = run(*command, "m.onnx")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == f"error: m.onnx: {message}\n"


def test_compare_says_which_of_the_two_cannot_be_read(run, net):
    ran = run("compare", net, "none.onnx")
    assert (ran.code, ran.out, ran.err) == (
        3,
        "",
        "error: none.onnx: no such file; check the path\n",
    )


def test_a_path_with_everything_in_it_is_one_harmless_line(run):
    ran = run("a\x1b[31m\nb\u202e[red].onnx")
    assert ran.code == 3
    assert ran.err == ("error: a\\x1b[31m\\nb\\u202e[red].onnx: no such file; check the path\n")


def test_json_or_not_errors_are_lines_on_stderr(run):
    ran = run("none", "--format", "json")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.count("\n") == 1


INSPECT, COMPARE = "`bninspect inspect --help`", "`bninspect compare --help`"
EXPORT, KERAS = "`bninspect export --help`", "`bninspect export keras --help`"
WRONG = {
    ("--bogus",): ("no such option: --bogus", INSPECT),
    ("inspect", "--bogus", "m.onnx"): ("no such option: --bogus", INSPECT),
    ("m.onnx", "--bogus"): ("no such option: --bogus", INSPECT),
    ("m.onnx", "--\u202ex"): ("no such option: --\\u202ex", INSPECT),
    ("inspect",): ("missing argument 'MODEL'", INSPECT),
    ("--format",): ("option '--format' requires an argument", "`bninspect --help`"),
    ("m.onnx", "--format", "yaml"): (
        "invalid value for '--format': 'yaml' is not one of 'text', 'json'",
        INSPECT,
    ),
    ("compare", "m.onnx"): ("missing argument 'RIGHT'", COMPARE),
    ("compare", "a", "b", "c"): ("got unexpected extra argument(s) (c)", COMPARE),
    ("compare", "a", "b", "--atol", "-1"): (
        "invalid value for '--atol': -1.0 is not in the range x>=0.0",
        COMPARE,
    ),
    ("compare", "a", "b", "--seed", "x"): (
        "invalid value for '--seed': 'x' is not a valid int range",
        COMPARE,
    ),
    ("export", "caffe"): ("no such command 'caffe'", EXPORT),
    ("export", "keras", "x"): ("missing option '--output' / '-o'", KERAS),
    ("a b", "c"): ("got unexpected extra argument(s) (c)", INSPECT),
    ("x", "y", "z"): ("got unexpected extra argument(s) (y z)", INSPECT),
}


@pytest.mark.parametrize(("words", "line"), WRONG.items(), ids=map(" ".join, WRONG))
def test_wrong_usage_is_2_and_one_line(words, line, run):
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    what, command = line
    # Releases of typer differ in these words.
    err = re.sub(r"arguments? \(", "argument(s) (", ran.err).replace("integer range", "int range")
    assert err == f"error: {what}; see {command}\n"


def test_errors_of_typer_that_name_no_command():
    found = usage_error(typer.BadParameter("Two\nlines."))
    assert str(found) == "invalid value: Two\\nlines; see `bninspect --help`"
    assert usage_error(ValueError("Two")) is None


@pytest.mark.parametrize("raised", [KeyboardInterrupt, typer.Abort])
def test_an_interrupt_is_silent(raised, run, net, monkeypatch):
    def interrupted(path: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr(inspector.flows, "inspect_file", interrupted)
    ran = run(net)
    assert (ran.code, ran.out, ran.err) == (130, "", "")


@pytest.mark.parametrize("raised", [EOFError("short"), BrokenPipeError(32, "gone")])
def test_a_flow_that_fails_is_no_terminal_that_has_gone(raised, run, net, monkeypatch):
    def broken(path: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr(inspector.flows, "inspect_file", broken)
    ran = run(net)
    assert (ran.code, ran.out) == (70, "")
    assert ran.err.startswith(f"error: this is a defect of bninspect ({type(raised).__name__}: ")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("comapre", "compare"), ("inspct", "inspect"), ("Export", "export"), ("compar", "compare")],
)
def test_a_mistyped_command_is_named(word, meant, run):
    ran = run(word, "a.onnx", "b.onnx")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        f"error: {word}: neither a command nor a file; did you mean `bninspect {meant}`?\n"
    )


@pytest.mark.parametrize("name", ["compare", "comapre", "export"])
def test_a_file_that_is_called_like_a_command(name, run, net):
    Path(net).rename(name)
    ran = run(f"./{name}")
    assert (ran.code, ran.err) == (0, "")
    assert run("inspect", name).code == 0


def test_a_missing_file_is_no_mistyped_command(run):
    assert run("inspect.onnx").err == "error: inspect.onnx: no such file; check the path\n"


def test_two_files_without_a_command(run, net):
    ran = run(net, net)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "error: 2 files are given, and inspect takes one; "
        "to hold two against each other: bninspect compare LEFT RIGHT\n"
    )


def test_the_value_of_an_option_is_no_second_file(run, net, tmp_path):
    (tmp_path / "data").write_bytes(b"")
    ran = run(net, "--external-dir", tmp_path / "data")
    assert ran.code == 2
    assert "no such folder for external data" in ran.err


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], ["inspect"], ["compare"], ["export"], ["export", "keras"]])
def test_help(flag, command, run):
    ran = run(*command, flag)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(" ".join(["Usage: bninspect", *command]))
    assert "..." not in ran.out.split("\n", 1)[1]
    assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize("words", [[], ["export"]], ids=["", "export"])
def test_a_group_alone_shows_its_help(words, run):
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == run(*words, "--help").out
    assert "Commands:" in ran.err


def test_version(run):
    from inspector import __version__

    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"bninspect {__version__}\n", "")


def test_a_defect_is_one_line_with_a_code_of_its_own(run, net, monkeypatch):
    def broken(path: object, **options: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(inspector.flows, "inspect_file", broken)
    ran = run(net)
    assert (ran.code, ran.out) == (70, "")
    assert ran.err.startswith("error: this is a defect of bninspect (RuntimeError: first\\nsecond)")
    assert ran.err.count("\n") == 1
    with pytest.raises(RuntimeError):
        run(net, env={"BNINSPECT_DEBUG": "1"})


@pytest.mark.parametrize(
    ("flow", "words", "collects"),
    [("inspect_file", [], False), ("compare_files", ["compare", "a.onnx"], True)],
)
def test_cycles_are_collected_where_large_arrays_lie_in_them(
    flow, words, collects, run, net, monkeypatch
):
    seen = []

    def note(*args: object, **options: object) -> None:
        seen.append(gc.isenabled())
        raise UsageError("enough")

    monkeypatch.setattr(inspector.flows, flow, note)
    assert run(*words, net).code == 2
    assert seen == [collects]
    assert gc.isenabled()
