"""Export a source of any framework: which it is of, the source itself tells."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspector.errors import UnreadableError, UsageError
from inspector.export import source as sources
from inspector.export.quiet import environment, quiet_tensorflow

if TYPE_CHECKING:
    from inspector.compare.runtime.run import Array
    from inspector.facts.export import Export

KERAS_FILES = (".keras", ".h5", ".hdf5")
TORCH_FILES = (".pt2", ".pt", ".pth", ".ts")
_KIND = "a Keras model or a torch.nn.Module"


def export_any(
    source: str,
    output: str | Path,
    *,
    weights: str | Path | None = None,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    example: str | Path | None = None,
    likely: Sequence[Array] | None = None,
    unsafe: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Export what a source names, by the framework that it is of.

    Parameters
    ----------
    source
        `package.module:callable` or `path/to/file.py:callable` that gives a Keras model or a
        PyTorch module; a `.keras` or `.h5` file or a SavedModel folder; a `.pt2` program or a
        TorchScript file.
    weights
        A state dict for a PyTorch module.
    likely
        Inputs for a PyTorch module that has none of its own and is given none.
    input_shape, example, unsafe, progress
        As `inspector.export.export_keras` and `inspector.export.export_torch` take them.

    Raises
    ------
    inspector.errors.UsageError
        The source has none of these forms, or weights are given for a Keras model.
    inspector.errors.InspectorError
        As both exports do.
    """
    asked = _Asked(
        weights=weights,
        input_shape=input_shape,
        example=example,
        likely=likely,
        unsafe=unsafe,
        progress=progress,
    )
    suffix = Path(source).suffix.lower()
    if suffix in KERAS_FILES or (Path(source) / "saved_model.pb").is_file():
        return asked.of_keras(source, output)
    if suffix in TORCH_FILES:
        return asked.of_torch(source, output)
    if ":" not in source:
        raise UnreadableError(
            "it is neither an ONNX file nor a source to export from",
            where=source,
            hint="give an .onnx, .keras, .h5, .pt2 or TorchScript file, a SavedModel folder, "
            "package.module:callable or path/to/file.py:callable",
        )
    spec = sources.parse(source)
    # Keras reads its backend when it is imported, which the source may do.
    with (
        environment(KERAS_BACKEND="tensorflow"),
        quiet_tensorflow(),
        sources.opened(spec, _is_model, _KIND) as model,
    ):
        return (asked.of_keras if _is_keras(model) else asked.of_torch)(model, output)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What was asked of an export, whichever framework it comes to."""

    weights: str | Path | None
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None
    example: str | Path | None
    likely: Sequence[Array] | None
    unsafe: bool
    progress: Callable[[str], None] | None

    def of_keras(self, model: Any, output: str | Path) -> Export:
        from inspector.export import export_keras

        if self.weights is not None:
            raise UsageError(
                "weights of their own are for PyTorch modules",
                hint="return the Keras model loaded",
            )
        return export_keras(
            model,
            output,
            input_shape=self.input_shape,
            unsafe=self.unsafe,
            progress=self.progress,
        )

    def of_torch(self, module: Any, output: str | Path) -> Export:
        from inspector.export import export_torch

        example: Any = self.example
        if example is None and self.input_shape is None and self.likely:
            own = getattr(module, "example_input_array", None)
            if own is None and _is_torch(module):
                example = tuple(self.likely)
        return export_torch(
            module,
            output,
            weights=self.weights,
            input_shape=self.input_shape,
            example=example,
            unsafe=self.unsafe,
            progress=self.progress,
        )


def _is_model(each: object) -> bool:
    return _is_keras(each) or _is_torch(each)


def _is_keras(each: object) -> bool:
    """Whether it is a model of Keras 3 or tf_keras, without importing either."""
    return any(
        kind.__name__ == "Model" and kind.__module__.partition(".")[0] in ("keras", "tf_keras")
        for kind in type(each).__mro__
    )


def _is_torch(each: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(each, torch.nn.Module)
