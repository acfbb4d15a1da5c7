"""What the terminal can do, and the three ways in which this program writes to it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    if sys.stdout is None:
        raise UsageError("standard output is closed", hint="leave it open, or redirect it")
    try:
        sys.stdout.write(_spelt(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more on its way out (https://docs.python.org/3/library/signal.html).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise UsageError(
            f"the report cannot be written ({str(error.strerror).lower()})",
            where="standard output",
            hint="redirect it to where there is room",
        ) from error


def _spelt(text: str, stream: TextIO) -> str:
    """`text` with the signs that the stream's encoding lacks written in ASCII."""
    try:
        "→↔…×".encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        for sign, plain in (("→", "->"), ("↔", "<->"), ("…", "..."), ("×", "x")):
            text = text.replace(sign, plain)
    return text


def print_error(message: str) -> None:
    """Write one line to standard error, whatever the message holds."""
    if sys.stderr is None:
        return
    label = "\x1b[1;31merror:\x1b[0m" if wants_color(sys.stderr) else "error:"
    sys.stderr.write(f"{label} {printable(message)}\n")
    sys.stderr.flush()


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
