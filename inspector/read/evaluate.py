"""What a node computes from constants, by onnx's own reference evaluator."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from inspector.errors import UnreadableError
from inspector.facts.model import AttributeReference, Graph, Node, Tensor, Weights
from inspector.read.protos import AttributeProto, GraphProto, NodeProto, ValueInfoProto

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx.reference.op_run import OpRun

_FIRST_THERE = {"DequantizeLinear": 19, "QuantizeLinear": 19}
"""Operators that onnx evaluates in a later version alone, which does the same to older inputs."""

_KINDS: Mapping[type, tuple[int, int]] = {
    int: (AttributeProto.INT, AttributeProto.INTS),
    float: (AttributeProto.FLOAT, AttributeProto.FLOATS),
    bytes: (AttributeProto.STRING, AttributeProto.STRINGS),
}


class ReferenceEvaluation:
    """Runs single nodes (https://onnx.ai/onnx/api/reference.html).

    Nodes that differ in their names alone share one evaluator: making one costs ten runs.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._made: dict[Hashable, OpRun] = {}

    def run(
        self, node: Node, inputs: Sequence[NDArray[Any] | None], opset: int
    ) -> Sequence[NDArray[Any]]:
        """See `inspector.facts.model.Evaluator`."""
        import numpy as np

        try:
            operator = self._operator(node, tuple([each is not None for each in inputs]), opset)
            # Infinity and NaN are facts about the constants, not a reason to warn on the screen.
            with np.errstate(all="ignore"):
                found = operator.run(*inputs)  # type: ignore[no-untyped-call]  # onnx types none of it
        except UnreadableError:
            raise
        except Exception as error:  # operators raise what they like on inputs not made for them
            raise _cannot(node, f"{type(error).__name__}: {error}") from error
        if len(found) < len(node.outputs):
            raise _cannot(node, f"it gives {len(found)} values and {len(node.outputs)} are named")
        arrays = [np.asarray(each) for each in found]
        if any([each.dtype.hasobject or each.dtype.kind in "SU" for each in arrays]):
            raise _cannot(node, "the result is no tensor of numbers")
        return arrays

    def _operator(self, node: Node, given: tuple[bool, ...], opset: int) -> OpRun:
        opset = max(opset, _FIRST_THERE.get(node.op_type, 1))
        attributes = tuple([(name, self._plain(value)) for name, value in node.attributes.items()])
        key = node.op_type, opset, given, len(node.outputs), attributes
        if key not in self._made:
            from onnx.reference import ReferenceEvaluator

            proto = NodeProto(
                op_type=node.op_type,
                input=[f"i{at}" if each else "" for at, each in enumerate(given)],
                output=[f"o{at}" for at in range(len(node.outputs))],
                attribute=[self._attribute(node, *each) for each in node.attributes.items()],
            )
            graph = GraphProto(name="constants", node=[proto])
            graph.input.extend(ValueInfoProto(name=name) for name in proto.input if name)
            graph.output.extend(ValueInfoProto(name=name) for name in proto.output)
            # Its one node by itself: feeding a graph takes longer than most nodes of constants.
            (self._made[key],) = ReferenceEvaluator(graph, opsets={"": opset}).rt_nodes_
        return self._made[key]

    def _plain(self, value: Any) -> Hashable:
        """An attribute as what tells it from others: a tensor by its values."""
        if not isinstance(value, Tensor):
            return (type(value), value) if isinstance(value, Hashable) else id(value)
        return value.dtype, value.dims, self._weights.load(value).tobytes()

    def _attribute(self, node: Node, name: str, value: Any) -> AttributeProto:
        """A plain attribute or a tensor as the message that carries it."""
        if isinstance(value, Tensor):
            from onnx import numpy_helper

            tensor = numpy_helper.from_array(self._weights.load(value))
            return AttributeProto(name=name, type=AttributeProto.TENSOR, t=tensor)
        if value is None or isinstance(value, AttributeReference | Graph):
            raise _cannot(node, f"its attribute {name!r} is no number, string or tensor")
        from onnx import helper

        one, several = _KINDS.get(
            type(value[0] if isinstance(value, tuple) and value else value), (0, 0)
        )
        number = several if isinstance(value, tuple) else one
        return helper.make_attribute(name, value, attr_type=number or AttributeProto.INTS)


def _cannot(node: Node, why: str) -> UnreadableError:
    return UnreadableError(f"{node.op_type} {node.label!r} cannot be computed: {why}")
