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
    from inspector.facts.inspection import Inspection
    from inspector.flows import compare_files, inspect_file

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Export",
    "Inspection",
    "InspectorError",
    "Verdict",
    "__version__",
    "compare_files",
    "export_keras",
    "export_torch",
    "inspect_file",
]

_HOME = {
    "Comparison": "inspector.facts.comparison",
    "Export": "inspector.facts.export",
    "Inspection": "inspector.facts.inspection",
    "InspectorError": "inspector.errors",
    "Verdict": "inspector.facts.comparison",
    "compare_files": "inspector.flows",
    "export_keras": "inspector.export",
    "export_torch": "inspector.export",
    "inspect_file": "inspector.flows",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
