"""A check as workflow commands of GitHub Actions, which shows them as annotations.

The format and what has to be escaped in it:
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands and
https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts.
"""

from __future__ import annotations

from collections.abc import Iterator

from inspector.facts.finding import Check, Severity
from inspector.report.checked import by_severity, sentences, shown, titles
from inspector.report.words import printable

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def to_github(check: Check) -> str:
    """A line for each finding and for each file that cannot be read; nothing where all is well.

    GitHub shows ten of a kind for a step: within a file, the most severe come first.
    """
    return "".join([f"{line}\n" for line in _lines(check)])


def _lines(check: Check) -> Iterator[str]:
    known = titles(check)
    for file in check.files:
        path = shown(file.path)
        if file.unreadable:
            yield _command("error", path, "unreadable", printable(file.unreadable))
        for each in by_severity(file):
            title = known.get(each.rule, each.rule)
            scope = "".join(f"{printable(part)} / " for part in each.scope)
            yield _command(_COMMANDS[each.severity], path, title, scope + sentences(each))


def _command(name: str, path: str, title: str, message: str) -> str:
    return f"::{name} file={_property(path)},title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
