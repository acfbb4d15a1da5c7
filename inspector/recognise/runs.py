"""Runs of arithmetic: Add, Sub, Mul and Div on one constant each, one behind the other.

A BatchNorm that no longer is a node of its own is such a run, or a part of one. Constants are of
one element or of one for each channel; the axis of the channels is followed through Transpose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from inspector.facts.fact import fact
from inspector.facts.model import Dim, Node
from inspector.recognise.around import dims_of
from inspector.recognise.binding import Binding
from inspector.recognise.names import batchnorm_scope, is_torch_batchnorm, may_name, torch_scope
from inspector.recognise.operators import ARITHMETIC, FLOAT_TYPES
from inspector.recognise.place import Place

_BETWEEN = frozenset({"Identity", "Cast", "Transpose"})
_MOST_BETWEEN = 16


@fact(frozen=True, slots=True, kw_only=True)
class Link:
    """One operator of a run.

    Attributes
    ----------
    op_type
        ``Add``, ``Sub``, ``Mul`` or ``Div``.
    data, value
        Its operands: what flows, and the constant.
    source
        What the constant stands for, with nothing computed.
    dims, elements
        Of the constant.
    reversed
        Whether the constant is the first operand.
    axis
        The axis of the channels at the run's start; None where the constant has one element.
        Negative ones count from the last.
    perm
        How the axes were moved from the run's start to here.
    told, layer
        What tells that this was part of a BatchNorm, in words, and that layer's name.
    """

    node: Node
    op_type: str
    data: str
    value: str
    source: Binding
    dims: tuple[int, ...]
    elements: int
    reversed: bool
    axis: int | None
    perm: tuple[int, ...] | None
    told: str
    layer: str


def runs(place: Place) -> Iterator[Sequence[Link]]:
    """The runs of one place, each as long as it gets, in the order in which the data flows."""
    found = {}
    for node in place.nodes:
        if node.op_type in ARITHMETIC and len(node.inputs) == 2 and node.is_standard:
            position = _constant_operand(node, place)
            if position is not None and node.outputs and node.outputs[0]:
                found[node.outputs[0]] = (node, position)
    if not found:
        return
    before = {}
    for output, (node, position) in found.items():
        before[output] = _predecessor(node.input(1 - position), place, found)
    follower = {each[0]: output for output, each in before.items() if each[0]}
    for output, (node, position) in found.items():
        if not before[output][0]:
            if output not in follower and _is_number(node, position, place):
                continue
            links, perm = [], None
            name: str | None = output
            while name is not None:
                moved = before[name][1]
                perm = moved if perm is None else _composed(perm, moved)
                links.append(_link(*found[name], place, perm))
                name = follower.get(name)
            yield from _unbroken(links)


def _is_number(node: Node, position: int, place: Place) -> bool:
    """Whether a run of this one link is the plain number of anything: most runs by far."""
    value = node.inputs[position]
    source = place.source(value)
    if source.tensor is None or source.tensor.elements != 1:
        return False
    if _evidence(node, value, source)[1]:
        return False
    dims = dims_of(node.inputs[1 - position], place) if source.tensor.dims else None
    return one_channel(dims) is None


def one_channel(dims: Sequence[Dim] | None) -> int | None:
    """The axis that a single channel of such data lies on, if there may be one."""
    if dims is None or len(dims) < 2:
        return None
    return next((at for at in (1, len(dims) - 1) if dims[at] == 1), None)


def _constant_operand(node: Node, place: Place) -> int | None:
    """The position of the one constant operand, if it may be of one element for each channel."""
    first, second = node.inputs
    one = place.is_constant(first)
    if one == place.is_constant(second):
        return None
    position = 0 if one else 1
    if node.op_type == "Div" and position == 0:
        return None
    tensor = place.source(node.inputs[position]).tensor
    if tensor is not None and not (tensor.is_float and _at_most_one_axis(tensor.dims)):
        return None
    return position


def _at_most_one_axis(dims: Sequence[int]) -> bool:
    """Whether a tensor is a vector however many axes it is written with."""
    return len(dims) < 2 or prod(dims) == max(dims)


def _predecessor(
    value: str, place: Place, found: dict[str, tuple[Node, int]]
) -> tuple[str, tuple[int, ...] | None]:
    """The link that `value` comes from, if there is one, and how its axes were moved since."""
    perm: tuple[int, ...] | None = None
    for _ in range(_MOST_BETWEEN):
        node = place.producer(value)
        if node is None or not (value in found or node.op_type in _BETWEEN):
            return "", None
        if not place.is_local(value) or value in place.outputs or len(place.readers(value)) != 1:
            return "", None
        if value in found:
            return value, perm
        if not node.is_standard:
            return "", None
        if node.op_type == "Cast" and node.int_attribute("to", 0) not in FLOAT_TYPES:
            return "", None
        if node.op_type == "Transpose":
            moved = node.ints_attribute("perm")
            if moved is None or sorted(moved) != list(range(len(moved))):
                return "", None
            perm = moved if perm is None else _composed(moved, perm)
        value = node.input(0)
    return "", None


def _composed(
    first: tuple[int, ...] | None, then: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """One permutation of axes in place of two, the second applied behind the first."""
    if first is None or then is None:
        return first or then
    return tuple(first[each] for each in then) if len(first) == len(then) else None


def _link(node: Node, position: int, place: Place, perm: tuple[int, ...] | None) -> Link | None:
    """A link; None where its constant is no vector after all."""
    value = node.input(position)
    source = place.source(value)
    dims = _dims_of_vector(source, place)
    if dims is None:
        return None
    axis, elements = None, prod(dims)
    if not elements:
        return None  # whatever is added to nothing has no channels
    if elements > 1:
        axis = _axis(node, dims, place.opset)
        if perm is not None and -len(perm) <= axis < len(perm):
            axis = perm[axis] - len(perm)
    told, layer = _evidence(node, value, source)
    return Link(
        node=node,
        op_type="Add" if node.op_type == "Sum" else node.op_type,
        data=node.input(1 - position),
        value=value,
        source=source,
        dims=dims,
        elements=elements,
        reversed=position == 0,
        axis=axis,
        perm=perm,
        told=told,
        layer=layer,
    )


def _dims_of_vector(source: Binding, place: Place) -> tuple[int, ...] | None:
    """Dims of a constant of floats with one axis at most that is longer than one."""
    told = place.chains.told(source)
    if told is None:
        return None
    dims, is_float = told
    return dims if is_float and _at_most_one_axis(dims) else None


def _evidence(node: Node, value: str, source: Binding) -> tuple[str, str]:
    """What tells that a node was part of a BatchNorm, in words, and that layer's name."""
    if node.metadata and is_torch_batchnorm(node):
        scope = torch_scope(node) or node.label
        return f"the note of torch's exporter on {scope!r}", scope
    stored = source.tensor.name if source.tensor is not None else ""
    names = (node.name, *node.outputs, value, stored)
    for name in names if may_name("\n".join(names)) else ():
        if scope := batchnorm_scope(name):
            return f"the name {name!r}", scope
    return "", ""


def _axis(node: Node, dims: tuple[int, ...], opset: int) -> int:
    """The axis of the data that a constant's one long axis lies on."""
    at = dims.index(max(dims))
    if opset < 7 and "axis" in node.attributes:
        # Before opset 7 the constant could be laid on any axis
        # (https://onnx.ai/onnx/operators/onnx__Mul.html, version 6).
        return node.int_attribute("axis", 0) + at
    return at - len(dims)


def has_root(links: Sequence[Link]) -> bool:
    """Whether a run scales by what is computed through a root, without which nothing is told."""
    return any(
        each.source.recipe is not None
        and each.source.recipe.rooted
        and each.op_type in ("Mul", "Div")
        for each in links
    )


def _unbroken(links: Sequence[Link | None]) -> Iterator[Sequence[Link]]:
    """The parts of a run whose constants are vectors of one length along one axis."""
    part: list[Link] = []
    size, axis = 1, None
    for link in (*links, None):
        other = link is not None and link.axis is not None and axis is not None
        if link is None or (other and (link.elements, link.axis) != (size, axis)):
            if part:
                yield part
            part, size, axis = [], 1, None
        if link is not None:
            if link.axis is not None:
                size, axis = link.elements, link.axis
            part.append(link)
