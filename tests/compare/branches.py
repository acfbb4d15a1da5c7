"""A small network with branches, and ways in which a port of it goes wrong.

x → conv1 → bn1 → relu1 ─┬─→ sigmoid ──────────────┐
                         └─→ conv2 → bn2 → leaky ─┬┴→ sub → concat → conv3 → bn3 → relu3
                                                  └──────────↗
→ pool → mean → dense1 → tanh → dense2 → softmax
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Change = Callable[[onnx.ModelProto], None]

CHANNELS = 8


def network(seed: int = 0) -> onnx.ModelProto:
    """The network with random weights and statistics; batch N."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    nodes = []

    def add(op: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(name: str, x: str, channels: int, pads: list[int]) -> str:
        kernel = rng.standard_normal((CHANNELS, channels, 3, 3)) * (9 * channels) ** -0.5
        tensors[f"{name}.kernel"] = kernel
        tensors[f"{name}.bias"] = rng.standard_normal(CHANNELS) * 0.1
        return add("Conv", name, x, f"{name}.kernel", f"{name}.bias", pads=pads)

    def norm(name: str, x: str) -> str:
        tensors[f"{name}.scale"] = rng.uniform(0.5, 1.5, CHANNELS)
        tensors[f"{name}.B"] = rng.standard_normal(CHANNELS) * 0.5
        tensors[f"{name}.mean"] = rng.standard_normal(CHANNELS) * 0.5
        tensors[f"{name}.var"] = rng.uniform(0.05, 2.0, CHANNELS)
        parts = [f"{name}.{each}" for each in ("scale", "B", "mean", "var")]
        return add("BatchNormalization", name, x, *parts, epsilon=1e-5)

    def dense(name: str, x: str, size: int) -> str:
        tensors[f"{name}.kernel"] = rng.standard_normal((size, CHANNELS)) * CHANNELS**-0.5
        tensors[f"{name}.bias"] = rng.standard_normal(size) * 0.1
        return add("Gemm", name, x, f"{name}.kernel", f"{name}.bias", transB=1)

    first = add("Relu", "relu1", norm("bn1", conv("conv1", "x", 3, [1, 1, 1, 1])))
    second = conv("conv2", first, CHANNELS, [1, 1, 1, 1])
    second = add("LeakyRelu", "leaky", norm("bn2", second), alpha=0.1)
    gate = add("Sigmoid", "sigmoid", first)
    joined = add("Concat", "concat", add("Sub", "sub", gate, second), second, axis=1)
    third = add("Relu", "relu3", norm("bn3", conv("conv3", joined, 2 * CHANNELS, [0, 0, 0, 0])))
    pooled = add(
        "AveragePool",
        "pool",
        third,
        kernel_shape=[2, 2],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        count_include_pad=1,
    )
    mean = add("GlobalAveragePool", "mean", pooled)
    hidden = add("Tanh", "tanh", dense("dense1", add("Flatten", "flat", mean), CHANNELS))
    add("Softmax", "y", dense("dense2", hidden, 5), axis=-1)
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [
            numpy_helper.from_array(np.asarray(values, np.float32), name)
            for name, values in tensors.items()
        ],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="branches"
    )


def changed(model: onnx.ModelProto, change: Change) -> onnx.ModelProto:
    copy = deepcopy(model)
    change(copy)
    onnx.checker.check_model(copy)
    return copy


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(each for each in model.graph.node if each.name == name)


def values(model: onnx.ModelProto, name: str) -> np.ndarray[Any, Any]:
    tensor = next(each for each in model.graph.initializer if each.name == name)
    return numpy_helper.to_array(tensor).copy()


def put(model: onnx.ModelProto, name: str, new: np.ndarray[Any, Any]) -> None:
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new), name))


def attribute(name: str, key: str, value: Any) -> Change:
    def change(model: onnx.ModelProto) -> None:
        own = node(model, name)
        for each in list(own.attribute):
            if each.name == key:
                own.attribute.remove(each)
        own.attribute.append(helper.make_attribute(key, value))

    return change


def tensor(name: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Change:
    return lambda model: put(model, name, change(values(model, name)))


def element(name: str, at: tuple[int, ...], by: float) -> Change:
    def moved(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array[at] += by
        return array

    return tensor(name, moved)


def swapped(name: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        own = node(model, name)
        own.input[0], own.input[1] = own.input[1], own.input[0]

    return change


def operator(name: str, op: str, **attributes: Any) -> Change:
    def change(model: onnx.ModelProto) -> None:
        own = node(model, name)
        own.op_type = op
        del own.attribute[:]
        own.attribute.extend(helper.make_attribute(*each) for each in attributes.items())

    return change


def without(name: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        own = node(model, name)
        for each in model.graph.node:
            for at, read in enumerate(each.input):
                if read == name:
                    each.input[at] = own.input[0]
        model.graph.node.remove(own)

    return change


def behind(name: str, op: str, **attributes: Any) -> Change:
    """One more operator behind a node."""

    def change(model: onnx.ModelProto) -> None:
        own = node(model, name)
        own.output[0] = f"{name}_before"
        made = helper.make_node(op, [f"{name}_before"], [name], name=f"{name}_extra", **attributes)
        model.graph.node.insert(list(model.graph.node).index(own) + 1, made)

    return change


def exchanged(one: str, other: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        first, second = values(model, one), values(model, other)
        put(model, one, second)
        put(model, other, first)

    return change


def scaled_input(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    node(model, "conv1").input[0] = "scaled"
    model.graph.node.insert(0, helper.make_node("Mul", ["x", "half"], ["scaled"], name="scaled"))


def rounded(model: onnx.ModelProto) -> None:
    for each in list(model.graph.initializer):
        array = numpy_helper.to_array(each)
        put(model, each.name, array.astype(np.float16).astype(np.float32))


def training(model: onnx.ModelProto) -> None:
    attribute("bn2", "training_mode", 1)(model)
    node(model, "bn2").output.extend(["bn2_mean", "bn2_var"])


def both(*changes: Change) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for each in changes:
            each(model)

    return change


def folded(model: onnx.ModelProto) -> None:
    """Each BatchNorm folded into the convolution in front, in float32 as exporters do."""
    for at in (1, 2, 3):
        scale, bias, mean, var = (
            values(model, f"bn{at}.{each}") for each in ("scale", "B", "mean", "var")
        )
        epsilon = next(
            each.f for each in node(model, f"bn{at}").attribute if each.name == "epsilon"
        )
        slope = scale / np.sqrt(var + np.float32(epsilon))
        put(
            model,
            f"conv{at}.kernel",
            values(model, f"conv{at}.kernel") * slope[:, None, None, None],
        )
        put(model, f"conv{at}.bias", (values(model, f"conv{at}.bias") - mean) * slope + bias)
        without(f"bn{at}")(model)
