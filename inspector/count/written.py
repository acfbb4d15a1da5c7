"""Ones and zeros that an exporter wrote for what a layer does not have.

A BatchNorm without scale or without center has neither in the framework, and ONNX wants both; and
folding a BatchNorm into a Conv makes a bias. By values alone they look like parameters that were
never trained: the name under which they are stored has to tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from inspector.count.merged import MOST_ELEMENTS, is_named
from inspector.count.uses import Site
from inspector.facts.model import Model, Tensor

_ABSENT: Mapping[str, Mapping[int, float]] = {
    "BatchNormalization": {1: 1.0, 2: 0.0},
    "InstanceNormalization": {1: 1.0, 2: 0.0},
    "LayerNormalization": {1: 1.0, 2: 0.0},
    "GroupNormalization": {1: 1.0, 2: 0.0},
    "RMSNormalization": {1: 1.0},
    "Conv": {2: 0.0},
    "ConvTranspose": {2: 0.0},
    "Gemm": {2: 0.0},
}
"""What stands for an absent operand, by operator and position."""

_BY_EXPORTER = re.compile(
    r"(?:^|/)(?:ones|zeros)(?:_like)?(?:_\d+)?(?::\d+)?$"  # TensorFlow's operators
    r"|^val_\d+$"  # torch.onnx numbers what it makes itself
    r"|/(?:Constant|Expand|ConstantOfShape)(?:_\d+)?_output_\d+$"  # TorchScript
    r"|(?:^|/)const_fold_opt__\d+$"  # tf2onnx
)


_NORMALIZATION = re.compile(r"(?:^|/)normalization(?:_\d+)*/")


def adapted(tensor: Tensor, value: str, site: Site) -> str:
    """Why a constant may be a statistic of Keras' Normalization layer; empty if it may not.

    It subtracts a mean and divides by a deviation, which Keras counts if they were adapted to data
    and does not if they were given
    (https://keras.io/api/layers/preprocessing_layers/numerical/normalization/).
    """
    node = site.node
    if node is None or node.op_type not in ("Sub", "Div", "Mul") or tensor.elements < 2:
        return ""
    names = (tensor.name or value, node.name, *node.outputs[:1])
    if not any(_NORMALIZATION.search(each) for each in names):
        return ""
    which = "mean" if node.op_type == "Sub" else "variance"
    return f"it may be the {which} of Keras' Normalization, which also counts one step"


_BIAS_OF_RECURRENT = 3
"""The input of LSTM, GRU and RNN that is [directions, 2 · gates · units]: two biases in a row."""


def padding(tensor: Tensor, site: Site, model: Model) -> int:
    """Elements of a recurrent layer's bias that ONNX asks for and Keras does not have.

    ONNX has one bias for the input and one for the state; Keras adds one, but for a GRU with
    `reset_after`, and tf2onnx writes zeros for the other
    (https://onnx.ai/onnx/operators/onnx__LSTM.html).
    """
    node = site.node
    if node is None or node.op_type not in ("LSTM", "GRU", "RNN"):
        return 0
    if site.position != _BIAS_OF_RECURRENT or node.int_attribute("linear_before_reset", 0):
        return 0
    if len(tensor.dims) != 2 or tensor.dims[1] % 2 or tensor.elements > MOST_ELEMENTS:
        return 0
    values = model.values(tensor)
    if values is None or values[:, tensor.dims[1] // 2 :].any():
        return 0
    return tensor.elements // 2


def written(tensor: Tensor, value: str, site: Site, model: Model) -> tuple[bool, str]:
    """Whether an exporter wrote a learned tensor, and why it may have where nothing tells."""
    node = site.node
    if node is None:
        return False, ""
    name = tensor.name or value
    absent = _ABSENT.get(node.op_type, {}).get(site.position)
    if site.position == 0 and node.op_type in ("MatMul", "Gemm") and _BY_EXPORTER.search(name):
        absent = 0.0  # the initial state of an RNN that torch has written out
    if absent is None or is_named(name) or tensor.elements > MOST_ELEMENTS:
        return False, ""
    values = model.values(tensor)
    if values is None or not values.size or not (values == absent).all():
        return False, ""
    if _BY_EXPORTER.search(name):
        return True, ""
    what = f"all {absent:g}, and nothing in its name tells a parameter"
    return False, f"{what}: it may stand for one that the layer does not have"
