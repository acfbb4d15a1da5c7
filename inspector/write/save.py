"""Write a file whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inspector.errors import UnreadableError, UsageError


def check_destination(path: str | Path) -> Path:
    """Refuse a destination that cannot work before any long work is done for it.

    Raises
    ------
    inspector.errors.UsageError
        Its folder does not exist, it is a folder or a device itself, or no name at all.
    """
    destination = Path(path)
    if not str(path).strip():
        raise UsageError("the output has no name", hint="name a file, for example model.onnx")
    try:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # see below
            os.stat(destination)
    except (OSError, ValueError) as error:  # too long, or with a NUL in it
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"the output's name does not do ({reason.lower()})", hint="name another"
        ) from error
    if destination.is_dir():
        raise UsageError("the output is a folder", where=str(path), hint="name a file inside of it")
    if destination.exists() and not destination.is_file():
        raise UsageError("the output is not a regular file", where=str(path), hint="name a file")
    if not destination.parent.is_dir():
        raise UsageError(
            f"the output's folder {str(destination.parent)!r} does not exist",
            where=str(path),
            hint="create it or name another",
        )
    return destination


def save(data: bytes, path: str | Path) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary file in the same folder, which is then renamed
    (`os.replace` is atomic within one file system). A link is followed, an existing file's
    permissions are kept, and nothing is left behind on failure or Ctrl-C.

    Raises
    ------
    inspector.errors.UsageError
        See `check_destination`.
    inspector.errors.UnreadableError
        The file system refuses: no space, no permission.
    """
    target, part = beside(path)
    with explained(path):
        try:
            _write(data, part)
            if target.exists():
                shutil.copymode(target, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def beside(path: str | Path) -> tuple[Path, Path]:
    """Where a path leads, and a name of its own beside it for what is not finished.

    Raises
    ------
    inspector.errors.UsageError
        See `check_destination`.
    """
    check_destination(path)
    target = Path(os.path.realpath(path))
    return target, target.with_name(f".{target.name[:64]}.{secrets.token_hex(6)}.part")


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn what the file system refuses into one line about `path`.

    Raises
    ------
    inspector.errors.UnreadableError
        It refuses: no space, no permission.
    """
    try:
        yield
    except OSError as error:
        raise UnreadableError(
            f"the output cannot be written ({error.strerror or error})",
            where=str(path),
            hint="nothing was changed",
        ) from error


def _write(data: bytes, part: Path) -> None:
    # "x": never write through a file or link that someone else put there.
    with part.open("xb") as file:
        file.write(data)
        file.flush()
        # Without it a power cut after the rename can leave an empty file under the final name.
        os.fsync(file.fileno())
