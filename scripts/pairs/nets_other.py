"""The networks by hand that are not of images: signals, volumes, sequences, tables, control."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from .build import Array, Parts
from .nets import IMAGE


def signal(seed: int) -> onnx.ModelProto:
    """Convolutions over time, with BatchNorm in one dimension."""
    p = Parts(seed)
    x = p.block("signal", 8, 2, 5)
    x = p.block(x, 8, 8, 3, dilations=[2], pads=[2, 2], bias=False)
    x = p.op("MaxPool", x, kernel_shape=[2], strides=[2])
    x = p.block(x, 12, 8, 3)
    x = p.head(x, 4, 12)
    return p.model({"signal": ("N", 2, 24)}, {x: ("N", 4)})


def volume(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    x = p.block("volume", 6, 1, 3, 3, 3)
    x = p.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    x = p.block(x, 8, 6, 3, 3, 3, bias=False)
    x = p.head(x, 4, 8)
    return p.model({"volume": ("N", 1, 6, 6, 6)}, {x: ("N", 4)})


def table(seed: int) -> onnx.ModelProto:
    """Dense layers with BatchNorm; two of them square."""
    p = Parts(seed, variance=(0.01, 0.5))
    x = p.relu(p.bn(p.gemm("row", 16, 10), 16))
    x = p.relu(p.bn(p.gemm(x, 16, 16), 16))
    x = p.bn(p.relu(p.matmul(x, 16, 16)), 16, epsilon=1e-5)
    x = p.op("Softmax", p.gemm(x, 4, 16), axis=-1)
    return p.model({"row": ("N", 10)}, {x: ("N", 4)})


def _recurrent(p: Parts, gates: int, directions: int, hidden: int, size: int) -> list[str]:
    """W, R and B of a GRU (3 gates) or an LSTM (4)."""
    return [
        p.normal(directions, gates * hidden, size, fan=size),
        p.normal(directions, gates * hidden, hidden, fan=hidden),
        p.normal(directions, 2 * gates * hidden, fan=10, role="bias"),
    ]


def gru(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    x = p.op("Transpose", "steps", perm=[1, 0, 2])
    x = p.op("GRU", x, *_recurrent(p, 3, 1, 8, 5), hidden_size=8, linear_before_reset=1)
    x = p.op("Transpose", p.op("Squeeze", x, p.ints(1)), perm=[1, 2, 0])
    x = p.bn(x, 8)
    x = p.op("ReduceMean", x, axes=[2], keepdims=0)
    x = p.op("Softmax", p.gemm(x, 4, 8), axis=-1)
    return p.model({"steps": ("N", 7, 5)}, {x: ("N", 4)})


def lstm(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    x = p.op("Transpose", "steps", perm=[1, 0, 2])
    x = p.op(
        "LSTM", x, *_recurrent(p, 4, 2, 6, 5), hidden_size=6, direction="bidirectional", outputs=3
    )
    x = p.op("Transpose", x, perm=[2, 0, 1, 3])
    x = p.op("Reshape", x, p.ints(0, 0, -1))
    x = p.op("Gather", x, p.store(np.array(-1), "index"), axis=1)
    x = p.matmul(p.op("Tanh", x), 3, 12)
    return p.model({"steps": ("N", 7, 5)}, {x: ("N", 3)})


def _normed(p: Parts, x: str, width: int) -> str:
    scale = p.uniform(0.5, 1.5, width, "scale")
    return p.op("LayerNormalization", x, scale, p.normal(width, fan=10, role="bias"), axis=-1)


def _heads(p: Parts, x: str, width: int, perm: list[int]) -> str:
    x = p.op("Reshape", p.matmul(x, width, width), p.ints(0, 0, 2, width // 2))
    return p.op("Transpose", x, perm=perm)


def attention(seed: int) -> onnx.ModelProto:
    """One block of a transformer: two heads, layer norms, gelu by erf."""
    p, width = Parts(seed), 8
    y = _normed(p, "tokens", width)
    q, v = (_heads(p, y, width, [0, 2, 1, 3]) for _ in range(2))
    k = _heads(p, y, width, [0, 2, 3, 1])
    s = p.op("Div", p.op("MatMul", q, k), p.number(2.0))
    y = p.op("MatMul", p.op("Softmax", s, axis=-1), v)
    y = p.op("Reshape", p.op("Transpose", y, perm=[0, 2, 1, 3]), p.ints(0, 0, width))
    x = p.op("Add", "tokens", p.matmul(y, width, width))
    y = p.matmul(_normed(p, x, width), 16, width)
    z = p.op("Erf", p.op("Div", y, p.number(2**0.5)))
    y = p.op("Mul", p.op("Mul", y, p.op("Add", z, p.number(1.0))), p.number(0.5))
    x = p.op("Add", x, p.matmul(y, width, 16))
    x = p.op("ReduceMean", x, axes=[1], keepdims=0)
    x = p.gemm(x, 4, width)
    return p.model({"tokens": ("N", 6, width)}, {x: ("N", 4)})


def embedding(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    x = p.op("Gather", p.normal(30, 8, role="table"), "ids")
    x = p.op("ReduceMean", x, axes=[1], keepdims=0)
    x = p.relu(p.bn(p.gemm(x, 12, 8), 12))
    x = p.op("Softmax", p.gemm(x, 3, 12), axis=-1)
    return p.model({"ids": ("N", 9)}, {x: ("N", 3)}, ints=("ids",))


def two(seed: int) -> onnx.ModelProto:
    """Two inputs of one shape and two outputs; operators whose operands have an order."""
    p = Parts(seed)
    a = p.relu(p.bn(p.gemm("left", 12, 6), 12))
    b = p.relu(p.bn(p.gemm("right", 12, 6), 12))
    apart = p.op("Sub", a, b)
    share = p.op("Div", a, p.op("Add", p.op("Mul", b, b), p.number(1.0)))
    both = p.op("Concat", apart, share, axis=1)
    one = p.op("Softmax", p.gemm(both, 4, 24), axis=-1)
    other = p.op("Sigmoid", p.gemm(p.op("Concat", a, b, axis=1), 2, 24))
    return p.model({"left": ("N", 6), "right": ("N", 6)}, {one: ("N", 4), other: ("N", 2)})


def branch(seed: int) -> onnx.ModelProto:
    """Which of two layers is applied hangs on the input."""
    p = Parts(seed)
    x = p.relu(p.bn(p.gemm("row", 8, 6), 8))
    total = p.op("ReduceSum", "row", keepdims=0)
    asked = p.op("Greater", total, p.number(0.0))
    sides = []
    for name in ("then", "else"):
        inner = Parts(seed + len(sides) + 1)
        inner.stored, inner.nodes = p.stored, []
        inner.bn(inner.gemm(x, 8, 8), 8)
        for node in inner.nodes:  # apart from the names outside
            node.name = f"{name}_{node.name}"
            node.output[0] = f"{name}_{node.output[0]}"
        inner.nodes[1].input[0] = inner.nodes[0].output[0]
        last = helper.make_tensor_value_info(inner.nodes[1].output[0], TensorProto.FLOAT, ("N", 8))
        sides.append(helper.make_graph(inner.nodes, name, [], [last]))
    x = p.op("If", asked, then_branch=sides[0], else_branch=sides[1])
    x = p.gemm(p.relu(x), 3, 8)
    return p.model({"row": ("N", 6)}, {x: ("N", 3)})


def loop(seed: int) -> onnx.ModelProto:
    """Three turns of one dense layer."""
    p = Parts(seed)
    x = p.bn(p.gemm("row", 8, 6), 8)
    nodes = [
        helper.make_node("MatMul", ["state", p.normal(8, 8, fan=8)], ["turned"], name="turn"),
        helper.make_node("Add", ["turned", p.normal(8, role="bias")], ["moved"], name="move"),
        helper.make_node("Tanh", ["moved"], ["next"], name="bend"),
        helper.make_node("Identity", ["going"], ["go_on"], name="go"),
    ]

    def info(name: str, kind: int, shape: tuple[object, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        nodes,
        "body",
        [
            info("turn_number", TensorProto.INT64, ()),
            info("going", TensorProto.BOOL, ()),
            info("state", TensorProto.FLOAT, ("N", 8)),
        ],
        [info("go_on", TensorProto.BOOL, ()), info("next", TensorProto.FLOAT, ("N", 8))],
    )
    turns, going = p.store(np.array(3), "turns"), p.store(np.array(True), "flag")
    x = p.op("Loop", turns, going, x, body=body)
    x = p.gemm(x, 3, 8)
    return p.model({"row": ("N", 6)}, {x: ("N", 3)})


def affine(seed: int) -> onnx.ModelProto:
    """As stock exports of Keras leave it: BatchNorms that are Mul and Add, NHWC at the ends."""
    p = Parts(seed)

    def slopes(x: str, channels: int) -> str:
        for op, low, high in (("Mul", 0.4, 2.0), ("Add", -0.5, 0.5)):
            values: Array = p.rng.uniform(low, high, (1, channels, 1, 1)).astype(np.float32)
            x = p.op(op, x, p.store(values, "slope"))
        return x

    x = p.op("Transpose", "image", perm=[0, 3, 1, 2])
    x = slopes(p.relu(p.conv(x, 8, 3, 3, 3)), 8)
    x = slopes(p.relu(p.conv(x, 8, 8, 3, 3)), 8)
    x = p.op("Transpose", x, perm=[0, 2, 3, 1])
    x = p.op("ReduceMean", x, axes=[1, 2], keepdims=0)
    x = p.op("Softmax", p.matmul(x, 5, 8), axis=-1)
    batch, channels, *size = IMAGE
    return p.model({"image": (batch, *size, channels)}, {x: ("N", 5)})


NETS: dict[str, Callable[[int], onnx.ModelProto]] = {
    each.__name__: each
    for each in (
        signal,
        volume,
        table,
        gru,
        lstm,
        attention,
        embedding,
        two,
        branch,
        loop,
        affine,
    )
}

BOUNDS = {"embedding": (30,)}
"""Of a network's whole-number inputs, by place."""
