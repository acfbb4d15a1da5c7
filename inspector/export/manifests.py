"""The last step of both exports: verify, write the manifest into the model, save."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inspector import __version__
from inspector.compare.run import Array
from inspector.export import protos
from inspector.export.verify import ExpectedNorm, Reference, verify
from inspector.facts.export import Export
from inspector.facts.manifest import (
    KEY,
    FrameworkTotals,
    Manifest,
    NotExported,
    SourceBatchNorm,
    SourceLayer,
    SourceTensor,
    Verification,
)
from inspector.write.save import save

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What an export says about its source, before it is verified."""

    framework: str
    version: str
    exporter: str
    tensors: tuple[SourceTensor, ...]
    batchnorms: tuple[SourceBatchNorm, ...]
    not_exported: tuple[NotExported, ...]
    totals: FrameworkTotals
    notes: tuple[str, ...]
    layers: tuple[SourceLayer, ...] = ()


def finish(
    proto: ModelProto,
    destination: Path,
    wanted: Reference,
    norms: Sequence[ExpectedNorm],
    described: Description,
    *,
    opset: int,
) -> Export:
    """Verify the model, store what was found in it, and write it.

    Raises
    ------
    inspector.errors.ExportDisagreesError
        See `inspector.export.verify.verify`.
    inspector.errors.UnreadableError
        The model is not valid ONNX or too large, or the file cannot be written.
    """
    name = destination.name
    found = verify(
        protos.serialise(proto, name=name),
        wanted,
        norms,
        protos.stored_norms(proto),
        _weights(proto, described),
        name=name,
    )
    manifest = _manifest(described, found)
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, manifest.to_json()
    data = protos.serialise(proto, name=name)
    save(data, destination)
    return Export(
        path=str(destination),
        size=len(data),
        opset=opset,
        manifest=manifest,
        notes=described.notes,
    )


def _weights(proto: ModelProto, described: Description) -> dict[str, Array]:
    """The framework's floating-point tensors, by the initializer of the main graph they are in."""
    own = {each.name for each in described.tensors if not each.synthetic}
    arrays = {e.name: protos.array(e) for e in proto.graph.initializer if e.name in own}
    return {name: values for name, values in arrays.items() if values.dtype.kind == "f"}


def _manifest(described: Description, found: Verification) -> Manifest:
    return Manifest(
        tool=f"bninspect {__version__}",
        framework=described.framework,
        framework_version=described.version,
        exporter=described.exporter,
        tensors=described.tensors,
        batchnorms=described.batchnorms,
        not_exported=described.not_exported,
        totals=described.totals,
        verification=found,
        layers=described.layers,
    )
