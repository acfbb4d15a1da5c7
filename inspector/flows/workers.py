"""Files checked in several processes, each of which may end without taking the others along.

Not `concurrent.futures`: where one of its processes dies, nothing tells which file did that, and
all that wait are lost with it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING

from inspector.errors import UnreadableError
from inspector.flows.discover import size_of
from inspector.flows.messages import from_line
from inspector.flows.opened import Path
from inspector.processes import KILLED, command, how_it_ended

if TYPE_CHECKING:
    from inspector.facts.finding import CheckedFile, CheckSettings


def check_in_processes(
    files: Sequence[str],
    settings: CheckSettings,
    workers: int,
    *,
    baseline: Path | None,
    external_dirs: Sequence[Path],
    progress: Callable[[int, int], None],
) -> tuple[CheckedFile, ...]:
    """What is found in each file, in their order.

    One whose process dies is reported as unreadable, with how it ended. On Ctrl-C or any other
    error all processes are ended.
    """
    asked = {
        "settings": _plain(settings),
        "baseline": None if baseline is None else os.fspath(baseline),
        "external_dirs": [os.fspath(each) for each in external_dirs],
    }
    team = _Team(files, pickle.dumps(asked))
    found: dict[int, CheckedFile] = {}
    try:
        team.start(workers)
        progress(0, len(files))
        while len(found) < len(files):
            at, file = team.done.get()
            if isinstance(file, Exception):
                raise file
            found[at] = file
            progress(len(found), len(files))
    finally:
        team.end()
    return tuple(found[at] for at in range(len(files)))


class _Team:
    """Threads that each keep one process at work, on one file after the other."""

    def __init__(self, files: Sequence[str], asked: bytes) -> None:
        self.done: SimpleQueue[tuple[int, CheckedFile | Exception]] = SimpleQueue()
        self._asked = asked
        # The largest first: the last one to be done is then a small one.
        order = sorted(range(len(files)), key=lambda at: -size_of(files[at]))
        self._waiting = iter([(at, files[at]) for at in order])
        self._lock = threading.Lock()
        self._is_over = False
        self._running: set[_Process] = set()
        self._threads: list[threading.Thread] = []

    def start(self, workers: int) -> None:
        for _ in range(workers):
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """End every process, at work or not."""
        with self._lock:
            self._is_over = True
            for each in self._running:
                each.kill()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        """Have files checked until none waits; start another process where one has died."""
        process: _Process | None = None
        while (each := self._next()) is not None:
            at, path = each
            try:
                process = process or self._started()
                file = process.check(path)
            except UnreadableError as error:
                file = _unreadable(path, str(error))
                self._left(process)
                process = None
            except Exception as error:  # noqa: BLE001  # raised where it is waited for
                self.done.put((at, error))
                break
            self.done.put((at, file))
        self._left(process)

    def _next(self) -> tuple[int, str] | None:
        with self._lock:
            return None if self._is_over else next(self._waiting, None)

    def _started(self) -> _Process:
        with self._lock:
            if self._is_over:
                raise UnreadableError("the check was ended")
            process = _Process(self._asked)
            self._running.add(process)
            return process

    def _left(self, process: _Process | None) -> None:
        """Let go of a process."""
        if process is not None:
            with self._lock:
                self._running.discard(process)
            process.close()


class _Process:
    """A process that checks files."""

    def __init__(self, asked: bytes) -> None:
        loud = bool(os.environ.get("BNINSPECT_DEBUG"))
        try:
            self._process = subprocess.Popen(  # noqa: S603  # this Python, with our own module
                command("inspector.flows.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if loud else subprocess.DEVNULL,
            )
        except OSError as error:
            raise UnreadableError(
                f"no process could be started to check it ({error.strerror or error})",
                hint="check fewer at a time with --jobs 1",
            ) from error
        assert self._process.stdin is not None  # asked for above
        assert self._process.stdout is not None  # asked for above
        self._to: IO[bytes] = self._process.stdin
        self._from: IO[bytes] = self._process.stdout
        self._asked = asked

    def check(self, path: str) -> CheckedFile:
        """What is found in a file.

        Raises
        ------
        inspector.errors.UnreadableError
            The process has died of it.
        """
        try:
            self._to.write(self._asked + pickle.dumps(path))
            self._to.flush()
            self._asked = b""
            return from_line(self._from.readline())
        except (OSError, ValueError):  # nothing came, or half a line
            code = self._process.wait()
            raise UnreadableError(
                f"the process that checked it has ended ({how_it_ended(code)})",
                hint="check it alone, with more memory"
                if -code == KILLED
                else "please report it with the output of BNINSPECT_DEBUG=1",
            ) from None

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._from.close()
        with contextlib.suppress(OSError):  # what it did not take is of no use any more
            self._to.close()


def _unreadable(path: str, why: str) -> CheckedFile:
    from inspector.facts.finding import CheckedFile

    return CheckedFile(path=path, unreadable=why)


def _plain(settings: CheckSettings) -> CheckSettings:
    """The same in types that can be sent: not every mapping can."""
    from dataclasses import replace

    numbers = {code: dict(each) for code, each in settings.thresholds.items()}
    return replace(settings, severities=dict(settings.severities), thresholds=numbers)
