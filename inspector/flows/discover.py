"""Which files are meant by paths, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence

from inspector.errors import UnreadableError, UsageError
from inspector.flows.opened import Path

_SUFFIX = ".onnx"


def discover(paths: Sequence[Path]) -> tuple[str, ...]:
    """The files that are meant, each once, in the order of `paths` and of names within a folder.

    Parameters
    ----------
    paths
        Files, which are taken whatever they are called and whether they are there or not; folders,
        searched with all in them for ``*.onnx``, hidden names left out; patterns (``*``, ``?``,
        ``[…]``, and ``**`` for folders in any depth) of either.

    Raises
    ------
    inspector.errors.UsageError
        No path is given or one is empty, or a folder or a pattern has no model: a check of nothing
        would pass.
    inspector.errors.UnreadableError
        A folder cannot be listed.
    """
    if not paths:
        raise UsageError("no file is named", hint="name ONNX files or folders of them")
    found: dict[str, str] = {}
    for path in paths:
        for each in _meant(os.fspath(path)):
            found.setdefault(_place(each), each)
    return tuple(found.values())


def _meant(path: str) -> Sequence[str]:
    """The files that one path means."""
    if not path:  # most likely a variable that is not set
        raise UsageError("a path is empty", hint="name ONNX files or folders of them")
    if os.path.isdir(path):
        files = list(_inside(path))
        if not files:
            raise UsageError(
                f"no *{_SUFFIX} file lies in this folder",
                where=path,
                hint="name a folder with models, or the files themselves",
            )
        return files
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    files = []
    # A pattern that says which ending it is about is taken at its word.
    named = os.path.splitext(path)[1]
    anything = bool(named) and not glob.has_magic(named)
    for each in sorted(glob.glob(path, recursive=True), key=_parts):
        if os.path.isdir(each):
            files += _inside(each)
        elif anything or _is_model(each):
            files.append(each)
    if not files:
        raise UsageError(
            f"no {'file' if anything else f'*{_SUFFIX} file'} fits this pattern",
            where=path,
            hint="check it; ** stands for folders in any depth",
        )
    return files


def _inside(folder: str) -> Iterator[str]:
    """The models in a folder and all folders in it.

    Raises
    ------
    inspector.errors.UnreadableError
        A folder cannot be listed.
    """
    been: set[str] = set()
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if not os.path.isdir(path):
            yield path
            continue
        real = os.path.realpath(path)
        if real in been:  # a link has led back
            continue
        been.add(real)
        try:
            names = sorted(name for name in os.listdir(path) if not name.startswith("."))
        except OSError as error:
            raise UnreadableError(
                f"this folder cannot be listed ({(error.strerror or str(error)).lower()})",
                where=path,
                hint="check its permissions",
            ) from error
        inner = [name if path == os.curdir else os.path.join(path, name) for name in names]
        waiting += [each for each in reversed(inner) if os.path.isdir(each) or _is_model(each)]


def size_of(path: str) -> int:
    """Bytes of a file; 0 where it cannot be told, and opening it says why."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # opening it says why
        return 0


def _is_model(path: str) -> bool:
    return path.lower().endswith(_SUFFIX) and not os.path.basename(path).startswith(".")


def _place(path: str) -> str:
    """Where a file lies, however it is written; a link to it is a file of its own."""
    folder, name = os.path.split(path)
    try:
        return os.path.join(os.path.realpath(folder), name) if name else path
    except ValueError:  # a NUL character in it: opening says so
        return path


def _parts(path: str) -> list[str]:
    """By folders and then names, as folders are searched."""
    return path.split(os.sep)
