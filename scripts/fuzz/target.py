"""What holds for any bytes whatever: the promise that fuzzing tries to break.

Of a file under 1 MB, `bninspect FILE` and loading every tensor of it
- raise nothing but `InspectorError`, whose message is one printable line,
- report lines that print, and JSON that is JSON,
- take under `SECONDS` and under `MEGABYTES` above what the process held,
- open no file outside the model's folder,
- say the same whether the file is parsed in one piece or walked at wire level.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspector.cli.collector import collect_cycles, leave_cycles
from inspector.errors import InspectorError
from inspector.facts.model import Graph, Model, Node, Tensor
from inspector.flows import inspect_file, summarise_file, summary_table
from inspector.read import open as reader
from inspector.report import render

SECONDS = 2.0
MEGABYTES = 500

DATA = bytes(range(256)) * 16
"""What every input finds in `data.bin` beside it."""


_SUFFIXES = {b"<": ".onnxtxt", b"{": ".json", b"i": ".textproto"}
"""What to call an input by its first byte; anything else is a binary model."""


class FindingError(Exception):
    """A broken promise. `kind` is the same for inputs that break it at the same place."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}\n{detail}".rstrip())
        self.kind = kind


@dataclass(slots=True)
class Outcome:
    """What one input came to: `report` is the JSON, or None where the file was refused."""

    report: str | None = None
    message: str = ""
    loaded: int = 0
    seconds: float = 0.0


class Target:
    """Runs inputs in one folder, beside the data files that they may name."""

    def __init__(self, folder: Path, *, seconds: float = SECONDS) -> None:
        self.folder = folder / "model"
        self._seconds = seconds
        self._path = self.folder / "model.onnx"
        self._inputs = {suffix: self.folder / f"model{suffix}" for suffix in _SUFFIXES.values()}
        self._secret = folder / "outside.bin"
        _furnish(self.folder, self._secret)
        _watch_opens()

    def run(self, data: bytes, *, walk: bool, text: bool = True) -> Outcome:
        """Read `data` as `bninspect` would; `walk` forces the reader of large files.

        Writing the text report takes most of the time on small models: `text` leaves it out.

        Raises
        ------
        FindingError
            One of the promises does not hold.
        """
        # Text forms are known by their extension alone.
        self._path = self._inputs.get(_SUFFIXES.get(data[:1], ""), self.folder / "model.onnx")
        self._path.write_bytes(data)
        leave_cycles()  # as the command line does
        try:
            with _limited_memory(), _reading(walk), _watched(self.folder), _no_warnings():
                return self._judged(text)
        finally:
            collect_cycles()

    def run_both(self, data: bytes) -> tuple[Outcome, Outcome]:
        """Read `data` either way, and hold the two to one answer."""
        whole, walked = self.run(data, walk=False), self.run(data, walk=True)
        both = whole.report, walked.report
        if None not in both and both[0] != both[1]:
            raise FindingError("the two ways of reading disagree", _first_difference(*both))
        return whole, walked

    def _judged(self, text: bool) -> Outcome:
        held = _peak_rss()
        outcome = Outcome()
        try:
            self._inspect(outcome, text)
            if text and outcome.report is not None:
                self._list_layers()
            self._load(outcome)
        except FindingError:
            raise
        except Exception as error:  # whatever is no InspectorError is what is looked for
            raise FindingError(_kind(error), traceback.format_exc(limit=-6)) from error
        # A peak below that of an earlier input goes unseen here; the limit of the address space
        # does not depend on it.
        if _peak_rss() - held > MEGABYTES * 1e6:
            raise FindingError("memory", f"{(_peak_rss() - held) / 1e6:,.0f} MB more than before")
        return outcome

    def _inspect(self, outcome: Outcome, text: bool) -> None:
        start, clock = time.thread_time(), time.perf_counter()
        spent = 0.0  # by the report of the other format: a command writes one
        try:
            fact = inspect_file(self._path)
            inspected = time.thread_time()
            page = render(fact, "text") if text else ""
            self._check_time("inspecting, as text", start)
            spent = time.thread_time() - inspected
            outcome.report = render(fact, "json")
        except InspectorError as error:
            outcome.report = None
            outcome.message = _checked_message(error)
        else:
            _check_text(page)
            json.loads(outcome.report)
        outcome.seconds = time.perf_counter() - clock
        self._check_time("inspecting, as JSON", start + spent)

    def _list_layers(self) -> None:
        """The layer table in every style: whatever opens has one, and its columns add up."""
        start = time.thread_time()
        try:
            summary = summarise_file(self._path)
            tables = [summary_table(summary, style) for style in ("keras", "torch", "onnx")]
        except InspectorError as error:
            _checked_message(error)
            return
        for table in tables:
            _check_text(render(table, "text"))
            if sum(row[-1] for row in table.rows) != table.totals[0][1]:
                raise FindingError("a column does not add up", f"style {table.style}")
        self._check_time("listing layers", start)

    def _load(self, outcome: Outcome) -> None:
        start = time.thread_time()
        try:
            model = reader.open_model(self._path)
        except InspectorError as error:
            _checked_message(error)
            return
        for tensor in tensors(model):
            try:
                model.weights.load(tensor)
            except InspectorError as error:
                _checked_message(error)
            else:
                outcome.loaded += 1
        self._check_time("loading every tensor", start)

    def _check_time(self, what: str, start: float) -> None:
        # Time of this thread, not of the clock: whatever else the machine does is no hang.
        seconds = time.thread_time() - start
        if seconds > self._seconds:
            raise FindingError(
                f"slow: {what}", f"{seconds:.1f} s, and {self._seconds:g} s are allowed"
            )


def tensors(model: Model) -> Iterator[Tensor]:
    """Every tensor of a model, wherever it is stored."""
    yield from _of_graph(model.graph)
    for function in model.functions.values():
        for node in function.nodes:
            yield from _of_node(node)
        for value in function.attributes.values():
            yield from _of_attribute(value)


def _of_graph(graph: Graph) -> Iterator[Tensor]:
    yield from graph.initializers.values()
    for node in graph.nodes:
        yield from _of_node(node)


def _of_node(node: Node) -> Iterator[Tensor]:
    for value in node.attributes.values():
        yield from _of_attribute(value)


def _of_attribute(value: Any) -> Iterator[Tensor]:
    match value:
        case Tensor():
            yield value
        case Graph():
            yield from _of_graph(value)
        case tuple():
            for each in value:
                yield from _of_attribute(each)


# --- the promises


def _checked_message(error: InspectorError) -> str:
    message = str(error)
    if not message.isprintable():
        raise FindingError("an error message that does not print", repr(message))
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            raise FindingError("memory", f"over {MEGABYTES} MB were asked for: {message}")
        cause = cause.__cause__ or cause.__context__
    return message


def _check_text(text: str) -> None:
    for line in text.splitlines():
        if not line.isprintable():
            raise FindingError("a report line that does not print", repr(line))


def _kind(error: Exception) -> str:
    """Type of an exception and the innermost function of the package that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [each for each in frames if f"{os.sep}inspector{os.sep}" in each.filename]
    place = f"{Path(inside[-1].filename).name}:{inside[-1].name}" if inside else "?"
    name = "memory" if isinstance(error, MemoryError) else type(error).__name__
    return f"{name} in {place}"


def _first_difference(left: str, right: str) -> str:
    pairs = zip(left.splitlines(), right.splitlines(), strict=False)
    return next((f"{one}\n{other}" for one, other in pairs if one != other), "one is longer")


# --- the surroundings


def _furnish(folder: Path, secret: Path) -> None:
    """Data files that are there, too short, a folder, a pipe, and a link that leads out."""
    (folder / "folder").mkdir(parents=True, exist_ok=True)
    (folder / "data.bin").write_bytes(DATA)
    (folder / "short.bin").write_bytes(DATA[:3])
    secret.write_bytes(DATA)
    if not (folder / "link.bin").is_symlink():
        (folder / "link.bin").symlink_to(secret)
    if not (folder / "pipe").exists():
        os.mkfifo(folder / "pipe")


@contextlib.contextmanager
def _reading(walk: bool) -> Iterator[None]:
    """Force the reader of large files, where there is one, on a small file."""
    before = {name: getattr(reader, name) for name in _WALKS if hasattr(reader, name)}
    for name in before if walk else ():
        setattr(reader, name, 0)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(reader, name, value)


_WALKS = ("WHOLE", "KEPT_WHOLE")
"""Constants of `inspector.read.open`: bytes up to which a file or a message is read whole."""


@contextlib.contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """End what never ends. Not under libFuzzer, which has a use of its own for this signal."""

    def stop(*_: object) -> None:
        raise FindingError("hang", f"stopped after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    """Let what asks for more than `MEGABYTES` at once fail, whether it would be touched or not."""
    size = _address_space()
    if size is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEGABYTES * 10**6, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int | None:
    """Bytes of address space that this process holds; None where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text("ascii").split()[0]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()


def _peak_rss() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """A warning is a line on the user's screen that the report knows nothing about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        for shown in (RuntimeWarning, UserWarning):
            warnings.simplefilter("always", shown)
        yield
    for each in caught:
        raise FindingError(f"a warning from {Path(each.filename).name}", str(each.message))


_opened_by: list[Path] = []
_strangers: list[str] = []


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[None]:
    """Refuse that files outside `folder` are opened, but for Python's own and its packages'."""
    _opened_by.append(folder)
    _strangers.clear()
    try:
        yield
    finally:
        _opened_by.pop()
    if _strangers:
        raise FindingError("a file outside the model's folder was opened", ", ".join(_strangers))


def _watch_opens() -> None:
    """Install the hook that sees every `open` of this process, once: hooks cannot be removed."""
    if not getattr(sys, "_bninspect_watches", False):
        sys._bninspect_watches = True  # type: ignore[attr-defined]  # a mark that outlives us
        sys.addaudithook(_on_event)


_MODULES = tuple(
    {
        os.path.realpath(each)
        for each in (sys.prefix, sys.base_prefix, Path(__file__).parents[2], *sys.path)
        if each
    }
)


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _opened_by or not isinstance(arguments[0], str | bytes):
        return
    path = os.path.realpath(os.fsdecode(arguments[0]))
    if path.startswith(str(_opened_by[-1]) + os.sep):
        return
    if path.startswith(_MODULES):
        return
    _strangers.append(path)
