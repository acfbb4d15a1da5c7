"""External data files: opened only inside the folders that belong to the model, links resolved.

A model names its data files, and a model comes from anyone. Such names read any file of the
machine through ``..`` (CVE-2022-25882, CVE-2024-27318), through links in the last component or
in a folder on the way (CVE-2026-27489, CVE-2026-34446), or beyond a file's end (CVE-2026-34447).

A data file with more than one hard link is refused, as onnx itself refuses it: it may be a file
of any folder under a second name, and no path tells. Whoever names its folder vouches for it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from inspector.errors import UnreadableError, UsageError
from inspector.read.elements import dtype_name, stored_bytes
from inspector.read.formats import HEAD, open_regular
from inspector.read.plaintext import decoded, name_pointer
from inspector.read.protos import TensorProto
from inspector.read.strings import text

_MEMORY_TAG = "*/_ORT_MEM_ADDR_"
"""Locations that begin so are ONNX Runtime's own: it takes the offset for a memory address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """A stretch of a data file, in bytes."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A data file as it was when it was checked."""

    path: Path
    size: int
    identity: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> _File:
        identity = (status.st_dev, status.st_ino, status.st_nlink, status.st_mtime_ns)
        return cls(path=path, size=status.st_size, identity=identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the data files of one model may lie.

    Attributes
    ----------
    home
        The model's folder: locations are relative to it.
    blobs
        The folder that the model itself lies in where its path is a link. Hugging Face's cache
        links model and data alike into one such folder; a link to a model elsewhere has its data
        beside what it leads to.
    others
        Folders that the user named; a data file that is not at home is looked for there.
    """

    home: Path
    blobs: Path | None
    others: tuple[Path, ...] = ()
    _found: dict[str, _File] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, model: Path, others: Iterable[str | os.PathLike[str]] = ()) -> Folders:
        """The folders of a model at a path.

        Raises
        ------
        inspector.errors.UsageError
            One of `others` is no folder.
        """
        others = tuple(others)
        for each in others:
            if not os.path.isdir(each):
                raise UsageError(
                    "no such folder for external data",
                    where=os.fspath(each),
                    hint="name the folder that the data files lie in",
                )
        real = Path(os.path.realpath(model)).parent
        home = Path(os.path.realpath(model.parent))
        return cls(
            home=home,
            blobs=real if real != home else None,
            others=tuple(Path(os.path.realpath(each)) for each in others),
        )

    @property
    def found(self) -> tuple[str, ...]:
        """The real paths of the data files that were located so far."""
        return tuple(sorted({str(each.path) for each in self._found.values()}))

    def locate(self, tensor: TensorProto, where: str) -> Extent:
        """Where a tensor's bytes lie, once that is known to be safe.

        Raises
        ------
        FileNotFoundError
            The data file does not exist.
        inspector.errors.UnreadableError
            The location leads out of the folders, or the file is too short.
        """
        fields = fields_of(tensor, where)
        location = fields.get("location", "")
        if tensor.data_type in _UNSIZED:
            raise _refused(
                tensor, where, f"{dtype_name(tensor.data_type)} tensors cannot lie in data files"
            )
        found = self._found.get(location)
        if found is None:
            found = self._found[location] = self._file(tensor, location, where)
        offset, length = _stretch(tensor, fields, found, where)
        return Extent(path=found.path, offset=offset, length=length)

    def read(self, tensor: TensorProto, where: str) -> bytes:
        """The bytes of one externally stored tensor.

        Raises
        ------
        inspector.errors.UnreadableError
            As `locate`, or the data file is missing, or fails.
        """
        location = fields_of(tensor, where).get("location", "")
        try:
            extent = self.locate(tensor, where)
        except FileNotFoundError:
            raise data_files_missing({location: 1}, where) from None
        try:
            # Resolved already: a link that stands here now was put in between.
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            flags |= getattr(os, "O_BINARY", 0)
            with open(os.open(extent.path, flags), "rb", buffering=0) as file:
                if _File.of(extent.path, os.fstat(file.fileno())) != self._found[location]:
                    raise _refused(tensor, where, f"its data file {_brief(location)} has changed")
                file.seek(extent.offset)
                data = _read_all(file, extent.length)
        except FileNotFoundError:
            raise data_files_missing({location: 1}, where) from None
        except OSError as error:
            raise _unreadable(tensor, where, location, error) from error
        if len(data) != extent.length:
            raise _refused(tensor, where, "its data file became shorter while it was read")
        return data

    def _file(self, tensor: TensorProto, location: str, where: str) -> _File:
        """The data file at a location, once it is known to be safe."""
        path = self._resolved(tensor, location, where)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise _unreadable(tensor, where, location, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise _refused(tensor, where, f"its data file {_brief(location)} is not a regular file")
        if status.st_nlink > 1 and not any(path.is_relative_to(each) for each in self.others):
            raise _refused(
                tensor,
                where,
                f"its data file {_brief(location)} has {status.st_nlink} hard links, "
                "and may be another folder's file",
                hint="copy it, or vouch for its folder with --external-dir",
            )
        return _File.of(path, status)

    def _resolved(self, tensor: TensorProto, location: str, where: str) -> Path:
        """The real path of a data file, inside of one of the folders."""
        if why := _why_not_plain(location):
            raise _refused(tensor, where, why)
        at_home = Path(os.path.realpath(self.home / location))
        if not self._holds(at_home):
            raise _refused(
                tensor,
                where,
                f"its data location {_brief(location)} is a link that leads out of the model's "
                f"folder, to {_brief(str(at_home))}",
                hint="if you trust it, name the folder it leads to with --external-dir",
            )
        if os.path.exists(at_home):
            return at_home
        if self.blobs is not None:
            beside = Path(os.path.realpath(self.blobs / location))
            if beside.parent == self.blobs and os.path.exists(beside):
                return beside
        for folder in self.others:
            elsewhere = Path(os.path.realpath(folder / location))
            if elsewhere.is_relative_to(folder) and os.path.exists(elsewhere):
                return elsewhere
        return at_home

    def _holds(self, path: Path) -> bool:
        if path.is_relative_to(self.home) or path.parent == self.blobs:
            return True
        return any(path.is_relative_to(each) for each in self.others)


_KEYS = ("location", "offset", "length")
_UNSIZED = (TensorProto.UNDEFINED, TensorProto.STRING)
_MOST_LISTED = 6


def data_files_missing(missing: Mapping[str, int], where: str) -> UnreadableError:
    """The one message for data files that are not there, however many tensors they hold."""
    return UnreadableError(
        f"data files are missing: {listed_missing(missing)}",
        where=where,
        hint="put them beside the model, or name their folder with --external-dir",
    )


def listed_missing(missing: Mapping[str, int]) -> str:
    """Missing data files, with how many tensors each of them holds."""
    files = [
        f"{_brief(name)} ({count:,} {'tensor' if count == 1 else 'tensors'})"
        for name, count in missing.items()
    ]
    rest = files[_MOST_LISTED:]
    return ", ".join(files[:_MOST_LISTED]) + (f" and {len(rest):,} more" if rest else "")


def fields_of(tensor: TensorProto, where: str) -> dict[str, str]:
    """Location, offset, length and the like of an externally stored tensor.

    Raises
    ------
    inspector.errors.UnreadableError
        A key stands there twice: one reader would take the first, and the next one the last.
    """
    fields = {text(entry.key): text(entry.value) for entry in tensor.external_data}
    keys = [text(entry.key) for entry in tensor.external_data]
    if len(keys) != len(fields) and any(keys.count(key) > 1 for key in _KEYS):
        raise _refused(tensor, where, "its data location, offset or length is given twice")
    return fields


def _why_not_plain(location: str) -> str:
    """Why a location is no relative path that goes down alone, on any system; empty if it is."""
    if not location:
        return "it names no data file"
    if "\0" in location or location.startswith(_MEMORY_TAG):
        return f"its data location {_brief(location)} is no file's name"
    windows = PureWindowsPath(location)
    if location.startswith("/") or windows.drive or windows.root:
        return f"its data location {_brief(location)} is an absolute path"
    if ".." in {*PurePosixPath(location).parts, *windows.parts}:
        return f"its data location {_brief(location)} leads out of the model's folder by '..'"
    return ""


def _brief(location: str) -> str:
    """A location as messages show it."""
    return repr(location if len(location) <= 200 else f"{location[:197]}...")


def _stretch(
    tensor: TensorProto, fields: Mapping[str, str], file: _File, where: str
) -> tuple[int, int]:
    """Offset and length of a tensor's data in its file."""
    size = file.size
    needed = stored_bytes(tensor)
    offset = _number(tensor, fields, "offset", where) or 0
    length = _number(tensor, fields, "length", where)
    if length is None:
        length = size - offset if needed is None else needed
    if needed is not None and length != needed:
        raise _refused(tensor, where, f"it takes {needed:,} bytes, and its data has {length:,}")
    if length < 0 or offset + length > size:
        what, hint = _why_so_short(file.path)
        raise _refused(
            tensor,
            where,
            f"bytes {offset:,} to {offset + length:,} lie outside {_brief(fields['location'])} "
            f"of {size:,} bytes{what}",
            hint=hint,
        )
    return offset, length


def _why_so_short(path: Path) -> tuple[str, str]:
    """What a data file is that is shorter than the model says, and what to do about it."""
    again = "copy or download the data file again"
    try:
        with open_regular(path) as file:
            head = file.read(HEAD) or b""
    except UnreadableError:
        return "", again
    text = decoded(head, whole=len(head) < HEAD)
    pointer = name_pointer(text, of="data") if text is not None else None
    return (f", which is {pointer[0]}", pointer[1]) if pointer else ("", again)


_MOST_DIGITS = 20
"""Of a number below 2^64; Python refuses to read thousands of them, and takes long before."""


def _number(tensor: TensorProto, fields: Mapping[str, str], key: str, where: str) -> int | None:
    """An offset or a length, or None where it is left out."""
    written = fields.get(key)
    if written is None:
        return None
    # Not what int() takes beside digits: blanks, underscores, signs and digits of other scripts.
    if not (written.isascii() and written.isdigit() and len(written) <= _MOST_DIGITS):
        raise _refused(tensor, where, f"its {key} {written[:40]!r} is no number of bytes")
    return int(written)


def _read_all(file: IO[bytes], length: int) -> bytes:
    """As many bytes as there are, up to `length`: the system gives at most 2 GiB at a time."""
    parts: list[bytes] = []
    while length and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


_AS_EXPORTED = "data files must lie beside the model, as the exporter left them"


def _refused(
    tensor: TensorProto, where: str, why: str, *, hint: str = _AS_EXPORTED
) -> UnreadableError:
    return UnreadableError(f"tensor {text(tensor.name)!r}: {why}", where=where, hint=hint)


def _unreadable(
    tensor: TensorProto, where: str, location: str, error: OSError | ValueError
) -> UnreadableError:
    why = str(getattr(error, "strerror", None) or error).lower()
    return _refused(tensor, where, f"its data file {_brief(location)} cannot be read ({why})")
