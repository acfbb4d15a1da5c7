"""Files that hold weights and no code: their tensors by name, for what needs no module."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.errors import UnreadableError, UsageError
from inspector.export.source import described

if TYPE_CHECKING:
    from inspector.compare.runtime.run import Array

_TORCH = (".pt", ".pth", ".bin", ".ckpt")


def holds_weights(path: Path) -> bool:
    """Whether a file is one of weights alone, as far as its name and its outermost form tell."""
    name = path.name.lower()
    if name.endswith((".safetensors", ".npz", ".weights.h5")):
        return True
    return name.endswith(_TORCH) and path.is_file() and not _is_script(path)


def read_tensors(path: Path, *, unsafe: bool = False) -> dict[str, Array]:
    """The tensors in a ``.safetensors``, ``.npz`` or ``.weights.h5`` file, or in a state dict.

    Raises
    ------
    inspector.errors.UnreadableError
        There is no such file, or it cannot be read.
    inspector.errors.UsageError
        It holds several sets of weights, or could run code while it is opened.
    inspector.errors.MissingExtraError
        What reads it is not installed.
    """
    if not path.is_file():
        raise UnreadableError("there is no such file", where=str(path))
    name = path.name.lower()
    if name.endswith(".npz"):
        return _from_npz(path)
    if name.endswith(".h5"):
        return _from_h5(path)
    return _from_torch(path, unsafe=unsafe)


def _from_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UnreadableError(
            f"numpy does not read it: {described(error)}", where=str(path)
        ) from error


def _from_h5(path: Path) -> dict[str, Array]:
    from inspector.export.extras import require

    require("keras")
    import h5py

    found: dict[str, Array] = {}

    def take(name: str, each: Any) -> None:
        if isinstance(each, h5py.Dataset):
            found[name] = np.asarray(each)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(take)
    except OSError as error:
        raise UnreadableError(f"it is no HDF5 file: {described(error)}", where=str(path)) from error
    return found


def _from_torch(path: Path, *, unsafe: bool) -> dict[str, Array]:
    from inspector.export.extras import require

    require("torch")
    from inspector.export.torch_weights import read, state_dicts

    found = list(state_dicts(read(path, unsafe=unsafe)))
    if len(found) != 1:
        names = ", ".join(each.path or "itself" for each in found)
        raise UsageError(
            f"it holds {len(found)} sets of weights{f': {names}' if names else ''}",
            where=str(path),
            hint="save the one that is meant by itself: torch.save(module.state_dict(), path)",
        )
    return {
        name: each.detach().cpu().float().numpy()
        if str(each.dtype) == "torch.bfloat16"
        else each.detach().cpu().numpy()
        for name, each in found[0].tensors.items()
    }


def _is_script(path: Path) -> bool:
    """Whether it is a TorchScript module or a saved program, which have code in them."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            members = {each.partition("/")[2] for each in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return False
    return "constants.pkl" in members or "archive_format" in members
