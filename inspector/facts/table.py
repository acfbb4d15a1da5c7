"""A table as it is written in any format: what its cells say, and what its columns add up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from inspector.facts.model import Dim

Cell: TypeAlias = "str | int | tuple[Dim, ...] | None"
"""Text, a number, dims, or nothing known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under named columns, and the lines below them.

    Attributes
    ----------
    style
        ``keras``, ``torch``, ``onnx`` or ``reconcile``: how it is drawn as text.
    title
        Of what it is.
    columns
        Names of the columns.
    rows
        One cell a column.
    totals
        What is printed below, by name.
    notes
        What a reader has to know besides.
    """

    style: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    totals: tuple[tuple[str, int | float | None], ...]
    notes: tuple[str, ...] = ()
