"""What the terminal can do, and the three ways in which this program writes to it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from inspector.report.words import printable


def width() -> int:
    """Columns of the terminal; 80 where there is none. COLUMNS overrides."""
    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def wants_color(stream: TextIO) -> bool:
    """Whether to write colour: on a terminal, unless NO_COLOR (https://no-color.org) is set."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def print_report(text: str) -> None:
    """Write a report to standard output."""
    sys.stdout.write(text)
    sys.stdout.flush()


def print_error(message: str) -> None:
    """Write one line to standard error, whatever the message holds."""
    label = "\x1b[1;31merror:\x1b[0m" if wants_color(sys.stderr) else "error:"
    sys.stderr.write(f"{label} {printable(message)}\n")
    sys.stderr.flush()


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A function that shows the name of the stage at work, on a terminal alone."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda stage: None
        return
    from rich.console import Console

    console = Console(stderr=True, no_color=not wants_color(sys.stderr))
    with console.status("starting", spinner="dots") as status:
        yield lambda stage: status.update(f"{printable(stage)} …")
