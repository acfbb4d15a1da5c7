"""The question's small network as either framework exports it, from one set of numpy weights.

Conv → Relu → BatchNorm → Flatten → Dense → Relu → Dense → Softmax, in Keras' way (NHWC input,
MatMul and Add, a Transpose before the Flatten) and in PyTorch's (NCHW, Gemm with transB). Every
way in which an export goes wrong is a knob; `truth` computes the network in float64 with numpy
alone, so that a test knows what is right without asking the code it tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Weights = dict[str, Array]

KERNEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    height: int = 8
    width: int = 8
    channels: int = 1
    filters: int = 4
    hidden: int = 6
    classes: int = 3

    @property
    def flat(self) -> int:
        return self.height * self.width * self.filters


ORDINARY = (0.33, 1.98)
REAL = (0.0037, 0.052)
TINY = (0.001, 0.0098)


def weights(
    size: Size = Size(), *, seed: int = 0, variance: tuple[float, float] = ORDINARY
) -> Weights:  # frozen
    """Channel-first weights: kernel [F, C, 3, 3], first dense [out, F·H·W]."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> Array:
        return np.asarray(rng.standard_normal(shape) * scale, np.float32)

    def uniform(low: float, high: float) -> Array:
        return np.asarray(rng.uniform(low, high, size.filters), np.float32)

    return {
        "kernel": normal(
            size.filters, size.channels, KERNEL, KERNEL, scale=(9 * size.channels) ** -0.5
        ),
        "conv_bias": normal(size.filters, scale=0.2),
        "scale": uniform(0.5, 1.5),
        "B": normal(size.filters, scale=0.3),
        "mean": normal(size.filters, scale=0.3),
        "var": uniform(*variance),
        "dense": normal(size.hidden, size.flat, scale=size.flat**-0.5),
        "dense_bias": normal(size.hidden, scale=0.3),
        "last": normal(size.classes, size.hidden, scale=size.hidden**-0.5),
        "last_bias": normal(size.classes, scale=0.3),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """One export of the network; the defaults are the right one."""

    weights: Mapping[str, Array] = field(default_factory=weights)
    size: Size = Size()
    batch: int | str = "N"
    epsilon: float = 1e-3
    momentum: float = 0.15
    relu: bool = True
    inner_relu: bool = True
    batchnorm: bool = True
    softmax: bool = True
    twice_softmax: bool = False
    permute: bool = True
    training: bool = False
    pads: tuple[int, ...] | None = (1, 1, 1, 1)
    input_scale: float | None = None
    opset: int = 17
    dtype: int = TensorProto.FLOAT
    prefix: str = ""

    def but(self, **changes: Any) -> Net:
        return replace(self, **changes)

    def with_weight(self, name: str, values: Array) -> Net:
        return replace(self, weights={**self.weights, name: np.asarray(values, np.float32)})

    def nudged(self, name: str, by: float, at: tuple[int, ...] | None = None) -> Net:
        """The same with one element of one tensor moved."""
        values = self.weights[name].copy()
        values[at if at is not None else (0,) * values.ndim] += by
        return self.with_weight(name, values)


class _Parts:
    """Nodes and initializers while a graph is put together."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def store(self, name: str, values: Array) -> str:
        values = np.ascontiguousarray(values)
        if values.dtype == np.float32:
            values = values.astype(helper.tensor_dtype_to_np_dtype(self.net.dtype))
        name = self.net.prefix + name
        self.stored.append(numpy_helper.from_array(values, name))
        return name

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self.net.prefix}{op_type}_{len(self.nodes)}"
        made = helper.make_node(op_type, inputs, [f"{name}:0"], name=name, **attributes)
        self.nodes.append(made)
        return f"{name}:0"

    def model(
        self, value: str, input_: tuple[str, tuple[Any, ...]], output: str
    ) -> onnx.ModelProto:
        net = self.net
        self.nodes[-1].output[0] = output
        assert value.endswith(":0")
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(input_[0], net.dtype, input_[1])],
            [helper.make_tensor_value_info(output, net.dtype, (net.batch, net.size.classes))],
            self.stored,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)])
        made.ir_version = 8
        onnx.checker.check_model(made)
        return made


def _batchnorm(parts: _Parts, x: str) -> str:
    net = parts.net
    names = [parts.store(each, net.weights[each]) for each in ("scale", "B", "mean", "var")]
    x = parts.op("BatchNormalization", x, *names, epsilon=net.epsilon, momentum=net.momentum)
    if net.training:
        made = parts.nodes[-1]
        made.attribute.append(helper.make_attribute("training_mode", 1))
        made.output.extend([f"{net.prefix}running_mean", f"{net.prefix}running_var"])
    return x


def _convolution(parts: _Parts, x: str, **pads: Any) -> str:
    net = parts.net
    x = parts.op(
        "Conv",
        x,
        parts.store("kernel", net.weights["kernel"]),
        parts.store("conv_bias", net.weights["conv_bias"]),
        **pads,
    )
    if net.relu:
        x = parts.op("Relu", x)
    return _batchnorm(parts, x) if net.batchnorm else x


def _tail(parts: _Parts, x: str, dense: Any) -> str:
    net = parts.net
    x = dense(x, "last", net.weights["last"])
    if net.softmax:
        x = parts.op("Softmax", x, axis=-1)
    if net.twice_softmax:
        x = parts.op("Softmax", x, axis=-1)
    return x


def torch_like(net: Net = Net()) -> onnx.ModelProto:  # frozen
    """NCHW throughout, Gemm with transB."""
    parts, size = _Parts(net), net.size

    def dense(x: str, name: str, values: Array) -> str:
        bias = parts.store(f"{name}_bias", net.weights[f"{name}_bias"])
        return parts.op("Gemm", x, parts.store(name, values), bias, transB=1)

    x = f"{net.prefix}x"
    if net.input_scale is not None:
        x = parts.op("Mul", x, parts.store("input_scale", np.float32(net.input_scale)))
    pads = {} if net.pads is None else {"pads": list(net.pads)}
    x = parts.op("Flatten", _convolution(parts, x, **pads))
    x = dense(x, "dense", _first_dense(net, channels_first=True))
    if net.inner_relu:
        x = parts.op("Relu", x)
    x = _tail(parts, x, dense)
    dims = (net.batch, size.channels, size.height, size.width)
    return parts.model(x, (f"{net.prefix}x", dims), f"{net.prefix}y")


def keras_like(net: Net = Net(), *, reshape: bool | None = None) -> onnx.ModelProto:  # frozen
    """NHWC at the input and at the Flatten, MatMul and Add, SAME padding."""
    parts, size = _Parts(net), net.size
    reshape = size.channels == 1 if reshape is None else reshape

    def dense(x: str, name: str, values: Array) -> str:
        x = parts.op("MatMul", x, parts.store(name, values.T))
        return parts.op("Add", x, parts.store(f"{name}_bias", net.weights[f"{name}_bias"]))

    x = f"{net.prefix}image"
    if net.input_scale is not None:
        x = parts.op("Mul", x, parts.store("input_scale", np.float32(net.input_scale)))
    if reshape:
        target = np.array([-1, size.channels, size.height, size.width], np.int64)
        x = parts.op("Reshape", x, parts.store("to_nchw", target))
    else:
        x = parts.op("Transpose", x, perm=[0, 3, 1, 2])
    pads = {"auto_pad": "SAME_UPPER"} if net.pads == (1, 1, 1, 1) else {}
    x = parts.op("Transpose", _convolution(parts, x, **pads), perm=[0, 2, 3, 1])
    x = parts.op("Reshape", x, parts.store("to_flat", np.array([-1, size.flat], np.int64)))
    x = dense(x, "dense", _first_dense(net, channels_first=False))
    if net.inner_relu:
        x = parts.op("Relu", x)
    x = _tail(parts, x, dense)
    dims = (net.batch, size.height, size.width, size.channels)
    return parts.model(x, (f"{net.prefix}image", dims), f"{net.prefix}probabilities")


def _first_dense(net: Net, *, channels_first: bool) -> Array:
    """The first dense kernel [out, in] for a flatten in this order; `permute` off leaves it."""
    size, values = net.size, net.weights["dense"]
    if channels_first == net.permute:
        return values
    image = values.reshape(-1, size.filters, size.height, size.width)
    return np.ascontiguousarray(image.transpose(0, 2, 3, 1).reshape(values.shape))


def truth(net: Net, images: Array) -> Array:
    """The network on images [N, C, H, W], in float64, by numpy alone (for 3×3 SAME padding)."""
    w = {name: values.astype(np.float64) for name, values in net.weights.items()}
    x = images.astype(np.float64) * (1.0 if net.input_scale is None else net.input_scale)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(2, 3))
    x = np.einsum("nchwij,fcij->nfhw", windows, w["kernel"]) + w["conv_bias"][:, None, None]
    if net.relu:
        x = np.maximum(x, 0)
    if net.batchnorm:
        mean, var = w["mean"], w["var"]
        if net.training:
            mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        slope = w["scale"] / np.sqrt(var + np.float32(net.epsilon))
        x = (x - mean[:, None, None]) * slope[:, None, None] + w["B"][:, None, None]
    x = x.reshape(len(x), -1) @ w["dense"].T + w["dense_bias"]
    if net.inner_relu:
        x = np.maximum(x, 0)
    x = x @ w["last"].T + w["last_bias"]
    for _ in range(net.softmax + net.twice_softmax):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        x = e / e.sum(axis=1, keepdims=True)
    return x


def deep(
    *,
    seed: int = 0,
    layers: int = 10,
    epsilon: float = 1e-3,
    folded: bool = False,
    filters: int = 8,
    classes: int = 5,
) -> onnx.ModelProto:
    """Residual blocks of Conv, BatchNorm and Relu; `folded` puts each BatchNorm into its Conv."""
    rng = np.random.default_rng(seed)
    parts = _Parts(Net(weights={}, epsilon=epsilon))
    x, channels = "x", 3
    for layer in range(layers):
        kernel = rng.standard_normal((filters, channels, 3, 3)) * (9 * channels) ** -0.5
        scale, bias = rng.uniform(0.5, 1.5, filters), rng.standard_normal(filters) * 0.2
        mean, var = rng.standard_normal(filters) * 0.2, rng.uniform(0.3, 2.0, filters)
        stored = [np.asarray(each, np.float32) for each in (kernel, scale, bias, mean, var)]
        before = x
        if folded:
            k, s, b, m, v = (each.astype(np.float64) for each in stored)
            slope = s / np.sqrt(v + np.float32(epsilon))
            fused = k * slope[:, None, None, None], b - m * slope
            names = [
                parts.store(f"{name}{layer}", np.asarray(each, np.float32))
                for name, each in zip(("kernel", "bias"), fused, strict=True)
            ]
            x = parts.op("Conv", x, *names, pads=[1, 1, 1, 1])
        else:
            names = [
                parts.store(f"{name}{layer}", each)
                for name, each in zip(("kernel", "scale", "B", "mean", "var"), stored, strict=True)
            ]
            x = parts.op("Conv", x, names[0], pads=[1, 1, 1, 1])
            x = parts.op("BatchNormalization", x, *names[1:], epsilon=epsilon)
        x = parts.op("Relu", x)
        if layer % 2:
            x = parts.op("Add", x, before)
        channels = filters
    x = parts.op("Flatten", parts.op("GlobalAveragePool", x))
    last = np.asarray(rng.standard_normal((classes, filters)), np.float32)
    bias = np.asarray(rng.standard_normal(classes), np.float32)
    x = parts.op("Gemm", x, parts.store("last", last), parts.store("last_bias", bias), transB=1)
    graph = helper.make_graph(
        parts.nodes,
        "deep",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3, 12, 12))],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ("N", classes))],
        parts.stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
