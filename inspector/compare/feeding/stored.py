"""Arrays in .npy and .npz files, opened without trusting them and read a few rows at a time.

Never a pickle, and nothing before what its header says has been held against the file's size.
"""

from __future__ import annotations

import struct
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.errors import UnreadableError

MOST_HEADER = 10_000
"""Characters of a header; NumPy evaluates them."""

MOST_MEMBERS = 10_000
"""Arrays in one file."""

_CHUNK = 2**20

_BROKEN: tuple[type[Exception], ...] = (
    ValueError,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # a compression that this Python lacks
    RecursionError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise on files that are broken, by accident or on purpose."""

with suppress(ImportError):  # Pythons are built without it
    import lzma

    _BROKEN = (*_BROKEN, lzma.LZMAError)


class Stored(ABC):
    """An array in a file. `where` is how messages name it."""

    name: str
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, start: int, stop: int) -> Array:
        """Rows from `start` to below `stop`; all of it where it has no rows.

        Raises
        ------
        inspector.errors.UnreadableError
            The file is cut off or broken there.
        """
        with readable(self.where):
            whole = self._open(stop)
            return np.array(whole[start:stop] if self.shape else whole)

    @abstractmethod
    def _open(self, stop: int) -> Array:
        """An array that holds all rows below `stop` at least, without reading them."""


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turn what a broken file makes others raise into one line."""
    try:
        yield
    except UnreadableError:
        raise
    except FileNotFoundError:
        raise UnreadableError("there is no such file", where=where) from None
    except _BROKEN as error:
        lines = str(error).strip().splitlines()
        why = lines[0] if lines else type(error).__name__
        if "pickle" in str(error) or "Python objects" in str(error):
            why = "it holds Python objects, which are not loaded"
        raise UnreadableError(
            f"it is no array that can be read: {why}",
            where=where,
            hint="write it with numpy.save or numpy.savez",
        ) from error


class _File(Stored):
    """An .npy file, mapped."""

    def __init__(self, path: Path) -> None:
        self.name, self.where = path.stem, str(path)
        with readable(self.where):
            with path.open("rb") as file:
                shape, _, dtype = _header(file)
                _check(shape, dtype, path.stat().st_size - file.tell(), self.where)
            self._values = (
                np.lib.format.open_memmap(path, mode="r", max_header_size=MOST_HEADER)
                if prod(shape)
                else np.empty(shape, dtype)
            )
        self.shape, self.dtype = shape, dtype

    def _open(self, stop: int) -> Array:
        return cast(Array, self._values)


class _Member(Stored):
    """An array in an .npz file, unpacked to a temporary file as far as it is asked for."""

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self.name = info.filename.removesuffix(".npy")
        self.where = f"{path}, array {self.name!r}"
        self._path, self._info = path, info
        with (
            readable(self.where),
            zipfile.ZipFile(path) as archive,
            archive.open(info) as file,
        ):
            self.shape, self._fortran, self.dtype = _header(file)
            self._begin = file.tell()
        _check(self.shape, self.dtype, info.file_size - self._begin, self.where)
        self._unpacked: Array | None = None
        self._rows = -1

    def _open(self, stop: int) -> Array:
        all_rows = self.shape[0] if self.shape else 0
        # Columns first means that no row is whole before the last byte.
        rows = all_rows if self._fortran else min(stop, all_rows)
        if self._unpacked is None or rows > self._rows:
            # Twice as many each time, so that all of it is unpacked in about two passes.
            rows = min(all_rows, max(rows, 2 * self._rows))
            self._unpacked, self._rows = self._unpack(rows), rows
        return self._unpacked

    def _unpack(self, rows: int) -> Array:
        shape = (rows, *self.shape[1:]) if self.shape else ()
        left = prod(shape) * self.dtype.itemsize
        if not left:
            return np.empty(shape, self.dtype)
        # The mapping outlives the file's handle, and the file goes with it.
        with (
            tempfile.TemporaryFile() as to,
            zipfile.ZipFile(self._path) as archive,
            archive.open(self._info) as file,
        ):
            file.read(self._begin)
            while left:
                chunk = file.read(min(_CHUNK, left))
                if not chunk:
                    raise EOFError("it is cut off")
                to.write(chunk)
                left -= len(chunk)
            to.flush()
            flat: Array = np.memmap(to, self.dtype, "r")
        return flat.reshape(shape, order="F" if self._fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version in readers:
        try:
            return readers[version](file, max_header_size=MOST_HEADER)
        except _BROKEN:
            raise
        except Exception as error:  # NumPy reads it as Python: whatever that can raise
            raise ValueError("its header makes no sense") from error
    raise ValueError(f"version {version[0]}.{version[1]} of the format is for records")


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], size: int, where: str) -> None:
    if dtype.hasobject:
        raise UnreadableError("it holds Python objects, which are not loaded", where=where)
    if dtype.kind not in "fiubUS":
        raise UnreadableError(f"it holds {dtype}, which is fed to no model", where=where)
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize > size:
        raise UnreadableError(
            f"its header says {list(shape)} of {dtype.name}, and there are {max(size, 0):,} bytes",
            where=where,
            hint="it is cut off or broken: write it again",
        )


def open_array(path: Path) -> Stored:
    """An .npy file.

    Raises
    ------
    inspector.errors.UnreadableError
        It is none.
    """
    _check_regular(path)
    return _File(path)


def open_archive(path: Path) -> dict[str, Callable[[], Stored]]:
    """What opens the arrays of an .npz file, by name; it raises as `open_array` does.

    Raises
    ------
    inspector.errors.UnreadableError
        It is none.
    """
    _check_regular(path)
    with readable(str(path)), zipfile.ZipFile(path) as archive:
        infos = {each.filename: each for each in archive.infolist()}
    if len(infos) > MOST_MEMBERS:
        raise UnreadableError(f"it holds {len(infos):,} arrays", where=str(path))
    return {
        name.removesuffix(".npy"): partial(_Member, path, each)
        for name, each in infos.items()
        if name.endswith(".npy")
    }


def _check_regular(path: Path) -> None:
    """Reading a pipe would wait for whoever writes into it."""
    with readable(str(path)):
        if path.exists() and not path.is_file():
            raise UnreadableError("it is no file", where=str(path))
