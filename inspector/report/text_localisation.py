"""Where two models begin to differ, on a terminal."""

from __future__ import annotations

from inspector.facts.comparison import Localisation, Point
from inspector.report.page import BAD, DOUBT, FAINT, GOOD, NAME, Page
from inspector.report.words import many, number, printable

MOST = 8
"""Lines of growth that are shown; JSON has them all."""


def write_localisation(fact: Localisation, page: Page) -> None:
    """Write the first place that differs, and how the difference grows from there."""
    if fact.first is None:
        if fact.reason:
            page.heading("Where it begins")
            page.line((f"not known: {printable(fact.reason)}", DOUBT), indent=2, hang=2)
        return
    page.heading("Where it begins", f"{many(fact.compared, 'place')} compared on the way")
    page.line((_named(fact.first), NAME), indent=2, hang=2)
    page.line(
        (number(fact.first.max_abs), BAD),
        f" apart, where rounding makes {number(fact.first.tolerance)} at most; "
        "all in front of it agrees",
        indent=4,
        hang=2,
    )
    if fact.reason:
        page.line((printable(fact.reason), DOUBT), indent=2, hang=2)
    grown = [each for each in fact.points if each != fact.first]
    if not grown:
        return
    shown = _some(grown)
    page.line(("and from there, as a share of each value's own spread:", FAINT), indent=2)
    page.pairs(
        [
            (_percent(each), [(_named(each), GOOD if each.within else "")])
            for each in (fact.first, *shown)
        ],
        indent=4,
    )
    if len(shown) < len(grown):
        page.line((f"and {len(grown) - len(shown)} more, in --format json", FAINT), indent=4)


def _named(point: Point) -> str:
    left, right = printable(point.left_where), printable(point.right_where)
    return left if left == right else f"{left} / {right}"


def _percent(point: Point) -> str:
    if point.relative < 1.0:
        return f"{100 * point.relative:.2g} %"
    return f"{number(point.relative)} ×"


def _some(points: list[Point]) -> list[Point]:
    """Points spread evenly, the last one among them."""
    if len(points) <= MOST:
        return points
    step = (len(points) - 1) / (MOST - 1)
    return [points[round(at * step)] for at in range(MOST)]
