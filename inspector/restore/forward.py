"""BatchNorms that were folded into the operator behind them.

With slope a and intercept c before weights w and bias b, ``w' = w · a`` input by input, and
``b' = b + Σ w · c``. Where the operator pads its input with zeros, these come behind the BatchNorm:
no bias is right at the edges then, unless the intercept is zero.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from inspector.facts.arrays import Vector
from inspector.facts.model import Model, Node
from inspector.facts.traced import Fate
from inspector.recognise.around import dims_of
from inspector.recognise.folded import Traces
from inspector.recognise.folding import room_for
from inspector.recognise.layers import Layer, layer_of
from inspector.recognise.linear import bias_adder, is_linear
from inspector.recognise.operators import MOVES
from inspector.recognise.place import Place
from inspector.recognise.scopes import places
from inspector.restore.folded import laid_out, matrix_of
from inspector.restore.kept import Kept, Linear, Original, Row
from inspector.restore.nodes import FIRST_OPSET, Gap, insert
from inspector.restore.product import called, is_alone
from inspector.restore.stock import may_be_fed
from inspector.write.splice import Splice

_MOST_MOVES = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ahead:
    """An operator of the stock export that took in the BatchNorm before it.

    `adder` is the addition that holds its bias, where it takes none itself.
    """

    node: Node
    place: Place
    linear: Linear
    adder: Node | None
    error: float
    allowed: float
    fate: Fate = Fate.FOLDED

    @property
    def where(self) -> str:
        """The operator, as reports call it."""
        return called(self.node)


def target_of(original: Original, kept: Kept) -> tuple[Node, Place] | None:
    """The operator of the reference that alone reads what a BatchNorm gives."""
    place, value = kept.place_of(original), original.norm.output
    for _ in range(_MOST_MOVES):
        if not is_alone(value, place):
            return None
        node = place.readers(value)[0]
        if is_linear(node):
            return (node, place) if node.input(0) == value else None
        if node.op_type not in MOVES:
            return None
        value = node.outputs[0]
    return None


def find_ahead(
    original: Original, kept: Kept, model: Model, taken: Collection[str]
) -> Ahead | None:
    """The operator of a stock export that a BatchNorm was folded forward into."""
    target = target_of(original, kept)
    wanted = None if target is None else layer_of(*target)
    linear = None if target is None else kept.weights(*target)
    if target is None or wanted is None or linear is None or isinstance(linear, str):
        return None
    slope = _by_input(original.sought.slope, wanted, target[0])
    shift = _by_input(original.sought.intercept, wanted, target[0])
    if slope is None or shift is None:
        return None
    for place in places(model):
        for node in Traces(place).nodes:
            if node.op_type != target[0].op_type and {node.op_type, target[0].op_type} != _DENSE:
                continue
            if called(node) in taken:
                continue
            layer = layer_of(node, place)
            if layer is None or layer.weights.shape != wanted.weights.shape:
                continue
            fit = _fit(layer, wanted, slope, shift, room_for(layer.dtype, original.sought))
            if fit is not None:
                return Ahead(
                    node=node,
                    place=place,
                    linear=linear,
                    adder=None if node.input(2) else bias_adder(node, place),
                    error=fit[0],
                    allowed=fit[1],
                )
    return None


_DENSE = frozenset({"Gemm", "MatMul"})


def _by_input(values: Vector, layer: Layer, node: Node) -> Vector | None:
    """A number for each input channel, at each of the weights [C, inputs] that it meets."""
    channels, inputs = layer.weights.shape
    group = node.int_attribute("group", 1) if node.op_type.endswith(("Conv", "Transpose")) else 1
    if values.size % group or group < 1 or inputs % (values.size // group):
        return None
    each = values.reshape(group, 1, values.size // group, 1)
    spread = np.broadcast_to(
        each, (group, channels // group, values.size // group, inputs * group // values.size)
    )
    return spread.reshape(channels, inputs)


def _fit(
    layer: Layer, wanted: Layer, slope: Vector, shift: Vector, room: float
) -> tuple[float, float] | None:
    """The largest error of weights and bias folded forward, if rounding explains it."""
    expected = slope * wanted.weights.astype(np.float64)
    most = np.abs(expected).max(axis=1, keepdims=True, initial=0.0)
    off = np.abs(layer.weights.astype(np.float64) - expected)
    # Sums over all inputs round more than one product does.
    added = (wanted.weights.astype(np.float64) * shift).sum(axis=1)
    terms = np.abs(wanted.weights.astype(np.float64) * shift).sum(axis=1)
    for before in wanted.biases:
        for bias in layer.biases:
            error = np.abs(bias - before - added)
            if (error <= room * (terms + np.abs(before))).all() and (off <= room * most).all():
                with np.errstate(all="ignore"):
                    return float(np.nan_to_num(off / most).max(initial=0.0)), room
    return None


def put_before(original: Original, ahead: Ahead, splice: Splice) -> list[str] | str:
    """Put a BatchNorm before the operator that took it in; its node's name, or why not."""
    node, place = ahead.node, ahead.place
    why = _obstacle(original, ahead)
    editor = splice.editor(place.scope)
    if why or editor is None:
        return why or "it stands in a function, whose body all of its calls share"
    tensor, dims = place.binding(node.input(1)).tensor, dims_of(node.input(0), place)
    assert tensor is not None  # it was compared
    if dims is None:
        return f"the rank of {node.input(0)!r} is not known"
    linear, output = ahead.linear, node.outputs[0]
    weights = laid_out(matrix_of(linear), node, tensor.dims)
    key = (*linear.weights.key, weights.shape, "behind")
    editor.set_input(output, 1, splice.tensor(key, linear.weights.name, weights))
    bias = ""
    if linear.bias is not None:
        values = linear.bias.values.reshape(-1)
        bias = splice.tensor((*linear.bias.key, "bias"), linear.bias.name, values)
    value = splice.value(original.norm.output)
    gap = Gap(output, before=True, editor=editor, splice=splice)
    axis = len(dims) - 1 if node.op_type == "MatMul" else 1
    row = Row(steps=(original,), before=None)
    names = insert(row, node.input(0), value, gap=gap, axis=axis, rank=len(dims))
    editor.set_input(output, 0, value)
    if ahead.adder is None:
        editor.set_input(output, 2, bias)
    elif bias:
        at = [place.is_constant(each) for each in ahead.adder.inputs].index(True)
        editor.set_input(ahead.adder.outputs[0], at, bias)
    else:
        flow = next(each for each in ahead.adder.inputs if not place.is_constant(each))
        editor.bypass(ahead.adder.outputs[0], flow)
    return names


def _obstacle(original: Original, ahead: Ahead) -> str:
    """Why a BatchNorm cannot be put before an operator; empty where it can."""
    node, place, linear = ahead.node, ahead.place, ahead.linear
    into = f"it went into {node.op_type} {node.label!r} behind it"
    if place.opset < FIRST_OPSET:
        return f"opset {place.opset} has another BatchNormalization; convert the file to 7 up"
    if _pads(node) and bool((original.sought.intercept != 0).any()):
        return f"{into}, which pads with zeros: with it back in its place, the edges would differ"
    held = [*node.inputs[1:3], *(() if ahead.adder is None else ahead.adder.inputs)]
    if any(may_be_fed(each, place) for each in held if each):
        return f"{into}, whose weights may be fed as inputs"
    tensor = place.binding(node.input(1)).tensor
    if not node.is_standard or tensor is None:
        return f"{into}, which is no operator of ONNX"
    if tensor.dtype != linear.weights.values.dtype.name or tensor.dtype != original.dtype:
        return f"{into}, which stores {tensor.dtype}, and the framework {original.dtype}"
    if linear.bias is not None and node.op_type == "MatMul" and ahead.adder is None:
        return f"{into}, which has no place for the bias that the framework has"
    if ahead.adder is not None and linear.bias is not None and node.op_type != "MatMul":
        return f"{into}, whose bias is added behind it"
    return ""


def _pads(node: Node) -> bool:
    """Whether an operator may put zeros around its input."""
    auto = node.attributes.get("auto_pad", b"NOTSET")
    # What a transposed one pads, it cuts off: zeros between its inputs meet weights all the same.
    if node.op_type == "ConvTranspose":
        return True
    return auto not in (b"NOTSET", b"VALID") or any(node.ints_attribute("pads") or ())
