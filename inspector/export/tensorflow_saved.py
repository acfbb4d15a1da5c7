"""A SavedModel: a graph that has forgotten its layers, whose BatchNorms are found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.errors import UnreadableError
from inspector.export import keras_names as naming
from inspector.export import protos
from inspector.export import tensorflow_norms as fusing
from inspector.export.axes import Order
from inspector.export.feeds import Input
from inspector.export.keras_trace import depended, number_of, reachable
from inspector.export.manifests import Description
from inspector.export.quiet import quiet
from inspector.export.source import described
from inspector.export.tensorflow_convert import Written, function_of, write
from inspector.export.tensorflow_signatures import Signature
from inspector.export.tensorflow_subject import Subject
from inspector.export.verify import ExpectedNorm
from inspector.facts.count import Role
from inspector.facts.manifest import FrameworkTotals, NotExported, SourceBatchNorm, SourceTensor

_SERVING = "serving_default"


def is_saved(folder: Path) -> bool:
    """Whether a folder is a SavedModel."""
    return any((folder / f"saved_model.{each}").is_file() for each in ("pb", "pbtxt"))


def open_graph(folder: Path) -> Subject:
    """The function that a SavedModel serves.

    Raises
    ------
    inspector.errors.UnreadableError
        TensorFlow does not load it, or it serves nothing that has one meaning.
    """
    import tensorflow as tf

    try:
        with quiet():
            loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # whatever TensorFlow raises on a damaged folder
        raise UnreadableError(
            f"TensorFlow does not load it: {described(error)}",
            where=str(folder),
            hint="save the model again, as a .keras file if it can be",
        ) from error
    served = _signature(folder, dict(getattr(loaded, "signatures", {})))
    taken: set[str] = set()
    specs = [(name, served.structured_input_signature[1][name]) for name in served._arg_keywords]
    inputs = tuple(
        Input(
            name=protos.unique(_plain(name, len(specs), i), taken),
            dtype=np.dtype(spec.dtype.as_numpy_dtype),
            dims=_dims(folder, name, spec),
        )
        for i, (name, spec) in enumerate(specs)
    )
    keys = list(served.structured_outputs)

    def call(flat: Sequence[Any]) -> list[Any]:
        found = served(**{name: each for (name, _), each in zip(specs, flat, strict=True)})
        return [found[key] for key in keys]

    return Subject(
        name=folder.resolve().name,
        inputs=inputs,
        call=call,
        output_names=lambda: tuple(keys),
        variables={id(each.handle): each for each in served.variables},
        owner=loaded,
        version=str(getattr(loaded, "tensorflow_version", "") or "of an unknown version"),
        order=Order.LAST,
    )


def _signature(folder: Path, offered: Mapping[str, Any]) -> Any:
    if _SERVING in offered:
        return offered[_SERVING]
    if len(offered) == 1:
        return next(iter(offered.values()))
    names = ", ".join(sorted(offered)) or "none"
    raise UnreadableError(
        f"it has no signature {_SERVING!r} (it has {names}), so what to export is not told",
        where=str(folder),
        hint="save it with signatures=..., or export the Keras model itself",
    )


def _plain(name: str, count: int, position: int) -> str:
    if not name.startswith("keras_tensor"):
        return name
    return "input" if count == 1 else f"input_{position}"


def _dims(folder: Path, name: str, spec: Any) -> tuple[int | None, ...]:
    if spec.shape.rank is None:
        raise UnreadableError(
            f"its input {name!r} has no rank",
            where=str(folder),
            hint="save it with a signature whose tensors have shapes",
        )
    return tuple(spec.shape.as_list())


def convert(
    subject: Subject, how: Signature, opset: int
) -> tuple[Written, tuple[ExpectedNorm, ...], Description]:
    """Convert the graph, each BatchNorm that is found in it as one node.

    Raises
    ------
    inspector.export.tensorflow_unsupported.ConversionError
        tf2onnx fails.
    Exception
        Whatever TensorFlow raises.
    """
    found: list[fusing.Found] = []

    def fuse(frozen: Any, captured: Mapping[str, Any], outputs: Sequence[str]) -> None:
        found.extend(fusing.fuse(frozen, set(captured)))

    written = write(subject, how, function_of(subject, how), opset, fuse)
    norms, description = _describe(subject, written, found)
    return written, norms, description


def _describe(
    subject: Subject, written: Written, found: Sequence[fusing.Found]
) -> tuple[tuple[ExpectedNorm, ...], Description]:
    from inspector.export.keras_manifest import exporter

    proto, captured = written.proto, written.captured
    expected = reachable(written.frozen, written.outputs)
    naming.renumber(proto, captured)
    tied = naming.tie(proto, captured, _value)
    naming.merge_copies(proto, tied)
    paths = _paths(subject.variables.values())
    synthetic = [
        name
        for node in protos.batchnorms(proto)
        for name in node.input[1:3]
        if name not in tied and number_of(node.name) is not None
    ]
    renamed = naming.rename(proto, {old: paths[id(each)] for old, each in tied.items()})
    norms, sources, notes = _norms(written, found, expected, paths)
    statistics = {name for node in protos.batchnorms(proto) for name in node.input[3:5]}
    tensors = [
        SourceTensor(
            name=renamed[old],
            source=paths[id(variable)],
            role=Role.STATISTIC if renamed[old] in statistics else Role.LEARNED,
        )
        for old, variable in tied.items()
    ]
    tensors += [
        SourceTensor(name=renamed.get(old, old), source="", role=Role.CONSTANT, synthetic=True)
        for old in dict.fromkeys(synthetic)
    ]
    return tuple(norms), Description(
        framework="keras",
        version=f"unknown, in a SavedModel of TensorFlow {subject.version}",
        exporter=f"SavedModel, {exporter()}",
        tensors=tuple(tensors),
        batchnorms=tuple(sources),
        not_exported=_left_out(subject, written, tied, paths),
        totals=_totals(tensors, subject, paths),
        notes=tuple(notes),
    )


def _norms(
    written: Written,
    found: Sequence[fusing.Found],
    expected: frozenset[int],
    paths: Mapping[int, str],
) -> tuple[list[ExpectedNorm], list[SourceBatchNorm], list[str]]:
    nodes = {number_of(node.name): node for node in protos.batchnorms(written.proto)}
    taken = {node.name for node in protos.nodes(written.proto)}
    norms, sources = [], []
    for each in found:
        if each.number not in expected:
            continue
        node = nodes.get(each.number)
        variables = [written.captured.get(name or "") for name in each.parameters]
        path = _layer(variables, paths) or each.scope
        if node is not None:
            node.name = protos.unique(path, taken)
            sources.append(
                SourceBatchNorm(node=node.name, source=path, epsilon=each.epsilon, momentum=None)
            )
        norms.append(
            ExpectedNorm(
                node=node.name if node is not None else "",
                source=path,
                values=_values(variables),
                epsilon=each.epsilon,
            )
        )
    notes = [
        "a SavedModel's graph does not tell the momentum of its BatchNorms: the nodes have ONNX's "
        "default"
    ]
    return norms, sources, notes if norms else []


def _values(variables: Sequence[Any]) -> tuple[Array, Array, Array, Array]:
    scale, bias, mean, var = (
        None if each is None else _value(each).astype(np.float32) for each in variables
    )
    assert mean is not None  # a BatchNorm is only found where its statistics are variables
    assert var is not None
    return (
        np.ones_like(mean) if scale is None else scale,
        np.zeros_like(mean) if bias is None else bias,
        mean,
        var,
    )


def _layer(variables: Sequence[Any], paths: Mapping[int, str]) -> str:
    """The scope that a BatchNorm's variables are named under, if that is one."""
    scopes = {paths[id(each)].rpartition("/")[0] for each in variables if each is not None}
    # A number that tells variables of one name apart tells their layers apart.
    numbers = {
        paths[id(each)].removeprefix(_own_name(each)) for each in variables if each is not None
    }
    return scopes.pop() + numbers.pop() if len(scopes) == len(numbers) == 1 else ""


def _own_name(variable: Any) -> str:
    return str(variable.name).partition(":")[0]


def _paths(variables: Any) -> dict[int, str]:
    taken: set[str] = set()
    return {
        id(each): protos.unique(_own_name(each), taken) for each in sorted(variables, key=_own_name)
    }


def _value(variable: Any) -> Array:
    return np.asarray(variable.numpy())


def _left_out(
    subject: Subject, written: Written, tied: Mapping[str, Any], paths: Mapping[int, str]
) -> tuple[NotExported, ...]:
    stored = {id(each) for each in tied.values()}
    reached = depended(written.frozen, written.outputs)
    read = {id(each) for name, each in written.captured.items() if name in reached}
    return tuple(
        NotExported(
            source=paths[id(each)],
            elements=int(np.prod(each.shape)),
            why="stored in another form, from which its values cannot be told"
            if id(each) in read
            else "no output depends on it",
        )
        for each in subject.variables.values()
        if id(each) not in stored
    )


def _totals(
    tensors: Sequence[SourceTensor], subject: Subject, paths: Mapping[int, str]
) -> FrameworkTotals:
    sizes = {paths[id(each)]: int(np.prod(each.shape)) for each in subject.variables.values()}
    statistics = {each.source for each in tensors if each.role is Role.STATISTIC}
    other = sum(size for path, size in sizes.items() if path in statistics)
    return FrameworkTotals(trainable=sum(sizes.values()) - other, other=other)
