"""What the tensors and BatchNorms of a converted model are in Keras."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.errors import ExportDisagreesError, UnreadableError
from inspector.export import keras_names as naming
from inspector.export import keras_trace as tracing
from inspector.export import protos
from inspector.export.keras_library import LEGACY, Library, flattened_layers
from inspector.export.keras_packed import Packed, packed
from inspector.export.keras_paths import Paths
from inspector.export.manifests import Description
from inspector.export.verify import ExpectedNorm
from inspector.facts.count import Role
from inspector.facts.manifest import (
    NO_WEIGHT,
    FrameworkTotals,
    Manifest,
    NotExported,
    SourceBatchNorm,
    SourceLayer,
    SourceTensor,
)

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Source:
    """The model, the library that it is of, and the names of what is in it."""

    model: Any
    library: Library
    paths: Paths


def describe(
    model: Any, library: Library, converted: tracing.Converted
) -> tuple[Description, tuple[ExpectedNorm, ...]]:
    """Name what was converted after the model, and say what it should hold.

    The converted model is changed: initializers get their variables' paths, BatchNormalization
    nodes their layer's path and momentum.

    Raises
    ------
    inspector.errors.ExportDisagreesError
        A BatchNorm is of a kind for which there is no operator.
    """
    source = _Source(model=model, library=library, paths=Paths(model, library))
    proto = converted.proto
    naming.renumber(proto, converted.captured)
    tied = naming.tie(proto, converted.captured, library.value)
    naming.merge_copies(proto, tied)
    other = _packed(source, converted, tied)
    naming.merge_copies(proto, other.tied)
    wanted = {
        old: naming.stored_as(proto, old, source.paths(each), library.value(each))
        for old, each in tied.items()
    }
    for old, each in other.tied.items():
        wanted[old] = source.paths(each) + other.suffixes.get(old, "")
    tied |= other.tied
    synthetic = [name for name in _norm_inputs(proto) if name not in tied]
    renamed = naming.rename(proto, wanted)
    norms, sources, notes = _norms(source, converted)
    description = Description(
        framework="keras",
        version=library.version,
        exporter=exporter() if library.name != LEGACY else f"{LEGACY}, {exporter()}",
        tensors=_tensors(source, tied, synthetic, renamed),
        batchnorms=tuple(sources),
        not_exported=_not_exported(source, converted, tied, _elsewhere(other, renamed)),
        totals=FrameworkTotals(
            trainable=_elements(model.trainable_weights),
            other=_elements(model.non_trainable_weights),
        ),
        notes=tuple(notes),
        layers=_layers(source, converted),
    )
    return description, tuple(norms)


def _packed(source: _Source, converted: tracing.Converted, tied: Mapping[str, Any]) -> Packed:
    """What is stored in another form than the variable's own."""
    known = {id(each) for each in tied.values()}
    read = {id(each) for each in converted.captured.values()}
    unread = {
        scope: some
        for layer in flattened_layers(source.model)
        # What a BatchNorm does not read has no constant of its own.
        if not isinstance(layer, source.library.norm_class())
        and (some := [each for each in layer.weights if id(each) not in read])
        for scope in converted.scopes.get(id(layer), ())
    }
    left = {
        name: converted.captured[name]
        for name in sorted(converted.read, key=list(converted.captured).index)
        if id(converted.captured[name]) not in known
    }
    return packed(converted.proto, left, unread, tied, source.library.value)


def _elsewhere(other: Packed, renamed: Mapping[str, str]) -> dict[int, str]:
    return {
        key: f"stored in {' and '.join(repr(renamed.get(each, each)) for each in names)} {how}: "
        "equal in every bit"
        for key, (names, how) in other.elsewhere.items()
    }


def _tensors(
    source: _Source,
    tied: Mapping[str, Any],
    synthetic: Sequence[str],
    renamed: Mapping[str, str],
) -> tuple[SourceTensor, ...]:
    learned = _learned(source.model)
    own = [
        SourceTensor(
            name=renamed[old],
            source=source.paths(variable),
            role=Role.LEARNED if id(variable) in learned else Role.STATISTIC,
        )
        for old, variable in tied.items()
    ]
    invented = [
        SourceTensor(name=renamed.get(old, old), source="", role=Role.CONSTANT, synthetic=True)
        for old in synthetic
    ]
    return (*own, *invented)


def _layers(source: _Source, converted: tracing.Converted) -> tuple[SourceLayer, ...]:
    """What `model.summary()` lists, in its order, and what the models inside of it hold."""
    return tuple(_listed(source, source.model, "", converted))


def _listed(
    source: _Source, outer: Any, within: str, converted: tracing.Converted
) -> Iterator[SourceLayer]:
    library = source.library
    for each in library.listed(outer):
        name = f"{within}/{each.name}" if within else each.name
        yield SourceLayer(
            name=name,
            kind=type(each).__name__,
            scopes=tuple(map(naming.unmarked, converted.scopes.get(id(each), ()))),
            dims=library.dims(each),
            weights=tuple(source.paths(v) for v in getattr(each, "weights", ())),
            within=within,
        )
        if library.is_model(each):
            yield from _listed(source, each, name, converted)


def exporter() -> str:
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
    found: set[int] = set()
    for layer in flattened_layers(model):
        own = getattr(layer, "_trainable_variables", None)
        found |= {id(each) for each in (layer._trainable_weights if own is None else own)}
    return found


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
    source: _Source,
    converted: tracing.Converted,
    tied: Mapping[str, Any],
    elsewhere: Mapping[int, str],
) -> tuple[NotExported, ...]:
    stored = {id(each) for each in tied.values()}
    traced = {id(each) for each in converted.captured.values()}
    read = {id(converted.captured[name]) for name in converted.read}
    weights = {id(each) for each in source.model.weights}

    def why(variable: Any) -> str:
        if id(variable) not in weights:
            return f"the state of a random generator or a metric, {NO_WEIGHT}"
        if id(variable) in elsewhere:
            return elsewhere[id(variable)]
        if id(variable) in read:
            return "stored in another form, from which its values cannot be told"
        if id(variable) in traced:
            return "no output depends on it"
        return "inference does not read it"

    return tuple(
        NotExported(
            source=source.paths(each),
            elements=int(math.prod(each.shape)),
            why=why(each),
        )
        for each in source.model.variables
        if id(each) not in stored
    )


def _norms(
    source: _Source, converted: tracing.Converted
) -> tuple[list[ExpectedNorm], list[SourceBatchNorm], list[str]]:
    nodes = {tracing.number_of(node.name): node for node in protos.batchnorms(converted.proto)}
    _refuse_arithmetic(source, converted)
    taken = {node.name for node in protos.nodes(converted.proto)}
    norms: list[ExpectedNorm] = []
    sources: list[SourceBatchNorm] = []
    notes: list[str] = []
    for number, call in enumerate(converted.calls):
        layer, path = call.layer, source.paths(call.layer)
        node = nodes.get(number)
        if node is not None:
            protos.set_float(node, "momentum", float(layer.momentum))
            node.name = protos.unique(path, taken)
            sources.append(_described(node, path, layer))
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
                    values=_values(layer, source.library),
                    epsilon=float(layer.epsilon),
                )
            )
        if getattr(layer, "renorm", False):
            notes.append(
                f"BatchNorm {path!r} has the statistics of batch renormalisation, which only "
                "training reads: they are not stored"
            )
    return norms, sources, list(dict.fromkeys((*notes, *_dead(source, converted))))


def _dead(source: _Source, converted: tracing.Converted) -> Iterator[str]:
    """What to say of layers that are called more often than they reach an output."""
    reached: dict[str, list[bool]] = {}
    for number, call in enumerate(converted.calls):
        if not call.training:
            reached.setdefault(source.paths(call.layer), []).append(number in converted.expected)
    for path, each in reached.items():
        if not any(each):
            yield f"BatchNorm {path!r} is computed and reaches no output: it is not in the file"
        elif not all(each):
            yield (
                f"BatchNorm {path!r} is called more often than it reaches an output: "
                f"{sum(each)} in the file"
            )


def expected(model: Any, library: Library, manifest: Manifest) -> tuple[ExpectedNorm, ...]:
    """What a model's BatchNorms hold, for the nodes that a manifest of its copy ties to them.

    Raises
    ------
    inspector.errors.UnreadableError
        The copy has other layers than the model.
    """
    owners = _owners(model, library, manifest)
    found = []
    for each in manifest.batchnorms:
        layer = owners.get(each.source)
        if layer is None:
            raise UnreadableError(
                f"a copy of it has a BatchNorm {each.source!r} that the model has not",
                where=f"model {model.name!r}",
                hint="let its class make the same layers each time, with names of their own",
            )
        found.append(
            ExpectedNorm(
                node=each.node,
                source=each.source,
                values=_values(layer, library),
                epsilon=float(layer.epsilon),
            )
        )
    return tuple(found)


def _owners(model: Any, library: Library, manifest: Manifest) -> dict[str, Any]:
    """The model's BatchNorms by the paths that they have in its copy.

    Keras numbers layers through the life of a process, and a subclass makes its own anew: it is the
    order of their variables that both have in common.
    """
    norms = [e for e in flattened_layers(model) if isinstance(e, library.norm_class())]
    holders = {id(variable): norm for norm in norms for variable in norm.weights}
    own = [variable for layer in library.listed(model) for variable in layer.weights]
    theirs = [path for each in manifest.layers if not each.within for path in each.weights]
    paths = Paths(model, library)
    found = {paths(norm): norm for norm in norms}
    if len(own) == len(theirs):
        found |= {
            path.rpartition("/")[0]: holders[id(variable)]
            for variable, path in zip(own, theirs, strict=True)
            if id(variable) in holders
        }
    return found


def _refuse_arithmetic(source: _Source, converted: tracing.Converted) -> None:
    if converted.arithmetic:
        layer, why = converted.arithmetic[0]
        raise ExportDisagreesError(
            f"BatchNorm {source.paths(layer)!r} {why}",
            hint="build the model in float32, float16 or mixed_float16, with one axis of channels; "
            "nothing was written",
        )


def _described(node: NodeProto, path: str, layer: Any) -> SourceBatchNorm:
    return SourceBatchNorm(
        node=node.name,
        source=path,
        epsilon=float(layer.epsilon),
        momentum=float(layer.momentum),
    )


def _values(layer: Any, library: Library) -> tuple[Array, Array, Array, Array]:
    """Scale, B, mean and var of a layer, ones and zeros where it has none.

    Keras computes BatchNorm in float32 whatever the variables' dtype.
    """

    def single(variable: Any) -> Array:
        return library.value(variable).astype(np.float32).reshape(-1)

    mean = single(layer.moving_mean)
    scale = single(layer.gamma) if layer.scale else np.ones_like(mean)
    bias = single(layer.beta) if layer.center else np.zeros_like(mean)
    return scale, bias, mean, single(layer.moving_variance)
