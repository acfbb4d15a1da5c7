"""A model without inputs of operators that say no more than their absence.

A recurrent layer starts from zeros where it is given no state; one exporter leaves the state out,
another makes zeros of the batch's size. A Resize reads its region only where it crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx

from inspector.errors import UnreadableError
from inspector.facts.model import Model, Node, Tensor
from inspector.read.weights import ProtoWeights
from inspector.write.upgrade import opened

_STATES: Mapping[str, tuple[int, ...]] = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Inputs that are zeros where they are not given."""

_REGION = 1
"""The input of a Resize that only `tf_crop_and_resize` reads."""

_FIRST_WITH_REGION = 11
"""The opset in which it came; before, scales are read there."""

_STAY_ZEROS = frozenset(
    "Identity Cast Squeeze Unsqueeze Reshape Flatten Transpose Expand Tile Slice Gather".split()
)
"""Operators that give zeros where their first input is zeros."""

_MOST = 2**24
"""Elements of a stored tensor beyond which nobody keeps a state of zeros."""


def with_plain_inputs(model: Model) -> Model | None:
    """The same function, with such inputs left out; None where there are none.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    weights = model.weights
    if not isinstance(weights, ProtoWeights) or model.missing_data:
        return None
    zeros = _Zeros(model)
    idle = {
        (node.outputs, at)
        for node in model.graph.nodes
        if node.is_standard and model.function(node) is None
        for at in _idle(node, zeros, model.opset)
    }
    if not idle:
        return None
    proto = onnx.ModelProto()
    proto.CopyFrom(weights.proto)
    for each in proto.graph.node:
        for at in range(len(each.input)):
            if (tuple(each.output), at) in idle:
                each.input[at] = ""
    return opened(model, proto)


def _idle(node: Node, zeros: _Zeros, opset: int) -> Iterator[int]:
    """At which inputs a node reads what it would do without."""
    for at in _STATES.get(node.op_type, ()):
        if node.input(at) and zeros.has(node.input(at)):
            yield at
    if node.op_type == "Resize" and opset >= _FIRST_WITH_REGION and node.input(_REGION):
        how = node.attributes.get("coordinate_transformation_mode", b"half_pixel")
        if how != b"tf_crop_and_resize":
            yield _REGION


class _Zeros:
    """Which values of a graph are zeros, whatever is fed."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._producer = {n: each for each in model.graph.nodes for n in each.outputs if n}
        # What is an input as well may be fed.
        fed = {each.name for each in model.graph.inputs}
        stored = model.graph.initializers
        self._stored = {name: each for name, each in stored.items() if name not in fed}
        self._known: dict[str, bool] = {}

    def has(self, value: str) -> bool:
        # Not by recursion: a chain may be as long as the file.
        way: dict[str, None] = {}
        while value not in self._known and value not in way:
            way[value] = None
            node = self._producer.get(value)
            plain = node is not None and node.is_standard and self._model.function(node) is None
            if node is None or not plain or node.op_type not in _STAY_ZEROS:
                self._known[value] = self._begins_with(value, node if plain else None)
                break
            value = node.input(0)
        found = self._known.get(value, False)
        self._known |= dict.fromkeys(way, found)
        return found

    def _begins_with(self, value: str, node: Node | None) -> bool:
        tensor: Any = self._stored.get(value)
        if node is not None and node.op_type == "Constant":
            tensor = node.attributes.get("value")
        elif node is not None and node.op_type == "ConstantOfShape":
            tensor = node.attributes.get("value")
            if tensor is None:
                return True
        if not isinstance(tensor, Tensor) or tensor.elements > _MOST:
            return False
        try:
            return tensor.dtype != "string" and not self._model.weights.load(tensor).any()
        except UnreadableError:  # whoever reads it says what is wrong with it
            return False
