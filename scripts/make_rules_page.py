"""Write docs/rules.md from what the rules say of themselves.

Usage: python scripts/make_rules_page.py [--check]

``--check`` writes nothing and fails where the page says something else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from inspector.check.rules import RULES
from inspector.facts.finding import RuleInfo
from inspector.report.text_rules import ends

PAGE = Path(__file__).resolve().parent.parent / "docs" / "rules.md"
HEAD = """# Rules

What `bninspect check` looks for, from `bninspect explain CODE` for all rules. Written by
`python scripts/make_rules_page.py`: what is to be changed here is changed in
`inspector/check/rules/`.

Severities: an error makes results wrong or unstable, a warning is probably a mistake, an info is an
opportunity. Options are set with `--set CODE.NAME=VALUE`, or in the configuration under
`[tool.bninspect.options.CODE]`. Models are in
[ONNX's text form](https://onnx.ai/onnx/repo-docs/Syntax.html); they are of opset 17 where they do
not say (`<ir_version: 8, opset_import: ["": 17]>` goes in front), and what is declared without
values stands for a stored tensor of any.
"""


def main(check: bool) -> int:
    new = page(tuple(rule.info for rule in RULES))
    if not check:
        PAGE.write_text(new, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != new:
        sys.exit("docs/rules.md says something else: python scripts/make_rules_page.py")
    return 0


def page(rules: tuple[RuleInfo, ...]) -> str:
    """The page in Markdown."""
    table = [
        "| code | severity | name | looks for |",
        "|---|---|---|---|",
        *(
            f"| [{rule.code}](#{_anchor(rule)}) | {rule.severity} | {rule.name} | "
            f"{rule.summary.replace('|', chr(92) + '|')} |"
            for rule in rules
        ),
    ]
    sections = ("\n".join(section(rule)) for rule in rules)
    return "\n".join([HEAD, *table, "", *sections])


def section(rule: RuleInfo) -> Iterator[str]:
    """What stands of one rule, line by line."""
    yield f"## {rule.code} {rule.name}"
    yield ""
    yield f"{rule.summary} Severity: {rule.severity}; confidence: {rule.confidence}."
    yield ""
    yield f"**Why it matters.** {rule.why}"
    yield ""
    yield f"**What to do.** {_sentence(rule.remedy)}"
    yield ""
    if rule.fix:
        yield f"**What `--fix` does.** {_sentence(rule.fix)}"
        yield ""
    if rule.thresholds:
        yield "| option | default | range | what it is |"
        yield "|---|---|---|---|"
        for each in rule.thresholds:
            yield f"| `{each.name}` | {each.default:g} | {ends(each)} | {each.what} |"
        yield ""
    if rule.baseline:
        yield from _model("The release before, which `--baseline` names:", rule.baseline)
    yield from _model("A model that it finds:", rule.bad)
    yield from _model("A model that it does not find:", rule.good)


def _model(title: str, text: str) -> Iterator[str]:
    yield title
    yield ""
    yield "```"
    yield text.strip("\n")
    yield "```"
    yield ""


def _anchor(rule: RuleInfo) -> str:
    return f"{rule.code.lower()}-{rule.name}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
