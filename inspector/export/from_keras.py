"""Export a Keras model with every BatchNorm kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspector.errors import UsageError
from inspector.export import keras_export as exporting
from inspector.export.extras import require
from inspector.export.keras_export import OPSETS, Job
from inspector.export.keras_load import Opened, import_frameworks, opened, parsed
from inspector.export.keras_selftest import check_versions
from inspector.export.tensorflow_signatures import Request
from inspector.facts.export import Export
from inspector.write.save import check_destination

if TYPE_CHECKING:
    import keras


def export_keras(  # noqa: PLR0913  # what can be asked of an export
    model: str | Path | keras.Model,
    output: str | Path,
    *,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    dynamic: Sequence[str] | None = None,
    inputs_as_nchw: bool = False,
    imports: Sequence[str] = (),
    unsafe: bool = False,
    opset: int | None = None,
    verify: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Export a Keras model to one ONNX file and verify it.

    Keras 3 and tf_keras alike; a Keras 3 model of another backend than TensorFlow is converted in
    a process of its own, and compared with what it gives here.

    Parameters
    ----------
    model
        A model, a `.keras` or `.h5` file, the folder of a SavedModel, or a source:
        `package.module:callable`, `path/to/file.py:callable`.
    output
        The file to write; nothing is written unless everything holds.
    input_shape
        Shape of the input with its batch, in the model's own layout; one for each where there are
        several. For models that were never called, and to give free axes a length.
    dynamic
        Axes that take any length, and no others: ``batch``, ``height``, ``width``, ``depth``,
        ``length`` or ``name=axis`` (of the model's own layout). None leaves it to the model: any
        batch where that is possible.
    inputs_as_nchw
        Let inputs of rank 4 and 5 have their channels first in ONNX.
    imports
        Modules to import before a file is loaded: those that register its custom objects.
    unsafe
        Load files with Keras' safe_mode off: they may then run any code.
    opset
        Version of the standard operators, 7 to 18 (tf2onnx's range). The newest that works unless
        given.
    verify
        False runs nothing in ONNX Runtime; BatchNorms are compared all the same.
    progress
        Called with a line before each long step.

    Raises
    ------
    inspector.errors.UsageError
        The output's folder does not exist; the opset, the source, a shape or an axis cannot be.
    inspector.errors.MissingExtraError
        Keras, TensorFlow or tf2onnx is not installed.
    inspector.errors.UnreadableError
        There is no such model, or an exporter fails on it.
    inspector.errors.ExportDisagreesError
        The exported model does not give what the framework gives, or a BatchNorm was changed.
    """
    destination = check_destination(output)
    if opset is not None and opset not in OPSETS:
        raise UsageError(f"opset {opset} is not one that tf2onnx writes", hint="choose 7 to 18")
    spec = parsed(model)
    job = Job(
        destination=destination,
        request=Request(
            shapes=_shapes(input_shape),
            dynamic=None if dynamic is None else tuple(dynamic),
            as_nchw=inputs_as_nchw,
        ),
        opset=opset,
        verify=verify,
        say=progress or _silence,
    )
    require("keras")
    job.say("loading TensorFlow and the model")
    backend = import_frameworks()
    with opened(model, spec, imports=imports, unsafe=unsafe) as it:
        return _exported(it, job, backend, imports)


def _exported(it: Opened, job: Job, backend: str, imports: Sequence[str]) -> Export:
    from inspector.export import keras_library

    if it.graph is not None:
        if backend == "tensorflow":
            check_versions(keras_library.Keras(), _tried)
        return exporting.with_notes(exporting.export_graph(it.graph, job), it.notes)
    library = keras_library.of(it.found)
    if backend != "tensorflow" and library.name != keras_library.LEGACY:
        from inspector.export.keras_elsewhere import export_elsewhere

        found = export_elsewhere(it.found, job, backend, imports)
    else:
        check_versions(library, _tried)
        found = exporting.export_model(it.found, library, job)
    return exporting.with_notes(found, it.notes)


def _tried(model: Any, library: Any, path: Path) -> Export:
    return exporting.export_model(model, library, Job(destination=path))


def _silence(_: str) -> None:
    """Without `progress` nothing is said."""


def _shapes(given: Sequence[Any] | None) -> tuple[tuple[int, ...], ...] | None:
    if given is None:
        return None
    shapes = [given] if given and isinstance(given[0], int) else given
    found = tuple(tuple(int(size) for size in shape) for shape in shapes)
    if not found or any(size < 1 for shape in found for size in shape):
        raise UsageError(
            f"{given!r} is no shape", hint="write positive numbers, the batch first: 1,224,224,3"
        )
    return found
