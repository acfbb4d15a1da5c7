"""`bninspect check` on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from inspector.facts.finding import Check, CheckedFile, Finding, Severity
from inspector.facts.fix import ASKED_FOR
from inspector.report.checked import by_severity
from inspector.report.page import BAD, DOUBT, FAINT, GOOD, HEAD, NAME, Page, Span
from inspector.report.words import many, printable

MOST = 10
"""Findings of a rule in a file that are shown unless all are asked for."""

_STYLES = {Severity.ERROR: BAD, Severity.WARNING: DOUBT, Severity.INFO: NAME}
_LABEL = len("warning")
_HANG = 2 + _LABEL + 2 + len("BN000") + 2
"""Columns in front of a message."""


_COMMAND = re.compile(
    r"(?<=:):(?=(?:error|warning|notice|debug|group|endgroup|add-mask|add-matcher|remove-matcher|"
    r"add-path|set-env|set-output|save-state|stop-commands|echo)\b)|(?<=##)\[",
    re.IGNORECASE,
)
"""Where a name would be a workflow command, if a line of the report began with it.

GitHub Actions takes ``::error::…`` for one at the beginning of a line, behind blanks, and ``##[…]``
anywhere (https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs).
"""


def write_check(
    fact: Check,
    page: Page,
    *,
    quiet: bool = False,
    full: bool = False,
    ignored: bool = False,
) -> None:
    """Write what was found, file by file, and how much it is.

    Parameters
    ----------
    quiet
        Leave out everything but findings and what could not be read.
    full
        Show every finding of a rule.
    ignored
        Show what was asked not to be told, too.
    """
    written = False
    for file in fact.files:
        notes = () if quiet else file.notes
        hidden = file.ignored if ignored else ()
        if not (file.findings or file.unreadable or notes or hidden):
            continue
        if written:
            page.blank()
        written = True
        _title(file, page)
        if file.unreadable:
            _entry("error", BAD, "", _told(file.unreadable), page)
        for _, each in groupby(by_severity(file), _kind):
            _findings(list(each), page, full=full)
        for other in hidden:
            text = f"{_place(other.finding)}{_told(other.finding.message)}"
            _entry("ignored", FAINT, other.finding.rule, text, page)
            _below(f"because: {_told(other.reason)}", page)
        for note in notes:
            _entry("note", FAINT, "", _told(note), page)
    if not quiet:
        if written:
            page.blank()
        page.line(*_summary(fact), hang=2)


def _told(text: str) -> str:
    """A name or a sentence from a file, harmless on a terminal and in the log of a workflow."""
    return _COMMAND.sub(lambda found: f"\\x{ord(found[0]):02x}", printable(text))


def _title(file: CheckedFile, page: Page) -> None:
    path, layers = _told(file.path), many(file.layers, "BatchNorm")
    if file.unreadable:
        page.line((path, HEAD), hang=2)
    elif len(path) + 2 + len(layers) <= page.width:
        page.line((path, HEAD), "  ", (layers, FAINT))
    else:  # never with its number and its noun on two lines
        page.line((path, HEAD), hang=2)
        page.line((layers, FAINT), indent=2)


def _kind(finding: Finding) -> tuple[str, str, str]:
    """Findings that are one in this are said together, and what to do is said once."""
    return finding.severity, finding.rule, finding.remedy


def _findings(findings: Sequence[Finding], page: Page, *, full: bool) -> None:
    shown = findings if full else findings[:MOST]
    for each in shown:
        text = f"{_place(each)}{_told(each.message)}"
        _entry(each.severity, _STYLES[each.severity], each.rule, text, page)
    if len(shown) < len(findings):
        rest = len(findings) - len(shown)
        page.line((f"and {rest:,} more, with --full", FAINT), indent=_HANG, hang=2)
    if findings[0].remedy:
        _below(f"→ {_told(findings[0].remedy)}", page)


def _place(finding: Finding) -> str:
    """The subgraphs and functions in front of a layer's name."""
    return "".join(f"{_told(part)} / " for part in finding.scope)


def _entry(label: str, style: str, rule: str, text: str, page: Page) -> None:
    code = rule.ljust(len("BN000"))
    lead = ("  ", (label.ljust(_LABEL), style), "  ", (code, HEAD) if rule else code, "  ")
    page.entry(lead, text)


def _below(text: str, page: Page) -> None:
    page.line((text, FAINT), indent=_HANG, hang=2)


def _summary(fact: Check) -> list[Span]:
    """How many there are of each, and what could not be looked at."""
    counts = [
        # The plural of "info" is itself.
        (many(fact.count(each), each, "info" if each is Severity.INFO else ""), _STYLES[each])
        for each in reversed(Severity)
        if fact.count(each)
    ]
    unread = sum(bool(file.unreadable) for file in fact.files)
    layers = sum(file.layers for file in fact.files)
    spans: list[Span] = [many(len(fact.files), "file")]
    for text, style in counts:
        spans += [", ", (text, style)]
    if not counts and unread < len(fact.files):
        good = "" if unread else GOOD
        spans += [f" with {many(layers, 'BatchNorm')}, ", ("nothing found", good)]
    if unread:
        spans += ["; ", (f"{unread:,} could not be read", BAD)]
    fixable = sum(
        each.fixable and each.rule not in ASKED_FOR for file in fact.files for each in file.findings
    )
    if fixable:
        spans.append(f"; {fixable:,} can be fixed (--fix)")
    hidden = sum(len(file.ignored) for file in fact.files)
    if hidden:
        spans.append(f"; {hidden:,} ignored")
    return spans
