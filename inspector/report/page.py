"""A page of terminal text: lines with colour by meaning, wrapped and never cut."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

Span: TypeAlias = str | tuple[str, str]
"""Text, or text with its style."""

GOOD = "bold green"
BAD = "bold red"
DOUBT = "bold yellow"
HEAD = "bold"
FAINT = "dim"
NAME = "cyan"


class Page:
    """Collects lines; `text` gives them all.

    Parameters
    ----------
    width
        Columns at which lines wrap.
    color
        Whether styles are written as ANSI sequences.
    """

    def __init__(self, *, width: int, color: bool) -> None:
        self.width = width
        self._file = StringIO()
        self._console = Console(
            file=self._file,
            width=width,
            force_terminal=color,
            color_system="standard" if color else None,
            no_color=not color,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )

    def line(self, *spans: Span, indent: int = 0, hang: int = 0) -> None:
        """One line; where it wraps, the rest stands `hang` columns further in."""
        self._wrapped(" " * indent, " " * (indent + hang), spans)

    def _wrapped(self, first: Span, lead: str, spans: Sequence[Span]) -> None:
        """Lines of what fits behind `lead`, the first of them behind `first` instead."""
        room = max(self.width - len(lead), 20)
        for at, part in enumerate(Text.assemble(*spans).wrap(self._console, room)):
            part.rstrip()
            start = lead if at else first
            self._console.print(Text.assemble(start, part), soft_wrap=True)

    def exact(self, *spans: Span) -> None:
        """One line that is laid out already and never wraps."""
        self._console.print(Text.assemble(*spans), soft_wrap=True)

    def blank(self) -> None:
        self._console.print()

    def heading(self, title: str, rest: str = "") -> None:
        """A blank line and a heading."""
        self.blank()
        self.line((title, HEAD), f"  {rest}" if rest else "")

    def pairs(self, rows: Sequence[tuple[str, Sequence[Span]]], *, indent: int = 2) -> None:
        """Labels in one column, what they say in the next, wrapped under itself."""
        width = max((len(label) for label, _ in rows), default=0) + 2
        for label, spans in rows:
            first = (" " * indent + label.ljust(width), FAINT)
            self._wrapped(first, " " * (indent + width), spans)

    def text(self) -> str:
        """Everything written so far."""
        return self._file.getvalue()
