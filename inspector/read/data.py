"""Where the bytes of a model's tensors lie: in its messages, in its own file, in data files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from inspector.errors import UnreadableError
from inspector.read.elements import (
    ELEMENTS_FIELD,
    FIELD_NUMBERS,
    RAW_DATA,
    stored_bytes,
    stored_elements,
)
from inspector.read.external import Extent, Folders, data_files_missing, fields_of
from inspector.read.protos import TensorProto
from inspector.read.strings import text

if TYPE_CHECKING:
    from inspector.read.source import Source
    from inspector.read.wire import Embedded

MESSAGE_LIMIT = 2**31 - 1
"""Most bytes of one message that protobuf's parsers take."""


class TensorData:
    """Finds and reads the bytes of one model's tensors.

    Parameters
    ----------
    where
        The model's path, for messages.
    folders
        Where data files may lie.
    source, token, embedded
        The file that a skeleton was made from, and what its stubs stand for
        (`inspector.read.wire.Skeleton`).

    Attributes
    ----------
    missing
        By location, how many of the tensors that were checked have a data file that is not there.
    """

    def __init__(
        self,
        where: str,
        folders: Folders,
        *,
        source: Source | None = None,
        token: str = "",
        embedded: Sequence[Embedded] = (),
    ) -> None:
        self.where = where
        self.missing: dict[str, int] = {}
        self.source = source
        self._folders = folders
        self._token = token
        self._embedded = embedded

    @property
    def files(self) -> tuple[str, ...]:
        """The real paths of the data files that were found so far."""
        return self._folders.found

    def check(self, tensor: TensorProto) -> None:
        """Hold the length of a tensor's data against its dims and type, and read none of it.

        Raises
        ------
        inspector.errors.UnreadableError
            They disagree, or the data lies where it must not.
        """
        if tensor.data_type == TensorProto.UNDEFINED:
            raise UnreadableError(
                f"tensor {text(tensor.name)!r} has no element type",
                where=self.where,
                hint="export the model again",
            )
        if is_outside(tensor):
            self._check_outside(tensor)
            return
        needed = stored_bytes(tensor)
        if tensor.HasField("raw_data"):
            held = len(tensor.raw_data)
            if needed is not None and held != needed:
                raise self._wrong_length(tensor, f"{needed:,} bytes", f"{held:,}")
            return
        field = ELEMENTS_FIELD.get(tensor.data_type)
        if field is not None:
            self._check_elements(tensor, len(getattr(tensor, field)))

    def _check_elements(self, tensor: TensorProto, held: int) -> None:
        wanted = stored_elements(tensor)
        if wanted != held:
            raise self._wrong_length(tensor, f"{wanted:,} elements", f"{held:,}")

    def _check_outside(self, tensor: TensorProto) -> None:
        embedded = self.embedded_of(tensor)
        if embedded is None:
            try:
                self._folders.locate(tensor, self.where)
            except FileNotFoundError:
                location = self.location(tensor)
                self.missing[location] = self.missing.get(location, 0) + 1
            return
        held = embedded.length if embedded.plain else embedded.entries.get(RAW_DATA)
        if held is None:
            field = FIELD_NUMBERS.get(ELEMENTS_FIELD.get(tensor.data_type, ""))
            if field is not None:
                self._check_elements(tensor, embedded.entries.get(field, 0))
            return
        needed = stored_bytes(tensor)
        if needed is not None and needed != held:
            raise self._wrong_length(tensor, f"{needed:,} bytes", f"{held:,}")

    def _wrong_length(self, tensor: TensorProto, needed: str, held: str) -> UnreadableError:
        dims = list(tensor.dims)
        return UnreadableError(
            f"tensor {text(tensor.name)!r} of dims {dims} takes {needed}, and its data has {held}",
            where=self.where,
            hint="export the model again",
        )

    def embedded_of(self, tensor: TensorProto) -> Embedded | None:
        """What a stub of the skeleton stands for; None for external data of the file's own."""
        entries = tensor.external_data
        if self._token and len(entries) == 2 and entries[0].value == self._token:
            return self._embedded[int(entries[1].value)]
        return None

    def location(self, tensor: TensorProto) -> str:
        """The data file of a tensor as the model names it; empty where the model holds it."""
        if not is_outside(tensor) or self.embedded_of(tensor) is not None:
            return ""
        return fields_of(tensor, self.where).get("location", "")

    def extent(self, tensor: TensorProto) -> Extent | None:
        """Where the plain bytes of an initializer lie in a file; None where they do not."""
        if not is_outside(tensor):
            return None
        embedded = self.embedded_of(tensor)
        if embedded is None:
            try:
                return self._folders.locate(tensor, self.where)
            except FileNotFoundError:
                raise data_files_missing({self.location(tensor): 1}, self.where) from None
        if self.source is None or not embedded.plain:
            return None
        path = Path(os.path.realpath(self.source.path))
        return Extent(path=path, offset=embedded.offset, length=embedded.length)

    def plain_bytes(self, tensor: TensorProto) -> bytes | None:
        """The bytes of the values of a tensor whose data lies outside of it.

        None where they are no stretch of a file, but fields of a message: see `filled`.

        Raises
        ------
        inspector.errors.UnreadableError
            The file is missing, has changed or fails.
        """
        embedded = self.embedded_of(tensor)
        if embedded is None:
            return self._folders.read(tensor, self.where)
        return self._read(embedded) if embedded.plain else None

    def _read(self, embedded: Embedded) -> bytes:
        assert self.source is not None  # there is no stub without the file it was made from
        with self.source.reading() as file:
            return file.read(embedded.offset, embedded.length)

    def length_outside(self, tensor: TensorProto) -> int:
        """How many bytes `filled` would read; 0 where the data file is missing."""
        embedded = self.embedded_of(tensor)
        if embedded is not None:
            return embedded.length
        try:
            return self._folders.locate(tensor, self.where).length
        except FileNotFoundError:
            return 0

    def filled(self, tensor: TensorProto) -> TensorProto:
        """A copy of a tensor with its data inside, wherever it lies now.

        Raises
        ------
        inspector.errors.UnreadableError
            See `plain_bytes`.
        """
        copy = TensorProto()
        copy.CopyFrom(tensor)
        if is_outside(copy):
            data = self.plain_bytes(copy)
            if data is None:
                return self._parsed(copy)
            copy.ClearField("external_data")
            copy.ClearField("data_location")
            copy.raw_data = data
        return copy

    def _parsed(self, stub: TensorProto) -> TensorProto:
        """The tensor that a stub stands for, as the official parser reads it."""
        embedded = self.embedded_of(stub)
        assert embedded is not None  # only a stub has no plain bytes
        why = "does not parse"
        if embedded.length > MESSAGE_LIMIT:
            why = f"takes {embedded.length:,} bytes, more than one protobuf message can hold"
        else:
            try:
                parsed: TensorProto = TensorProto.FromString(self._read(embedded))
                return parsed
            except DecodeError:
                pass
        raise UnreadableError(
            f"tensor {text(stub.name)!r} {why}", where=self.where, hint="export the model again"
        )


def is_outside(tensor: TensorProto) -> bool:
    """Whether a tensor's data lies elsewhere than in its message."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)
