"""What ``bninspect check --fix`` did, and what ``--diff`` shows that it would do."""

from __future__ import annotations

from collections.abc import Sequence

from inspector.facts.fix import FixedFile, Verified
from inspector.report.page import BAD, DOUBT, FAINT, GOOD, HEAD, Page
from inspector.report.words import many, number, printable

MOST = 4
"""Changes of one step that are named."""

_HANG = 2


def write_fixes(files: Sequence[FixedFile], page: Page) -> None:
    """What was fixed in each file, how that was verified, and what could not be fixed."""
    for file in files:
        name = printable(file.path)
        if file.verified:
            told = f"fixed {len(file.fixed):,} of {many(file.before, 'finding')} in {name}"
            kept = f" (backup {printable(file.backup)})" if file.backup else " (no backup)"
            page.line((told, GOOD), kept, hang=_HANG)
        elif not file.failure:
            told = f"fixed none of {many(file.before, 'finding')} in {name}"
            page.line((told, DOUBT), hang=_HANG)
        _write_details(file, page)


def write_would(files: Sequence[FixedFile], page: Page) -> None:
    """What would be fixed, in a line for each file."""
    for file in files:
        name = printable(file.path)
        if file.diff:
            rules = sorted({rule for each in file.verified for rule in each.rules})
            page.line((f"would fix {', '.join(rules)} in {name}", HEAD), hang=_HANG)
        _write_details(file, page)


def write_diff(files: Sequence[FixedFile], page: Page) -> None:
    """What would change in each file, as a unified diff of their nodes and tensors."""
    for file in files:
        for line in file.diff:
            text = printable(line)
            if line.startswith(("---", "+++")):
                page.exact((text, HEAD))
            elif line.startswith("@@"):
                page.exact((text, FAINT))
            elif line.startswith(("+", "-")):
                page.exact((text, GOOD if line.startswith("+") else BAD))
            else:
                page.exact(text)


def _write_details(file: FixedFile, page: Page) -> None:
    for each in file.verified:
        codes = ", ".join(each.rules)
        page.entry((f"  {codes}  ",), printable(_named(each.changed)))
        page.line((_how(each), FAINT), indent=9)
    for rule, whys in _by_rule(file).items():
        for why in whys[:MOST]:
            page.entry((f"  {rule}  ",), f"not fixed: {printable(why)}")
        if len(whys) > MOST:
            page.entry((f"  {rule}  ",), f"and {len(whys) - MOST:,} more not fixed")
    for note in file.notes:
        page.entry(("  note  ",), printable(note))
    if file.failure:
        page.line(
            ("error: ", BAD), f"{printable(file.path)}: {printable(file.failure)}", hang=_HANG
        )


def _by_rule(file: FixedFile) -> dict[str, list[str]]:
    """Why findings were not fixed, by their rules; each reason once."""
    found: dict[str, dict[str, None]] = {}
    for each in file.refused:
        found.setdefault(each.finding.rule, {})[each.why] = None
    return {rule: list(whys) for rule, whys in found.items()}


def _named(changes: Sequence[str]) -> str:
    more = len(changes) - MOST
    return "; ".join(changes[:MOST]) + (f"; and {more:,} more" if more > 0 else "")


def _how(each: Verified) -> str:
    """How a step was verified, and how far the outputs moved."""
    far = ""
    if each.max_abs is None or each.relative is None:
        far = "how far outputs move is not known, for the file did not run before"
    elif each.max_abs == 0:
        far = "the outputs are the same"
    elif each.same:
        far = f"outputs differ by at most {number(each.max_abs)}"
    else:
        share = f"{number(100 * each.relative)} % of their scale"
        far = f"outputs move by at most {number(each.max_abs)}, {share}"
    if each.same:
        bits = "; the parameters are the same in every bit" if "BN032" in each.rules else ""
        return f"compare says {each.verdict}: {far}{bits}"
    return f"nothing else has changed; {far}"
