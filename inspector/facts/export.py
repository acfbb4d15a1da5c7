"""What an export did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspector.facts.comparison import Comparison
    from inspector.facts.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A model file that was written and agrees with its framework.

    `notes` are things the user should know that are no errors: what ONNX cannot hold, what the
    export had to decide.
    """

    path: str
    size: int
    opset: int
    manifest: Manifest
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportComparison:
    """Two sources, what their exports did, and how the exported models compare.

    An export is None where the source was an ONNX file itself. `kept` says whether the exported
    files are still there.
    """

    sources: tuple[str, str]
    exports: tuple[Export | None, Export | None]
    kept: bool
    comparison: Comparison
