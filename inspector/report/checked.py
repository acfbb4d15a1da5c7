"""What the machine-readable reports of a check share: paths, titles and sentences."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath
from urllib.parse import quote

from inspector.facts.finding import Check, CheckedFile, Finding, Severity
from inspector.report.words import many, printable

WORST_FIRST = (Severity.ERROR, Severity.WARNING, Severity.INFO)


def relative(path: str) -> str | None:
    """A path from the working folder on, with ``/`` between; None where it lies outside."""
    plain = os.path.normpath(path)
    if os.path.isabs(plain) or PurePath(plain).parts[:1] == (os.pardir,):
        folder = os.getcwd()
        begin = os.path.join(folder, "")
        plain = os.path.normpath(os.path.join(folder, plain))
        if not plain.startswith(begin):
            return None
        plain = plain[len(begin) :]
    return plain.replace(os.sep, "/")


def shown(path: str) -> str:
    """A path as reports show it: from the working folder on, or else as it was given."""
    inside = relative(path)
    return printable(path if inside is None else inside)


def uri(path: str) -> str:
    """A path as a URI (RFC 3986): relative to the working folder, or ``file:`` outside of it."""
    inside = relative(path)
    if inside is not None:
        return quote(_stored(inside))
    whole = PurePath(os.path.normpath(os.path.join(os.getcwd(), path)))
    name = _stored(whole.as_posix())
    # Two slashes begin a server's name on Windows alone.
    if whole.drive.startswith("\\\\"):
        return f"file:{quote(name)}"
    return f"file:///{quote(name.lstrip(b'/'), safe='/:')}"


def _stored(path: str) -> bytes:
    """The bytes of a path on disk; `os.fsdecode` makes surrogates of those that are no text."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogatepass")


def titles(check: Check) -> dict[str, str]:
    """Code and name of each rule that ran, by code."""
    return {rule.code: f"{rule.code} {rule.name}" for rule in check.rules}


def sentences(finding: Finding) -> str:
    """What was found and what to do about it, in one line."""
    message = printable(finding.message).rstrip(". ")
    remedy = printable(finding.remedy).rstrip(". ")
    return f"{message}. What to do: {remedy}." if remedy else f"{message}."


def fails(finding: Finding, check: Check) -> bool:
    """Whether it is severe enough to make the check fail."""
    return check.fail_on is not None and finding.severity.rank >= check.fail_on.rank


def counted(findings: Iterable[Finding], *, zeros: bool = False) -> str:
    """How many findings are of each severity, in words; `zeros` names those too that none is of."""
    found = Counter(each.severity for each in findings)
    words = [
        # The plural of "info" is itself.
        many(found[each], each, each if each is Severity.INFO else f"{each}s")
        for each in WORST_FIRST
        if found[each] or zeros
    ]
    return ", ".join(words)


def by_severity(file: CheckedFile) -> tuple[Finding, ...]:
    """The findings of a file, the most severe first, otherwise in their order."""
    return tuple(sorted(file.findings, key=lambda each: -each.severity.rank))
