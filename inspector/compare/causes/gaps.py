"""Operators that one side has and the other lacks, with the patch that evens it out."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping

from inspector.compare.causes.candidate import Candidate
from inspector.compare.causes.paired import is_plain
from inspector.compare.graphs import clipping
from inspector.compare.graphs.correspondence import Correspondence, behind
from inspector.compare.graphs.structure import Layer, Network, Stored
from inspector.compare.runtime.run import Array
from inspector.facts.comparison import CauseKind
from inspector.facts.model import Attribute, Dim, Node, Tensor
from inspector.facts.patch import Bypass, InsertAfter, Patch, SetOperator

_PREPARES = frozenset({"Mul", "Add", "Sub", "Div"})
_OWN_WEIGHTS = frozenset({"Conv", "ConvTranspose", "Dense"})


def missing_on_right(layer: Layer, found: Correspondence) -> Candidate:
    """An operator of the left alone: the patch puts it into the right."""
    patches, reason = _insertion(layer, found)
    before = found.past_left(layer.inputs[0]) if layer.inputs else ""
    return Candidate(
        kind=_kind(layer, found.left),
        what=layer.written,
        left_where=layer.shown,
        right_where=behind(found.right_of(before), found.right),
        left="present",
        right="missing",
        patches=patches,
        reason=reason,
        left_node=layer.node,
    )


def missing_on_left(layer: Layer, found: Correspondence) -> Candidate:
    """An operator of the right alone: the patch lets its input pass."""
    patches, reason = _removal(layer, found)
    before = found.past_right(layer.inputs[0]) if layer.inputs else ""
    return Candidate(
        kind=_kind(layer, found.right),
        what=layer.written,
        left_where=behind(found.left_of(before), found.left),
        right_where=layer.shown,
        left="missing",
        right="present",
        patches=patches,
        reason=reason,
        right_node=layer.node,
    )


def _kind(layer: Layer, network: Network) -> CauseKind:
    """Arithmetic on a model's input, as scaling an image, is preprocessing."""
    fed = {each.name for each in network.model.graph.inputs}
    is_first = layer.op in _PREPARES and bool(layer.inputs) and set(layer.inputs) <= fed
    return CauseKind.PREPROCESSING if is_first and layer.stored else CauseKind.MISSING


def replaced(left: Layer, right: Layer, found: Correspondence) -> Candidate:
    """One operator in the place of another, as one difference."""
    patches, reason = _exchange(left, right, found)
    return Candidate(
        kind=CauseKind.OPERATOR,
        what=f"{left.written} against {right.written}",
        left_where=left.shown,
        right_where=right.shown,
        left=left.written,
        right=right.written,
        patches=patches,
        reason=reason,
        left_node=left.node,
        right_node=right.node,
    )


def clip_difference(left: Layer, right: Layer, found: Correspondence) -> Candidate | None:
    """Two operators that cut values off at other bounds; None where the bounds are the same."""
    if left.attributes == right.attributes or _are_bounds_rounded(left, right, found):
        return None
    patches, reason = _exchange(left, right, found)
    one, other = (dict(each.attributes) for each in (left, right))
    same_word = left.written == right.written
    named = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    words = [
        ", ".join(f"{key} {each.get(key, 'not set')}" for key in named) for each in (one, other)
    ]
    return Candidate(
        kind=CauseKind.ATTRIBUTE if same_word else CauseKind.OPERATOR,
        what="bounds" if same_word else f"{left.written} against {right.written}",
        left_where=left.shown,
        right_where=right.shown,
        left=words[0],
        right=words[1],
        patches=patches,
        reason=reason,
        left_node=left.node,
        right_node=right.node,
    )


def _are_bounds_rounded(left: Layer, right: Layer, found: Correspondence) -> bool:
    """Whether one side computes in float64 and the other's bounds are its own, rounded."""
    known = (
        found.left.model.graph.values.get(left.value),
        found.right.model.graph.values.get(right.value),
    )
    formats = [each.dtype for each in known if each is not None]
    one_is_wide = len(formats) == 2 and (formats[0] == "float64") != (formats[1] == "float64")
    return one_is_wide and clipping.one_in_float32(left.attributes, right.attributes)


def _exchange(left: Layer, right: Layer, found: Correspondence) -> tuple[tuple[Patch, ...], str]:
    """The patch that makes the right operator the left one, on the values that it reads."""
    node = left.node_fact
    kept = _positions(right)
    if len(kept) != len(_positions(left)) or _positions(left) != tuple(range(len(kept))):
        return (), "the two read their values in other places"
    if not all(is_plain(value) for value in node.attributes.values()):
        return (), "it holds a subgraph or a tensor"
    if left.op in _OWN_WEIGHTS or len([name for name in right.node_fact.outputs if name]) != 1:
        return (), "it has weights or outputs of its own"
    by_channel = any(each.tensor.elements > 1 for each in left.stored)
    if (by_channel or "axis" in node.attributes) and not _is_channel_first(right.value, found):
        return (), "its place on the right is not in its layout"
    return (
        SetOperator(
            node=right.node,
            op_type=node.op_type,
            domain=left.domain,
            attributes=_with_axis(node.attributes, left),
            keep=kept,
            constants={
                at: _as_written(tensor, found, right.value) for at, tensor in left.constants.items()
            },
        ),
    ), ""


def _positions(layer: Layer) -> tuple[int, ...]:
    """Where a layer's node reads values that are not stored."""
    names = enumerate(layer.node_fact.inputs)
    return tuple(at for at, name in names if name and at not in layer.constants)


def _as_written(tensor: Tensor, found: Correspondence, target: str) -> Array:
    """A stored tensor of the left side, in the number format of the right one."""
    values = found.left.model.weights.load(tensor)
    there = found.right.model.graph.values.get(target)
    if values.dtype.kind == "f" and there is not None and there.dtype in ("float16", "float64"):
        return values.astype(there.dtype)
    return values


def _insertion(
    layer: Layer, found: Correspondence, *, target: str = ""
) -> tuple[tuple[Patch, ...], str]:
    """The patch that puts a layer of the left into the right: behind `target`, or its place."""
    node = layer.node_fact
    if len(layer.inputs) != 1 or _read_at(node, layer) != 0:
        return (), "it does not work on one value alone"
    if not all(is_plain(value) for value in node.attributes.values()):
        return (), "it holds a subgraph or a tensor"
    if layer.op in _OWN_WEIGHTS:
        return (), "a layer with weights of its own cannot be put in alone"
    target = target or found.right_of(found.past_left(layer.inputs[0]))
    if not target:
        return (), "its place on the right is not known"
    by_channel = any(each.tensor.elements > 1 for each in layer.stored)
    if (by_channel or "axis" in node.attributes) and not _is_channel_first(target, found):
        return (), "its place on the right is not in its layout"
    weights = found.left.model.weights
    return (
        InsertAfter(
            value=target,
            op_type=node.op_type,
            domain=layer.domain,
            attributes=_with_axis(node.attributes, layer),
            constants={
                **{at: _as_written(each, found, target) for at, each in layer.constants.items()},
                **{
                    each.position: _as_read(each, weights.load(each.tensor), target, found)
                    for each in layer.stored
                },
            },
            readers=_some_readers(layer, target, found),
        ),
    ), ""


def _some_readers(layer: Layer, target: str, found: Correspondence) -> tuple[str, ...]:
    """The right nodes that are to read what is put in, where others read `target` as it is."""
    partner = {a.node: b for a, b in found.alignment.pairs}
    wanted = {
        partner[each.node].node
        for each in found.left.layers
        if layer.value in each.inputs and each.node in partner
    }
    direct = [each for each in found.right.layers if target in each.node_fact.inputs]
    others = [each for each in direct if each.node not in wanted]
    mine = tuple(each.node for each in direct if each.node in wanted)
    # Where the left side's other readers pass it by, so do the right side's.
    return mine if mine and others and len(mine) == len(wanted) else ()


def _as_read(stored: Stored, values: Array, target: str, found: Correspondence) -> Array:
    """A stored tensor in the dims its node reads, in the number format of the right side."""
    there = found.right.model.graph.values.get(target)
    if values.dtype.kind == "f" and there is not None and there.dtype in ("float16", "float64"):
        values = values.astype(there.dtype)
    return values if stored.dims is None else values.reshape(stored.dims)


def _read_at(node: Node, layer: Layer) -> int | None:
    """At which position a node reads its one computed value."""
    open_ = [at for at, name in enumerate(node.inputs) if name and at not in layer.constants]
    return open_[0] if len(open_) == 1 else None


def _removal(layer: Layer, found: Correspondence) -> tuple[tuple[Patch, ...], str]:
    at = _read_at(layer.node_fact, layer)
    if len(layer.inputs) != 1 or at is None:
        return (), "it does not work on one value alone"
    values = found.right.model.graph.values
    before, after = values.get(layer.node_fact.input(at)), values.get(layer.value)
    if before is None or after is None or not _same_dims(before.dims, after.dims):
        return (), "it may change the shape, so its input cannot pass in its place"
    biases = [each for each in layer.stored if each.node != layer.node]
    return (
        Bypass(node=layer.node, keep=at),
        *(Bypass(node=each.node, keep=1 - each.position) for each in biases),
    ), ""


def _is_channel_first(value: str, found: Correspondence) -> bool:
    axes = found.right.layouts.axes.get(value)
    known = found.right.model.graph.values.get(value)
    flat = known is not None and known.dims is not None and len(known.dims) <= 2
    return flat or (axes is not None and axes == tuple(range(len(axes))))


def _same_dims(before: tuple[Dim, ...] | None, after: tuple[Dim, ...] | None) -> bool:
    """Whether two dims are the same length for length; unknown lengths are taken to be."""
    if before is None or after is None or len(before) != len(after):
        return False
    return all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(before, after, strict=True)
    )


def _with_axis(attributes: Mapping[str, Attribute], layer: Layer) -> Mapping[str, Attribute]:
    """Attributes with the axis counted channels first, as `Layer.attributes` has it."""
    words = layer.attributes.get("axis")
    if words is None or not isinstance(attributes.get("axis"), int):
        return attributes
    return {**attributes, "axis": literal_eval(words)[0]}
