"""BatchNormalization nodes (https://onnx.ai/onnx/operators/onnx__BatchNormalization.html)."""

from __future__ import annotations

from math import prod

from inspector.facts.batchnorm import (
    DEFAULT_EPSILON,
    DEFAULT_MOMENTUM,
    BatchNorm,
    Certainty,
    Form,
    Origin,
    Parameter,
    is_training,
)
from inspector.facts.model import Node
from inspector.recognise.around import after, before, fold_target
from inspector.recognise.place import Place

_FED = frozenset({Origin.GRAPH_INPUT, Origin.COMPUTED, Origin.ABSENT})


NATIVE = frozenset({"BatchNormalization", "BatchNormInternal"})


def is_native(node: Node) -> bool:
    """Whether a node is a BatchNorm by its operator.

    ONNX Runtime's training graphs write the standard one's internals out: BatchNormInternal
    (https://github.com/microsoft/onnxruntime/blob/main/orttraining/orttraining/core/graph/training_op_defs.cc).
    """
    if node.op_type == "BatchNormalization":
        return node.is_standard
    return node.op_type == "BatchNormInternal" and node.domain == "com.microsoft"


def native(node: Node, place: Place) -> BatchNorm:
    """The neutral form of a node that `is_native`."""
    scale, bias, mean, var = [_parameter(node.input(at), place) for at in (1, 2, 3, 4)]
    parameters = (scale, bias, mean, var)
    fed = any(each.tensor is None and each.origin in _FED for each in parameters)
    internal = node.op_type == "BatchNormInternal"
    training = internal or is_training(node, place.opset)
    each_place = place.opset < 9 and node.int_attribute("spatial", 1) == 0
    value = node.input(0)
    into, obstacle = None, _unfoldable(parameters, training, each_place)
    if not obstacle:
        into, obstacle = fold_target(value, place)
    output = node.outputs[0] if node.outputs else ""
    return BatchNorm(
        name=node.label or node.op_type,
        scope=place.scope,
        form=Form.RUNTIME if fed else Form.NATIVE,
        channels=_channels(*parameters),
        scale=scale,
        bias=bias,
        mean=mean,
        var=var,
        epsilon=node.float_attribute("epsilon", DEFAULT_EPSILON),
        momentum=node.float_attribute("momentum", DEFAULT_MOMENTUM),
        momentum_stated="momentum" in node.attributes,
        training=training,
        after=after(value, place),
        before=before(output, place),
        foldable_into=into,
        obstacle=obstacle,
        output=output,
        entered=value,
        op_type=node.op_type,
        remarks=_SPATIAL if each_place else (),
    )


_SPATIAL = ("spatial = 0: it normalises each place of the input by itself, not each channel",)


def _unfoldable(parameters: tuple[Parameter, ...], training: bool, each_place: bool) -> str:
    """What keeps a BatchNorm from being folded into anything, wherever it stands."""
    if training:
        return "it normalises by the batch"
    if each_place:
        return "it has statistics for each place of the input"
    if any(each.tensor is None for each in parameters):
        return "not all of its parameters are in the file"
    if any(each.origin is Origin.OVERRIDABLE for each in parameters):
        return "its parameters may be fed as inputs"
    if _channels(*parameters) is None:
        return "its parameters disagree about the number of channels"
    return ""


def _parameter(value: str, place: Place) -> Parameter:
    tensor, origin, reason = place.initializer(value), Origin.INITIALIZER, ""
    certainty = Certainty.EXACT
    if tensor is None:
        binding = place.binding(value)
        tensor, origin, reason = binding.tensor, binding.origin, binding.reason
        if binding.arithmetic:
            certainty = Certainty.RECOVERED
            reason = f"computed from constants by {', '.join(binding.arithmetic)}"
    if tensor is not None and not tensor.is_float:
        reason = f"stored as {tensor.dtype}, which no BatchNormalization takes"
        tensor = None
    return Parameter(
        value=value,
        certainty=Certainty.LOST if tensor is None else certainty,
        origin=origin,
        tensor=tensor,
        reason=reason,
    )


def _channels(*parameters: Parameter) -> int | None:
    """The number of channels, where the parameters that are known agree on it."""
    dims = {each.tensor.dims for each in parameters if each.tensor is not None}
    sizes = {prod(each) for each in dims}
    return sizes.pop() if len(sizes) == 1 else None
