"""Models written in ONNX's text form (https://onnx.ai/onnx/repo-docs/Syntax.html)."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser

FEW = (
    "<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, "
    "float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>"
)
"""The four parameters of a BatchNorm of two channels, as a graph's initializers."""


def parsed(text: str) -> onnx.ModelProto:
    """A model from ONNX's text form; without a header it is of opset 17.

    What is declared between the angle brackets without values becomes an initializer of zeros.
    """
    if not text.lstrip().startswith("<"):
        text = f'<ir_version: 8, opset_import: ["": 17]>\n{text}'
    model = onnx.parser.parse_model(text)
    graph = model.graph
    for declared in list(graph.value_info):
        kind = declared.type.tensor_type
        dims = [each.dim_value for each in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(dims, dtype), declared.name))
    del graph.value_info[:]
    return model
