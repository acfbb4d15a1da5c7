"""Write BatchNorms that are known by their tensors alone as a model to hold others against.

Each stands by itself, behind the layer that it was found behind, written as a Gemm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inspector.errors import UndecidedError

_OPSET, _IR = 15, 8
"""The first in which a BatchNormalization's input may have another type than its parameters."""

_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Described:
    """One BatchNorm: scale, B, mean and var [C] with their names, and the layer before it.

    `weight` and `bias` are names with values [C, inputs] and [C]; None where there is none.
    """

    name: str
    names: tuple[str, ...]
    four: tuple[NDArray[Any], ...]
    epsilon: float
    weight: tuple[str, NDArray[Any]] | None
    bias: tuple[str, NDArray[Any]] | None


def reference_of(described: Sequence[Described]) -> bytes:
    """A model of these BatchNorms, in their order.

    Raises
    ------
    inspector.errors.UndecidedError
        Their weights take more than one file holds.
    """
    graph = helper.make_graph([], "weights", [], [])
    for at, each in enumerate(described):
        _add(each, f"x{at}", graph)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR
    )
    if model.ByteSize() > _LIMIT:
        raise UndecidedError("the weights take more than one ONNX file holds")
    data: bytes = model.SerializeToString()
    return data


def _add(each: Described, entered: str, graph: onnx.GraphProto) -> None:
    dtype = helper.np_dtype_to_tensor_dtype(each.four[0].dtype)
    shape: list[int | str] = ["N", each.four[3].size]
    names = [_stored(*one, graph) for one in zip(each.names, each.four, strict=True)]
    value = entered
    if each.weight is not None:
        shape = ["N", each.weight[1].shape[1]]
        read = [_stored(*one, graph) for one in (each.weight, each.bias) if one is not None]
        value = f"{entered}_linear"
        graph.node.append(helper.make_node("Gemm", [entered, *read], [value], transB=1))
    node = helper.make_node(
        "BatchNormalization",
        [value, *names],
        [f"{entered}_normalised"],
        name=each.name,
        epsilon=each.epsilon,
    )
    graph.node.append(node)
    graph.input.append(helper.make_tensor_value_info(entered, dtype, shape))
    graph.output.append(helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None))
    graph.output[-1].type.tensor_type.elem_type = dtype


def _stored(name: str, values: NDArray[Any], graph: onnx.GraphProto) -> str:
    """Store a tensor; one name may stand for one tensor in two layouts."""
    wanted, number = name, 0
    stored = numpy_helper.from_array(np.ascontiguousarray(values), name)
    held = {each.name: each for each in graph.initializer}
    while name in held and held[name] != stored:
        number += 1
        name = stored.name = f"{wanted}_{number}"
    if name not in held:
        graph.initializer.append(stored)
    return name
