"""What differs between two layers that correspond, with the patch that would take it away."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterator, Sequence

import numpy as np

from inspector.compare.causes.arguments import argument_difference
from inspector.compare.causes.arrangement import arrangement, flattened_otherwise
from inspector.compare.causes.candidate import Candidate
from inspector.compare.causes.padded import PADDING, padding_patches, pads_alike
from inspector.compare.causes.recurrent import half_of_biases, is_recurrent
from inspector.compare.causes.types import constant_types
from inspector.compare.graphs import bodies
from inspector.compare.graphs.attributes import shown
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.parameters import Relation, StoredPair, as_stored, normal
from inspector.compare.graphs.structure import Layer, Stored
from inspector.compare.graphs.view import commutes
from inspector.facts.comparison import CauseKind
from inspector.facts.model import Attribute, AttributeReference, Graph, Tensor
from inspector.facts.patch import (
    InsertAfter,
    Patch,
    Reorder,
    SetAttribute,
    SetInput,
)


def parameter_difference(a: Layer, b: Layer, pair: StoredPair, found: Correspondence) -> Candidate:
    """Two stored tensors of one role that are not equal in bits."""
    left, right = _in_words(pair)
    kind = CauseKind.PARAMETER
    if pair.relation is Relation.REORDERED and pair.left is not None and pair.right is not None:
        kind, how = _rearranged(a, pair.left, pair.right, found)
        right = f"the same values {how} on the right" if how else right
    patches = _parameter_patches(b, pair, found)
    what = pair.role
    if is_recurrent(a) and (half := half_of_biases(pair)) is not None:
        what, left, right = half
    return Candidate(
        kind=kind,
        what=what,
        left_where=_owner(a, pair.left),
        right_where=_owner(b, pair.right),
        left_node=a.node,
        right_node=b.node,
        left=left,
        right=right,
        patches=patches,
        reason="" if patches else "the two cannot take each other's place",
        is_values=pair.relation is Relation.DIFFERENT,
    )


def _owner(layer: Layer, stored: Stored | None) -> str:
    """The layer that a tensor is of, with the node that reads it where that is another."""
    if stored is None or not stored.label:
        return layer.shown
    return f"{layer.shown} + {stored.label}"


def _rearranged(
    a: Layer, left: Stored, right: Stored, found: Correspondence
) -> tuple[CauseKind, str]:
    """In what order the right side holds the same values, and what kind of cause that is."""
    one, other = (normal(left, found.left.model.weights), normal(right, found.right.model.weights))
    flat = left.flat or right.flat
    if flat is not None:
        dims = tuple(flat.dims[flat.axes.index(axis) - 1] for axis in range(1, len(flat.axes)))
        if how := flattened_otherwise(one, other, dims):
            return CauseKind.LAYOUT, how
    of_input = bool(a.inputs) and a.inputs[0] in found.inputs and a.op == "Conv"
    how = arrangement(one, other, is_kernel_of_input=of_input)
    return (CauseKind.PREPROCESSING if "RGB" in how else CauseKind.PERMUTATION), how


def _parameter_patches(b: Layer, pair: StoredPair, found: Correspondence) -> tuple[Patch, ...]:
    left, right = pair.left, pair.right
    if pair.relation is Relation.SHAPES:
        return _put_alike(pair, found)
    recurrent = is_recurrent(b)
    if left is None:
        if right is None or not (right.role == "bias" or recurrent):
            return ()
        zeros = np.zeros_like(found.right.model.weights.load(right.tensor))
        return (SetInput(node=right.node, position=right.position, values=zeros),)
    if right is not None and pair.values is not None:
        stored = as_stored(pair.values[0], right).astype(pair.values[1].dtype, copy=False)
        return (SetInput(node=right.node, position=right.position, values=stored),)
    if right is not None or not (left.role == "bias" or recurrent):
        return ()
    values = normal(left, found.left.model.weights)
    if recurrent:
        # Its axes are its own: no layout moves them.
        patch = SetInput(node=b.node, position=left.position, values=values)
        return () if b.node_fact.input(left.position) else (patch,)
    if b.node_fact.op_type == "MatMul":
        flat = np.ravel(values)
        return (
            InsertAfter(
                value=b.value, op_type="Add", domain="", attributes={}, constants={1: flat}
            ),
        )
    return (SetInput(node=b.node, position=2, values=np.ravel(values)),)


def _put_alike(pair: StoredPair, found: Correspondence) -> tuple[Patch, ...]:
    """The left side's tensor along the axes of the right side's result that it lies along."""
    left, right = pair.left, pair.right
    if left is None or right is None or left.place is None or right.place is None:
        return ()
    rank = left.place.rank
    if rank != right.place.rank or left.dims is None:
        return ()
    usual = tuple(range(rank))
    layouts = (
        found.left.layouts.axes.get(left.node, usual),
        found.right.layouts.axes.get(right.node, usual),
    )
    values = found.left.model.weights.load(left.tensor)
    values = values.reshape((1,) * (rank - len(left.dims)) + left.dims)
    values = values.transpose([layouts[0].index(axis) for axis in layouts[1]])
    there = found.right.model.graph.values[right.node].dims or ()
    if any(own not in (1, dim) for own, dim in zip(values.shape, there, strict=False)):
        return ()
    dtype = found.right.model.weights.load(right.tensor).dtype
    return (SetInput(node=right.node, position=right.position, values=values.astype(dtype)),)


def attribute_differences(a: Layer, b: Layer, found: Correspondence) -> Iterator[Candidate]:
    """Attributes that make two operators of one type compute different things."""
    of_type, candidate = constant_types(a, b, found)
    if candidate is not None:
        yield candidate
    told, candidate = argument_difference(a, b, found, of_type)
    if candidate is not None:
        yield candidate
    alike = PADDING if pads_alike(a, b, found) else ()
    for name in sorted((a.attributes.keys() | b.attributes.keys()) - of_type - told):
        left, right = a.attributes.get(name), b.attributes.get(name)
        if left == right or name in alike:
            continue
        patches = _attribute_patches(a, b, name, found) or _axis_patches(a, b, name, found)
        words = _with_bodies(shown(left, right), name, (a, b), found)
        yield Candidate(
            kind=CauseKind.ATTRIBUTE,
            what=name,
            left_where=a.shown,
            right_where=b.shown,
            left_node=a.node,
            right_node=b.node,
            left=words[0],
            right=words[1],
            patches=patches,
            reason="" if patches else "how to write it on the right depends on the layout",
            is_values=_are_tensors(a, b, name),
        )


def _with_bodies(
    words: tuple[str, str], name: str, layers: tuple[Layer, Layer], found: Correspondence
) -> tuple[str, str]:
    """Words of two attributes; of two subgraphs with what they differ in."""
    one, other = (each.node_fact.attributes.get(name) for each in layers)
    if not isinstance(one, Graph) or not isinstance(other, Graph):
        return words
    inside = bodies.in_words(one, other, (found.left.model, found.right.model))
    return words if inside is None else (f"{words[0]}: {inside[0]}", f"{words[1]}: {inside[1]}")


def _attribute_patches(a: Layer, b: Layer, name: str, found: Correspondence) -> tuple[Patch, ...]:
    """The left side's attribute on the right node, where no layout stands between them."""
    if name in PADDING and (a.put_apart or b.put_apart):
        return padding_patches(a, b)
    names = PADDING if name in PADDING else (name,)
    raw = [a.node_fact.attributes.get(each) for each in names]
    written = any(each in node.attributes for each in names for node in (a.node_fact, b.node_fact))
    if written and isinstance(raw[0], Tensor) and name not in PADDING:
        tensor = found.left.model.weights.load(raw[0])
        return (SetAttribute(node=b.node, name=name, value=tensor),)
    if not written or any(not is_plain(each) for each in raw):
        return ()
    theirs = [b.node_fact.attributes.get(each) for each in names]
    if raw == theirs or a.node_fact.op_type != b.node_fact.op_type:
        # Written alike, it differs by what is around it; written by other operators, it does not
        # fit.
        return ()
    if name in ("axis", "axes") and not (_has_plain_axes(a, name) and _has_plain_axes(b, name)):
        return ()
    return tuple(
        SetAttribute(node=b.node, name=each, value=value)
        for each, value in zip(names, raw, strict=True)
    )


def _are_tensors(a: Layer, b: Layer, name: str) -> bool:
    """Whether an attribute is a tensor of one shape on both sides, as of a ConstantOfShape."""
    left, right = (each.node_fact.attributes.get(name) for each in (a, b))
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return False
    return (left.dtype, left.dims) == (right.dtype, right.dims)


def is_plain(value: Attribute) -> bool:
    """Whether an attribute can be written into another model as it is."""
    values = value if isinstance(value, tuple) else (value,)
    return not any(isinstance(each, Graph | Tensor | AttributeReference) for each in values)


def _axis_patches(a: Layer, b: Layer, name: str, found: Correspondence) -> tuple[Patch, ...]:
    """The left side's axis as the right side counts it."""
    words = a.attributes.get(name)
    raw = [each.node_fact.attributes.get(name) for each in (a, b)]
    if name != "axis" or words is None or not all(isinstance(each, int) for each in raw):
        return ()
    axis = literal_eval(words)[0]
    layout = found.right.layouts.axes.get(b.node_fact.input(0))
    if not isinstance(axis, int) or (layout is not None and axis not in layout):
        return ()
    if layout is None and found.left.layouts.axes.get(a.node_fact.input(0)) is not None:
        return ()
    value = axis if layout is None else layout.index(axis)
    return (SetAttribute(node=b.node, name=name, value=value),)


def _has_plain_axes(layer: Layer, name: str) -> bool:
    """Whether an axis is written as it is counted, so that no layout was undone."""
    raw = layer.node_fact.attributes.get(name)
    axes = list(raw) if isinstance(raw, tuple) else [raw]
    return layer.attributes.get(name) == str(axes)


def wiring_difference(a: Layer, b: Layer, found: Correspondence) -> Candidate | None:
    """Two layers that correspond and read values that do not."""
    lefts = [found.right_of(found.past_left(name)) for name in a.inputs]
    rights = [found.past_right(name) for name in b.inputs]
    if commutes(a.node_fact):
        lefts, rights = sorted(lefts), sorted(rights)
    if lefts == rights:
        return _placed_otherwise(a, b)
    crossed = sorted(lefts) == sorted(rights)
    patches = _uncrossed(b, lefts, rights) if crossed else ()
    return Candidate(
        kind=CauseKind.ORDER if crossed else CauseKind.STRUCTURE,
        what="order of inputs" if crossed else "inputs",
        left_where=a.shown,
        right_where=b.shown,
        left_node=a.node,
        right_node=b.node,
        left=f"{len(a.inputs)} values",
        right="the same in another order" if crossed else "values that do not correspond",
        patches=patches,
        reason="" if patches else "the two graphs are wired differently",
    )


def _placed_otherwise(a: Layer, b: Layer) -> Candidate | None:
    """The same values read as other inputs: a Clip's lower bound against its upper one."""
    places = a.open_places, b.open_places
    # Where constants stand elsewhere, each of those is a difference of its own.
    if places[0] == places[1] or a.constants.keys() != b.constants.keys():
        return None
    patches = _moved_inputs(a, b)
    left, right = (", ".join(str(each) for each in side) for side in places)
    return Candidate(
        kind=CauseKind.ORDER,
        what="which inputs are given",
        left_where=a.shown,
        right_where=b.shown,
        left_node=a.node,
        right_node=b.node,
        left=f"values at inputs {left}",
        right=f"the same values at inputs {right}",
        patches=patches,
        reason="" if patches else "the right side has no empty input to put them in",
    )


def _moved_inputs(a: Layer, b: Layer) -> tuple[Patch, ...]:
    """The right node with its inputs where the left one has them."""
    places = dict(zip(a.open_places, b.open_places, strict=False))
    empty = next((at for at, name in enumerate(b.node_fact.inputs) if not name), None)
    last = max((*a.open_places, *a.constants))
    order = [places.get(at, at if at in a.constants else empty) for at in range(last + 1)]
    known = tuple(each for each in order if each is not None)
    return (Reorder(node=b.node, order=known),) if len(known) == len(order) else ()


def _uncrossed(b: Layer, lefts: Sequence[str], rights: Sequence[str]) -> tuple[Patch, ...]:
    """The right node with its inputs in the left side's order, where it reads nothing else."""
    if len(b.node_fact.inputs) != len(rights) or len(set(rights)) != len(rights):
        return ()
    order = tuple(rights.index(name) for name in lefts)
    return (Reorder(node=b.node, order=order),)


def _in_words(pair: StoredPair) -> tuple[str, str]:
    if pair.left is None or pair.right is None:
        return ("present", "missing") if pair.right is None else ("missing", "present on the right")
    left, right = (str(list(each.tensor.dims)) for each in (pair.left, pair.right))
    match pair.relation:
        case Relation.REORDERED:
            return left, "the same values in another order on the right"
        case Relation.SHAPES:
            return left + _along(pair.left), right + _along(pair.right)
        case Relation.ROUNDED if not pair.max_abs:
            types = pair.left.tensor.dtype, pair.right.tensor.dtype
            return f"{left} {types[0]}", f"the same values in {types[1]}"
        case Relation.ROUNDED:
            return left, f"the same values rounded, up to {pair.max_abs:.3g} away"
        case _:
            return left, f"values up to {pair.max_abs:.3g} away on the right"


def _along(stored: Stored) -> str:
    if stored.place is None or not stored.place.axes:
        return ""
    return f" along {', '.join(f'axis {axis}' for axis in stored.place.axes)}"
