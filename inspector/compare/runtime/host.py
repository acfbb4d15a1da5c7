"""Models that run in a process of their own, so that what they do to it is not done to ours."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO

from inspector.compare.runtime.frames import Arrays, Header, receive, send
from inspector.compare.runtime.run import CPU, Array, Feeds, InParts
from inspector.compare.runtime.started import Started
from inspector.errors import InspectorError, LoadError, RunError, UsageError, escaped
from inspector.facts.patch import Runnable
from inspector.facts.request import TIMEOUT
from inspector.processes import KILLED, how_it_ended

_LAST_WORDS = 300
"""Characters that a crashing runtime has written which are shown."""


class HostGoneError(RunError):
    """The process in which models run has ended or was ended; nothing runs in it any more."""


class Host:
    """A child process in which ONNX Runtime loads and runs models.

    Parameters
    ----------
    timeout
        Seconds that everything that runs in it may take together.
    memory
        Bytes that models and their runs may take; None for what the machine has free. Linux
        enforces it, other systems do not.
    providers
        ONNX Runtime's execution providers, in order of preference.
    started
        The process, where it runs already, with its memory limited as it is to be.

    A context manager: on leaving, the process is ended, whatever it does.
    """

    def __init__(
        self,
        *,
        timeout: float = TIMEOUT,
        memory: int | None = None,
        providers: Sequence[str] = (CPU,),
        started: Started | None = None,
    ) -> None:
        self._timeout = timeout
        self._providers = tuple(providers)
        self._ends = time.monotonic() + timeout
        self._started = started or Started(memory)
        self._words = self._started.words
        self._loading: deque[HostedRunner] = deque()
        self._ahead: list[tuple[Path, str, bool, HostedRunner]] = []
        self._dropped: deque[int] = deque()
        self._gone: HostGoneError | None = None
        self._made = 0
        self._process = self._started.process
        assert self._process.stdin is not None  # asked for above
        assert self._process.stdout is not None  # asked for above
        self._to: IO[bytes] = self._process.stdin
        self._from: IO[bytes] = self._process.stdout
        # A read of a pipe knows no time limit on every system; a process can be ended on all.
        self._watch = threading.Timer(timeout, self._process.kill)
        self._watch.daemon = True
        self._watch.start()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *error: object) -> None:
        self._watch.cancel()
        self._started.__exit__(*error)
        self._gone = self._gone or HostGoneError("the comparison is over")

    @property
    def process(self) -> int:
        """The number of the process in which models run."""
        return self._process.pid

    @property
    def seconds_left(self) -> float:
        return self._ends - time.monotonic()

    def load(
        self,
        source: Path | Runnable,
        *,
        name: str,
        optimise: bool = True,
        instead: Mapping[str, Array] = MappingProxyType({}),
    ) -> HostedRunner:
        """A model to run; it is loaded while the caller goes on.

        What goes wrong in loading it is raised at its first run. Parameters as those of
        `inspector.compare.runtime.run.Runner`.
        """
        for at, (*asked, ahead) in enumerate(self._ahead):
            if not instead and asked == [source, name, optimise]:
                del self._ahead[at]
                return ahead
        return self._begun(source, name=name, optimise=optimise, instead=instead)

    def load_ahead(self, source: Path, *, name: str, optimise: bool) -> None:
        """Begin to load what `load` will be asked for, while the caller makes sure of that."""
        runner = self._begun(source, name=name, optimise=optimise)
        self._ahead.append((source, name, optimise, runner))

    def forget_ahead(self) -> None:
        """Let go of what was loaded ahead and not asked for."""
        self._ahead.clear()

    def _begun(
        self,
        source: Path | Runnable,
        *,
        name: str,
        optimise: bool,
        instead: Mapping[str, Array] = MappingProxyType({}),
    ) -> HostedRunner:
        self._made += 1
        runner = HostedRunner(self, self._made, name)
        is_path = isinstance(source, Path)
        data = os.fsencode(source) if isinstance(source, Path) else source.data
        self._send(
            {
                "do": "load",
                "id": self._made,
                "name": name,
                "optimise": optimise,
                "providers": self._providers,
                "is_path": is_path,
                "folder": "" if isinstance(source, Path) else source.folder,
                "evaluated": not isinstance(source, Path) and source.evaluated,
            },
            instead,
            data,
            name,
        )
        self._loading.append(runner)
        return runner

    def run(self, runner: HostedRunner, number: int, feeds: Feeds) -> dict[str, Array]:
        """One run of a loaded model; see `HostedRunner.run`."""
        while self._loading:
            self._loaded(self._loading.popleft())
        if runner.failure is not None:
            # Its last traceback would keep all that was to be fed.
            raise runner.failure.with_traceback(None)
        self._send({"do": "run", "id": number}, feeds, b"", runner.name)
        header, arrays = self._receive(runner.name, "while running it")
        if "error" in header:
            raise RunError(header["error"], where=runner.name)
        return arrays

    def drop(self, number: int) -> None:
        """Let go of a loaded model, before the next message.

        Not at once: Python may call this in the middle of one.
        """
        self._dropped.append(number)

    def _loaded(self, runner: HostedRunner) -> None:
        """Wait for a model to be loaded."""
        header, _ = self._receive(runner.name, "while loading it")
        if "error" in header:
            runner.failure = LoadError(header["error"], where=runner.name)
        elif "usage" in header:
            runner.failure = UsageError(header["usage"], hint=header["hint"])

    def _send(self, header: Header, arrays: Arrays, data: bytes, name: str) -> None:
        if self._gone is not None:
            raise self._gone.with_traceback(None)
        try:
            while self._dropped:
                send(self._to, {"do": "drop", "id": self._dropped.popleft()}, {})
            send(self._to, header, arrays, data)
        except OSError:
            # The one that it was at when it ended.
            first = self._loading[0].name if self._loading else name
            raise self._ended(first, "while loading it") from None

    def _receive(self, name: str, when: str) -> tuple[Header, dict[str, Array]]:
        if self._gone is not None:
            raise self._gone.with_traceback(None)
        try:
            header, arrays, _ = receive(self._from)
        except OSError:
            raise self._ended(name, when) from None
        return header, arrays

    def _ended(self, name: str, when: str) -> HostGoneError:
        code = self._process.wait()
        if self.seconds_left <= 0:
            self._gone = HostGoneError(
                f"ONNX Runtime was not done within {self._timeout:g} s",
                where=name,
                hint="give it more time with --timeout",
            )
            return self._gone
        self._gone = HostGoneError(
            f"ONNX Runtime ended {when} ({how_it_ended(code)}){self._last_words()}",
            where=name,
            hint="give it more memory, or a smaller model" if -code == KILLED else "",
        )
        return self._gone

    def _last_words(self) -> str:
        self._words.seek(0)
        written = self._words.read().decode("utf-8", "replace").split("\n")
        lines = [each.strip() for each in written if each.strip()]
        return f": {escaped(lines[-1])[:_LAST_WORDS]}" if lines else ""


class HostedRunner(InParts):
    """A model loaded in a `Host`."""

    def __init__(self, host: Host, number: int, name: str) -> None:
        self.name = name
        self.failure: InspectorError | None = None
        self._host = host
        self._number = number

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        return self._host.run(self, self._number, feeds)

    def __del__(self) -> None:
        self._host.drop(self._number)
