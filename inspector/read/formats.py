"""Whether a file is there and can be read, and what it is when no binary ONNX model."""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path

from inspector.errors import UnreadableError
from inspector.read.fields import may_be_message
from inspector.read.folders import name_folder
from inspector.read.signatures import HEAD, name_head

__all__ = ["HEAD", "check_head", "check_is_file", "open_regular"]

_OTHERS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

# A pipe without a writer does not hold an opening up; a terminal does not become this process's.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def check_is_file(path: Path) -> int:
    """Size in bytes of a regular, readable, non-empty file.

    Raises
    ------
    inspector.errors.UnreadableError
        It is missing, empty, a folder, a device, a socket or a pipe, or not readable. For a
        folder, the hint names what to do with what is in it.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise _unopened(path, error) from None
    _check_kind(path, status)
    if not os.access(path, os.R_OK):
        raise _no_permission(path)
    return status.st_size


def open_regular(path: Path) -> FileIO:
    """Open a regular, non-empty file for reading, unbuffered, without ever waiting.

    What is opened is looked at again, for it may have been replaced since it was looked at.

    Raises
    ------
    inspector.errors.UnreadableError
        See `check_is_file`.
    """
    check_is_file(path)
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise _unopened(path, error) from None
    try:
        _check_kind(path, os.fstat(descriptor))
        return FileIO(descriptor, "rb")
    except BaseException:  # Ctrl-C too: closed whatever happens, and raised again
        os.close(descriptor)
        raise


def check_head(head: bytes, where: str, size: int) -> None:
    """Refuse what is another kind of file for certain, told from how it begins.

    A signature alone is no proof: the fields of a model may come in any order, and protobuf
    skips those that it does not know. So nothing is refused that may be a protobuf message; what
    then does not parse is for `inspector.read.messages.what_message` to name.

    Parameters
    ----------
    head
        The first `HEAD` bytes, or all of a shorter file.
    where
        The path of the file; of a zip, the names in it are read.
    size
        Of the whole file, in bytes.

    Raises
    ------
    inspector.errors.UnreadableError
        It is of another format; the message names it, and the hint what to do with it.
    """
    if may_be_message(head, size):
        return
    if named := name_head(head, where, size):
        what, hint = named
        raise UnreadableError(f"this is {what}", where=where, hint=hint)


def _check_kind(path: Path, status: os.stat_result) -> None:
    where = str(path)
    if stat.S_ISDIR(status.st_mode):
        what, hint = name_folder(path)
        raise UnreadableError(what, where=where, hint=hint)
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for is_kind, kind in _OTHERS if is_kind(status.st_mode)), "")
        what = f"this is {kind}, not a regular file" if kind else "not a regular file"
        raise UnreadableError(what, where=where, hint="save it to disk first")
    if status.st_size == 0:
        raise UnreadableError("the file is empty", where=where, hint="export or download it again")


def _unopened(path: Path, error: OSError | ValueError) -> UnreadableError:
    where = str(path)
    match error:
        case FileNotFoundError():
            return _missing(path)
        case PermissionError():
            return _no_permission(path)
        case UnicodeError():
            reason = "no file here can have such a name"
        case ValueError() if "\0" in where:
            reason = "no file can have a NUL character in its name"
        case _:
            reason = str(getattr(error, "strerror", None) or error).lower()
    return UnreadableError(reason, where=where, hint="check the path")


def _missing(path: Path) -> UnreadableError:
    """No such file; of links, also what they point at, for that is what is missing."""
    hint = "check the path"
    try:
        target = os.readlink(path)
    except (OSError, ValueError):  # it is no link
        return UnreadableError("no such file", where=str(path), hint=hint)
    if ".git/annex/objects" in Path(target).as_posix():
        hint = "run `git annex get` in its repository"
    return UnreadableError(
        f"no such file: it is a link to {target!r}, which is not there",
        where=str(path),
        hint=hint,
    )


def _no_permission(path: Path) -> UnreadableError:
    return UnreadableError("cannot be read", where=str(path), hint="check its permissions")
