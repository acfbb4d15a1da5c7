"""Take BatchNorms out of an operator's weights again.

The operator gets the framework's weights and bias, in its own layout and in every bit, and the
BatchNorms go behind it. What the operator gave was the normalised value already: its name goes to
the last BatchNorm, and no other node sees a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from inspector.facts.model import Node
from inspector.recognise.around import dims_of
from inspector.recognise.folding import as_folded
from inspector.recognise.layers import Layer, layer_of
from inspector.recognise.linear import bias_adder
from inspector.recognise.names import is_torch_batchnorm, witness_scope
from inspector.recognise.place import Place
from inspector.restore.fused import Tail, tail_of
from inspector.restore.kept import Array, Kept, Linear, Named, Row
from inspector.restore.nodes import FIRST_OPSET, Gap, insert
from inspector.restore.stock import Operator, may_be_fed
from inspector.write.splice import Editor, Splice

_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "ConvTranspose"})
_GEMMS = frozenset({"Gemm", "FusedGemm"})
_WITH_FACTORS = (("alpha", 1.0), ("beta", 1.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """What is to be done: all of it is found out before anything is changed.

    `adder` is the addition behind the operator that holds a part of what was folded.
    """

    spot: Operator
    linear: Linear
    weights: Array
    bias: Named | None
    adder: Node | None
    tail: Tail
    rank: int | None


def take_out(
    row: Row,
    spots: Sequence[Operator],
    kept: Kept,
    splice: Splice,
    used: set[int],
) -> list[str] | str:
    """Take a row out of an operator; the names of its BatchNorms, or why not.

    Parameters
    ----------
    spots
        The operators that may be meant.
    used
        Takes in the id of the one that was.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    why = "its operator is not found again"
    for spot in spots:
        found = _plan(row, spot, kept)
        if isinstance(found, str):
            why = found
            continue
        editor = splice.editor(spot.place.scope)
        if editor is None:
            return "it stands in a function, whose body all of its calls share"
        used.add(id(spot))
        return _carried_out(found, row, editor, splice)
    return why


def _plan(row: Row, spot: Operator, kept: Kept) -> _Plan | str:
    node, place = spot.node, spot.place
    if place.opset < FIRST_OPSET:
        return f"opset {place.opset} has another BatchNormalization; convert the file to 7 up"
    linear = kept.linear(row)
    if isinstance(linear, str):
        return linear
    fitting = _fitting(row, spot, linear)
    if fitting is None:
        return "its numbers are not those of the operator"
    which, before = fitting
    called = f"{node.op_type} {node.label!r}"
    if linear.more and before == 1:
        return "the reference has a bias in the operator before it, and another one behind that"
    if any(_factor(each, *one) for each in (node, linear.node) for one in _WITH_FACTORS):
        return f"{called} scales its weights by a factor of its own"
    if any(may_be_fed(each, place) for each in node.inputs[1:3] if each):
        return f"the weights of {called} may be fed as inputs"
    tensor = place.binding(node.input(1)).tensor
    if tensor is None or tensor.dtype != linear.weights.values.dtype.name:
        stored = "" if tensor is None else tensor.dtype
        return f"{called} stores {stored} and the framework {linear.weights.values.dtype.name}"
    tail = tail_of(node, place)
    if isinstance(tail, str):
        return tail
    adder = bias_adder(node, place) if which == 1 or not node.input(2) else None
    if adder is not None and (tail.activation or _is_fed(adder, place)):
        return f"what is added behind {called} is no bias that is fixed in the file"
    bias = linear.bias
    if bias is not None and node.op_type not in _CONVOLUTIONS | _GEMMS and adder is None:
        return f"{called} has no place for the bias that the framework has"
    if adder is not None and _keeps(node, bias) and not _is_last(adder, place, bias):
        return f"the bias of {called} does not lie along the last axis"
    rank = _rank(node, place, adder if _keeps(node, bias) else None)
    if rank is None:
        return f"the rank of what {called} gives is not known"
    weights = laid_out(matrix_of(linear), node, tensor.dims)
    return _Plan(
        spot=spot,
        linear=linear,
        weights=weights,
        bias=bias,
        adder=adder,
        tail=tail,
        rank=rank,
    )


def _keeps(node: Node, bias: Named | None) -> bool:
    """Whether the bias stays in an addition, since the operator takes none."""
    return bias is not None and node.op_type not in _CONVOLUTIONS | _GEMMS


def _is_fed(adder: Node, place: Place) -> bool:
    """Whether an addition's constant may be fed as an input."""
    return may_be_fed(adder.inputs[_constant(adder, place)], place)


def _is_last(adder: Node, place: Place, bias: Named | None) -> bool:
    """Whether an addition's constant has its channels on the last axis."""
    tensor = place.binding(adder.inputs[_constant(adder, place)]).tensor
    size = 0 if bias is None else bias.values.size
    return tensor is not None and bool(tensor.dims) and tensor.dims[-1] == size


def _fitting(row: Row, spot: Operator, linear: Linear) -> tuple[int, int] | None:
    """Which bias of the operator is which one of the reference's with the BatchNorms in it.

    What is added behind an operator with a bias may be a part of it, or may be something else.
    """
    layer, original = layer_of(spot.node, spot.place), layer_of(linear.node, linear.place)
    if layer is None or original is None or layer.weights.shape != original.weights.shape:
        return None
    sought = row.sought
    best: tuple[float, int, int] | None = None
    for at, bias in enumerate(layer.biases):
        for before, other in enumerate(original.biases):
            found = as_folded(
                replace(layer, biases=(bias,)), replace(original, biases=(other,)), sought
            )
            if found is not None and (best is None or found[0] < best[0]):
                best = found[0], at, before
    return None if best is None else best[1:]


def _factor(node: Node, name: str, neutral: float) -> bool:
    """Whether a Gemm has another factor than one."""
    of_gemm = node.op_type in _GEMMS or (node.op_type == "FusedMatMul" and name == "alpha")
    return of_gemm and node.float_attribute(name, neutral) != neutral


def _rank(node: Node, place: Place, adder: Node | None) -> int | None:
    """How many axes the value has that the BatchNorms go behind; for channels on axis 1, any."""
    if adder is None and node.op_type in _CONVOLUTIONS | _GEMMS:
        tensor = place.binding(node.input(1)).tensor
        return None if tensor is None else len(tensor.dims)
    value = node.outputs[0] if adder is None else adder.outputs[0]
    dims = dims_of(value, place) or (None if adder is None else _dims_before(adder, place))
    return None if dims is None else len(dims)


def _dims_before(adder: Node, place: Place) -> tuple[object, ...] | None:
    return next((dims_of(e, place) for e in adder.inputs if not place.is_constant(e)), None)


def matrix_of(linear: Linear) -> Array:
    """The framework's weights as [channels, inputs]; only moved, and so in every bit."""
    layer: Layer | None = layer_of(linear.node, linear.place)
    assert layer is not None  # it fitted
    return layer.weights


def laid_out(matrix: Array, node: Node, dims: tuple[int, ...]) -> Array:
    """Weights [channels, inputs] in an operator's own layout: what `layers.layer_of` undoes."""
    match node.op_type:
        case "Conv" | "FusedConv":
            return matrix.reshape(dims)
        case "ConvTranspose":
            group = node.int_attribute("group", 1)
            split = matrix.reshape(group, matrix.shape[0] // group, dims[0] // group, -1)
            return np.ascontiguousarray(split.transpose(0, 2, 1, 3)).reshape(dims)
        case "MatMul":
            return np.ascontiguousarray(matrix.T)
        case _:
            return matrix if node.int_attribute("transB", 0) else np.ascontiguousarray(matrix.T)


def _carried_out(plan: _Plan, row: Row, editor: Editor, splice: Splice) -> list[str]:
    node, linear = plan.spot.node, plan.linear
    value = node.outputs[0]
    # One tensor may serve two operators, in two layouts.
    layout = (plan.weights.shape, plan.weights.tobytes() == linear.weights.values.tobytes())
    weights = splice.tensor((*linear.weights.key, layout), linear.weights.name, plan.weights)
    editor.set_input(value, 1, weights)
    bias = ""
    if plan.bias is not None:
        values = plan.bias.values.reshape(-1)
        bias = splice.tensor((*plan.bias.key, "bias"), plan.bias.name, values)
    at_end = value
    if _keeps(node, plan.bias):
        assert plan.adder is not None  # else it was refused
        at_end = plan.adder.outputs[0]
        constant = _constant(plan.adder, plan.spot.place)
        editor.set_input(at_end, constant, bias)
    else:
        editor.set_input(value, 2, bias)
    entered = row.entered
    # Exporters call it after the BatchNorm at times, which would speak of one that was folded.
    raw = splice.value(f"{linear.node.label}_output" if witness_scope(entered) else entered)
    editor.rename_output(at_end, raw)
    _tell_apart(node, linear.node, at_end=at_end, raw=raw, editor=editor, splice=splice)
    normalised = plan.tail.split_off(raw, at_end, editor, splice)
    in_last = node.op_type not in _CONVOLUTIONS | _GEMMS
    axis = plan.rank - 1 if in_last and plan.rank is not None else 1
    names = insert(
        row,
        raw,
        normalised,
        gap=Gap(raw, editor=editor, splice=splice),
        axis=axis,
        rank=plan.rank,
    )
    if plan.adder is not None and at_end == value:
        data = plan.adder.inputs[1 - _constant(plan.adder, plan.spot.place)]
        editor.bypass(plan.adder.outputs[0], data)
    return names


def _tell_apart(
    node: Node, kept: Node, *, at_end: str, raw: str, editor: Editor, splice: Splice
) -> None:
    """Take away what names an operator after the BatchNorm that it no longer holds."""
    value = raw if node.outputs[0] == at_end else node.outputs[0]
    if is_torch_batchnorm(node):
        editor.describe(value, kept.metadata)
    if witness_scope(node.name):
        editor.node(value).name = splice.node(kept.label)


def _constant(adder: Node, place: Place) -> int:
    """The position of an addition's constant."""
    return next(at for at, each in enumerate(adder.inputs) if place.is_constant(each))
