"""Tables as text in the style of each framework, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from inspector.facts.table import Cell, Table
from inspector.report.page import FAINT, HEAD, NAME, Page, Span
from inspector.report.words import printable

_GAP = "  "
_NARROWEST = 12


def write_table(table: Table, page: Page) -> None:
    """The table as text."""
    if table.style == "keras":
        _write_keras(table, page)
    elif table.style == "torch":
        _write_torch(table, page)
    else:
        _write_plain(table, page)
    for note in table.notes:
        page.line((f"note: {printable(note)}", FAINT), hang=2)


def shown(cell: Cell, style: str) -> str:
    """A cell as text: shapes as the framework writes them, numbers in groups of three."""
    if cell is None:
        return "?"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, tuple):
        unknown = "None" if style == "keras" else "?"
        inner = ", ".join(unknown if each is None else printable(str(each)) for each in cell)
        if style == "keras":
            return f"({inner},)" if len(cell) == 1 else f"({inner})"
        return f"[{inner}]"
    return printable(cell)


def _write_keras(table: Table, page: Page) -> None:
    heads = ("Layer (type)", "Output Shape", "Param #")
    rows = [
        (
            f"{shown(name, 'keras')} ({shown(kind, 'keras')})" if kind else shown(name, "keras"),
            *(shown(each, "keras") for each in rest),
        )
        for name, kind, *rest in table.rows
    ]
    page.line((f'Model: "{printable(table.title)}"', HEAD))
    widths = _widths(heads, rows, page.width)
    page.exact("_" * _whole(widths))
    page.exact((_laid_out(heads, widths), HEAD))
    page.exact("=" * _whole(widths))
    _write_rows(rows, widths, page)
    page.exact("=" * _whole(widths))
    for name, value in table.totals:
        page.line((f"{name}: ", FAINT), f"{value:,}")
    page.exact("_" * _whole(widths))


def _write_torch(table: Table, page: Page) -> None:
    # The columns of torchsummary, which are 64 wide; wider where something would not fit.
    rows = [
        tuple(shown(each, "torch") for each in (kind, dims, size))
        for kind, _, dims, size in table.rows
    ]
    heads = ("Layer (type)", "Output Shape", "Param #")
    least = (20, 25, 15)
    widths = [max(low, *(len(row[at]) for row in [heads, *rows])) for at, low in enumerate(least)]
    line = sum(widths) + 4
    page.exact("-" * line)
    page.exact((_right(heads, widths), HEAD))
    page.exact("=" * line)
    for row in rows:
        page.exact(_right(row, widths))
    page.exact("=" * line)
    for at, (name, value) in enumerate(table.totals):
        if at == _COUNTS:
            page.exact("-" * line)
        page.line((f"{name}: ", FAINT), _number(value))
    page.exact("-" * line)


_COUNTS = 3
"""Totals of torchsummary that are counts; sizes follow."""


def _right(cells: Sequence[str], widths: Sequence[int]) -> str:
    one, two, three = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return f"{one}  {two} {three}"


def _number(value: float | None) -> str:
    if value is None:
        return "? (a length of the input is not fixed)"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _write_plain(table: Table, page: Page) -> None:
    rows = [tuple(shown(each, table.style) for each in row) for row in table.rows]
    page.line((printable(table.title), HEAD))
    widths = _widths(table.columns, rows, page.width)
    page.exact((_laid_out(table.columns, widths), HEAD))
    page.exact("-" * _whole(widths))
    _write_rows(rows, widths, page)
    page.exact("-" * _whole(widths))
    page.pairs([(name, (_number(value),)) for name, value in table.totals if value], indent=0)


def _widths(heads: Sequence[str], rows: Iterable[Sequence[str]], room: int) -> list[int]:
    """Widths of columns: the first takes what the others leave, and wraps where it has to."""
    widths = [len(head) for head in heads]
    for row in rows:
        widths = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
    rest = sum(widths[1:]) + len(_GAP) * (len(widths) - 1)
    return [min(widths[0], max(room - rest, _NARROWEST)), *widths[1:]]


def _whole(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _laid_out(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells in their columns: numbers, which are last, to the right."""
    *left, last = zip(cells, widths, strict=True)
    parts = [cell.ljust(width) for cell, width in left]
    return _GAP.join([*parts, last[0].rjust(last[1])])


def _write_rows(rows: Iterable[Sequence[str]], widths: Sequence[int], page: Page) -> None:
    for first, *rest in rows:
        parts = [first[at : at + widths[0]] for at in range(0, len(first), widths[0])] or [""]
        line: list[Span] = [(parts[0].ljust(widths[0]), NAME), _GAP, _laid_out(rest, widths[1:])]
        page.exact(*line)
        for more in parts[1:]:
            page.exact((more, NAME))


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
    if isinstance(cell, tuple):
        return "x".join("?" if each is None else printable(str(each)) for each in cell)
    if isinstance(cell, str):
        said = printable(cell)
        # A spreadsheet takes such a text for a formula, and names come from anyone.
        return f"'{said}" if said[:1] in ("=", "+", "-", "@") else said
    return cell


def to_markdown(table: Table) -> str:
    """A table of GitHub-flavoured Markdown, with the totals below."""
    lines = [
        "| " + " | ".join(table.columns) + " |",
        "|" + "|".join([" --- "] * (len(table.columns) - 1) + [" ---: "]) + "|",
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(_escaped(shown(e, table.style)) for e in row) + " |")
    lines.append("")
    lines += [f"- {name}: {_number(value)}" for name, value in table.totals if value is not None]
    lines += [f"- note: {_escaped(printable(each))}" for each in table.notes]
    return "\n".join([*lines, ""])


_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\|`*_{}[]<>#!~"})


def _escaped(text: str) -> str:
    """Text in which nothing is a mark of Markdown or a tag of HTML."""
    return text.translate(_MARKS).replace("&", "&amp;")
