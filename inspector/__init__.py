"""The framework-neutral judge of BatchNorm in ONNX models.

Everything public is imported on first use, so that ``import inspector`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspector.errors import InspectorError
    from inspector.export import export_keras, export_torch
    from inspector.facts.comparison import Comparison, Verdict
    from inspector.facts.export import Export
    from inspector.facts.finding import Check, CheckSettings
    from inspector.facts.fix import FixOptions
    from inspector.facts.inspection import Inspection
    from inspector.facts.reconciliation import Explanation, Reconciliation
    from inspector.facts.summary import Summary
    from inspector.facts.table import Table
    from inspector.flows import (
        compare_files,
        explain_total,
        inspect_file,
        reconcile_files,
        summarise_file,
        summary_table,
    )
    from inspector.flows.check import check_files
    from inspector.flows.fix import fix_files
    from inspector.pipelines import export_compare, restore_file

__version__ = "0.1.0"

__all__ = [
    "Check",
    "CheckSettings",
    "Comparison",
    "Explanation",
    "Export",
    "FixOptions",
    "Inspection",
    "InspectorError",
    "Reconciliation",
    "Summary",
    "Table",
    "Verdict",
    "__version__",
    "check_files",
    "compare_files",
    "explain_total",
    "export_compare",
    "export_keras",
    "export_torch",
    "fix_files",
    "inspect_file",
    "reconcile_files",
    "restore_file",
    "summarise_file",
    "summary_table",
]

_HOME = {
    "Check": "inspector.facts.finding",
    "CheckSettings": "inspector.facts.finding",
    "Comparison": "inspector.facts.comparison",
    "Explanation": "inspector.facts.reconciliation",
    "Export": "inspector.facts.export",
    "Inspection": "inspector.facts.inspection",
    "InspectorError": "inspector.errors",
    "Reconciliation": "inspector.facts.reconciliation",
    "Summary": "inspector.facts.summary",
    "Table": "inspector.facts.table",
    "Verdict": "inspector.facts.comparison",
    "check_files": "inspector.flows.check",
    "fix_files": "inspector.flows.fix",
    "FixOptions": "inspector.facts.fix",
    "compare_files": "inspector.flows",
    "explain_total": "inspector.flows",
    "export_compare": "inspector.pipelines",
    "export_keras": "inspector.export",
    "export_torch": "inspector.export",
    "inspect_file": "inspector.flows",
    "reconcile_files": "inspector.flows",
    "restore_file": "inspector.pipelines",
    "summarise_file": "inspector.flows",
    "summary_table": "inspector.flows",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
