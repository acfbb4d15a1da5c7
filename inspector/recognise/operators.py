"""Operators by what they do to the values that pass through them, each list once."""

from __future__ import annotations

from collections.abc import Mapping

from inspector.facts.model import Node

BLOCKED = "com.microsoft.nchwc"
"""Domain of what ONNX Runtime writes for one kind of processor, weights in blocks of channels."""

FLOAT_TYPES: Mapping[int, str] = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
"""The types that parameters have, by ONNX's numbers of them."""

INTEGER_TYPES = frozenset(range(2, 8)) | {12, 13}
"""ONNX's numbers of the integer types."""

ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Sum"})
"""Of two operands, one of them a constant, they make an affine map."""

MOVES = frozenset({"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
"""They put the same numbers elsewhere."""

NEXT_TO = frozenset({"Identity", "Cast", "Transpose", "Reshape"})
"""They are seen through when it is asked what stands next to a BatchNorm."""

ACTIVATIONS = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu Clip Sigmoid HardSigmoid HardSwish Tanh Gelu Mish "
    "Softplus".split()
)

ROOTS = frozenset({"Sqrt", "Pow", "Reciprocal"})
"""Without one of them nothing is divided by a standard deviation."""

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul")
"""A BatchNorm behind them can be folded into their weights; input 1 are those, input 2 the bias."""

FOLDS_INTO = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Those of them that exporters and runtimes fold BatchNorms into."""


def is_blocked(node: Node) -> bool:
    """Whether a node holds its weights in a layout that is not looked into."""
    return node.domain == BLOCKED
