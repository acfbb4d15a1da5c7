"""PyTorch's files as a source: TorchScript, saved programs, pickled modules."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from inspector.errors import UnreadableError, UsageError
from inspector.export.source import described
from inspector.export.torch_program import load_program
from inspector.export.torch_weights import read

_SUFFIXES = frozenset({".pt", ".pth", ".pt2", ".ts", ".torchscript", ".bin", ".ckpt"})
_WEIGHTS = ".safetensors"


def is_file(source: str | Path) -> bool:
    """Whether a source names one of PyTorch's files and no Python code."""
    suffix = Path(source).suffix.lower()
    return suffix in {*_SUFFIXES, _WEIGHTS} or (isinstance(source, Path) and ".py" not in suffix)


def load(path: Path, *, unsafe: bool) -> Any:
    """The module, TorchScript module or program in a file.

    Raises
    ------
    inspector.errors.UnreadableError
        There is no such file, or PyTorch cannot read it.
    inspector.errors.UsageError
        It holds weights alone, or opening it could run code of its own and that was not allowed.
    """
    import torch

    if not path.is_file():
        raise UnreadableError("there is no such file", where=str(path))
    members = _members(path)
    if path.suffix.lower() == ".pt2" or "archive_format" in members:
        return load_program(path, unsafe=unsafe)
    if "constants.pkl" in members and any(each.startswith("code/") for each in members):
        return _script(path)
    found = read(path, unsafe=unsafe)
    if isinstance(found, torch.nn.Module):
        return found
    raise UsageError(
        "it holds weights alone, without the module that they belong to",
        where=str(path),
        hint=f"give the module as the source and this file as its weights: module.py:callable "
        f"--weights {path.name}",
    )


def _members(path: Path) -> frozenset[str]:
    """Names in an archive, without its folder; none where it is no archive."""
    if not zipfile.is_zipfile(path):
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(each.partition("/")[2] for each in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return frozenset()


def _script(path: Path) -> Any:
    import torch

    open_script: Any = torch.jit.load
    try:
        return open_script(str(path), map_location="cpu")
    except RuntimeError as error:
        raise UnreadableError(
            f"PyTorch does not read this TorchScript: {described(error)}",
            where=str(path),
            hint="write it with module.save(path) under this version of PyTorch",
        ) from error
