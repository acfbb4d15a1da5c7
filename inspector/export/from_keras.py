"""Export a Keras model with every BatchNorm kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspector.errors import InspectorError, UnreadableError, UsageError
from inspector.export import keras_trace as tracing
from inspector.export import protos, source
from inspector.export.extras import require
from inspector.export.keras_manifest import describe
from inspector.export.manifests import finish
from inspector.export.quiet import environment, quiet, silent_stderr
from inspector.export.verify import reference
from inspector.facts.export import Export
from inspector.write.save import check_destination

if TYPE_CHECKING:
    import keras
    from onnx import ModelProto

OPSETS = range(7, 19)
DEFAULT_OPSET = 18
_SAVED = (".keras", ".h5", ".hdf5")
_ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float64": 8}


def export_keras(
    model: str | Path | keras.Model,
    output: str | Path,
    *,
    opset: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Export a Keras model (TensorFlow backend) to one ONNX file and verify it.

    Parameters
    ----------
    model
        A model, a `.keras` file, or a source: `package.module:callable`,
        `path/to/file.py:callable`.
    output
        The file to write; nothing is written unless everything holds.
    opset
        Version of the standard operators, 7 to 18 (tf2onnx's range); 18 unless given.
    progress
        Called with a line before each long step.

    Raises
    ------
    inspector.errors.UsageError
        The output's folder does not exist, the opset or the source cannot be.
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
    spec = _parsed(model)
    require("keras")
    say = progress or _silence
    say("loading TensorFlow and the model")
    _import_frameworks()
    with _opened(model, spec) as built:
        return _export(built, destination, opset or DEFAULT_OPSET, say)


def _silence(_: str) -> None:
    """Without `progress` nothing is said."""


def _parsed(model: object) -> source.Source | None:
    if isinstance(model, Path) or (isinstance(model, str) and model.endswith(_SAVED)):
        return None
    return source.parse(model) if isinstance(model, str) else None


def _import_frameworks() -> None:
    # Keras reads its backend once, when it is imported; TensorFlow its log level as well.
    with (
        environment(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3"),
        quiet(),
        silent_stderr(),
    ):
        try:
            import keras
            import tensorflow as tf
            import tf2onnx  # noqa: F401  # only whether it imports
        except ImportError as error:
            raise UsageError(
                f"Keras is installed and does not import: {source.described(error)}",
                hint='pip install --upgrade "bninspect[keras]"',
            ) from error
        tf.constant(0.0)
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"Keras runs on the backend {keras.backend.backend()!r}",
            hint="set KERAS_BACKEND=tensorflow",
        )


@contextmanager
def _opened(model: Any, spec: source.Source | None) -> Iterator[Any]:
    import keras

    if spec is not None:
        with source.opened(spec, lambda each: isinstance(each, keras.Model), "a Keras model") as it:
            yield it
    elif isinstance(model, (str, Path)):
        yield _load(Path(model))
    elif isinstance(model, keras.Model):
        yield model
    else:
        kind = type(model)
        raise UsageError(f"a {kind.__module__}.{kind.__qualname__} is not a Keras 3 model")


def _load(path: Path) -> Any:
    import keras

    if not path.is_file():
        raise UnreadableError("there is no such file", where=str(path))
    if path.suffix not in _SAVED:
        raise UnreadableError(
            "it is not a saved Keras model", where=str(path), hint="give a .keras file"
        )
    try:
        with quiet():
            return keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever Keras' parts raise: OSError, KeyError, zipfile's own
        raise UnreadableError(
            f"Keras does not load it: {source.described(error)}",
            where=str(path),
            hint="a model with code of its own can be given as file.py:callable",
        ) from error


def _export(model: Any, destination: Path, opset: int, say: Callable[[str], None]) -> Export:
    name = f"model {model.name!r}"
    protos.refuse_too_large(sum(_bytes(each) for each in model.weights), name)
    ways = tracing.signatures(model)
    for how in ways[:-1]:
        try:
            return _attempt(model, how, destination, opset, say)
        # It may be made for one batch size alone, which the last way respects.
        except InspectorError:
            continue
    return _attempt(model, ways[-1], destination, opset, say)


def _attempt(
    model: Any, how: tracing.Signature, destination: Path, opset: int, say: Callable[[str], None]
) -> Export:
    name = f"model {model.name!r}"
    with _as_found(model), quiet():
        say("running the model in Keras")
        with _explained(name):
            wanted = reference(tracing.runner(model, how), how.inputs)
        say("converting to ONNX")
        with _explained(name):
            converted = tracing.convert(model, how, opset)
    description, norms = describe(model, converted)
    _name_batch(converted.proto, how)
    say("verifying with ONNX Runtime")
    return finish(converted.proto, destination, wanted, norms, description, opset=opset)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever a model's code or an exporter raises into one line that says what it was."""
    try:
        yield
    except InspectorError:
        raise
    except Exception as error:  # the model's own code, TensorFlow and tf2onnx share no base
        raise UnreadableError(
            f"the export fails: {source.described(error)}",
            where=name,
            hint="another --opset or another form of the failing layer may help",
        ) from error


def _bytes(variable: Any) -> int:
    return int(math.prod(variable.shape)) * _ITEM_BYTES.get(str(variable.dtype), 4)


@contextmanager
def _as_found(model: Any) -> Iterator[None]:
    """Put back what running the model changes: statistics, counters, states of generators."""
    found = [(each, each.value.numpy()) for each in model.non_trainable_variables]
    try:
        yield
    finally:
        for variable, values in found:
            if variable.value.numpy().tobytes() != values.tobytes():
                variable.assign(values)


def _name_batch(proto: ModelProto, how: tracing.Signature) -> None:
    inputs = {each.name for each in how.inputs}
    outputs = {each.name for each in proto.graph.output}
    free = all(each.free_batch for each in how.inputs)

    def name(value: str, axis: int) -> str:
        if axis == 0 and free and value in inputs | outputs:
            return "batch"
        return f"{value}_{axis}" if value in inputs else ""

    protos.name_free_axes(proto, name)
