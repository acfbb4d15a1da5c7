"""Networks by hand: nodes, stored tensors and names while a graph is put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
OPSET = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A network that pairs are made from.

    `bounds` holds, for each input of whole numbers by its place, the number they stay under.
    `others` are the same function as other exporters write it, by the way each was written.
    """

    name: str
    model: onnx.ModelProto
    bounds: tuple[int, ...] = ()
    others: dict[str, onnx.ModelProto] = field(default_factory=dict)


class Parts:
    """A graph in the making; every name is of one length, so that none is part of another."""

    def __init__(self, seed: int, *, variance: tuple[float, float] = (0.3, 2.0)) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.variance = variance

    def store(self, values: Array, role: str = "const") -> str:
        name = f"{role}_{len(self.stored):03}"
        self.stored.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        return self.store(np.array(values, np.int64), "ints")

    def number(self, value: float) -> str:
        return self.store(np.array(value, np.float32), "number")

    def normal(self, *shape: int, fan: int = 1, role: str = "weight") -> str:
        values = self.rng.standard_normal(shape) * fan**-0.5
        return self.store(values.astype(np.float32), role)

    def uniform(self, low: float, high: float, size: int, role: str) -> str:
        return self.store(self.rng.uniform(low, high, size).astype(np.float32), role)

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node and give its first output's name; others end in `_1`, `_2`."""
        name = f"{op_type.lower()}_{len(self.nodes):03}"
        made = [f"{name}_out", *(f"{name}_out_{at}" for at in range(1, outputs))]
        self.nodes.append(helper.make_node(op_type, inputs, made, name=name, **attributes))
        return made[0]

    def conv(
        self, x: str, filters: int, channels: int, *kernel: int, bias: bool = True, **attrs: Any
    ) -> str:
        """A convolution that keeps the size unless `pads` says otherwise."""
        per_group = channels // attrs.get("group", 1)
        fan = per_group * int(np.prod(kernel))
        names = [self.normal(filters, per_group, *kernel, fan=fan, role="kernel")]
        if bias:
            names.append(self.normal(filters, fan=16, role="bias"))
        if "auto_pad" not in attrs:
            attrs.setdefault("pads", [(k - 1) // 2 for k in kernel] * 2)
        return self.op("Conv", x, *names, kernel_shape=list(kernel), **attrs)

    def bn(self, x: str, channels: int, epsilon: float = 1e-3) -> str:
        return self.op(
            "BatchNormalization",
            x,
            self.uniform(0.5, 1.5, channels, "scale"),
            self.normal(channels, fan=10, role="shift"),
            self.normal(channels, fan=10, role="mean"),
            self.uniform(*self.variance, channels, "variance"),
            epsilon=epsilon,
        )

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def block(self, x: str, filters: int, channels: int, *kernel: int, **attrs: Any) -> str:
        """Conv, BatchNormalization, Relu."""
        return self.relu(self.bn(self.conv(x, filters, channels, *kernel, **attrs), filters))

    def gemm(self, x: str, out: int, into: int) -> str:
        weight = self.normal(out, into, fan=into)
        return self.op("Gemm", x, weight, self.normal(out, fan=10, role="bias"), transB=1)

    def matmul(self, x: str, out: int, into: int) -> str:
        x = self.op("MatMul", x, self.normal(into, out, fan=into))
        return self.op("Add", x, self.normal(out, fan=10, role="bias"))

    def head(self, x: str, classes: int, channels: int, *, softmax: bool = True) -> str:
        """Global pooling, a dense layer and a softmax."""
        x = self.op("Flatten", self.op("GlobalAveragePool", x))
        x = self.gemm(x, classes, channels)
        return self.op("Softmax", x, axis=-1) if softmax else x

    def model(
        self,
        inputs: dict[str, tuple[Any, ...]],
        outputs: dict[str, tuple[Any, ...]],
        *,
        ints: tuple[str, ...] = (),
        opset: int = OPSET,
    ) -> onnx.ModelProto:
        def info(name: str, shape: tuple[Any, ...]) -> onnx.ValueInfoProto:
            kind = TensorProto.INT64 if name in ints else TensorProto.FLOAT
            return helper.make_tensor_value_info(name, kind, shape)

        graph = helper.make_graph(
            self.nodes,
            "net",
            [info(*each) for each in inputs.items()],
            [info(*each) for each in outputs.items()],
            self.stored,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        made.ir_version = 8
        onnx.checker.check_model(made, full_check=True)
        return made
