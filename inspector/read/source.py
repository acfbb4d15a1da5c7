"""A file that is read in pieces, and is known to have stayed the same between them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inspector.errors import UnreadableError
from inspector.read.formats import open_regular

if TYPE_CHECKING:
    from io import FileIO


class Reader:
    """Reads stretches of an open file.

    Reading, not mapping: a mapped file that another process cuts off kills this one with SIGBUS,
    and every page looked at counts as this process's memory, with its neighbours
    (docs/decisions/0006).
    """

    def __init__(self, file: FileIO, where: str) -> None:
        self._file = file
        self._where = where

    def read(self, offset: int, length: int) -> bytes:
        """The `length` bytes from `offset` on.

        Raises
        ------
        inspector.errors.UnreadableError
            The file ends before, or the file system fails.
        """
        try:
            self._file.seek(offset)
            first = self._file.read(length)
            if first is not None and len(first) == length:
                return first
            return self._rest(first or b"", length)
        except OSError as error:
            raise UnreadableError(
                f"cannot be read ({(error.strerror or str(error)).lower()})",
                where=self._where,
                hint="check the disk",
            ) from error

    def _rest(self, first: bytes, length: int) -> bytes:
        """The system may give less than it is asked for: 2 GiB at a time on Linux."""
        parts, missing = [first], length - len(first)
        while missing:
            part = self._file.read(missing)
            if not part:
                raise changed(self._where)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file as it was when it was first opened. `size` is in bytes."""

    path: Path
    size: int
    identity: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> Source:
        """Take note of a regular file.

        Raises
        ------
        inspector.errors.UnreadableError
            See `inspector.read.formats.open_regular`.
        """
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
        return cls(path=path, size=status.st_size, identity=_identity(status))

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Open the file for reading, for as long as the context lasts.

        Raises
        ------
        inspector.errors.UnreadableError
            It is gone, or no longer the file it was.
        """
        with open_regular(self.path) as file:
            if _identity(os.fstat(file.fileno())) != self.identity:
                raise changed(str(self.path))
            try:
                yield Reader(file, str(self.path))
            finally:
                # What was overwritten meanwhile is neither the old file nor the new one, and
                # whatever was found wrong with it is no fault of either.
                if _identity(os.fstat(file.fileno())) != self.identity:
                    raise changed(str(self.path))


def changed(where: str) -> UnreadableError:
    return UnreadableError(
        "the file changed while it was read", where=where, hint="try again once it is written"
    )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
