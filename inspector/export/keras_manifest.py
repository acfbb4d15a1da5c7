"""What the tensors and BatchNorms of a converted model are in Keras."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.run import Array
from inspector.errors import ExportDisagreesError
from inspector.export import keras_names as naming
from inspector.export import keras_trace as tracing
from inspector.export import protos
from inspector.export.manifests import Description
from inspector.export.verify import ExpectedNorm
from inspector.facts.count import Role
from inspector.facts.manifest import (
    NO_WEIGHT,
    FrameworkTotals,
    NotExported,
    SourceBatchNorm,
    SourceLayer,
    SourceTensor,
)

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def describe(
    model: Any, converted: tracing.Converted
) -> tuple[Description, tuple[ExpectedNorm, ...]]:
    """Name what was converted after the model, and say what it should hold.

    The converted model is changed: initializers get their variables' paths, BatchNormalization
    nodes their layer's path and momentum.

    Raises
    ------
    inspector.errors.ExportDisagreesError
        A BatchNorm computes in a dtype for which TensorFlow has no operator.
    """
    import keras

    proto = converted.proto
    naming.renumber(proto, converted.captured)
    tied = naming.tie(proto, converted.captured)
    naming.merge_copies(proto, tied)
    wanted = {old: naming.path_of(variable, model) for old, variable in tied.items()}
    synthetic = [name for name in _norm_inputs(proto) if name not in tied]
    renamed = naming.rename(proto, wanted)
    norms, sources, notes = _norms(model, converted)
    learned = _learned(model)
    tensors = [
        SourceTensor(
            name=renamed[old],
            source=naming.path_of(variable, model),
            role=Role.LEARNED if id(variable) in learned else Role.STATISTIC,
        )
        for old, variable in tied.items()
    ]
    tensors += [
        SourceTensor(name=renamed.get(old, old), source="", role=Role.CONSTANT, synthetic=True)
        for old in synthetic
    ]
    description = Description(
        framework="keras",
        version=keras.__version__,
        exporter=_exporter(),
        tensors=tuple(tensors),
        batchnorms=tuple(sources),
        not_exported=_not_exported(model, converted, tied),
        totals=FrameworkTotals(
            trainable=_elements(model.trainable_weights),
            other=_elements(model.non_trainable_weights),
        ),
        notes=tuple(notes),
        layers=_layers(model, converted),
    )
    return description, tuple(norms)


def _layers(model: Any, converted: tracing.Converted) -> tuple[SourceLayer, ...]:
    """What `model.summary()` lists, in its order, and what the models inside of it hold."""
    return tuple(_listed(model, model, "", converted))


def _listed(
    model: Any, outer: Any, within: str, converted: tracing.Converted
) -> Iterator[SourceLayer]:
    import keras

    functional = isinstance(outer, keras.src.models.Functional)
    listed = outer.layers
    if functional and not isinstance(outer, keras.Sequential):
        listed = outer._operations  # as keras.src.utils.summary_utils has it
    for each in listed:
        name = f"{within}/{each.name}" if within else each.name
        yield SourceLayer(
            name=name,
            kind=type(each).__name__,
            scopes=tuple(map(naming.unmarked, converted.scopes.get(id(each), ()))),
            dims=_dims(each),
            weights=tuple(naming.path_of(v, model) for v in getattr(each, "weights", ())),
            within=within,
        )
        if isinstance(each, keras.Model):
            yield from _listed(model, each, name, converted)


def _dims(layer: Any) -> tuple[int | None, ...] | None:
    """Dims of what a layer gives, if that is one tensor and Keras knows them."""
    import keras

    for node in reversed(layer._inbound_nodes):
        shapes = [each.shape for each in keras.tree.flatten(node.output_tensors)]
        return tuple(shapes[0]) if len(shapes) == 1 else None
    return None


def _exporter() -> str:
    import tensorflow as tf
    import tf2onnx

    return f"tf2onnx {tf2onnx.__version__}, tensorflow {tf.__version__}"


def _elements(variables: list[Any]) -> int:
    return sum(int(math.prod(each.shape)) for each in variables)


def _learned(model: Any) -> set[int]:
    """Ids of variables that training changes, of frozen layers too.

    Freezing a layer clears the flag of its variables and leaves them where the layer keeps its
    trainable ones.
    """
    layers = model._flatten_layers(include_self=True, recursive=True)
    return {id(each) for layer in layers for each in layer._trainable_variables}


def _norm_inputs(proto: ModelProto) -> list[str]:
    """Stored scales and biases of BatchNormalization nodes."""
    held = protos.initializers(proto)
    return list(
        dict.fromkeys(
            name
            for node in protos.batchnorms(proto)
            for name in node.input[1:3]
            if name in held and tracing.number_of(node.name) is not None
        )
    )


def _not_exported(
    model: Any, converted: tracing.Converted, tied: Mapping[str, Any]
) -> tuple[NotExported, ...]:
    stored = {id(each) for each in tied.values()}
    read = {id(each) for each in converted.captured.values()}
    weights = {id(each) for each in model.weights}

    def why(variable: Any) -> str:
        if id(variable) not in weights:
            return f"the state of a random generator or a metric, {NO_WEIGHT}"
        if id(variable) in read:
            return "stored in another form, from which its values cannot be told"
        return "inference does not read it"

    return tuple(
        NotExported(
            source=naming.path_of(each, model),
            elements=int(math.prod(each.shape)),
            why=why(each),
        )
        for each in model.variables
        if id(each) not in stored
    )


def _norms(
    model: Any, converted: tracing.Converted
) -> tuple[list[ExpectedNorm], list[SourceBatchNorm], list[str]]:
    nodes = {tracing.number_of(node.name): node for node in protos.batchnorms(converted.proto)}
    _refuse_arithmetic(model, converted)
    taken = {node.name for node in protos.nodes(converted.proto)}
    norms: list[ExpectedNorm] = []
    sources: list[SourceBatchNorm] = []
    notes: list[str] = []
    for number, call in enumerate(converted.calls):
        layer, path = call.layer, naming.path_of(call.layer, model)
        node = nodes.get(number)
        if node is not None:
            protos.set_float(node, "momentum", float(layer.momentum))
            node.name = protos.unique(path, taken)
            sources.append(_source(node, path, layer))
        if call.training:
            notes.append(
                f"BatchNorm {path!r} is called with training=True: it normalises by the batch, "
                "so its mean and variance are computed and its statistics are not stored"
            )
        elif number in converted.expected:
            norms.append(
                ExpectedNorm(
                    node=node.name if node else "",
                    source=path,
                    values=_values(layer),
                    epsilon=float(layer.epsilon),
                )
            )
    return norms, sources, notes


def _refuse_arithmetic(model: Any, converted: tracing.Converted) -> None:
    if converted.arithmetic:
        layer = converted.arithmetic[0]
        raise ExportDisagreesError(
            f"BatchNorm {naming.path_of(layer, model)!r} computes in {layer.compute_dtype}, for "
            "which TensorFlow has no BatchNorm operator",
            hint="build the model in float32, float16 or mixed_float16; nothing was written",
        )


def _source(node: NodeProto, path: str, layer: Any) -> SourceBatchNorm:
    return SourceBatchNorm(
        node=node.name,
        source=path,
        epsilon=float(layer.epsilon),
        momentum=float(layer.momentum),
    )


def _values(layer: Any) -> tuple[Array, Array, Array, Array]:
    """Scale, B, mean and var of a layer, ones and zeros where it has none.

    Keras computes BatchNorm in float32 whatever the variables' dtype.
    """
    mean = _single(layer.moving_mean)
    scale = _single(layer.gamma) if layer.scale else np.ones_like(mean)
    bias = _single(layer.beta) if layer.center else np.zeros_like(mean)
    return scale, bias, mean, _single(layer.moving_variance)


def _single(variable: Any) -> Array:
    return np.asarray(variable.value.numpy()).astype(np.float32)
