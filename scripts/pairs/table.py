"""The print: confusion matrix, names of what went wrong, causes by kind, times."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from .judge import Row

VERDICTS = ("identical", "equivalent", "agrees", "different", "undecided")
TRUTHS = ("harmless", "harmful", "coarser")


def truth(row: Row) -> str:
    return "coarser" if row.coarse else "harmful" if row.harmful else "harmless"


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The whole report."""
    judged = [each for each in rows if each.state == "judged"]
    yield from _matrix(judged)
    yield ""
    yield from _shares(rows, judged)
    yield ""
    yield from _kinds(judged)
    yield ""
    yield from _listed(rows)


def _matrix(judged: Sequence[Row]) -> Iterator[str]:
    counts = Counter((truth(each), each.verdict) for each in judged)
    yield f"{'truth':<12}" + "".join(f"{each:>12}" for each in VERDICTS) + f"{'pairs':>9}"
    for name in TRUTHS:
        of = [counts[name, each] for each in VERDICTS]
        if sum(of):
            yield f"{name:<12}" + "".join(f"{each:>12}" for each in of) + f"{sum(of):>9}"


def _shares(rows: Sequence[Row], judged: Sequence[Row]) -> Iterator[str]:
    harmful = [each for each in judged if each.harmful and not each.coarse]
    coarser = [each for each in judged if each.coarse]
    harmless = [each for each in judged if not each.harmful]
    table: list[tuple[str, Sequence[Row], Callable[[Row], object]]] = [
        ("false equivalents", harmful, lambda row: row.false_equivalent),
        ("false equivalents of lost precision", coarser, lambda row: row.false_equivalent),
        ("harmful, found to agree", harmful, lambda row: row.missed),
        ("false alarms", harmless, lambda row: row.false_alarm),
        ("harmless, only found to agree", harmless, lambda row: row.verdict == "agrees"),
        ("cause named rightly, listed first", harmful, lambda row: row.named),
        ("cause named rightly, anywhere", harmful, lambda row: row.named_any),
        ("cause named rightly, and nothing else", harmful, _nothing_else),
        ("first diverging point right", harmful, lambda row: row.first),
        ("first diverging point, or one step on", harmful, lambda row: row.later),
        ("undecided", judged, lambda row: row.verdict == "undecided"),
    ]
    located = any(each.point for each in harmful)
    for title, of, what in table:
        known = located or "diverging" not in title
        yield f"{title:<42}{_share(of, what) if known else 'n/a'}"
    times = [each.seconds for each in judged] or [0.0]
    yield f"{'seconds a pair: median, largest':<42}{statistics.median(times):.2f}, {max(times):.2f}"
    states = Counter(each.state for each in rows)
    yield f"{'pairs':<42}" + ", ".join(f"{count} {state}" for state, count in states.items())


def _share(of: Sequence[Row], what: Callable[[Row], object]) -> str:
    hits = sum(bool(what(each)) for each in of)
    return f"{hits} of {len(of)} ({100 * hits / len(of):.1f} %)" if of else "n/a"


def _nothing_else(row: Row) -> bool:
    return bool(row.named) and not row.spurious


def _kinds(judged: Sequence[Row]) -> Iterator[str]:
    yield f"{'kind':<28}{'pairs':>6}  {'verdicts':<44}{'cause':>7}{'point':>7}"
    for kind in dict.fromkeys(each.kind for each in sorted(judged, key=_by_kind)):
        of = [each for each in judged if each.kind == kind]
        counts = Counter(each.verdict for each in of)
        words = ", ".join(f"{counts[each]} {each}" for each in VERDICTS if counts[each])
        named = f"{sum(bool(each.named) for each in of)}/{len(of)}" if of[0].harmful else ""
        points = [each for each in of if each.first is not None]
        point = f"{sum(bool(each.first) for each in points)}/{len(of)}" if points else ""
        yield f"{kind:<28}{len(of):>6}  {words:<44}{named:>7}{point:>7}"


def _by_kind(row: Row) -> tuple[bool, bool, str]:
    return row.harmful, row.coarse, row.kind


def _listed(rows: Sequence[Row]) -> Iterator[str]:
    judged = [each for each in rows if each.state == "judged"]
    yield from _named("false equivalents", judged, lambda row: row.false_equivalent)
    yield from _named("harmful, found to agree", judged, lambda row: row.missed)
    yield from _named("false alarms", judged, lambda row: row.false_alarm)
    yield from _named("undecided", judged, lambda row: row.verdict == "undecided")
    yield from _named(
        "crashed or timed out", rows, lambda row: row.state in ("crashed", "timed out")
    )
    wrong = [e for e in judged if e.harmful and not e.coarse and e.verdict == "different"]
    yield from _causes([each for each in wrong if not each.named])
    if any(each.point for each in judged):
        yield from _points([each for each in wrong if not each.first])
    discarded = Counter(each.kind for each in rows if each.state == "discarded")
    if discarded:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(discarded.items()))
        yield f"discarded, their truth not shown: {kinds}"


def _named(title: str, rows: Sequence[Row], what: Callable[[Row], bool]) -> Iterator[str]:
    found = [each for each in rows if what(each)]
    if not found:
        return
    yield f"{title}:"
    for each in found:
        beside = f" [{each.companion}]" if each.companion else ""
        apart = f" ({each.apart:.3g} floors apart)" if each.apart else ""
        yield f"  {each.name}{beside}{apart}: {each.why or each.reason}"


def _causes(rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield "causes not named rightly:"
    for each in rows:
        beside = f" [{each.companion}]" if each.companion else ""
        yield f"  {each.name}{beside}: wanted {'; '.join(each.wanted)}"
        for cause in each.causes[:3]:
            yield f"      said {cause[:180]}"
        if not each.causes:
            yield f"      said nothing: {each.reason[:160]}"


def _points(rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield "first diverging points that are none of the fault's:"
    for each in rows:
        said = each.point or "none"
        yield f"  {each.name} [{each.companion}]: {said}; wanted {'; '.join(each.points)}"
