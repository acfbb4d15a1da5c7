"""Products: values multiplied with each other and with constants, in any grouping.

An optimiser may write ``(x · sigmoid(x)) · slope`` as ``x · (sigmoid(x) · slope)``, and merge the
slope with another constant on the way. So nothing here looks for a pattern of nodes: a product is
multiplied out to its leaves, which are no products, and its constants, each with its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inspector.facts.arrays import Vector
from inspector.facts.model import Node, Tensor
from inspector.recognise.linear import is_linear
from inspector.recognise.place import Place

TURNS = frozenset({"Identity", "Transpose"})
"""What leaves every axis whole."""

_DEEPEST = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factor:
    """A constant within a product: operand `position` of `node`, as float64 [C] or [1].

    `inverse` says that the product is divided by it, and `moved` that axes are moved behind it.
    """

    node: Node
    position: int
    tensor: Tensor
    values: Vector
    inverse: bool
    moved: bool

    @property
    def by(self) -> Vector:
        """What the product is multiplied by."""
        with np.errstate(all="ignore"):
            return 1.0 / self.values if self.inverse else self.values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Product:
    """What `root` is: its leaves and its constants, whose product with the signs is `by` [C].

    `nodes` compute it, `linear` are those of the leaves whose weights could hold a factor.
    """

    root: str
    place: Place
    factors: tuple[Factor, ...]
    leaves: tuple[str, ...]
    linear: tuple[Node, ...]
    nodes: tuple[Node, ...]
    by: Vector


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plain:
    """A constant operator behind a value: Add, Sub, Mul or Div on operand `1 - position`."""

    node: Node
    position: int
    tensor: Tensor
    values: Vector

    @property
    def data(self) -> str:
        """What flows in."""
        return self.node.inputs[1 - self.position]

    @property
    def slope(self) -> Vector:
        """As `inspector.recognise.folding.Sought` has it."""
        with np.errstate(all="ignore"):
            match self.node.op_type:
                case "Mul":
                    return self.values
                case "Div":
                    return 1.0 / self.values
                case "Sub" if self.position == 0:
                    return -np.ones_like(self.values)
                case _:
                    return np.ones_like(self.values)

    @property
    def intercept(self) -> Vector:
        """As above."""
        match self.node.op_type:
            case "Mul" | "Div":
                return np.zeros_like(self.values)
            case "Sub" if self.position == 1:
                return -self.values
            case _:
                return self.values


def called(node: Node) -> str:
    """A node as reports call it."""
    return f"{node.op_type} {node.label}".rstrip()


def is_alone(value: str, place: Place) -> bool:
    """Whether one node reads the numbers of a value of this scope, once, and nobody else does."""
    readers = place.readers(value)
    return (
        place.is_local(value)
        and value not in place.outputs
        and len(readers) == 1
        and readers[0].inputs.count(value) == 1
    )


def plain_of(node: Node, place: Place, channels: int) -> Plain | None:
    """An operator on one constant that has a number for each channel, or one."""
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    constant = [place.is_constant(each) for each in node.inputs]
    if sum(constant) != 1 or not node.is_standard:
        return None
    position = constant.index(True)
    if node.op_type == "Div" and position == 0:
        return None
    found = _vector(node.inputs[position], place, channels)
    if found is None:
        return None
    return Plain(node=node, position=position, tensor=found[0], values=found[1])


def _vector(value: str, place: Place, channels: int) -> tuple[Tensor, Vector] | None:
    """A constant with a number for each channel, or one: its tensor, and float64 [C] or [1]."""
    tensor = place.binding(value).tensor
    if tensor is None or not tensor.is_float or tensor.elements not in (1, channels):
        return None
    if sum(each != 1 for each in tensor.dims) > 1:
        return None
    values = place.chains.load(tensor)
    return None if values is None else (tensor, values.reshape(-1).astype(np.float64))


def product_of(root: str, place: Place, channels: int, moves: Collection[str] = TURNS) -> Product:
    """A value multiplied out; what others read as well, or what is no product, is a leaf.

    Parameters
    ----------
    moves
        Operators that are seen through, since they only move the numbers.
    """
    factors, leaves, linear, nodes = [], list[str](), list[Node](), list[Node]()
    sign = 1.0
    waiting = [(root, False, False)]
    while waiting:
        value, inverse, moved = waiting.pop()
        node = place.producer(value)
        inside = value == root or is_alone(value, place)
        parts = None
        if node is not None and inside and place.is_local(value) and len(nodes) < _DEEPEST:
            parts = _parts(node, place, channels, moves)
        if node is None or parts is None:
            leaves.append(value)
            if node is not None and inside and is_linear(node):
                linear.append(node)
            continue
        nodes.append(node)
        sign = -sign if node.op_type == "Neg" else sign
        for position, each in parts:
            under = inverse != (node.op_type == "Div" and position == 1)
            if isinstance(each, Factor):
                factors.append(replace(each, inverse=under, moved=moved))
            else:
                waiting.append((each, under, moved or node.op_type in moves))
    by = np.full(channels, sign)
    for factor in factors:
        by = by * factor.by
    return Product(
        root=root,
        place=place,
        factors=tuple(factors),
        leaves=tuple(leaves),
        linear=tuple(linear),
        nodes=tuple(nodes),
        by=by,
    )


def _parts(
    node: Node, place: Place, channels: int, moves: Collection[str]
) -> list[tuple[int, str | Factor]] | None:
    """The operands of a multiplication by their positions: constants, and others by name."""
    if not node.is_standard:
        return None
    if node.op_type in moves or node.op_type == "Neg":
        return [(0, node.input(0))]
    if node.op_type not in ("Mul", "Div") or len(node.inputs) != 2:
        return None
    found: list[tuple[int, str | Factor]] = []
    for position, name in enumerate(node.inputs):
        constant = _vector(name, place, channels) if place.is_constant(name) else None
        found.append((position, name))
        if constant is not None:
            tensor, values = constant
            factor = Factor(
                node=node,
                position=position,
                tensor=tensor,
                values=values,
                inverse=False,
                moved=False,
            )
            found[-1] = position, factor
    # Of two constants there is nothing that flows.
    return found if any(isinstance(each, str) for _, each in found) else None


def behind(value: str, place: Place, channels: int) -> Iterator[Plain]:
    """The constant operators one behind the other that alone read a value, and what they give."""
    for _ in range(_DEEPEST):
        if not is_alone(value, place):
            return
        node = place.readers(value)[0]
        found = plain_of(node, place, channels)
        if found is None:
            return
        yield found
        value = node.outputs[0]


def axis_of(product: Product, tail: Sequence[Plain], rank: int) -> int | None:
    """The axis that the channels of a product lie on, by the constants; None where none tells."""
    tensors = [each.tensor for each in tail]
    tensors += [each.tensor for each in product.factors if not each.moved]
    for tensor in tensors:
        if tensor.elements > 1:
            at = next(at for at, size in enumerate(tensor.dims) if size != 1)
            return at + rank - len(tensor.dims)
    return None
