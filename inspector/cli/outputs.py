"""Where the reports of a check go, and in which formats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from inspector.errors import UsageError

if TYPE_CHECKING:
    from inspector.facts.finding import Check


class CheckFormat(StrEnum):
    """Formats of a check's report."""

    text = "text"
    json = "json"
    sarif = "sarif"
    junit = "junit"
    github = "github"
    markdown = "markdown"


_BY_SUFFIX = {
    ".txt": CheckFormat.text,
    ".json": CheckFormat.json,
    ".sarif": CheckFormat.sarif,
    ".xml": CheckFormat.junit,
    ".md": CheckFormat.markdown,
}


def outputs(given: Sequence[str]) -> dict[Path, CheckFormat]:
    """The files to write, each with its format.

    Parameters
    ----------
    given
        ``FORMAT:FILE``, or a file whose suffix tells.

    Raises
    ------
    inspector.errors.UsageError
        A format cannot be told, a file cannot be written there, or is named twice.
    """
    from inspector.write.save import check_destination

    found: dict[Path, CheckFormat] = {}
    for each in given:
        format, name = _told(each)
        path = check_destination(name)
        if any(_is_same(path, other) for other in found):
            raise UsageError("two reports are to be written there", where=name, hint="name two")
        found[path] = format
    return found


def refuse_inputs(given: Iterable[Path], inputs: Iterable[str]) -> None:
    """Refuse to write a report over a file that is read.

    Raises
    ------
    inspector.errors.UsageError
        See above.
    """
    for path in given:
        if path.exists() and any(_is_same(path, Path(each)) for each in inputs):
            raise UsageError(
                "the report would replace a model", where=str(path), hint="name another file"
            )


def write_outputs(fact: Check, given: dict[Path, CheckFormat]) -> None:
    """Write each report whole or not at all.

    Raises
    ------
    inspector.errors.UnreadableError
        The file system refuses.
    """
    from inspector.report import render
    from inspector.write.save import save

    for path, format in given.items():
        # Names on disk may be no text: what cannot be written so is written out.
        save(render(fact, format, width=_WIDTH).encode("utf-8", "backslashreplace"), path)


_WIDTH = 100
"""Columns of a text report that is no terminal's."""


def _told(text: str) -> tuple[CheckFormat, str]:
    format, colon, name = text.partition(":")
    if colon and format in set(CheckFormat):
        return CheckFormat(format), name
    if colon and f".{format}" in _BY_SUFFIX:
        return _BY_SUFFIX[f".{format}"], name
    # One letter is a drive.
    if colon and len(format) > 1 and format.isalpha():
        raise UsageError(
            f"there is no format {format!r}",
            where=text,
            hint=f"write one of {', '.join(CheckFormat)} in front of the colon",
        )
    suffix = Path(text).suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix], text
    raise UsageError(
        "the name does not tell which format this report is to have",
        where=text or "--output",
        hint=f"write FORMAT:FILE ({', '.join(CheckFormat)}), or end it on {', '.join(_BY_SUFFIX)}",
    )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one of them is not there
        return one.absolute() == other.absolute()
