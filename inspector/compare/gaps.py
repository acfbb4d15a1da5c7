"""Operators that one side has and the other lacks, with the patch that evens it out."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping

from inspector.compare.candidate import Candidate
from inspector.compare.correspondence import Correspondence, behind
from inspector.compare.paired import is_plain
from inspector.compare.run import Array
from inspector.compare.structure import Layer, Stored
from inspector.facts.comparison import CauseKind
from inspector.facts.model import Attribute, Dim, Node
from inspector.facts.patch import Bypass, InsertAfter, Patch

_OWN_WEIGHTS = frozenset({"Conv", "ConvTranspose", "Dense"})


def missing_on_right(layer: Layer, found: Correspondence) -> Candidate:
    """An operator of the left alone: the patch puts it into the right."""
    patches, reason = _insertion(layer, found)
    before = found.past_left(layer.inputs[0]) if layer.inputs else ""
    return Candidate(
        kind=CauseKind.MISSING,
        what=layer.written,
        left_where=layer.shown,
        right_where=behind(found.right_of(before), found.right),
        left="present",
        right="missing",
        patches=patches,
        reason=reason,
    )


def missing_on_left(layer: Layer, found: Correspondence) -> Candidate:
    """An operator of the right alone: the patch lets its input pass."""
    patches, reason = _removal(layer, found)
    before = found.past_right(layer.inputs[0]) if layer.inputs else ""
    return Candidate(
        kind=CauseKind.MISSING,
        what=layer.written,
        left_where=behind(found.left_of(before), found.left),
        right_where=layer.shown,
        left="missing",
        right="present",
        patches=patches,
        reason=reason,
    )


def _insertion(layer: Layer, found: Correspondence) -> tuple[tuple[Patch, ...], str]:
    node = layer.node_fact
    if len(layer.inputs) != 1 or _read_at(node, layer) != 0:
        return (), "it does not work on one value alone"
    if not all(is_plain(value) for value in node.attributes.values()):
        return (), "it holds a subgraph or a tensor"
    if layer.op in _OWN_WEIGHTS:
        return (), "a layer with weights of its own cannot be put in alone"
    target = found.right_of(found.past_left(layer.inputs[0]))
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
                each.position: _as_read(each, weights.load(each.tensor), target, found)
                for each in layer.stored
            },
        ),
    ), ""


def _as_read(stored: Stored, values: Array, target: str, found: Correspondence) -> Array:
    """A stored tensor in the dims its node reads, in the number format of the right side."""
    there = found.right.model.graph.values.get(target)
    if values.dtype.kind == "f" and there is not None and there.dtype in ("float16", "float64"):
        values = values.astype(there.dtype)
    return values if stored.dims is None else values.reshape(stored.dims)


def _read_at(node: Node, layer: Layer) -> int | None:
    """At which position a node reads its one computed value."""
    stored = {each.position for each in layer.stored}
    open_ = [at for at, name in enumerate(node.inputs) if name and at not in stored]
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
