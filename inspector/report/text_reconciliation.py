"""Why totals differ, as text: amounts in columns, causes beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from inspector.facts.reconciliation import (
    Amounts,
    Crossing,
    Difference,
    Explanation,
    Reconciliation,
    Term,
)
from inspector.facts.table import Cell, Table
from inspector.report.page import BAD, FAINT, GOOD, HEAD, NAME, PLAIN, Page, Span
from inspector.report.words import listed, printable

_NARROWEST = 13
_MOST_NAMED = 4


def write_reconciliation(fact: Reconciliation, page: Page) -> None:
    """Two models, and the list that leads from one's totals to the other's."""
    before, after = fact.totals
    width = _widest(before, after, fact.unexplained, *(each.amounts for each in fact.differences))
    page.line((printable(fact.left), HEAD), " → ", (printable(fact.right), HEAD))
    page.blank()
    names = [name.rjust(width) for name in ("Keras", "PyTorch", "stored")]
    page.exact(("".join(names), FAINT))
    rows: list[tuple[str, Sequence[Span]]] = [
        (_row(before, width, signed=False), ((_short(fact.left), NAME),))
    ]
    rows += [(_row(each.amounts, width), _cause(each)) for each in fact.differences]
    style = BAD if fact.unexplained else GOOD
    rest = f": {listed(fact.unexplained_where)}" if fact.unexplained_where else ""
    rows.append((_row(fact.unexplained, width), (("left unexplained", style), rest)))
    rows.append((_row(after, width, signed=False), ((_short(fact.right), NAME),)))
    page.pairs(rows, indent=0, style=PLAIN)
    if fact.crossing is not None:
        _write_crossing(fact, fact.crossing, width, page)


def _write_crossing(fact: Reconciliation, crossing: Crossing, width: int, page: Page) -> None:
    """From the one framework's total to the other's."""
    names = [_TITLES[each] for each in crossing.frameworks]
    page.heading(f"{names[0]} → {names[1]}")
    page.pairs(
        [
            (
                f"{crossing.totals[0]:>{width},}",
                (f"{names[0]} prints for ", (_short(fact.left), NAME)),
            ),
            *((f"{each.elements:>+{width},}", (printable(each.what),)) for each in crossing.terms),
            (
                f"{crossing.totals[1]:>{width},}",
                (f"{names[1]} prints for ", (_short(fact.right), NAME)),
            ),
        ],
        indent=0,
        style=PLAIN,
    )


_TITLES = {"keras": "Keras", "torch": "PyTorch"}


def _cause(each: Difference) -> Sequence[Span]:
    if not each.where:
        return (printable(each.what),)
    rest = len(each.where) - _MOST_NAMED
    more = f" and {rest} more" if rest > 0 else ""
    return (f"{printable(each.what)}: ", (f"{listed(each.where[:_MOST_NAMED])}{more}", FAINT))


def write_explanation(fact: Explanation, page: Page) -> None:
    """A total as a sum."""
    page.line((printable(fact.path), HEAD), f"  and a total of {fact.total:,}")
    page.blank()
    style = BAD if fact.unexplained else GOOD
    page.pairs(
        [
            *_rows(fact.terms),
            (_signed(fact.unexplained), (("left unexplained", style),)),
            (f"{fact.total:>{_NARROWEST},}", (("the total asked about", NAME),)),
            *_gaps(fact),
        ],
        indent=0,
        style=PLAIN,
    )
    if fact.is_explained and len(fact.terms) > 1:
        page.line(
            ("a sum that fits is no proof: only the other summary tells what it counted", FAINT)
        )
    for terms in fact.others:
        page.heading("The same number is also")
        page.pairs(_rows(terms), indent=0, style=PLAIN)


def _gaps(fact: Explanation) -> Iterator[tuple[str, Sequence[Span]]]:
    """How far the total is from what each framework counts."""
    for name, counted in (("Keras", fact.counted.keras), ("PyTorch", fact.counted.torch)):
        gap = fact.total - counted
        said = f"against {counted:,}, which {name} counts" if gap else f"this is what {name} counts"
        yield _signed(gap), ((said, FAINT),)


def _rows(terms: Iterable[Term]) -> list[tuple[str, Sequence[Span]]]:
    return [(_signed(each.elements), (printable(each.what),)) for each in terms]


def _signed(elements: int) -> str:
    return f"{elements:>+{_NARROWEST},}"


def _widest(*some: Amounts) -> int:
    """The width of a column that holds all of them, with a space before each."""
    cells = [len(f"{cell:+,}") for each in some for cell in (each.keras, each.torch, each.stored)]
    return max(_NARROWEST, max(cells) + 1)


def _row(amounts: Amounts, width: int, *, signed: bool = True) -> str:
    sign = "+" if signed else ""
    cells = (amounts.keras, amounts.torch, amounts.stored)
    return "".join(f"{each:>{sign}{width},}" for each in cells)


def _short(path: str) -> str:
    return printable(path.replace("\\", "/").rpartition("/")[2])


def as_table(fact: Reconciliation | Explanation) -> Table:
    """Why totals differ, as a table: amounts first."""
    if isinstance(fact, Explanation):
        return Table(
            style="reconcile",
            title=fact.path,
            columns=("Row", "What", "Elements"),
            rows=(
                *(("term", each.what, each.elements) for each in fact.terms),
                ("rest", "left unexplained", fact.unexplained),
            ),
            totals=(("total", fact.total),),
        )
    left, right = fact.totals
    rows: list[tuple[Cell, ...]] = [("total", fact.left, "", left.keras, left.torch, left.stored)]
    rest = Difference(
        what="left unexplained", amounts=fact.unexplained, where=fact.unexplained_where
    )
    for each in (*fact.differences, rest):
        by = each.amounts
        kind = "rest" if each is rest else "difference"
        rows.append((kind, each.what, ", ".join(each.where), by.keras, by.torch, by.stored))
    rows.append(("total", fact.right, "", right.keras, right.torch, right.stored))
    return Table(
        style="reconcile",
        title=f"{fact.left} -> {fact.right}",
        columns=("Row", "What", "Where", "Keras", "PyTorch", "Stored"),
        rows=tuple(rows),
        totals=(),
    )
