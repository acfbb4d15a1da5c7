"""What the terminal can do, and the ways in which this program writes to it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TextIO

from inspector.errors import UsageError
from inspector.report.words import printable


def width() -> int:
    """Columns of the terminal; 80 where there is none. COLUMNS overrides."""
    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def wants_color(stream: TextIO | None) -> bool:
    """Whether to write colour: on a terminal, unless NO_COLOR (https://no-color.org) is set."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def print_report(text: str) -> None:
    """Write a report to standard output.

    Raises
    ------
    inspector.errors.UsageError
        It cannot be written. A reader that has gone (``| head``) is no error.
    """
    stream = sys.stdout
    if stream is None or stream.closed:
        raise UsageError("standard output is closed", hint="leave it open, or redirect it")
    try:
        _write(_spelt(text, stream), stream)
    except BrokenPipeError:
        pass
    except OSError as error:
        raise UsageError(
            f"the report cannot be written ({(error.strerror or str(error)).lower()})",
            where="standard output",
            hint="redirect it to where there is room",
        ) from error


def _spelt(text: str, stream: TextIO) -> str:
    """`text` with the signs that the stream's encoding lacks written in ASCII."""
    try:
        "→↔…×".encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):  # it takes none of these signs: plain ones do
        for sign, plain in (("→", "->"), ("↔", "<->"), ("…", "..."), ("×", "x")):
            text = text.replace(sign, plain)
    return text


def print_error(message: str) -> None:
    """Write one line to standard error, whatever the message holds."""
    print_aside(f"{printable(message)}\n", label="error:")


def print_aside(text: str, *, label: str = "") -> None:
    """Write to standard error as far as that can be written to: never raises for it."""
    stream = sys.stderr
    if stream is None:
        return
    with suppress(OSError, ValueError):  # there is nowhere left to say so
        if label:
            text = f"\x1b[1;31m{label}\x1b[0m {text}" if wants_color(stream) else f"{label} {text}"
        _write(text, stream)


def empty_streams() -> None:
    """Write what is left in buffers, so that Python finds none on its way out.

    What it cannot write there becomes its exit code of 120
    (https://docs.python.org/3/library/sys.html#sys.exit).
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):  # said already, where it was written to
                _write("", stream)


def _write(text: str, stream: TextIO) -> None:
    """Write all of `text`, waiting for its reader; what cannot be written is let go of.

    Raises
    ------
    OSError
        It cannot be written.
    """
    try:
        with _blocking(stream):
            stream.write(text)
            stream.flush()
    except OSError:
        # The buffer still holds it, and Python flushes once more on its way out
        # (https://docs.python.org/3/library/signal.html#note-on-sigpipe).
        with suppress(OSError, ValueError):  # a stream without a file of its own, as in tests
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        raise


@contextmanager
def _blocking(stream: TextIO) -> Iterator[None]:
    """Let writes wait for the reader, on a pipe that Node or another parent left non-blocking.

    Python's text streams drop what such a pipe has no room for, without an error
    (https://github.com/python/cpython/issues/57531).
    """
    try:
        number = stream.fileno()
        waits = os.get_blocking(number)
    except (OSError, ValueError, AttributeError):  # no file, or Windows before Python 3.12
        yield
        return
    if waits:
        yield
        return
    os.set_blocking(number, True)
    try:
        yield
    finally:
        # Whoever else has this pipe or terminal open finds it as it was.
        with suppress(OSError):  # closed meanwhile: there is nothing to put back
            os.set_blocking(number, False)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A function that shows the name of the stage at work, on a terminal alone."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda stage: None
        return
    from rich.console import Console

    console = Console(stderr=True, no_color=not wants_color(sys.stderr))
    with console.status("starting", spinner="dots") as status:
        yield lambda stage: status.update(f"{printable(stage)} …")


@contextmanager
def counted_progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many of several are done, on a terminal alone."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda done, of: None
        return
    with ExitStack() as shown:
        showing: list[Callable[[int, int], None]] = []

        def show(done: int, of: int) -> None:
            if of < 2:  # a bar of one step tells nothing
                return
            if not showing:
                showing.append(shown.enter_context(_bar(doing)))
            showing[0](done, of)

        yield show


@contextmanager
def _bar(doing: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, no_color=not wants_color(sys.stderr))
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, of: bar.update(task, completed=done, total=of)
