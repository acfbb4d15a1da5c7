"""The networks by hand: of images. The others are in `nets_other.py`.

Each is a function of a seed; all weights and statistics are random and far from 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from .build import Parts

IMAGE = ("N", 3, 12, 12)


def question_torch(seed: int) -> onnx.ModelProto:
    """The question's network as PyTorch writes it."""
    p = Parts(seed, variance=(0.004, 0.05))
    x = p.bn(p.relu(p.conv("image", 6, 1, 3, 3)), 6)
    x = p.gemm(p.op("Flatten", x), 10, 6 * 64)
    x = p.gemm(p.relu(x), 5, 10)
    p.op("Softmax", x, axis=-1)
    return p.model({"image": ("N", 1, 8, 8)}, {p.nodes[-1].output[0]: ("N", 5)})


def question_keras(seed: int) -> onnx.ModelProto:
    """The same as Keras writes it: NHWC, MatMul and Add."""
    p = Parts(seed, variance=(0.004, 0.05))
    x = p.op("Transpose", "image", perm=[0, 3, 1, 2])
    x = p.bn(p.relu(p.conv(x, 6, 3, 3, 3, auto_pad="SAME_UPPER")), 6)
    x = p.op("Transpose", x, perm=[0, 2, 3, 1])
    x = p.matmul(p.op("Reshape", x, p.ints(-1, 6 * 64)), 10, 6 * 64)
    x = p.matmul(p.relu(x), 5, 10)
    x = p.op("Softmax", x, axis=-1)
    return p.model({"image": ("N", 8, 8, 3)}, {x: ("N", 5)})


def stack(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    x = p.block("image", 8, 3, 3, 3)
    x = p.block(x, 12, 8, 3, 3, strides=[2, 2], bias=False)
    x = p.block(x, 12, 12, 3, 3)
    x = p.head(x, 6, 12)
    return p.model({"image": IMAGE}, {x: ("N", 6)})


def deep(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    x = "image"
    for at in range(12):
        x = p.block(x, 8, 8 if at else 3, 3, 3, bias=bool(at % 2))
    x = p.head(x, 5, 8, softmax=False)
    return p.model({"image": IMAGE}, {x: ("N", 5)})


def resnet(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    x = p.block("image", 8, 3, 3, 3, bias=False)
    channels = 8
    for filters, stride in ((8, 1), (16, 2)):
        y = p.block(x, filters, channels, 3, 3, bias=False, strides=[stride, stride])
        y = p.bn(p.conv(y, filters, filters, 3, 3, bias=False), filters)
        if stride == 2:
            x = p.conv(x, filters, channels, 1, 1, bias=False, strides=[2, 2])
            x = p.bn(x, filters)
        x, channels = p.relu(p.op("Add", y, x)), filters
    x = p.head(x, 6, channels, softmax=False)
    return p.model({"image": IMAGE}, {x: ("N", 6)})


def mobile(seed: int) -> onnx.ModelProto:
    """Inverted residuals: depthwise convolutions and relu6."""
    p = Parts(seed)

    def relu6(x: str) -> str:
        return p.op("Clip", x, p.number(0.0), p.number(6.0))

    x = relu6(p.bn(p.conv("image", 8, 3, 3, 3, strides=[2, 2]), 8))
    for _ in range(2):
        y = relu6(p.bn(p.conv(x, 16, 8, 1, 1, bias=False), 16))
        y = relu6(p.bn(p.conv(y, 16, 16, 3, 3, bias=False, group=16), 16))
        x = p.op("Add", x, p.bn(p.conv(y, 8, 16, 1, 1, bias=False), 8))
    x = p.head(x, 6, 8)
    return p.model({"image": ("N", 3, 16, 16)}, {x: ("N", 6)})


def densenet(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    x, channels = p.conv("image", 8, 3, 3, 3, bias=False), 8
    for _ in range(3):
        y = p.relu(p.bn(x, channels, epsilon=1e-5))
        y = p.conv(y, 6, channels, 3, 3, bias=False)
        x, channels = p.op("Concat", x, y, axis=1), channels + 6
    x = p.relu(p.bn(x, channels, epsilon=1e-5))
    x = p.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = p.head(x, 5, channels, softmax=False)
    return p.model({"image": IMAGE}, {x: ("N", 5)})


def unet(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    top = p.block("image", 6, 3, 3, 3)
    x = p.op("MaxPool", top, kernel_shape=[2, 2], strides=[2, 2])
    x = p.block(x, 6, 6, 3, 3)
    low = p.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    low = p.block(low, 8, 6, 3, 3)
    up = p.op(
        "Resize",
        low,
        "",
        p.store(np.array([1, 1, 2, 2], np.float32), "scales"),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    x = p.block(p.op("Concat", up, x, axis=1), 6, 14, 3, 3)
    weight = p.normal(6, 6, 2, 2, fan=6, role="kernel")
    x = p.op("ConvTranspose", x, weight, p.normal(6, fan=9, role="bias"), strides=[2, 2])
    x = p.relu(p.bn(x, 6))
    x = p.conv(p.op("Concat", x, top, axis=1), 2, 12, 1, 1)
    x = p.op("Sigmoid", x)
    return p.model({"image": IMAGE}, {x: ("N", 2, 12, 12)})


def squeeze(seed: int) -> onnx.ModelProto:
    """Squeeze-and-excitation: a gate computed from the whole image."""
    p = Parts(seed)
    x = p.block("image", 12, 3, 3, 3)
    for gate in ("Sigmoid", "HardSigmoid"):
        x = p.block(x, 12, 12, 3, 3, bias=False)
        y = p.op("GlobalAveragePool", x)
        y = p.relu(p.conv(y, 4, 12, 1, 1))
        y = p.op(gate, p.conv(y, 12, 4, 1, 1))
        x = p.op("Mul", x, y)
    x = p.head(x, 5, 12)
    return p.model({"image": IMAGE}, {x: ("N", 5)})


def pools(seed: int) -> onnx.ModelProto:
    """Pooling of every sort, with pads and sizes that do not divide."""
    p = Parts(seed)
    x = p.block("image", 8, 3, 3, 3)
    x = p.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = p.bn(p.conv(x, 8, 8, 3, 3), 8)
    x = p.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    x = p.relu(p.conv(x, 8, 8, 3, 3, dilations=[2, 2], pads=[2, 2, 2, 2]))
    x = p.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = p.op("Concat", p.op("GlobalMaxPool", x), p.op("GlobalAveragePool", x), axis=1)
    x = p.gemm(p.op("Flatten", x), 5, 16)
    return p.model({"image": ("N", 3, 13, 13)}, {x: ("N", 5)})


def activations(seed: int) -> onnx.ModelProto:
    p = Parts(seed)
    x = p.bn(p.conv("image", 8, 3, 3, 3), 8)
    x = p.op("PRelu", x, p.store(p.rng.uniform(0.1, 0.4, (8, 1, 1)).astype(np.float32), "slope"))
    x = p.op("LeakyRelu", p.bn(p.conv(x, 8, 8, 3, 3), 8), alpha=0.2)
    x = p.op("Elu", p.bn(p.conv(x, 8, 8, 3, 3), 8), alpha=0.7)
    x = p.op("HardSwish", p.bn(p.conv(x, 8, 8, 3, 3), 8))
    y = p.conv(x, 8, 8, 1, 1)
    x = p.op("Mul", y, p.op("Sigmoid", y))
    x = p.op("Add", x, p.op("Tanh", p.op("Softplus", y)))
    x = p.head(x, 6, 8)
    return p.model({"image": IMAGE}, {x: ("N", 6)})


def groups(seed: int) -> onnx.ModelProto:
    """Grouped convolutions and a channel shuffle."""
    p = Parts(seed)
    x = p.block("image", 12, 3, 3, 3)
    x = p.block(x, 12, 12, 3, 3, group=3, bias=False)
    x = p.op("Reshape", x, p.ints(-1, 3, 4, 12, 12))
    x = p.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = p.op("Reshape", x, p.ints(-1, 12, 12, 12))
    x = p.block(x, 12, 12, 3, 3, group=4, bias=False)
    x = p.head(x, 5, 12)
    return p.model({"image": IMAGE}, {x: ("N", 5)})


def decoder(seed: int) -> onnx.ModelProto:
    """From a vector to an image: Gemm, Reshape, ConvTranspose with BatchNorm."""
    p = Parts(seed)
    x = p.relu(p.gemm("code", 8 * 16, 10))
    x, channels = p.op("Reshape", x, p.ints(-1, 8, 4, 4)), 8
    for filters in (6, 4):
        kernel = p.normal(channels, filters, 4, 4, fan=channels * 4, role="kernel")
        x = p.op("ConvTranspose", x, kernel, strides=[2, 2], pads=[1, 1, 1, 1])
        x, channels = p.relu(p.bn(x, filters)), filters
    x = p.op("Tanh", p.conv(x, 3, 4, 3, 3))
    return p.model({"code": ("N", 10)}, {x: ("N", 3, 16, 16)})


def dead(seed: int) -> onnx.ModelProto:
    """Channels that a Relu never lets through: what they hold cannot show."""
    p = Parts(seed)
    x = p.op("Sigmoid", p.bn(p.conv("image", 8, 3, 3, 3), 8))
    x = p.bn(p.conv(x, 8, 8, 3, 3, bias=False), 8)
    shift = next(each for each in p.stored if each.name == p.nodes[-1].input[2])
    values = onnx.numpy_helper.to_array(shift).copy()
    values[[1, 5]] = -1000.0  # a Sigmoid's sums are bounded: these stay below 0 whatever comes
    shift.CopyFrom(onnx.numpy_helper.from_array(values, shift.name))
    x = p.head(p.relu(x), 5, 8)
    return p.model({"image": IMAGE}, {x: ("N", 5)})


NETS: dict[str, Callable[[int], onnx.ModelProto]] = {
    each.__name__: each
    for each in (
        question_torch,
        question_keras,
        stack,
        deep,
        resnet,
        mobile,
        densenet,
        unet,
        squeeze,
        pools,
        activations,
        groups,
        decoder,
        dead,
    )
}
