"""The one family of errors, and the exit codes that the command line turns them into.

Library code raises; only ``inspector.cli`` prints and exits. Every message answers three
questions: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller; documented in the README and stable."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    UNREADABLE = 3
    UNDECIDED = 4


def escaped(text: str) -> str:
    """`text` in one line that is safe on a terminal: whatever does not print is written out.

    Names come from files that come from anyone: they may hold escape sequences, line breaks, or
    marks that turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


class InspectorError(Exception):
    """Base of every error this package raises on purpose.

    Parameters
    ----------
    what
        What is wrong, as a clause without a full stop.
    where
        The file, node or tensor it concerns; empty where there is none.
    hint
        What the user can do about it; empty where nothing can be done.
    """

    exit_code = ExitCode.UNREADABLE

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        located = f"{self.where}: {self.what}" if self.where else self.what
        return escaped(f"{located}; {self.hint}" if self.hint else located)


class UsageError(InspectorError):
    """The request itself is wrong: an option, a combination, a missing optional package."""

    exit_code = ExitCode.USAGE


class UnreadableError(InspectorError):
    """An input cannot be read, or what it holds is not what it claims to be."""

    exit_code = ExitCode.UNREADABLE


class MissingExtraError(UsageError):
    """A framework is needed that the core installation leaves out."""


class ExportDisagreesError(InspectorError):
    """The exported model and the framework give different outputs; nothing was written."""

    exit_code = ExitCode.FINDINGS


class UndecidedError(InspectorError):
    """The question was understood, and cannot be answered; the message says why."""

    exit_code = ExitCode.UNDECIDED


class RunError(UndecidedError):
    """A runtime refused a model or failed while running it."""


class LoadError(RunError):
    """A runtime refused a model: it runs on no input."""
