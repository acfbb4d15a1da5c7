"""Files checked in several processes: the same answers in the same order, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx_text import FEW, parsed

import inspector.flows.check as flow
import inspector.flows.workers as parallel
from inspector.errors import UnreadableError
from inspector.facts.finding import CheckedFile, CheckSettings, Severity
from inspector.flows.check import check_files, check_one
from inspector.report import render

GOOD = f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
{{ [bn] y = BatchNormalization (x, s, b, m, v) }}"""
BAD = GOOD.replace("1.0, 9.0}>", "1.0, -9.0}>")
NEGATIVE = CheckSettings(select=("BN011",))

DIES = """
import json, os, signal, sys, time
sys.path[:] = json.loads(sys.argv[1])
from inspector.flows import check, worker
plain = check.Checker.check
def deadly(self, path):
    if "killed" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    if "crashed" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "left" in path:
        os._exit(7)
    if "printed" in path:
        os.write(1, b"a library's own words" * 1000)
    if "hangs" in path:
        with open(path + ".pid", "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)
    return plain(self, path)
check.Checker.check = deadly
worker.main()
"""


def deadly_command(module: str) -> list[str]:
    """What starts `DIES` in place of a module."""
    return [sys.executable, "-P", "-c", DIES, json.dumps(sys.path)]


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Write models into the working folder: a bad one for each name with a b in front."""
    monkeypatch.chdir(tmp_path)

    def write(*names: str) -> list[str]:
        for name in names:
            onnx.save(parsed(BAD if name.startswith("b") else GOOD), f"{name}.onnx")
        return [f"{name}.onnx" for name in names]

    return write


def in_processes(
    files: list[str], workers: int = 2, settings: CheckSettings = NEGATIVE, **more: object
) -> tuple[CheckedFile, ...]:
    given = {"baseline": None, "external_dirs": (), "progress": lambda done, of: None, **more}
    return parallel.check_in_processes(files, settings, workers, **given)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_answer_as_this_one_does(workers: int, models: Callable[..., list[str]]) -> None:
    files = [*models("b1", "g1", "b2", "g2", "g3"), "none.onnx"]
    assert in_processes(files, workers) == tuple(check_one(each, NEGATIVE) for each in files)


def test_settings_reach_the_processes(models: Callable[..., list[str]]) -> None:
    from types import MappingProxyType

    files = models("b1", "b2")
    settings = CheckSettings(
        select=("BN011",), severities=MappingProxyType({"BN011": Severity.INFO})
    )
    found = in_processes(files, settings=settings)
    assert [each.severity for file in found for each in file.findings] == [Severity.INFO] * 2


ENDS = {
    "killed": "killed by the system, most likely because memory was out",
    "crashed": "signal SIGSEGV",
    "left": "exit code 7",
}


@POSIX
@pytest.mark.parametrize("name", ENDS)
def test_a_process_that_dies_takes_only_its_file_along(
    name: str, models: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "command", deadly_command)
    files = models("b1", name, "b2", f"{name}2", "b3", "printed")
    found = in_processes(files)
    for path, file in zip(files, found, strict=True):
        if name in path:
            assert file.path == path
            assert f"the process that checked it has ended ({ENDS[name]})" in file.unreadable
            assert not file.findings
        else:
            assert file == check_one(path, NEGATIVE)


def test_processes_that_cannot_start_are_reported(
    models: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = models("b1", "b2")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    found = in_processes(files)
    assert all("no process could be started" in each.unreadable for each in found)
    monkeypatch.undo()


def test_a_defect_of_a_thread_is_raised(
    models: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = models("b1", "b2")

    def defect(self: object, path: str) -> None:
        raise RuntimeError(path)

    monkeypatch.setattr(parallel._Process, "check", defect)
    with pytest.raises(RuntimeError):
        in_processes(files)
    assert not left_over()


def left_over() -> list[threading.Thread]:
    """Threads of a team that have not ended."""
    return [each for each in threading.enumerate() if "_work" in each.name]


@POSIX
def test_what_interrupts_ends_all_processes(
    models: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "command", deadly_command)
    files = models("b1", "b2", "hangs1")

    def interrupt(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_processes(files, 2, progress=interrupt)
    assert not left_over()
    assert_gone(Path("hangs1.onnx.pid"))


INTERRUPTED = f"""
import signal, sys
import inspector.flows.check as flow, inspector.flows.workers as parallel
from inspector.cli.main import run
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
parallel.command = lambda module: [sys.executable, "-P", "-c", {DIES!r}, {json.dumps(sys.path)!r}]
flow._worth = len
run()
"""


@POSIX
def test_ctrl_c_is_silent_and_leaves_nothing_running(models: Callable[..., list[str]]) -> None:
    files = models("b1", "hangs1", "hangs2")
    with subprocess.Popen(  # noqa: S603  # the code is this test's own
        [sys.executable, "-c", INTERRUPTED, "check", "--jobs", "2", *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as started:
        pids = [Path(f"{each}.pid") for each in files if "hangs" in each]
        deadline = time.monotonic() + 60
        while not all(each.exists() and each.read_text() for each in pids):
            assert time.monotonic() < deadline, "the processes were not started"
            assert started.poll() is None, started.communicate()
            time.sleep(0.05)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=60)
    assert (started.returncode, out, err) == (130, b"", b"")
    for each in pids:
        assert_gone(each)


def assert_gone(file: Path) -> None:
    """The process whose number stands in a file is no more."""
    if not file.exists():  # it was ended before it began
        return
    number = int(file.read_text())
    deadline = time.monotonic() + 60
    while True:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.05)


def test_how_many_processes_are_worth_their_start(
    models: Callable[..., list[str]], tmp_path: Path
) -> None:
    [small] = models("b1")
    assert flow._worth([small] * 20) < 2
    assert flow._worth([small] * 400) > 1
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(2**30)  # a hole
    assert flow._worth([str(large)]) == 1
    assert flow._worth([str(large)] * 4) == 4
    assert flow._worth(["none.onnx"]) == 0


def test_many_files_go_to_processes_and_come_back_in_order(
    models: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = models(*(f"{'b' if at % 3 else 'g'}{at}" for at in range(12)))
    alone = check_files(files, NEGATIVE, jobs=1)
    monkeypatch.setattr(flow, "_worth", len)
    asked = []
    many = check_files(files, NEGATIVE, jobs=2, progress=lambda *at: asked.append(at))
    assert many == alone
    assert asked == [(done, 12) for done in range(13)]


def test_a_baseline_that_cannot_be_read_is_an_error_at_once(
    models: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = models("b1", "b2")
    for worth in (len, lambda files: 0):
        monkeypatch.setattr(flow, "_worth", worth)
        with pytest.raises(UnreadableError, match="no such file"):
            check_files(files, NEGATIVE, baseline="none.onnx", jobs=2)


def test_a_defect_on_one_file_is_reported(
    models: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import inspector.recognise

    files = models("b1", "b2", "b3")
    plain = inspector.recognise.find_batchnorms

    def defect(model: object) -> object:
        if "b1" in model.path:
            raise ZeroDivisionError("once")
        if "b3" in model.path:
            raise MemoryError
        return plain(model)

    monkeypatch.setattr(inspector.recognise, "find_batchnorms", defect)
    one, two, three = check_files(files, NEGATIVE).files
    assert one.unreadable.startswith("this is a defect of bninspect (ZeroDivisionError: once)")
    assert two.findings
    assert three.unreadable == "it needs more memory than there is"


def test_the_corpus_does_not_depend_on_processes(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = check_files(corpus / "models", jobs=1)
    monkeypatch.setattr(flow, "_worth", len)
    many = check_files(corpus / "models", jobs=2)
    # As text, in which a NaN is equal to another.
    assert render(many, "json") == render(alone, "json")
    assert len(alone.files) > 200
    assert not [each for each in alone.files if "defect" in each.unreadable]
