"""External data files: opened only inside the model's own folder, links resolved.

A model file names its data files, and a model comes from anyone: CVE-2022-25882 and
CVE-2024-27318 read any file of the machine through such names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx

from inspector.errors import UnreadableError
from inspector.read.strings import text


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """A stretch of a data file, in bytes."""

    path: Path
    offset: int
    length: int


def missing_files(tensors: Iterable[onnx.TensorProto], where: str) -> dict[str, int]:
    """Check that data files are contained and long enough; count the tensors without theirs.

    No data is read. A graph without its data still answers questions, so a missing file is a
    fact here and an error only for whoever needs the values.

    Raises
    ------
    inspector.errors.UnreadableError
        A location leads out of the model's folder, or a file is too short.
    """
    missing: dict[str, int] = {}
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            try:
                locate(tensor, where)
            except FileNotFoundError:
                location = _fields(tensor)["location"]
                missing[location] = missing.get(location, 0) + 1
    return missing


def read_external(tensor: onnx.TensorProto, where: str) -> bytes:
    """The bytes of one externally stored tensor."""
    try:
        extent = locate(tensor, where)
    except FileNotFoundError:
        raise data_files_missing({_fields(tensor)["location"]: 1}, where) from None
    try:
        with extent.path.open("rb") as file:
            file.seek(extent.offset)
            data = file.read(extent.length)
    except OSError as error:
        raise _unreadable(tensor, where, error) from error
    if len(data) != extent.length:
        raise _refused(tensor, where, "its data file became shorter while it was read")
    return data


def data_files_missing(missing: Mapping[str, int], where: str) -> UnreadableError:
    """The one message for data files that are not there, however many tensors they hold."""
    files = ", ".join(
        f"{name!r} ({count} {'tensor' if count == 1 else 'tensors'})"
        for name, count in missing.items()
    )
    return UnreadableError(
        f"data files are missing: {files}",
        where=where,
        hint="put them beside the model",
    )


def locate(tensor: onnx.TensorProto, where: str) -> Extent:
    """Where a tensor's bytes lie, once that is known to be safe.

    Raises
    ------
    FileNotFoundError
        The data file does not exist.
    inspector.errors.UnreadableError
        The location leads out of the model's folder, or the file is too short.
    """
    fields = _fields(tensor)
    location = fields.get("location", "")
    path = _contained(tensor, location, where)
    try:
        status = path.stat()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _unreadable(tensor, where, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise _refused(tensor, where, f"its data file {location!r} is not a regular file")
    size, needed = status.st_size, stored_bytes(tensor)
    try:
        offset = int(fields.get("offset", "0"))
        length = int(fields["length"]) if "length" in fields else needed
    except ValueError:
        raise _refused(tensor, where, "its offset or length is not a number") from None
    if length is None:
        length = size - offset
    if needed is not None and length != needed:
        raise _refused(tensor, where, f"it takes {needed:,} bytes, and its data has {length:,}")
    if offset < 0 or length < 0 or offset + length > size:
        raise _refused(
            tensor,
            where,
            f"bytes {offset:,} to {offset + length:,} lie outside {location!r} of {size:,} bytes",
        )
    return Extent(path=path, offset=offset, length=length)


def _fields(tensor: onnx.TensorProto) -> dict[str, str]:
    return {text(entry.key): text(entry.value) for entry in tensor.external_data}


def stored_bytes(tensor: onnx.TensorProto) -> int | None:
    """Bytes that a tensor of this type and these dims takes; None where the type has no size."""
    bits = _BITS.get(tensor.data_type)
    return None if bits is None else (prod(tensor.dims) * bits + 7) // 8


_BITS = {
    number: bits
    for bits, names in {
        2: "UINT2 INT2",
        4: "UINT4 INT4 FLOAT4E2M1",
        8: "UINT8 INT8 BOOL FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT8E8M0",
        16: "UINT16 INT16 FLOAT16 BFLOAT16",
        32: "UINT32 INT32 FLOAT",
        64: "UINT64 INT64 DOUBLE COMPLEX64",
        128: "COMPLEX128",
    }.items()
    for name in names.split()
    # Older releases of onnx lack the newest types.
    if (number := dict(onnx.TensorProto.DataType.items()).get(name)) is not None
}


def _contained(tensor: onnx.TensorProto, location: str, where: str) -> Path:
    pure = Path(location)
    if not location or "\0" in location or pure.is_absolute() or ".." in pure.parts:
        raise _refused(tensor, where, f"its data location {location!r} is not a plain file name")
    folder = Path(where).parent
    resolved = Path(os.path.realpath(folder / pure))
    # Hugging Face's cache links model and data alike into one folder of blobs.
    allowed = {Path(os.path.realpath(folder)), Path(os.path.realpath(where)).parent}
    if not any(resolved.is_relative_to(each) for each in allowed):
        raise _refused(
            tensor, where, f"its data location {location!r} leads out of the model's folder"
        )
    return resolved


def _refused(tensor: onnx.TensorProto, where: str, why: str) -> UnreadableError:
    return UnreadableError(
        f"tensor {text(tensor.name)!r}: {why}",
        where=where,
        hint="data files must lie beside the model, as the exporter left them",
    )


def _unreadable(
    tensor: onnx.TensorProto, where: str, error: OSError | ValueError
) -> UnreadableError:
    location = _fields(tensor)["location"]
    why = str(getattr(error, "strerror", None) or error).lower()
    return _refused(tensor, where, f"its data file {location!r} cannot be read ({why})")
