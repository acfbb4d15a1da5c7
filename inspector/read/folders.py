"""What a folder is, where a model file was expected."""

from __future__ import annotations

import itertools
import os
import shlex
from pathlib import Path

_LOOKED_AT = 1000
_SHOWN = 3


def name_folder(path: Path) -> tuple[str, str]:
    """What a folder is, told from the names in it, and which file to name instead."""
    names = _names(path)
    quoted = shlex.quote(str(path))
    if {"saved_model.pb", "saved_model.pbtxt"} & names:
        return (
            "this is a folder of a TensorFlow SavedModel",
            f"convert it: `python -m tf2onnx.convert --saved-model {quoted} --output model.onnx`",
        )
    if path.suffix == ".mlpackage" or "com.apple.CoreML" in _names(path / "Data"):
        return "this is a folder of a Core ML package", "name the ONNX file it was made from"
    if path.suffix == ".mlmodelc" or "coremldata.bin" in names:
        return "this is a folder of a compiled Core ML model", "name the ONNX file it was made from"
    # Optimum and the Hub put models into a folder of this name.
    models = [path / name for name in sorted(names) if _is_model(name)] or [
        path / "onnx" / name for name in sorted(_names(path / "onnx")) if _is_model(name)
    ]
    if models:
        shown = ", ".join(_shown(each) for each in models[:_SHOWN])
        more = f" ({len(models) - _SHOWN} more)" if len(models) > _SHOWN else ""
        if len(models) == 1:
            return "this is a folder", f"name the model in it: {shown}"
        return "this is a folder", f"name one of the models in it: {shown}{more}"
    if "config.json" in names and {"model.safetensors", "pytorch_model.bin"} & names:
        return (
            "this is a folder of a Transformers model",
            f"export it: `optimum-cli export onnx --model {quoted} onnx/`",
        )
    if {"data.pkl", "version"} <= names:
        return (
            "this is a folder of an unpacked PyTorch file",
            "export the module: `bninspect export torch file.py:callable -o model.onnx`",
        )
    return "this is a folder, and there is no .onnx file in it", "name a model file"


def _names(path: Path) -> set[str]:
    try:
        with os.scandir(path) as entries:
            return {entry.name for entry in itertools.islice(entries, _LOOKED_AT)}
    except OSError:
        return set()


def _is_model(name: str) -> bool:
    return name.endswith(".onnx") and not name.startswith("._")


def _shown(path: Path) -> str:
    return str(path) if str(path).isprintable() else ascii(str(path))
