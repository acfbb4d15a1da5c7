"""A model with what it computes from stored numbers alone as stored numbers.

Weights that are cast from a smaller format, scaled, or normalised in the graph are the same weights
that another export stores, and ONNX Runtime computes them once when it loads a model. Moving stored
numbers about (a Transpose, a Reshape) is left in place: whoever compares looks through that, and
most of what a model stores would be copied for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from inspector.errors import UnreadableError
from inspector.facts.graphs import captured
from inspector.facts.model import Model, Node, Tensor
from inspector.read.weights import ProtoWeights
from inspector.write.upgrade import opened

MOST_BYTES = 2**28
"""Bytes of results beyond which a model is left as it is."""

_COMPUTES = frozenset(
    "Cast CastLike Add Sub Mul Div Sqrt Reciprocal Neg Abs Pow Exp Log Max Min ReduceSum ReduceL2 "
    "ReduceMean ReduceMax ReduceSumSquare Range Where Equal Mod".split()
)
_SIZED = frozenset("ConstantOfShape Expand Tile Range".split())
"""Operators whose results are as large as a few stored numbers say."""

_MOVES = frozenset(
    "Identity Transpose Reshape Flatten Squeeze Unsqueeze Concat Slice Gather Expand Tile "
    "Shape ConstantOfShape".split()
)
_CAST_TO = frozenset("float16 float32 float64 int32 int64".split())
"""Types that a CastLike may take from a value that is not known."""

_LISTS = frozenset("value_int value_ints value_float value_floats".split())
"""What a Constant holds where it is no tensor."""

_FIRST_WITH_DEFAULTS = 4
"""The IR version from which on an initializer that is an input is a default that may be fed."""


def with_constants(model: Model) -> Model | None:
    """The same function; None where nothing is computed from stored numbers, or too much is.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    weights = model.weights
    if not isinstance(weights, ProtoWeights) or model.missing_data:
        return None
    constants = _Constants(model)
    wanted = constants.wanted()
    if not wanted:
        return None
    stored = []
    size = 0
    for name in wanted:
        try:
            values = constants.value(name)
        except UnreadableError:  # stays a node that computes it
            continue
        size += values.nbytes
        if size > MOST_BYTES:
            return None
        if values.dtype.kind in "fiub":
            stored.append(numpy_helper.from_array(values, name))
    return _with(model, weights, stored) if stored else None


def _with(model: Model, weights: ProtoWeights, stored: Sequence[onnx.TensorProto]) -> Model:
    proto = onnx.ModelProto()
    proto.CopyFrom(weights.proto)
    given = {each.name for each in stored}
    kept = [each for each in proto.graph.node if given.isdisjoint(each.output)]
    copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in kept]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    proto.graph.initializer.extend(stored)
    return opened(model, proto)


class _Constants:
    """The values of a graph that follow from stored numbers."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._stored = dict(model.graph.initializers)
        self._producer: dict[str, Node] = {}
        self._computed: set[str] = set()
        self._known: dict[str, Any] = {}

    def wanted(self) -> list[str]:
        """Those that are computed, and read by what is none of them."""
        graph = self._model.graph
        fed = {each.name for each in graph.inputs}
        if self._model.ir_version < _FIRST_WITH_DEFAULTS:
            fed -= graph.initializers.keys()
        constant = graph.initializers.keys() - fed
        wanted: dict[str, None] = {}
        for node in graph.nodes:
            reads = [name for name in self._deciding(node) if name]
            value = node.attributes.get("value")
            if node.is_standard and node.op_type == "Constant" and isinstance(value, Tensor):
                constant |= set(node.outputs)
                self._stored |= dict.fromkeys(node.outputs, value)
            elif node.is_standard and node.op_type == "Constant" and _LISTS & set(node.attributes):
                constant |= set(node.outputs)
                self._producer[node.outputs[0]] = node
            elif self._is_constant(node, reads, constant):
                constant |= set(node.outputs)
                self._producer[node.outputs[0]] = node
                if node.op_type in _COMPUTES or not self._computed.isdisjoint(reads):
                    self._computed.add(node.outputs[0])
            else:
                reads = [*node.inputs, *captured(node)]
                wanted |= dict.fromkeys(name for name in reads if name in self._computed)
        ends = {each.name for each in graph.outputs}
        return [name for name in wanted if name not in ends]

    def _is_constant(self, node: Node, reads: Sequence[str], constant: set[str]) -> bool:
        return (
            node.is_standard
            and node.op_type in (_COMPUTES | _MOVES)
            and len(node.outputs) == 1
            and bool(reads)
            and constant.issuperset(reads)
            and self._model.function(node) is None
        )

    def _deciding(self, node: Node) -> tuple[str, ...]:
        """The inputs whose values decide what a node gives: of CastLike's second, the type does."""
        known = self._model.graph.values.get(node.input(1))
        if node.op_type != "CastLike" or known is None or known.dtype not in _CAST_TO:
            return node.inputs
        return node.inputs[:1]

    def value(self, name: str) -> Any:
        """What is computed under a name.

        Raises
        ------
        inspector.errors.UnreadableError
            It cannot be, or a tensor's bytes are damaged.
        """
        # Not by recursion: a chain may be as long as the file.
        pending = [] if name in self._known else [name]
        while pending:
            node = self._producer[pending[-1]]
            missing = [
                each
                for each in self._deciding(node)
                if each in self._producer and each not in self._known
            ]
            if missing:
                pending += missing
                continue
            deciding = self._deciding(node)
            inputs = [self._loaded(each) if each else None for each in deciding]
            for each in node.inputs[len(deciding) :]:
                inputs.append(np.zeros(0, self._model.graph.values[each].dtype))
            if node.op_type in _SIZED and _elements(node, inputs) > MOST_BYTES // 8:
                raise UnreadableError("a constant that is too large to compute")
            (found,) = self._model.evaluator.run(node, inputs, self._model.opset)
            self._known[pending.pop()] = found
        return self._known[name]

    def _loaded(self, name: str) -> Any:
        known = self._known.get(name)
        return self._model.weights.load(self._stored[name]) if known is None else known


def _elements(node: Node, inputs: Sequence[Any]) -> float:
    """How many elements an operator of `_SIZED` would give."""
    given = [np.asarray(each).reshape(-1) for each in inputs]
    with np.errstate(all="ignore"):
        match node.op_type:
            case "ConstantOfShape":
                found = np.prod(given[0].astype(np.float64))
            case "Range":
                start, end, step = (each.astype(np.float64) for each in given)
                found = np.abs((end - start) / step).max(initial=0.0)
            case _:  # Expand at most, and Tile: of strings as well
                found = given[0].size * np.prod(given[1].astype(np.float64))
    return float(np.nan_to_num(found, nan=np.inf))
