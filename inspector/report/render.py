"""Choose the module that writes a format; none is imported before it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from inspector.facts.comparison import Comparison
    from inspector.facts.export import Export, ExportComparison
    from inspector.facts.finding import Check
    from inspector.facts.inspection import Inspection
    from inspector.facts.reconciliation import Explanation, Reconciliation
    from inspector.facts.restored import Restored
    from inspector.facts.table import Table

Fact: TypeAlias = (
    "Inspection | Comparison | Export | Table | Reconciliation | Explanation | ExportComparison "
    "| Restored | Check"
)

FORMATS = ("text", "json", "csv", "markdown", "sarif", "junit", "github")
"""Of these, csv is for tables alone, markdown for them and checks, the last three for checks."""

_TEXTS = {
    "Inspection": ("text_inspection", "write_inspection"),
    "Table": ("tables", "write_table"),
    "Reconciliation": ("text_reconciliation", "write_reconciliation"),
    "Explanation": ("text_reconciliation", "write_explanation"),
    "Comparison": ("text_comparison", "write_comparison"),
    "Check": ("text_check", "write_check"),
    "Export": ("text_export", "write_export"),
    "Restored": ("text_pipelines", "write_restored"),
    "ExportComparison": ("text_pipelines", "write_export_comparison"),
}

_CHECKS = {
    "sarif": ("inspector.report.sarif", "to_sarif"),
    "junit": ("inspector.report.junit", "to_junit"),
    "github": ("inspector.report.github", "to_github"),
    "markdown": ("inspector.report.markdown_check", "to_markdown"),
}


def render(fact: Fact, format: str, *, width: int = 80, color: bool = False) -> str:
    """A report of `fact`, ending in a newline.

    Parameters
    ----------
    format
        One of `FORMATS`.
    width, color
        Of the terminal; other formats than text take no notice.
    """
    if format == "json":
        from inspector.report.json import to_json

        return to_json(fact)
    if format == "text":
        return _to_text(fact, width, color)
    from inspector.facts.finding import Check

    if isinstance(fact, Check) and format in _CHECKS:
        module, name = _CHECKS[format]
        written: str = getattr(import_module(module), name)(fact)
        return written
    from inspector.facts.reconciliation import Explanation, Reconciliation
    from inspector.facts.table import Table

    if isinstance(fact, Reconciliation | Explanation):
        from inspector.report.text_reconciliation import as_table

        fact = as_table(fact)
    if isinstance(fact, Table) and format in FORMATS:
        from inspector.report.plain_tables import to_csv, to_markdown

        return to_csv(fact) if format == "csv" else to_markdown(fact)
    raise ValueError(f"format {format!r} is not one of {FORMATS}")


def _to_text(fact: Fact, width: int, color: bool) -> str:
    from inspector.report.page import Page

    page = Page(width=width, color=color)
    # By its name: other facts than the one at hand are not imported to ask whether it is one.
    module, name = _TEXTS[type(fact).__name__]
    getattr(import_module(f"inspector.report.{module}"), name)(fact, page)
    return page.text()
