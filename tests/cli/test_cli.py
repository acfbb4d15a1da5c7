"""The command line as its users meet it: exact streams and exit codes."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from onnx_text import FEW

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


@pytest.mark.parametrize(
    "words",
    [
        ["--bogus"],
        ["inspect", "--bogus", "m.onnx"],
        ["m.onnx", "--bogus"],
        ["inspect"],
        ["m.onnx", "--format", "yaml"],
        ["compare", "m.onnx"],
        ["compare", "a", "b", "c"],
        ["compare", "a", "b", "--atol", "-1"],
        ["compare", "a", "b", "--seed", "x"],
        ["export", "caffe"],
        ["export", "keras", "x"],
        ["a b", "c"],
        ["x", "y", "z"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_no_traceback(words, run):
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert "Traceback" not in ran.err


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


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], ["inspect"], ["compare"], ["export"], ["export", "keras"]])
def test_help(flag, command, run):
    ran = run(*command, flag)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(" ".join(["Usage: bninspect", *command]))
    assert "..." not in ran.out.split("\n", 1)[1]
    assert max(map(len, ran.out.splitlines())) <= 80


def test_nothing_at_all_shows_the_help(run):
    ran = run()
    assert ran.code == 2
    assert "Commands:" in ran.out + ran.err


def test_version(run):
    from inspector import __version__

    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"bninspect {__version__}\n", "")


def test_a_defect_is_one_line_with_a_code_of_its_own(run, net, monkeypatch):
    import inspector.flows

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
    import inspector.flows

    seen = []

    def note(*args: object, **options: object) -> None:
        seen.append(gc.isenabled())
        raise UsageError("enough")

    monkeypatch.setattr(inspector.flows, flow, note)
    assert run(*words, net).code == 2
    assert seen == [collects]
    assert gc.isenabled()


def process(shell: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A shell line as a process of its own, for what only a process has."""
    program = f'"{sys.executable}" -c "from inspector.cli import main; main()"'
    return subprocess.run(  # noqa: S603  # the line is this test's own
        ["/bin/bash", "-o", "pipefail", "-c", shell.replace("BNINSPECT", program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": "80", **env},
    )


def test_a_reader_that_has_seen_enough(net):
    ran = process(f"BNINSPECT {net} | head -n 1")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "model.onnx\n", "")
    ran = process(f"BNINSPECT {net} | true")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk(net):
    ran = process(f"BNINSPECT {net} > /dev/full")
    assert ran.returncode == 2
    assert ran.stderr == (
        "error: standard output: the report cannot be written (no space left on device); "
        "redirect it to where there is room\n"
    )


def test_closed_streams(net):
    ran = process(f"BNINSPECT {net} >&-")
    assert (ran.returncode, ran.stderr) == (
        2,
        "error: standard output is closed; leave it open, or redirect it\n",
    )
    assert process(f"BNINSPECT {net} >&- 2>&-").returncode == 2
    assert process("BNINSPECT none 2>&-").returncode == 3
