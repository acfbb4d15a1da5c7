"""Lines of a page: broken where Rich would break them, and painted as Rich would paint them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from rich.text import Text

from inspector.report import page as pages
from inspector.report.page import Page

STYLES = {
    "GOOD": "bold green",
    "BAD": "bold red",
    "DOUBT": "bold yellow",
    "HEAD": "bold",
    "FAINT": "dim",
    "NAME": "cyan",
}

WORDS = st.text(st.sampled_from("ab/_→×é層"), min_size=1, max_size=19).filter(
    lambda word: cell_len(word) <= 19
)
SPANS = st.lists(
    st.builds(
        lambda words, space, style: (space.join(words), style) if style else space.join(words),
        st.lists(WORDS, max_size=8),
        st.sampled_from([" ", "   "]),
        st.sampled_from(["", pages.NAME, pages.FAINT]),
    ),
    max_size=4,
)
ANYTHING = st.text(
    st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"])
    | st.just(" ")
)


def lines(*spans: pages.Span, width: int, color: bool = False, **layout: int) -> list[str]:
    page = Page(width=width, color=color)
    page.line(*spans, **layout)
    text = page.text()
    assert text.endswith("\n")
    return text[:-1].split("\n")


@pytest.mark.parametrize(("name", "meaning"), STYLES.items())
def test_styles_are_what_rich_writes_for_them(name, meaning):
    painted = Style.parse(meaning).render("x", color_system=ColorSystem.STANDARD)
    assert lines(("x", getattr(pages, name)), width=80, color=True) == [painted]


@given(SPANS, st.integers(21, 90))
def test_lines_break_where_rich_breaks_them(spans, width):
    whole = "".join(each if isinstance(each, str) else each[0] for each in spans)
    if any(cell_len(word) > width for word in whole.split()):
        return  # see the next test
    parts = Text(whole).wrap(Console(width=width), width)
    assert lines(*spans, width=width) == [part.plain.rstrip() for part in parts]


@given(ANYTHING, st.integers(20, 90))
def test_nothing_is_lost_and_every_line_fits(text, width):
    written = lines(text, width=width)
    assert "".join("".join(written).split()) == "".join(text.split())
    assert max(map(cell_len, written)) <= width
    if text.strip():
        assert all(line.strip() for line in written[1:])


@given(SPANS, st.integers(20, 90))
def test_colour_changes_nothing_but_colour(spans, width):
    plain = lines(*spans, width=width, indent=2, hang=4)
    painted = lines(*spans, width=width, indent=2, hang=4, color=True)
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in painted] == plain


def test_a_long_name_goes_on_over_lines_of_its_own():
    written = lines("ab ", ("x" * 45, pages.NAME), " cd", width=24, indent=2, hang=2)
    assert written == ["  ab", "    " + "x" * 20, "    " + "x" * 20, "    xxxxx cd"]
    exactly = lines("x" * 40, "   cd", width=20)
    assert exactly == ["x" * 20, "x" * 20, "cd"]


def test_marks_without_width_do_not_run_on_for_ever():
    assert lines("\u0301" * 500, width=40)[0].startswith("\u0301")
