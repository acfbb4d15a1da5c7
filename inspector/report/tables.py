"""Tables as text in the style of each framework."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from inspector.facts.table import Cell, Table
from inspector.report.page import FAINT, HEAD, NAME, Page, pieces
from inspector.report.words import printable

_NARROWEST = 8
_COUNTS = 3
"""Totals of torchsummary that are counts; sizes follow."""


def write_table(table: Table, page: Page) -> None:
    """The table as text."""
    if table.style == "keras":
        _write_keras(table, page)
    elif table.style == "torch":
        _write_torch(table, page)
    else:
        _write_onnx(table, page)
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


def number(value: float | None) -> str:
    """A total as text."""
    if value is None:
        return "? (a length of the input is not fixed)"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _write_keras(table: Table, page: Page) -> None:
    rows = [
        (
            f"{shown(name, 'keras')} ({shown(kind, 'keras')})" if kind else shown(name, "keras"),
            *(shown(each, "keras") for each in rest),
        )
        for name, kind, *rest in table.rows
    ]
    page.line((f'Model: "{printable(table.title)}"', HEAD))
    grid = _Grid(("Layer (type)", "Output Shape", "Param #"), rows, "<<>", page.width)
    page.exact("_" * grid.width)
    grid.write(page, "=")
    for name, value in table.totals:
        page.line((f"{name}: ", FAINT), number(value))
    page.exact("_" * grid.width)


def _write_torch(table: Table, page: Page) -> None:
    rows = [
        tuple(shown(each, "torch") for each in (kind, dims, size))
        for kind, _, dims, size in table.rows
    ]
    # The columns of torchsummary, which are 64 wide; wider where something would not fit.
    heads = ("Layer (type)", "Output Shape", "Param #")
    grid = _Grid(heads, rows, ">>>", page.width, least=(20, 25, 15), gaps=(2, 1), margin=1)
    page.exact("-" * grid.width)
    grid.write(page, "=")
    for at, (name, value) in enumerate(table.totals):
        if at == _COUNTS:
            page.exact("-" * grid.width)
        page.line((f"{name}: ", FAINT), number(value))
    page.exact("-" * grid.width)


def _write_onnx(table: Table, page: Page) -> None:
    rows = [tuple(shown(each, table.style) for each in row) for row in table.rows]
    page.line((printable(table.title), HEAD))
    _Grid(table.columns, rows, "<<<>", page.width).write(page, "-")
    page.pairs([(name, (number(value),)) for name, value in table.totals if value], indent=0)


class _Grid:
    """Columns of text that fit into a width; what is too long for its column wraps inside it.

    Parameters
    ----------
    aligned
        ``<`` or ``>`` for each column.
    least
        Widths that columns have at least, where there is room.
    gaps
        Spaces between columns; two where none are given.
    margin
        How much longer lines are than the rows.
    """

    def __init__(
        self,
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        aligned: str,
        room: int,
        least: Sequence[int] = (),
        gaps: Sequence[int] = (),
        margin: int = 0,
    ) -> None:
        self._heads, self._rows, self._aligned = heads, rows, aligned
        widths = list(least) or [0] * len(heads)
        for row in (heads, *rows):
            widths = [max(width, _columns(cell)) for width, cell in zip(widths, row, strict=True)]
        self._gaps = [*(gaps or [2] * (len(heads) - 1)), 0]
        self._widths = _fitted(widths, room - sum(self._gaps) - margin)
        self.width = sum(self._widths) + sum(self._gaps) + margin

    def write(self, page: Page, rule: str) -> None:
        """The heads and all rows, between lines of `rule`."""
        for line in self._lines(self._heads):
            page.exact((line, HEAD))
        page.exact(rule * self.width)
        for row in self._rows:
            for line in self._lines(row):
                first = self._widths[0] if line.isascii() else 0
                page.exact((line[:first], NAME), line[first:])
        page.exact(rule * self.width)

    def _lines(self, cells: Sequence[str]) -> Iterable[str]:
        wrapped = [
            [cell[begin:end] for begin, end in pieces(cell, width)]
            if _columns(cell) > width
            else [cell]
            for cell, width in zip(cells, self._widths, strict=True)
        ]
        for parts in zip_longest(*wrapped, fillvalue=""):
            padded = map(_padded, parts, self._widths, self._aligned)
            yield "".join(
                [cell + " " * gap for cell, gap in zip(padded, self._gaps, strict=True)]
            ).rstrip()


def _fitted(widths: Sequence[int], room: int) -> list[int]:
    """Widths that fit into a room: the widest give first."""
    fitted = list(widths)
    while sum(fitted) > room and max(fitted) > _NARROWEST:
        widest = max(fitted)
        others = [each for each in fitted if each < widest]
        most = len(fitted) - len(others)
        # Down to the next one, or as far as it takes.
        down = max(max(others, default=0), _NARROWEST, widest - -(-(sum(fitted) - room) // most))
        fitted = [min(each, down) for each in fitted]
    return fitted


def _columns(text: str) -> int:
    """Columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _padded(text: str, width: int, aligned: str) -> str:
    space = " " * max(width - _columns(text), 0)
    return text + space if aligned == "<" else space + text
