"""The list of rules, and the page of one, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from inspector.facts.finding import RuleInfo, Severity, Threshold
from inspector.report.page import BAD, DOUBT, FAINT, HEAD, NAME, Page
from inspector.report.words import many

_STYLES = {Severity.ERROR: BAD, Severity.WARNING: DOUBT, Severity.INFO: NAME}


def write_rules(rules: Sequence[RuleInfo], page: Page) -> None:
    """Write a line for each rule: code, severity, name and what it looks for."""
    names = max((len(rule.name) for rule in rules), default=0)
    for rule in rules:
        lead = (
            (rule.code, HEAD),
            "  ",
            (rule.severity.ljust(len("warning")), _STYLES[rule.severity]),
            "  ",
            (rule.name.ljust(names), NAME),
            "  ",
        )
        page.entry(lead, rule.summary)
    page.blank()
    page.line(f"{many(len(rules), 'rule')}; `bninspect explain CODE` says more of one", hang=2)


def write_rule(rule: RuleInfo, page: Page) -> None:
    """Write all that a rule says of itself."""
    page.line(
        (rule.code, HEAD),
        "  ",
        (rule.name, NAME),
        "  ",
        (rule.severity.value, _STYLES[rule.severity]),
        f", {rule.confidence}",
        hang=2,
    )
    page.blank()
    page.line(rule.summary)
    page.heading("Why it matters")
    page.line(rule.why, indent=2)
    page.heading("What to do")
    page.line(_sentence(rule.remedy), indent=2)
    if rule.fix:
        page.heading("What --fix does")
        page.line(_sentence(rule.fix), indent=2)
    if rule.thresholds:
        page.heading("Options", f"--set {rule.code}.NAME=VALUE")
        page.pairs([(each.name, [_option(each)]) for each in rule.thresholds], style=NAME)
    if rule.baseline:
        _model("The release before, which --baseline names", rule.baseline, page)
    _model("A model that it finds", rule.bad, page)
    _model("A model that it does not find", rule.good, page)


def _option(each: Threshold) -> str:
    return f"{each.what} [default: {each.default:g}; {ends(each)}]"


def ends(each: Threshold) -> str:
    """What a threshold may be."""
    if each.most == float("inf"):
        return f"x>={each.least:g}"
    return f"{each.least:g}<=x<={each.most:g}"


def _model(title: str, text: str, page: Page) -> None:
    page.heading(title)
    for line in text.strip("\n").splitlines():
        page.exact("  ", (line, FAINT))


def _sentence(text: str) -> str:
    """A remedy as a sentence of its own."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."
