"""Copies of a model that another reader can open."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from inspector.errors import UnreadableError
from inspector.read.data import TensorData, is_outside
from inspector.read.external import Extent
from inspector.read.protos import ModelProto, TensorProto
from inspector.read.tensors import tensors_of

SMALL = 4096
"""Bytes up to which a tensor may be a shape or axes, whose values the structure depends on."""


def is_one_file(proto: ModelProto, data: TensorData) -> bool:
    """Whether a model is one binary file, with no data file beside it."""
    outside = (each for each in tensors_of(proto) if is_outside(each))
    return data.source is not None and all(data.embedded_of(each) for each in outside)


def linked(proto: ModelProto, data: TensorData, limit: int) -> tuple[ModelProto, str]:
    """A copy of the model that another reader can open, and the folder it names files from.

    Large initializers of the main graph stay where they lie, be it in the model's own file:
    the copy names that file by its real path, relative to the folder, as external data. All
    other data is inside.

    Raises
    ------
    inspector.errors.UnreadableError
        What has to be inside takes over `limit` bytes, or a data file is missing or fails.
    """
    copy = ModelProto()
    copy.CopyFrom(proto)
    copy.ClearField("training_info")
    extents = [data.extent(each) for each in copy.graph.initializer]
    # ONNX Runtime reads shapes and axes before it opens any data file.
    extents = [each if each and each.length > SMALL else None for each in extents]
    folder = _common_folder(each.path for each in extents if each is not None)
    inside = []
    for at, tensor in enumerate(tensors_of(copy)):
        if not is_outside(tensor):
            continue
        extent = extents[at] if at < len(extents) else None
        if extent is None or folder is None:
            inside.append(tensor)
        else:
            _link(tensor, extent, folder)
    size = copy.ByteSize() + sum(data.length_outside(each) for each in inside)
    if size > limit:
        raise UnreadableError(
            f"a copy of it would take {size:,} bytes, more than one message can hold",
            where=data.where,
            hint="save it with external data",
        )
    for tensor in inside:
        tensor.CopyFrom(data.filled(tensor))
    return copy, str(folder or "")


def _common_folder(paths: Iterable[Path]) -> Path | None:
    """The folder that holds all these files; None where there is none, or none that ONNX names."""
    try:
        folder = Path(os.path.commonpath({str(each.parent) for each in paths}))
        str(folder).encode()
    # No path at all, paths on several drives, or names that are no text.
    except ValueError:
        return None
    return folder


def _link(tensor: TensorProto, extent: Extent, folder: Path) -> None:
    """Name the stretch of a file that holds a tensor's data."""
    del tensor.external_data[:]
    for key, value in (
        ("location", extent.path.relative_to(folder).as_posix()),
        ("offset", str(extent.offset)),
        ("length", str(extent.length)),
    ):
        tensor.external_data.add(key=key, value=value)
