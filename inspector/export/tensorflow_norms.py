"""Find BatchNorms in a frozen graph of TensorFlow and write each as one operator.

`tf.nn.batch_normalization` computes ``x · inv + (offset − mean · inv)`` with
``inv = rsqrt(variance + epsilon) · scale``; tf2onnx would fold all but the two last operators.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inspector.export.protos import unique
from inspector.export.tensorflow_fused import MARK, is_possible, on_axis

_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_ADD, _MUL = ("AddV2", "Add"), ("Mul",)
_PARTS = ("scale", "offset", "mean", "variance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A BatchNorm by its number.

    `parameters` are the constants that hold scale, offset, mean and variance; None where there is
    none of the model's own.
    """

    number: int
    scope: str
    epsilon: float
    parameters: tuple[str | None, str | None, str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Match:
    """A BatchNorm as operators: what it takes, and its last operator."""

    last: Any
    x: Any
    axis: int
    epsilon: float
    parameters: tuple[str | None, str | None, str, str]


def fuse(frozen: Any, captured: Collection[str]) -> list[Found]:
    """Write BatchNorms as marked FusedBatchNormV3 in a GraphDef, in place.

    Those alone whose mean and variance are variables of the model, by the names of their
    constants. Names lose the scopes of calls of functions, which say nothing.
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
    found: list[Found] = []
    renamed = _shorter(graph)
    nodes = {node.name: node for node in frozen.node}
    for op in graph.get_operations():
        match = _fused(op, captured) or _arithmetic(op, captured)
        if match is None:
            continue
        number = len(found)
        scope = renamed.get(op.name, op.name).rpartition("/")[0].removesuffix("/batchnorm")
        if op.type in _FUSED:
            renamed[op.name] = f"{scope}/{MARK}{number}/{op.type}".lstrip("/")
        else:
            _splice(frozen, nodes[op.name], match, f"{scope}/{MARK}{number}".lstrip("/"))
        found.append(
            Found(
                number=number,
                scope=scope,
                epsilon=match.epsilon,
                parameters=match.parameters,
            )
        )
    _rename(frozen, renamed)
    return found


_CALLS = re.compile(r"^((Stateful)?PartitionedCall(_\d+)?/)+")


def _shorter(graph: Any) -> dict[str, str]:
    taken = {op.name for op in graph.get_operations() if not _CALLS.match(op.name)}
    return {
        op.name: unique(_CALLS.sub("", op.name), taken)
        for op in graph.get_operations()
        if _CALLS.match(op.name)
    }


def _rename(frozen: Any, names: Mapping[str, str]) -> None:
    for node in frozen.node:
        node.name = names.get(node.name, node.name)
        for position, given in enumerate(node.input):
            name, colon, port = given.lstrip("^").partition(":")
            control = "^" if given.startswith("^") else ""
            node.input[position] = f"{control}{names.get(name, name)}{colon}{port}"


def _constant(tensor: Any) -> Any:
    """The Const that a tensor comes from unchanged in value, or None."""
    op = tensor.op
    while op.type in ("Identity", "Reshape", "ExpandDims", "Squeeze"):
        op = op.inputs[0].op
    return op if op.type == "Const" else None


def _name(tensor: Any, captured: Collection[str]) -> str | None:
    """The variable's constant behind a tensor."""
    constant = _constant(tensor)
    return constant.name if constant is not None and constant.name in captured else None


def _fused(op: Any, captured: Collection[str]) -> _Match | None:
    if op.type not in _FUSED or op.get_attr("is_training"):
        return None
    scale, offset, mean, variance = (_name(each, captured) for each in op.inputs[1:5])
    if mean is None or variance is None:
        return None
    return _Match(
        last=op,
        x=op.inputs[0],
        axis=-1,
        epsilon=float(op.get_attr("epsilon")),
        parameters=(scale, offset, mean, variance),
    )


def _arithmetic(op: Any, captured: Collection[str]) -> _Match | None:
    """The BatchNorm whose last addition is `op`."""
    if op.type not in _ADD or not is_possible(op.outputs[0]):
        return None
    for product, shift in _orders(op):
        for x, inverse in _factors(product):
            parts = _inverse(inverse, captured)
            rest = _shift(shift, inverse, captured)
            if parts is None or rest is None or _constant(x) is not None or not is_possible(x):
                continue
            scale, variance, epsilon = parts
            offset, mean = rest
            axis = _axis(x, _plain(inverse))
            if axis is not None:
                return _Match(
                    last=op,
                    x=x,
                    axis=axis,
                    epsilon=epsilon,
                    parameters=(scale, offset, mean, variance),
                )
    return None


def _orders(op: Any) -> Iterator[tuple[Any, Any]]:
    left, right = op.inputs
    yield left, right
    yield right, left


def _factors(tensor: Any) -> Iterator[tuple[Any, Any]]:
    op = _plain(tensor).op
    if op.type in _MUL:
        yield from _orders(op)


def _plain(tensor: Any) -> Any:
    """What a tensor is before it was cast."""
    while tensor.op.type in ("Identity", "Cast"):
        tensor = tensor.op.inputs[0]
    return tensor


def _inverse(tensor: Any, captured: Collection[str]) -> tuple[str | None, str, float] | None:
    """Scale, variance and epsilon of ``rsqrt(variance + epsilon) · scale``."""
    tensor = _plain(tensor)
    if tensor.op.type == "Rsqrt":
        root = _root(tensor.op, captured)
        return None if root is None else (None, *root)
    for left, right in _factors(tensor):
        scale = _name(right, captured)
        root = _root(_plain(left).op, captured)
        if scale is not None and root is not None:
            return (scale, *root)
    return None


def _root(op: Any, captured: Collection[str]) -> tuple[str, float] | None:
    import tensorflow as tf

    if op.type != "Rsqrt" or op.inputs[0].op.type not in _ADD:
        return None
    for left, right in _orders(op.inputs[0].op):
        variance, epsilon = _name(left, captured), _constant(right)
        if variance is not None and epsilon is not None and epsilon.name not in captured:
            values = tf.make_ndarray(epsilon.get_attr("value"))
            if values.size == 1:
                return variance, float(values.reshape(()))
    return None


def _shift(tensor: Any, inverse: Any, captured: Collection[str]) -> tuple[str | None, str] | None:
    """Offset and mean of ``offset − mean · inverse``."""
    tensor, inverse = _plain(tensor), _plain(inverse)
    op = tensor.op
    offset, product, negated = None, tensor, False
    if op.type == "Sub":
        offset, product, negated = _name(op.inputs[0], captured), _plain(op.inputs[1]), True
        if offset is None:
            return None
    elif op.type == "Neg":
        product, negated = _plain(op.inputs[0]), True
    for left, right in _factors(product):
        if _plain(right) is not inverse and _plain(right).name != inverse.name:
            continue
        if not negated and left.op.type == "Neg":
            mean = _name(left.op.inputs[0], captured)
        else:
            mean = _name(left, captured) if negated else None
        if mean is not None:
            return offset, mean
    return None


def _axis(x: Any, inverse: Any) -> int | None:
    """The axis of `x` along which `inverse` is spread, if that is one."""
    rank = x.shape.rank
    if not inverse.shape.is_fully_defined():
        return None
    dims = inverse.shape.as_list()
    if len(dims) > rank:
        return None
    wide = [rank - len(dims) + axis for axis, size in enumerate(dims) if size != 1]
    if len(wide) == 1:
        return int(wide[0])
    if not wide and dims:  # one channel: any axis of length 1 is that of the channels
        single = [axis for axis, size in enumerate(x.shape.as_list()) if size == 1 and axis]
        return single[-1] if single else None
    return None


def _splice(frozen: Any, last: Any, match: _Match, scope: str) -> None:
    """Compute in place of the last addition what one operator does; the rest is read no more."""
    template = _template(match)
    given = {
        part: name for part, name in zip(_PARTS, match.parameters, strict=True) if name is not None
    }
    given["x"] = match.x.name.removesuffix(":0")
    for node in template.node:
        if node.op == "Placeholder":
            continue
        copy = frozen.node.add()
        copy.CopyFrom(node)
        copy.name = f"{scope}/{node.name}"
        for position, read in enumerate(node.input):
            name, colon, port = read.lstrip("^").partition(":")
            control = "^" if read.startswith("^") else ""
            inner = given.get(name, f"{scope}/{name}")
            copy.input[position] = f"{control}{inner}{colon}{port}"
    dtype = last.attr["T"].type
    last.op = "Identity"
    last.input[:] = [f"{scope}/result"]
    for name in list(last.attr):
        del last.attr[name]
    last.attr["T"].type = dtype


def _template(match: _Match) -> Any:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(match.x.dtype, match.x.shape, name="x")
        channels = _channels(match)
        parameters = []
        for part, name in zip(_PARTS, match.parameters, strict=True):
            if name is not None:
                value = tf.compat.v1.placeholder(tf.float32, [channels], name=part)
            else:
                value = (tf.ones if part == "scale" else tf.zeros)([channels], tf.float32)
            parameters.append(value)
        tf.identity(on_axis(x, match.axis, parameters, match.epsilon), name="result")
    return graph.as_graph_def()


def _channels(match: _Match) -> int:
    variance = match.last.graph.get_operation_by_name(match.parameters[3]).outputs[0]
    return int(variance.shape.num_elements())
