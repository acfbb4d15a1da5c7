"""Small operations on an ONNX protobuf: find, rename, read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from inspector.compare.runtime.run import Array
from inspector.errors import UnreadableError
from inspector.export.verify import StoredNorm

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

LIMIT = 2**31 - 1
"""Bytes that one protobuf message can have (https://protobuf.dev/programming-guides/encoding/)."""


def graphs(model: ModelProto) -> Iterator[GraphProto]:
    """The main graph and every subgraph, outer before inner."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop(0)
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every node of every graph."""
    for graph in graphs(model):
        yield from graph.node


def batchnorms(model: ModelProto) -> list[NodeProto]:
    """Every BatchNormalization node."""
    return [
        node
        for node in nodes(model)
        if node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx")
    ]


def initializers(model: ModelProto) -> dict[str, TensorProto]:
    """Every initializer by name; both exporters keep names unique over all graphs."""
    return {each.name: each for graph in graphs(model) for each in graph.initializer}


def array(tensor: TensorProto, folder: Path | None = None) -> Array:
    """The values of a tensor, of its own dtype and dims; `folder` is where its data file lies."""
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor, base_dir="" if folder is None else str(folder))


def is_float(tensor: TensorProto) -> bool:
    """Whether NumPy has its elements as floating point: none of ONNX's 16 and 8 bit extras."""
    from onnx import TensorProto as T

    return tensor.data_type in (T.FLOAT, T.FLOAT16, T.DOUBLE)


def stored_norms(model: ModelProto) -> dict[str, StoredNorm]:
    """What every BatchNormalization node holds, by the node's name."""
    held = initializers(model)
    return {
        node.name: StoredNorm(
            values=tuple(array(held[name]) if name in held else None for name in node.input[1:5]),
            # The operator's default (https://onnx.ai/onnx/operators/onnx__BatchNormalization.html).
            epsilon=get_float(node, "epsilon", 1e-5),
        )
        for node in batchnorms(model)
    }


def value_names(model: ModelProto) -> set[str]:
    """Every name that some value of some graph has."""
    found: set[str] = set()
    for graph in graphs(model):
        found.update(each.name for each in graph.input)
        found.update(each.name for each in graph.initializer)
        for node in graph.node:
            found.update(name for name in node.output if name)
    return found


def casts_to_bfloat16(model: ModelProto) -> bool:
    """Whether the model computes in bfloat16, which none of its weights may tell."""
    from onnx import TensorProto

    return any(
        node.op_type == "Cast" and any(e.i == TensorProto.BFLOAT16 for e in node.attribute)
        for node in nodes(model)
    )


def rename_values(model: ModelProto, names: Mapping[str, str]) -> None:
    """Give values new names wherever they occur."""
    for graph in graphs(model):
        for named in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            if named.name in names:
                named.name = names[named.name]
        for node in graph.node:
            for values in (node.input, node.output):
                for position, name in enumerate(values):
                    if name in names:
                        values[position] = names[name]


def make_outputs_distinct(model: ModelProto) -> None:
    """Give an output that is given out again a name of its own: ONNX knows values by name."""
    taken = value_names(model)
    seen: set[str] = set()
    for each in model.graph.output:
        if each.name in seen:
            name = unique(each.name, taken)
            model.graph.node.add(op_type="Identity", name=name, input=[each.name], output=[name])
            each.name = name
        seen.add(each.name)


def unique(wanted: str, taken: set[str]) -> str:
    """`wanted`, or the first of `wanted_1`, `wanted_2`, … that is free; it is then taken."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def set_float(node: NodeProto, name: str, value: float) -> None:
    """Write a float attribute, in place of one that is there."""
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            attribute.f = value
            return
    node.attribute.append(helper.make_attribute(name, value))


def get_float(node: NodeProto, name: str, default: float) -> float:
    """Read a float attribute."""
    return next((float(each.f) for each in node.attribute if each.name == name), default)


def name_free_axes(model: ModelProto, free: Callable[[str, int], str]) -> None:
    """Name the free axes of inputs and outputs; the empty name leaves an axis anonymous."""
    for graph in graphs(model):
        for each in (*graph.input, *graph.output, *graph.value_info):
            for axis, dim in enumerate(each.type.tensor_type.shape.dim):
                if dim.HasField("dim_value"):
                    continue
                name = free(each.name, axis)
                dim.Clear()
                if name:
                    dim.dim_param = name


def stored_bytes(model: ModelProto) -> int:
    """Bytes of the tensors that the model holds."""
    return sum(len(each.raw_data) for graph in graphs(model) for each in graph.initializer)


def serialise(model: ModelProto, *, name: str) -> bytes:
    """The model's bytes, after ONNX's own check of it.

    Raises
    ------
    inspector.errors.UnreadableError
        It is larger than one file can be, or the exporter made something that is not ONNX.
    """
    refuse_too_large(model.ByteSize(), name)
    data: bytes = model.SerializeToString(deterministic=True)
    check(data, name=name)
    return data


def check(model: bytes | Path, *, name: str) -> None:
    """ONNX's own check of a model, or of its file where it has its data beside it.

    Raises
    ------
    inspector.errors.UnreadableError
        The exporter made something that is not ONNX.
    """
    import onnx

    try:
        onnx.checker.check_model(model if isinstance(model, bytes) else str(model))
    except onnx.checker.ValidationError as error:
        first = str(error).strip().splitlines()[0]
        raise UnreadableError(
            f"the exporter's result is not valid ONNX: {first}",
            where=name,
            hint="this is the exporter's fault: another --opset, or the layer written with other "
            "operators, may help; nothing was written",
        ) from error


def refuse_too_large(size: int, name: str) -> None:
    """Refuse what one protobuf file cannot hold.

    Raises
    ------
    inspector.errors.UnreadableError
        `size` bytes are more than `LIMIT`.
    """
    if size > LIMIT:
        raise UnreadableError(
            f"the model takes {size / 2**30:.1f} GiB, and one ONNX file holds 2 GiB at most",
            where=name,
            hint="models of this size cannot be exported yet",
        )
