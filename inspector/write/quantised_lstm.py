"""DynamicQuantizeLSTM of ONNX Runtime (domain com.microsoft), written as an LSTM.

Its weights are [directions, inputs, 4 hidden], those of an LSTM [directions, 4 hidden, inputs]; a
scale is one number a direction, or one a column.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper

from inspector.write.nodes import CannotExpandError, attributes_but, node_of

Values = Callable[[str], Any]
Store = Callable[[str, Any], None]

_WEIGHTS = ((1, 8), (2, 10))
"""Where it reads weights, and where their scale, which the zero point follows."""

_INPUTS = 8
"""How many of its inputs an LSTM has."""


def lstm_of(node: onnx.NodeProto, values: Values, store: Store) -> Iterator[onnx.NodeProto]:
    """Its weights from their grids, and an LSTM.

    Parameters
    ----------
    values
        Gives what is stored under a name.
    store
        Stores more.

    Raises
    ------
    CannotExpandError
        They are in no form that is known.
    """
    given = [*node.input, *[""] * (12 - len(node.input))]
    for at, scale_at in _WEIGHTS:
        name, scale_name, zero_name = given[at], given[scale_at], given[scale_at + 1]
        if not (name and scale_name):
            raise CannotExpandError("weights without a scale")
        weights, scale = values(name), values(scale_name)
        zero = values(zero_name) if zero_name else np.zeros(scale.shape, weights.dtype)
        if weights.ndim != 3 or scale.shape != zero.shape:
            raise CannotExpandError("weights that are not those of an LSTM")
        axis = 0
        if scale.ndim == 2:
            if scale.shape[0] != 1:
                # One for each column of each direction: no operator has such a grid.
                raise CannotExpandError("scales along two axes")
            scale, zero, axis = scale.reshape(-1), zero.reshape(-1), 1
        if scale.size == 1:
            scale, zero = scale.reshape(()), zero.reshape(())
        names = [f"{node.output[0] or node.name}_{given[at]}_{e}" for e in ("turned", "by", "from")]
        arrays = (np.ascontiguousarray(weights.transpose(0, 2, 1)), scale, zero)
        for each, array in zip(names, arrays, strict=True):
            store(each, array)
        given[at] = f"{names[0]}_real"
        yield helper.make_node("DequantizeLinear", names, [given[at]], name=given[at], axis=axis)
    inputs = given[:_INPUTS]
    while not inputs[-1]:
        inputs.pop()
    label = node.name or next(filter(None, node.output))
    yield node_of("LSTM", inputs, node.output, label, attributes_but(node, set()))
