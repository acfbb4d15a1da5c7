"""The last step of both exports: verify, write the manifest into the model, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from inspector import __version__
from inspector.compare.runtime.run import Array
from inspector.export import protos
from inspector.export.references import Reference
from inspector.export.verify import ExpectedNorm, StoredNorm, check_norms, verify
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
from inspector.write.large import prepared
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
    wanted: Reference | None,
    norms: Sequence[ExpectedNorm],
    described: Description,
    *,
    opset: int,
) -> Export:
    """Verify the model, store what was found in it, and write it.

    A model of more than `LARGE` bytes has its weights in a file beside it.

    Parameters
    ----------
    wanted
        What the framework gives; None where nothing is to be run. BatchNorms are compared anyway.

    Raises
    ------
    inspector.errors.ExportDisagreesError
        See `inspector.export.verify.verify`.
    inspector.errors.UnreadableError
        The model is not valid ONNX, or the file cannot be written.
    """
    stored = protos.stored_norms(proto)

    def judged(model: bytes | Path) -> Manifest:
        weights = _Weights(proto, described, model.parent if isinstance(model, Path) else Path())
        found = _verified(model, wanted, norms, stored, weights, destination.name)
        manifest = _manifest(described, found)
        entry = proto.metadata_props.add()
        entry.key, entry.value = KEY, manifest.to_json()
        return manifest

    write = _in_two_files if protos.stored_bytes(proto) > LARGE else _in_one_file
    manifest, size = write(proto, destination, judged)
    return Export(
        path=str(destination),
        size=size,
        opset=opset,
        manifest=manifest,
        notes=(*described.notes, *_unverified(proto, wanted)),
    )


def _unverified(proto: ModelProto, wanted: Reference | None) -> list[str]:
    """What the user should know of outputs that nothing can be said of."""
    names = [each.name for each in proto.graph.output]
    return [
        f"output {names[at]!r} is random: the framework gives another each time, so it was not "
        "compared"
        for at in sorted(wanted.random if wanted is not None else ())
        if at < len(names)
    ]


LARGE = 1_500_000_000
"""Bytes of weights beyond which they lie in a file of their own; one file can hold 2 GiB."""

_Judge: TypeAlias = Callable[[bytes | Path], Manifest]
"""Verifies a model and writes what was found into it."""


def _in_one_file(proto: ModelProto, destination: Path, judged: _Judge) -> tuple[Manifest, int]:
    manifest = judged(protos.serialise(proto, name=destination.name))
    data = protos.serialise(proto, name=destination.name)
    save(data, destination)
    return manifest, len(data)


def _in_two_files(proto: ModelProto, destination: Path, judged: _Judge) -> tuple[Manifest, int]:
    with prepared(proto, destination) as made:
        protos.check(made.path, name=destination.name)
        manifest = judged(made.path)
        size = made.rewrite(proto)
        made.place()
    return manifest, size


def _verified(
    model: bytes | Path,
    wanted: Reference | None,
    norms: Sequence[ExpectedNorm],
    stored: Mapping[str, StoredNorm],
    weights: Mapping[str, Array],
    name: str,
) -> Verification | None:
    if wanted is None:
        check_norms(norms, stored, name=name)
        return None
    return verify(model, wanted, norms, stored, weights, name=name)


class _Weights(Mapping[str, Array]):
    """The framework's floating-point tensors by their initializers of the main graph.

    They are read each time, from the data in `folder` where they lie there: all of them at once are
    as much as the model.
    """

    def __init__(self, proto: ModelProto, described: Description, folder: Path) -> None:
        own = {each.name for each in described.tensors if not each.synthetic}
        self._stored = {
            each.name: each
            for each in proto.graph.initializer
            if each.name in own and protos.is_float(each)
        }
        self._folder = folder

    def __getitem__(self, name: str) -> Array:
        return protos.array(self._stored[name], self._folder)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def _manifest(described: Description, found: Verification | None) -> Manifest:
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
