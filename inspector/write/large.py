"""Write a model whose weights lie in a file beside it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from inspector.write.save import beside, explained

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

_LEAST = 1024
"""Bytes of a tensor that is put into the data file; smaller ones stay in the model."""

_ALIGNED = 4096
"""Where tensors begin: what can be mapped into memory by itself (onnx.proto, TensorProto)."""

_CHUNK = 2**20


class Prepared:
    """A model and its data in a folder of their own, until both take their places.

    `path` is where it can be run from meanwhile.
    """

    def __init__(self, path: Path, destination: Path, data: Path) -> None:
        self.path = path
        self._destination, self._data = destination, data

    def rewrite(self, proto: ModelProto) -> int:
        """Write the model again, whose tensors have not changed; its size and that of the data."""
        with explained(self._destination):
            self.path.write_bytes(proto.SerializeToString(deterministic=True))
        return self.path.stat().st_size + self.path.with_name(self._data.name).stat().st_size

    def place(self) -> None:
        """Put both in their places: the data first, under a name that no model reads yet.

        Whoever reads meanwhile sees the model that was there, with its own data, or the new one.
        """
        data = self.path.with_name(self._data.name)
        with explained(self._destination):
            if self._destination.exists():
                shutil.copymode(self._destination, self.path)
            for file in (data, self.path):
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            os.replace(data, self._data)
            os.replace(self.path, self._destination)


@contextmanager
def prepared(proto: ModelProto, destination: str | Path) -> Iterator[Prepared]:
    """Write a model and its data beside `destination`, to be put there when all is well.

    The data file is called after the model, ``model.onnx.data``; where there is one already, which
    another model may read, a part of its digest makes the name new. The tensors of `proto` then
    refer to it, and hold nothing themselves. Nothing is left of what is not placed.

    Raises
    ------
    inspector.errors.UsageError
        See `inspector.write.save.check_destination`.
    inspector.errors.UnreadableError
        The file system refuses: no space, no permission.
    """
    target, folder = beside(destination)
    try:
        with explained(destination):
            folder.mkdir()
            made = _written(proto, folder, target)
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what it held is placed, or the error is told


def _written(proto: ModelProto, folder: Path, target: Path) -> Prepared:
    moved = list(_large_tensors(proto))
    part = folder / "data"
    with part.open("xb") as data:
        spans = [_appended(tensor.raw_data, data) for tensor in moved]
    name = f"{target.name}.data"
    if target.with_name(name).exists():
        name = f"{target.name}.{_digest(part)}.data"
    part.rename(folder / name)
    for tensor, (offset, length) in zip(moved, spans, strict=True):
        _refer(tensor, name, offset, length)
    made = Prepared(folder / target.name, target, target.with_name(name))
    made.rewrite(proto)
    return made


def _large_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Initializers of every graph whose bytes are worth a place in the data file."""
    waiting = [proto.graph]
    while waiting:
        graph = waiting.pop()
        for tensor in graph.initializer:
            if len(tensor.raw_data) >= _LEAST:
                yield tensor
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _appended(values: bytes, data: BinaryIO) -> tuple[int, int]:
    """Where bytes have come to lie in the data file: offset and length."""
    data.write(bytes(-data.tell() % _ALIGNED))
    offset = data.tell()
    return offset, data.write(values)


def _refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    from onnx import TensorProto

    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")


def _digest(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as data:
        while chunk := data.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()[:12]
