"""Which kind of file a zip archive is: many formats of models are zips."""

from __future__ import annotations

import re
import shlex
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, cast

from inspector.errors import UnreadableError
from inspector.read.signatures import FROM_TORCH, ORIGINAL, export_keras

_LONGEST = 2**24
"""Bytes of a list of names: a hundred thousand of them, which no model has."""


def name_archive(path: Path) -> tuple[str, str]:
    """What a zip file is, told from the names in it, and what to do with it.

    Nothing is unpacked. A file that cannot be read as a zip is "a zip archive" that is damaged.
    """
    try:
        names = _names(path)
    except (OSError, UnreadableError):  # gone or cut off: what its head says has to do
        names = ()
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, NotImplementedError):
        return "a zip archive, cut off or damaged", "copy or download it again"
    quoted = shlex.quote(str(path))
    if _KERAS(names):
        return "a Keras model (.keras)", export_keras(str(path), (".keras",))
    for has, what, hint in _KINDS:
        if has(names):
            return what, hint
    if models := [name for name in names if name.endswith(".onnx")]:
        inside = ", ".join(map(_shown, models[:3]))
        return "a zip archive", f"unpack it first, and name the model in it: {inside}"
    return "a zip archive", f"unpack it first: `unzip {quoted}`"


class _Limited:
    """A file that refuses to read too much at once: `zipfile` reads all names in one go."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size: int = -1) -> bytes:
        if size > _LONGEST:
            raise OSError("this list of names is too long")
        return self._file.read(size if size >= 0 else _LONGEST)


def _names(path: Path) -> tuple[str, ...]:
    from inspector.read.formats import open_regular

    with (
        open_regular(path) as file,
        zipfile.ZipFile(cast("IO[bytes]", _Limited(file))) as archive,
    ):
        return tuple(archive.namelist())


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _holds(*patterns: str) -> Callable[[Sequence[str]], bool]:
    """Whether for each pattern there is a name that it fits."""
    compiled = [re.compile(each) for each in patterns]
    return lambda names: all(any(each.fullmatch(name) for name in names) for each in compiled)


def _npz(names: Sequence[str]) -> bool:
    return bool(names) and all(name.endswith(".npy") for name in names)


_KERAS = _holds(r"config\.json", r"metadata\.json", r"model\.weights\.(h5|npz|json)")

# PyTorch puts all files into one folder, called like the file; the narrower kinds come first.
_KINDS: tuple[tuple[Callable[[Sequence[str]], bool], str, str], ...] = (
    (
        _holds(r"([^/]+/)?models/[^/]+\.json", r"([^/]+/)?archive_(format|version)"),
        "a PyTorch exported program (.pt2)",
        FROM_TORCH,
    ),
    (
        _holds(r"([^/]+/)?serialized_exported_program\.json"),
        "a PyTorch exported program (.pt2)",
        FROM_TORCH,
    ),
    (
        _holds(r"[^/]+/data\.pkl", r"[^/]+/bytecode\.pkl"),
        "a TorchScript program for mobile (.ptl)",
        FROM_TORCH,
    ),
    (
        _holds(r"[^/]+/data\.pkl", r"[^/]+/constants\.pkl"),
        "a TorchScript program",
        FROM_TORCH,
    ),
    (
        _holds(r"[^/]+/data\.pkl"),
        "a PyTorch file (torch.save): weights without a graph",
        FROM_TORCH,
    ),
    (_npz, "a NumPy archive of arrays (.npz), not a model", "check that it is the model you meant"),
    (
        _holds(r"(.*/)?saved_model\.pb"),
        "a zip archive of a TensorFlow SavedModel",
        "unpack it, and convert the folder: "
        "`python -m tf2onnx.convert --saved-model FOLDER --output model.onnx`",
    ),
    (
        _holds(r"[^/]+\.mlpackage/Manifest\.json"),
        "a zip archive of a Core ML package",
        ORIGINAL,
    ),
)
