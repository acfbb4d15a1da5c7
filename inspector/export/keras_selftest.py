"""Whether what is patched in the installed versions still does what the patches rest on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspector.errors import UsageError
from inspector.export.keras_library import LEGACY, Library
from inspector.export.source import described

KNOWN = {
    "keras": ("3.15.1",),
    LEGACY: ("2.21.0",),
    "tensorflow": ("2.21.0",),
    "tf2onnx": ("1.17.0",),
}
"""Versions that the tests of this package run with."""

_passed: set[tuple[tuple[str, str], ...]] = set()


def check_versions(library: Library, export: Callable[[Any, Library, Path], object]) -> None:
    """Let a tiny network decide about versions that are not known; once in a process.

    Parameters
    ----------
    export
        Exports a model to a file and verifies it.

    Raises
    ------
    inspector.errors.UsageError
        It does not keep its BatchNorm.
    """
    versions = installed(library)
    key = tuple(versions.items())
    strange = {name: each for name, each in versions.items() if each not in KNOWN[name]}
    if not strange or key in _passed:
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            export(_tiny(library), library, Path(folder) / "tiny.onnx")
    except Exception as error:  # whatever is not there any more, or works in another way
        told = " and ".join(f"{name} {each}" for name, each in strange.items())
        known = " ".join(f'"{name}=={KNOWN[name][-1]}"' for name in strange)
        raise UsageError(
            f"a small network does not keep its BatchNorm under {told}, which this release does "
            f"not know: {described(error)}",
            hint=f"pip install {known}",
        ) from error
    _passed.add(key)


def installed(library: Library) -> dict[str, str]:
    """The versions of what is patched."""
    import tensorflow as tf
    import tf2onnx

    return {
        library.name: library.version,
        "tensorflow": str(tf.__version__),
        "tf2onnx": str(tf2onnx.__version__),
    }


def _tiny(library: Library) -> Any:
    """A convolution, which swallows a BatchNorm wherever it can, and one."""
    import importlib

    import numpy as np

    keras = importlib.import_module(library.name)
    image = keras.Input((6, 6, 2))
    norm = keras.layers.BatchNormalization(momentum=0.75, epsilon=2e-3)
    model = keras.Model(image, norm(keras.layers.Conv2D(3, 3)(image)))
    rng = np.random.default_rng(0)
    for each in model.weights:
        each.assign(rng.uniform(0.5, 1.5, each.shape).astype(np.float32))
    return model
