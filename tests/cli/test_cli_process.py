"""What only a process has: pipes, closed and full streams, signals."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from onnx_text import FEW

NET = f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
{{ [bn] y = BatchNormalization (x, s, b, m, v) }}"""
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
NO_SPACE = (
    "error: standard output: the report cannot be written (no space left on device); "
    "redirect it to where there is room\n"
)


@pytest.fixture
def net(onnx_file, tmp_path: Path, monkeypatch) -> str:
    """A model in the working folder, by its bare name."""
    onnx_file(NET)
    monkeypatch.chdir(tmp_path)
    return "model.onnx"


def process(shell: str, program: str = "-m inspector") -> subprocess.CompletedProcess[str]:
    """A shell line as a process of its own, for what only a process has."""
    line = shell.replace("BNINSPECT", f'"{sys.executable}" {program}')
    return subprocess.run(  # noqa: S603  # the line is this test's own
        ["/bin/bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": "80", "PYTHONUNBUFFERED": ""},
    )


def test_a_reader_that_has_seen_enough(net):
    ran = process(f"BNINSPECT {net} | head -n 1")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "model.onnx\n", "")
    ran = process(f"BNINSPECT {net} | true")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_reader_that_has_seen_none_of_the_help():
    ran = process("BNINSPECT --help | true")
    assert (ran.returncode, ran.stderr) == (0, "")


@FULL
@pytest.mark.parametrize("words", ["model.onnx", "--help", "--version"])
def test_a_full_disk(words, net):
    ran = process(f"BNINSPECT {words} > /dev/full")
    assert (ran.returncode, ran.stderr) == (2, NO_SPACE)


@FULL
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("none 2> /dev/full", 3),
        ("none 2>&1 | true", 3),
        ("compare none none 2> /dev/full", 3),
        ("model.onnx --foo 2> /dev/full", 2),
        ("2> /dev/full", 2),
        ("model.onnx > /dev/full 2>&1", 2),
    ],
)
def test_an_error_that_cannot_be_said_is_in_the_exit_code(line, code, net):
    ran = process(f"BNINSPECT {line}")
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", "")


def test_closed_streams(net):
    ran = process(f"BNINSPECT {net} >&-")
    assert (ran.returncode, ran.stderr) == (
        2,
        "error: standard output is closed; leave it open, or redirect it\n",
    )
    assert process(f"BNINSPECT {net} >&- 2>&-").returncode == 2
    for words, code in {"none": 3, "--foo": 2, "": 2}.items():
        ran = process(f"BNINSPECT {words} 2>&-")
        assert (ran.returncode, ran.stdout) == (code, "")


LONG = """
import inspector.flows, inspector.report, sys
from inspector.cli.main import run
inspector.flows.inspect_file = lambda *a, **k: None
inspector.report.render = lambda *a, **k: "x" * 999_999 + chr(10)
run()
"""


def test_a_pipe_that_does_not_wait_gets_all_of_the_report(tmp_path: Path):
    read, write = os.pipe()
    os.set_blocking(write, False)
    with subprocess.Popen(  # noqa: S603  # the code is this test's own
        [sys.executable, "-c", LONG, "m.onnx"], stdout=write, stderr=subprocess.PIPE
    ) as started:
        assert started.stderr is not None
        time.sleep(0.5)  # the pipe is full before anything is read
        os.close(write)
        with open(read, "rb") as pipe:
            held = len(pipe.read())
        assert (started.wait(60), started.stderr.read()) == (0, b"")
    assert held == 1_000_000


LEFT_BEHIND = """
import inspector.cli.app, sys
from inspector.cli.main import run
inspector.cli.app.wants_color = lambda stream: sys.stdout.write("a module's own words") and False
inspector.cli.app.print_report = lambda text: None
run()
"""


@FULL
def test_what_is_left_in_the_buffer_is_lost_with_an_error(net):
    Path("left.py").write_text(LEFT_BEHIND)
    ran = process(f"BNINSPECT {net} > /dev/full", program="left.py")
    assert (ran.returncode, ran.stderr) == (2, NO_SPACE)
    ran = process(f"BNINSPECT {net} | true", program="left.py")
    assert (ran.returncode, ran.stderr) == (0, "")


INTERRUPTED = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupts(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
sys.meta_path.insert(0, Interrupts())
from inspector.cli.main import run
run()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
@pytest.mark.parametrize("module", ["typer", "inspector.cli.terminal", "inspector.flows"])
def test_an_interrupt_while_modules_load_is_silent(module, net):
    ran = subprocess.run(  # noqa: S603  # the code is this test's own
        [sys.executable, "-c", INTERRUPTED.replace("MODULE", repr(module)), net],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, b"", b"")
