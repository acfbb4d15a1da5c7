"""What a reader of a report has to know about the file itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspector.facts.model import Model


def remarks(model: Model) -> tuple[str, ...]:
    """Notes for the report: what is missing of the file, or unusual about it."""
    from inspector.recognise.operators import BLOCKED, is_blocked

    found = list(model.notes)
    if model.missing_data:
        from inspector.read.external import listed_missing

        found.append(
            "values are unknown where data files are missing: "
            f"{listed_missing(model.missing_data)}; put them beside the model, or name their "
            "folder with --external-dir"
        )
    if not model.graph.nodes:
        found.append("the graph has no nodes")
    if any(is_blocked(node) for node in model.graph.nodes):
        found.append(
            "ONNX Runtime has optimised this file for one kind of processor "
            f"({BLOCKED}): BatchNorms that it folded into such operators leave no trace"
        )
    if not model.opsets:
        found.append("the file names no operator set: read as opset 1")
    return tuple(found)
