"""A page of terminal text: lines with colour by meaning, wrapped and never cut.

Spans hold what prints (see `inspector.report.words.printable`): no line breaks, no tabs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Span: TypeAlias = str | tuple[str, str]
"""Text, or text with its style."""

# Styles are the parameters of ANSI's Select Graphic Rendition (ECMA-48, 8.3.117).
GOOD = "1;32"
BAD = "1;31"
DOUBT = "1;33"
HEAD = "1"
FAINT = "2"
NAME = "36"
PLAIN = "0"


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
        self.color = color
        self._lines: list[str] = []

    def line(self, *spans: Span, indent: int = 0, hang: int = 0) -> None:
        """One line; where it wraps, the rest stands `hang` columns further in."""
        self._wrapped(" " * indent, " " * (indent + hang), spans)

    def _wrapped(self, first: Span, lead: str, spans: Sequence[Span]) -> None:
        """Lines of what fits behind `lead`, the first of them behind `first` instead."""
        room = max(self.width - len(lead), 20)
        text = _plain(spans)
        start = first if isinstance(first, str) else self._painted((first,))
        for begin, end in pieces(text, room):
            part = self._painted(_cut(spans, begin, end)) if self.color else text[begin:end]
            self._lines.append(start + part)
            start = lead

    def exact(self, *spans: Span) -> None:
        """One line that is laid out already and never wraps."""
        self._lines.append(self._painted(spans))

    def _painted(self, spans: Iterable[Span]) -> str:
        """The text of `spans`, in colour where the page has any."""
        if not self.color:
            return _plain(spans)
        return "".join(
            [
                each if isinstance(each, str) else each[0] and f"\x1b[{each[1]}m{each[0]}\x1b[0m"
                for each in spans
            ]
        )

    def blank(self) -> None:
        self._lines.append("")

    def heading(self, title: str, rest: str = "") -> None:
        """A blank line and a heading."""
        self.blank()
        self.line((title, HEAD), f"  {rest}" if rest else "")

    def pairs(
        self,
        rows: Sequence[tuple[str, Sequence[Span]]],
        *,
        indent: int = 2,
        style: str = FAINT,
    ) -> None:
        """Labels in one column, what they say in the next, wrapped under itself."""
        width = max((len(label) for label, _ in rows), default=0) + 2
        for label, spans in rows:
            first = (" " * indent + label.ljust(width), style)
            self._wrapped(first, " " * (indent + width), spans)

    def entry(self, lead: Sequence[Span], *spans: Span) -> None:
        """What `lead` stands in front of, in ASCII, wrapped under itself."""
        self._wrapped(self._painted(lead), " " * len(_plain(lead)), spans)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines written so far."""
        return tuple(self._lines)

    def text(self) -> str:
        """Everything written so far."""
        return "\n".join([*self._lines, ""])


def _plain(spans: Iterable[Span]) -> str:
    """The text of `spans` alone."""
    return "".join([each if isinstance(each, str) else each[0] for each in spans])


def _cut(spans: Iterable[Span], begin: int, end: int) -> Iterator[Span]:
    """What of `spans` lies from character `begin` to `end` of their text."""
    for each in spans:
        text = each if isinstance(each, str) else each[0]
        part = text[max(begin, 0) : max(end, 0)]
        yield part if isinstance(each, str) else (part, each[1])
        begin -= len(text)
        end -= len(text)


_SEAMS = "/._"
"""Where a name may be broken rather than elsewhere."""


def pieces(text: str, room: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each line of `text`: broken between words, or within one too long for any.

    There is always a first line, be it empty.
    """
    whole = len(text.rstrip())
    narrow = text.isascii() or text.replace("→", ">").isascii()
    begin = 0
    while (fit := begin + room if narrow else _fitting(text, begin, room)) < whole:
        end = text.rfind(" ", begin, fit + 1)
        if not text[begin : max(end, begin)].strip():
            end = max(text.rfind(mark, begin, fit) for mark in _SEAMS) + 1
            if end <= begin + room // 2:
                end = fit
        yield begin, begin + len(text[begin:end].rstrip())
        begin = end
        while text[begin].isspace():  # ends at the latest before `whole`, where the text does
            begin += 1
    yield begin, whole


def _fitting(text: str, begin: int, room: int) -> int:
    """Where the characters from `begin` on that fit into `room` columns end."""
    from rich.cells import chop_cells

    # A window keeps the work linear; only marks that take no column could fill it.
    lines = chop_cells(text[begin : begin + 4 * room], room)
    return begin + (len(lines[0]) if lines else 4 * room)
