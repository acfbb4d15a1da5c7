"""Messages between the process that judges and the one that runs models: JSON, then raw arrays.

No pickle: what comes back was computed by a model from anyone, in a process that it may have
brought to its knees.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Header: TypeAlias = dict[str, Any]
Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_LENGTHS = struct.Struct("<QQ")
"""Bytes of the JSON, and bytes of what follows it."""

_MOST_JSON = 2**28


class FrameError(ConnectionError):
    """The other side is gone, or sends what is no message."""


def send(to: IO[bytes], header: Header, arrays: Arrays, data: bytes = b"") -> None:
    """Send one message: a header, named arrays, and bytes.

    Raises
    ------
    OSError
        The other side is gone.
    """
    described, parts = [], []
    for name, values in arrays.items():
        if values.dtype.kind in "OUS":
            described.append({"name": name, "shape": values.shape, "texts": _texts(values)})
            continue
        whole = np.ascontiguousarray(values)
        described.append({"name": name, "shape": values.shape, "dtype": whole.dtype.str})
        parts.append(whole.reshape(-1).view(np.uint8).data if whole.size else b"")
    parts.append(data)
    text = json.dumps({**header, "arrays": described, "data": len(data)}).encode()
    to.write(_LENGTHS.pack(len(text), sum(len(each) for each in parts)) + text)
    for each in parts:
        to.write(each)
    to.flush()


def receive(source: IO[bytes]) -> tuple[Header, dict[str, NDArray[Any]], bytes]:
    """The next message.

    Raises
    ------
    FrameError
        There is none any more.
    """
    length, size = _LENGTHS.unpack(bytes(_exactly(source, _LENGTHS.size)))
    if length > _MOST_JSON:
        raise FrameError(f"a header of {length} bytes")
    header = json.loads(bytes(_exactly(source, length)))
    arrays: dict[str, NDArray[Any]] = {}
    for each in header.pop("arrays"):
        shape = tuple(each["shape"])
        if "texts" in each:
            arrays[each["name"]] = np.array(each["texts"], dtype=object).reshape(shape)
            continue
        dtype = np.dtype(each["dtype"])
        count = int(np.prod(shape, dtype=np.int64))
        content = _exactly(source, count * dtype.itemsize)
        size -= len(content)
        arrays[each["name"]] = np.frombuffer(content, dtype).reshape(shape)
    data = bytes(_exactly(source, header.pop("data")))
    if size != len(data):
        raise FrameError("a message of another length than it says")
    return header, arrays, data


def _texts(values: NDArray[Any]) -> list[str]:
    return [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each)
        for each in values.reshape(-1)
    ]


def _exactly(source: IO[bytes], count: int) -> bytearray:
    content = bytearray(count)
    view, at = memoryview(content), 0
    while at < count:
        got = source.readinto(view[at:])  # type: ignore[attr-defined]  # IO names it not
        if not got:
            raise FrameError("the other side is gone")
        at += got
    return content
