"""BatchNormalization nodes (https://onnx.ai/onnx/operators/onnx__BatchNormalization.html)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod

from inspector.facts.batchnorm import (
    DEFAULT_EPSILON,
    DEFAULT_MOMENTUM,
    BatchNorm,
    Certainty,
    Form,
    Norms,
    Origin,
    Parameter,
    is_training,
)
from inspector.facts.model import Model, Node, Scope
from inspector.recognise.place import Place
from inspector.recognise.scopes import places

_FOLDS_INTO = ("Conv", "ConvTranspose", "Gemm")


def find_batchnorms(model: Model) -> Norms:
    """Every BatchNormalization node of every scope, with its parameters traced to where they lie.

    A function's body is reported once for each call, with that call's arguments.

    Raises
    ------
    inspector.errors.UnreadableError
        The model's functions call each other in a circle.
    """
    found = [
        (node, place)
        for place in places(model)
        for node in place.nodes
        if node.op_type == "BatchNormalization" and node.is_standard
    ]
    names = _unique_names(found)
    return Norms(
        batchnorms=tuple([_batchnorm(*each, name) for each, name in zip(found, names, strict=True)])
    )


def _batchnorm(node: Node, place: Place, name: str) -> BatchNorm:
    scale, bias, mean, var = [_parameter(node.input(at), place) for at in (1, 2, 3, 4)]
    lost = None in (scale.tensor, bias.tensor, mean.tensor, var.tensor)
    producer = place.producer(node.input(0))
    training = is_training(node, place.opset)
    channels = _channels(scale, bias, mean, var)
    return BatchNorm(
        name=name,
        scope=place.scope,
        form=Form.RUNTIME if lost else Form.NATIVE,
        channels=channels,
        scale=scale,
        bias=bias,
        mean=mean,
        var=var,
        epsilon=node.float_attribute("epsilon", DEFAULT_EPSILON),
        momentum=node.float_attribute("momentum", DEFAULT_MOMENTUM),
        momentum_stated="momentum" in node.attributes,
        training=training,
        after=_after(node, producer, place),
        before=_before(node, place),
        foldable_into=None if training or lost or channels is None else _foldable(node, place),
        output=node.outputs[0] if node.outputs else "",
    )


def _parameter(value: str, place: Place) -> Parameter:
    tensor, origin, reason = place.initializer(value), Origin.INITIALIZER, ""
    if tensor is None:
        binding = place.binding(value)
        tensor, origin, reason = binding.tensor, binding.origin, binding.reason
    if tensor is not None and not tensor.is_float:
        reason = f"stored as {tensor.dtype}, which no BatchNormalization takes"
        tensor = None
    return Parameter(
        value=value,
        certainty=Certainty.LOST if tensor is None else Certainty.EXACT,
        origin=origin,
        tensor=tensor,
        reason=reason if tensor is None else "",
    )


def _channels(*parameters: Parameter) -> int | None:
    """The number of channels, where the parameters that are known agree on it."""
    dims = {each.tensor.dims for each in parameters if each.tensor is not None}
    sizes = {prod(each) for each in dims}
    return sizes.pop() if len(sizes) == 1 else None


def _after(node: Node, producer: Node | None, place: Place) -> tuple[str, ...]:
    if producer is not None:
        return (producer.op_type,)
    return ("input",) if place.is_input(node.input(0)) else ()


def _before(node: Node, place: Place) -> tuple[str, ...]:
    if not node.outputs:
        return ()
    users = [each.op_type for each in place.consumers(node.outputs[0])]
    if node.outputs[0] in place.outputs:
        users.append("output")
    return tuple(dict.fromkeys(users)) if len(users) > 1 else tuple(users)


def _foldable(node: Node, place: Place) -> str | None:
    """The operator in front whose weights could take this BatchNorm in, if there is one."""
    value = node.input(0)
    producer = place.producer(value)
    if producer is None or producer.op_type not in _FOLDS_INTO or not producer.is_standard:
        return None
    # Whoever else reads the operator's output would see the folded weights too.
    alone = place.is_local(value) and len(place.consumers(value)) == 1
    if not alone or value in place.outputs:
        return None
    bias = producer.input(2)
    fixed = _is_fixed(producer.input(1), place) and (not bias or _is_fixed(bias, place))
    return producer.label if fixed else None


def _is_fixed(value: str, place: Place) -> bool:
    """Whether the file holds the numbers behind `value` and nobody can feed others."""
    if place.initializer(value) is not None:
        return True
    binding = place.binding(value)
    return binding.tensor is not None and binding.origin is not Origin.OVERRIDABLE


def _unique_names(found: Sequence[tuple[Node, Place]]) -> list[str]:
    """Names that are unique within their scopes: by the output where they repeat, else numbered."""
    own = [(place.scope, node.label or node.op_type) for node, place in found]
    times = Counter(own)
    taken = {key for key, count in times.items() if count == 1}
    tried: dict[tuple[Scope, str], int] = {}
    names = []
    for (node, _), (scope, called) in zip(found, own, strict=True):
        name = called
        if times[scope, called] > 1:
            base = name = f"{called} ({node.outputs[0] if node.outputs else ''})"
            again = tried.get((scope, base), 1)
            while (scope, name) in taken:
                again += 1
                name = f"{base} #{again}"
            tried[scope, base] = again
            taken.add((scope, name))
        names.append(name)
    return names
