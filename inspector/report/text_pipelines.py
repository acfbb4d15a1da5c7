"""`bninspect export-compare` and `bninspect restore` on a terminal."""

from __future__ import annotations

from inspector.facts.export import Export, ExportComparison
from inspector.facts.restored import Agreement, Outcome, Restored
from inspector.facts.traced import Fate
from inspector.report.page import BAD, DOUBT, FAINT, GOOD, NAME, Page, Span
from inspector.report.text_comparison import write_comparison
from inspector.report.words import many, number, printable, size

_WAS = {
    Fate.KEPT: "was a node",
    Fate.ARITHMETIC: "was arithmetic",
    Fate.FOLDED: "was folded into",
    Fate.UNTOLD: "cannot be told",
    Fate.MISSING: "is not found",
}


def write_export_comparison(fact: ExportComparison, page: Page) -> None:
    """What was exported, and the comparison."""
    for which, source, export in zip(("left", "right"), fact.sources, fact.exports, strict=True):
        if export is not None:
            page.line(
                ("exported ", GOOD),
                (printable(source), NAME),
                f" ({which}): {_exported(export)}",
                hang=2,
            )
            for note in export.notes:
                page.line(("note: ", DOUBT), printable(note), indent=2, hang=6)
    if fact.kept:
        paths = [each.path for each in fact.exports if each is not None]
        page.line("kept: ", (", ".join(map(printable, paths)), NAME), indent=2, hang=6)
    page.blank()
    write_comparison(fact.comparison, page)


def _exported(export: Export) -> str:
    manifest, check = export.manifest, export.manifest.verification
    norms = many(len(manifest.batchnorms), "BatchNorm")
    verified = "not verified"
    if check is not None:
        verified = f"verified within {number(check.max_abs)}"
    return f"{manifest.framework} {manifest.framework_version}, {norms} kept, {verified}"


def write_restored(fact: Restored, page: Page) -> None:
    """What became of each BatchNorm, and how the result was verified."""
    total = len(fact.outcomes)
    if fact.path:
        page.line(("wrote ", GOOD), (printable(fact.path), NAME), f"  {size(fact.size)}")
    else:
        page.line(("nothing was written", BAD), ": no BatchNorm could be restored")
    style = GOOD if fact.complete else DOUBT
    page.line((f"{fact.restored} of {many(total, 'BatchNorm')} restored", style), indent=2)
    page.pairs(
        [(printable(each.name), _told(each)) for each in fact.outcomes], indent=4, style=NAME
    )
    rows: list[tuple[str, list[Span]]] = []
    if fact.of:
        rows.append(
            ("tensors", [f"{fact.bitwise} of {fact.of} equal to the framework's in every bit"])
        )
    for label, check in (("stock", fact.with_stock), ("reference", fact.with_reference)):
        if check is not None:
            rows.append((label, [_agreement(check)]))
    page.pairs(rows)
    for note in fact.notes:
        page.line(("note: ", DOUBT), printable(note), indent=2, hang=6)


def _told(each: Outcome) -> list[Span]:
    where = f" {printable(each.where)}" if each.where else ""
    was = f"{_WAS[each.was]}{where}"
    if each.restored:
        return [("restored", GOOD), (f": {was}", FAINT)]
    return [("not restored", BAD), f": {was}; {printable(each.why_not)}"]


def _agreement(check: Agreement) -> Span:
    if check.undecided:
        return (f"could not be compared: {printable(check.undecided)}", DOUBT)
    sizes = " and ".join(map(str, check.batch_sizes))
    said = (
        f"outputs within {number(check.max_abs)}, where rounding explains up to "
        f"{number(check.tolerance)}; batches of {sizes}"
    )
    return said if check.within else (f"outputs differ: {said}", BAD)
