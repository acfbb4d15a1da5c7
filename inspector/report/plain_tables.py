"""Tables as CSV and as Markdown."""

from __future__ import annotations

import csv
import io

from inspector.facts.table import Cell, Table
from inspector.report.tables import number, shown
from inspector.report.words import printable


def to_csv(table: Table) -> str:
    """Rows with a header, as RFC 4180 has it; shapes with ``x`` between the lengths."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow([_plain(each) for each in row])
    return text.getvalue()


def _plain(cell: Cell) -> str | int:
    if cell is None:
        return ""
    if isinstance(cell, int):
        return cell
    named = True
    if isinstance(cell, tuple):
        named = any(isinstance(each, str) for each in cell)
        said = "x".join("?" if each is None else printable(str(each)) for each in cell)
    else:
        said = printable(cell)
    # A spreadsheet takes such a text for a formula, and names and lengths come from anyone.
    return f"'{said}" if named and said[:1] in ("=", "+", "-", "@") else said


def to_markdown(table: Table) -> str:
    """A table of GitHub-flavoured Markdown, with the totals below."""
    lines = [
        "| " + " | ".join(table.columns) + " |",
        "|" + "|".join(_rules(table)) + "|",
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(_escaped(shown(e, table.style)) for e in row) + " |")
    if table.totals or table.notes:
        lines.append("")
    lines += [f"- {name}: {number(value)}" for name, value in table.totals if value is not None]
    lines += [f"- note: {_escaped(printable(each))}" for each in table.notes]
    return "\n".join([*lines, ""])


def _rules(table: Table) -> list[str]:
    """The line under the header, which has columns of numbers to the right."""
    cells = zip(*table.rows, strict=True) if table.rows else ((),) * len(table.columns)
    numbers = [bool(some) and all(isinstance(each, int) for each in some) for some in cells]
    numbers[-1] = True
    return [" ---: " if each else " --- " for each in numbers]


_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\|`*_{}[]<>#!~"})


def _escaped(text: str) -> str:
    """Text in which nothing is a mark of Markdown or a tag of HTML."""
    return text.translate(_MARKS).replace("&", "&amp;")
