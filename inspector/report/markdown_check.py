"""A check as GitHub's Markdown, for a comment on a pull request.

Names from files stand in code spans: GitHub looks for no mentions, links, references, emoji, HTML
or formulas in those (https://github.github.com/gfm/#code-spans).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from inspector.facts.finding import Check, CheckedFile, Finding
from inspector.report.checked import WORST_FIRST, counted, fails, shown, titles
from inspector.report.words import many, printable

LONGEST = 65_000
"""Bytes of a report; GitHub takes 65,536 characters for a comment."""

_MOST = 10
"""Findings of a file that stand open; more are behind a line that opens them."""

_HEAD = "| severity | rule | layer | finding | what to do |\n|---|---|---|---|---|"
_ROOM = 600
"""Bytes kept for the lines before and after the findings."""


def to_markdown(check: Check) -> str:
    """Markdown with a table a file; the least severe findings are left out where it gets long."""
    rows = _fitting(check)
    parts = [f"### bninspect check: {_verdict(check)}", _summary(check)]
    parts += _unreadable(check)
    for index, file in enumerate(check.files):
        if index in rows:
            parts.append(_section(file, rows[index]))
    parts += _closing(check, sum(map(len, rows.values())))
    return "\n\n".join(parts) + "\n"


def _verdict(check: Check) -> str:
    words = ["failed"] if check.failed else []
    gone = sum(bool(file.unreadable) for file in check.files)
    if gone:
        words.append(f"{many(gone, 'file')} could not be read")
    return ", ".join(words) or "passed"


def _summary(check: Check) -> str:
    counts = counted((each for file in check.files for each in file.findings), zeros=True)
    layers = sum(file.layers for file in check.files)
    return f"{counts} in {many(len(check.files), 'file')} with {many(layers, 'BatchNorm')}."


def _fitting(check: Check) -> dict[int, list[str]]:
    """The rows of each file that there is room for, the most severe first; by its position."""
    known = titles(check)
    room = LONGEST - _ROOM - _size(_unreadable(check)) - _size(_reasons(check))
    kept: dict[int, list[str]] = {}
    for severity in WORST_FIRST:
        for index, file in enumerate(check.files):
            for each in file.findings:
                if each.severity is not severity:
                    continue
                row = _row(each, known)
                room -= _size([row]) + (0 if index in kept else _size([_section(file, [])]))
                if room < 0:
                    return kept
                kept.setdefault(index, []).append(row)
    return kept


def _size(parts: Iterable[str]) -> int:
    return sum(len(part.encode()) + 2 for part in parts)


def _section(file: CheckedFile, rows: Sequence[str]) -> str:
    """The table of a file; where it is long, behind a line that opens it."""
    table = "\n".join([_HEAD, *rows])
    counts = counted(file.findings)
    path = shown(file.path)
    if len(file.findings) <= _MOST:
        return f"#### {_code(path)}: {counts}\n\n{table}"
    title = f"<code>{html.escape(path)}</code>: {counts}"
    return f"<details>\n<summary>{title}</summary>\n\n{table}\n\n</details>"


def _row(finding: Finding, known: dict[str, str]) -> str:
    layer = " / ".join(map(printable, (*finding.scope, finding.layer)))
    message = printable(finding.message).removeprefix(f"{printable(finding.layer)}: ")
    where = _code(layer) if finding.layer else "the whole file"
    title = known.get(finding.rule, finding.rule)
    cells = [finding.severity, title, where, _text(message), _text(printable(finding.remedy))]
    return f"| {' | '.join(cells)} |"


def _unreadable(check: Check) -> list[str]:
    """A list of what could not be read, as long as there is room for it."""
    return _listed(
        "Could not be read:",
        (
            f"- {_code(shown(file.path))}: {_text(printable(file.unreadable))}"
            for file in check.files
            if file.unreadable
        ),
    )


def _reasons(check: Check) -> list[str]:
    """How many findings were ignored, and why."""
    reasons = [each.reason for file in check.files for each in file.ignored]
    return _listed(
        f"{many(len(reasons), 'finding')} ignored:",
        (
            f"- {reasons.count(reason):,}: {_text(printable(reason))}"
            for reason in dict.fromkeys(reasons)
        ),
    )


def _listed(title: str, items: Iterable[str]) -> list[str]:
    """A title and its list, of which a sixth of the report is shown at most."""
    lines = list(items)
    if not lines:
        return []
    room, shown_lines = LONGEST // 6, []
    for line in lines:
        room -= _size([line])
        if room < 0:
            break
        shown_lines.append(line)
    if len(shown_lines) < len(lines):
        shown_lines.append(f"- and {len(lines) - len(shown_lines):,} more")
    return ["\n".join([title, "", *shown_lines])]


def _closing(check: Check, told: int) -> Iterator[str]:
    """What the tables do not say."""
    yield from _reasons(check)
    clean = sum(not file.findings and not file.unreadable for file in check.files)
    if clean:
        yield f"{many(clean, 'file')} without findings."
    rest = [each for file in check.files for each in file.findings]
    if told < len(rest):
        failing = any(fails(each, check) for each in rest)
        yield (
            f"**{many(len(rest) - told, 'finding')} left out**, the least severe, since a comment "
            f"holds no more; `--output json:FILE` has all of them."
            + ("" if failing else " None of them fails the check.")
        )


# Nothing that Markdown or GitHub reads as more than text: no markup, no reference (#1, GH-1,
# user@sha), no hash of a commit, no address, no emoji (:x:).
_INERT = re.compile(r"(?:[^\W_]|[ ,.;%+=/()'’\"…−×·→–-]|: )*")
_LIVELY = re.compile(r"www\.|\b[a-z]+-\d|\b[0-9a-f]{7,}\b", re.IGNORECASE)


def _text(text: str) -> str:
    """Text as it is where it is nothing but text, and in code spans where it may not be."""
    if not text.strip():
        return ""
    if _INERT.fullmatch(text) and not _LIVELY.search(text):
        return text
    return _code(text)


def _code(text: str) -> str:
    """Text in code spans.

    A ``|`` ends a table's cell even within one, and how a backslash before it is read differs: it
    stands between two spans, written as a reference.
    """
    return "&#124;".join(_span(part) for part in text.split("|"))


def _span(text: str) -> str:
    if not text:
        return ""
    if not text.strip():
        # Blanks alone are kept as they are only where they are no more than one.
        return "&#32;" * len(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    blank = " " if text[0] in " `" or text[-1] in " `" else ""
    return f"{fence}{blank}{text}{blank}{fence}"
