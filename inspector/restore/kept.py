"""What the reference tells of each BatchNorm: the framework's tensors, and what stands before it.

The reference is the network's own export with every BatchNorm kept, verified when it was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.facts.batchnorm import BatchNorm, Form, Norms
from inspector.facts.model import Model, Node, Scope, Tensor
from inspector.recognise.folding import Sought, composed
from inspector.recognise.linear import bias_adder, linear_before
from inspector.recognise.operators import MOVES
from inspector.recognise.place import Place
from inspector.recognise.scopes import places
from inspector.restore.product import Plain, Product, is_alone, plain_of, product_of

Array: TypeAlias = NDArray[np.generic]

_LONGEST_ROW = 8
"""Operators one behind the other that are looked for as one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Named:
    """A tensor of the reference: `key` tells it from all others, `name` is the framework's."""

    key: tuple[str, int]
    name: str
    values: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Original:
    """One BatchNorm of the reference, loaded: scale, B, mean and var, each of shape [C].

    `sought` is its map, with the operator before it where one is near; `notes` are the exporter's
    on the node.
    """

    norm: BatchNorm
    four: tuple[Named, ...]
    sought: Sought
    notes: Mapping[str, str]

    @property
    def dtype(self) -> str:
        """The type of its scale."""
        return self.four[0].values.dtype.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Passed:
    """A constant operator of the reference next to a BatchNorm, which may be merged with it."""

    plain: Plain
    constant: Named
    sought: Sought


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """BatchNorms of the reference, and constant operators between them, one behind the other.

    What stands before them is `before`, where that is an operator that could hold them.
    """

    steps: tuple[Original | Passed, ...]
    before: tuple[Node, Place] | None

    @property
    def originals(self) -> tuple[Original, ...]:
        """The BatchNorms alone."""
        return tuple(each for each in self.steps if isinstance(each, Original))

    @property
    def sought(self) -> Sought:
        """All of them as one map."""
        return replace(composed([each.sought for each in self.steps]), before=self.before)

    @property
    def entered(self) -> str:
        """The value that they begin with."""
        first = self.steps[0]
        return first.norm.entered if isinstance(first, Original) else first.plain.data


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """An operator of the reference with its stored weights and bias; None where it has none.

    `more` says that an addition behind it may be a part of its bias as well.
    """

    node: Node
    place: Place
    weights: Named
    bias: Named | None
    more: bool


class Kept:
    """The reference, opened.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """

    def __init__(self, model: Model, norms: Norms) -> None:
        self._model = model
        self._places: dict[Scope, Place] = {each.scope: each for each in places(model)}
        self.originals = tuple(self._original(each) for each in norms.batchnorms)
        self._by_entered = {
            (each.norm.scope, each.norm.entered): each
            for each in self.originals
            if isinstance(each, Original)
        }

    def row(self, originals: Sequence[Original]) -> Row:
        """BatchNorms that are known to stand one behind the other."""
        return Row(steps=tuple(originals), before=originals[0].sought.before)

    def rows(self, original: Original) -> Iterator[Row]:
        """A BatchNorm with more and more of what stands behind it, the shortest row first."""
        steps: list[Original | Passed] = []
        each: Original | Passed | None = original
        place, value = self._places[original.norm.scope], original.norm.output
        while each is not None and len(steps) < _LONGEST_ROW:
            steps.append(each)
            yield Row(steps=tuple(steps), before=original.sought.before)
            value = each.plain.node.outputs[0] if isinstance(each, Passed) else each.norm.output
            each = self._behind(value, place, original.sought.slope.size)

    def place_of(self, original: Original) -> Place:
        """Where a BatchNorm stands."""
        return self._places[original.norm.scope]

    def product(self, original: Original) -> Product:
        """What a BatchNorm takes, multiplied out."""
        place = self._places[original.norm.scope]
        return product_of(original.norm.entered, place, original.sought.slope.size, MOVES)

    def scaled(self, row: Row, product: Product) -> Row | None:
        """A row with the constants before it that scale what one operator gives; None without."""
        if len(product.leaves) != 1 or len(product.linear) != 1 or not product.factors:
            return None
        steps = []
        for node in reversed(product.nodes):
            plain = plain_of(node, product.place, product.by.size)
            passed = None if plain is None else self._passed(plain, product.place)
            if passed is None and node.op_type not in MOVES:
                return None
            if passed is not None:
                steps.append(passed)
        return Row(steps=(*steps, *row.steps), before=(product.linear[0], product.place))

    def _behind(self, value: str, place: Place, channels: int) -> Original | Passed | None:
        """The BatchNorm or the constant operator that alone reads a value."""
        for _ in range(_LONGEST_ROW):
            if not is_alone(value, place):
                return None
            node = place.readers(value)[0]
            known = self._by_entered.get((place.scope, value))
            if known is not None:
                return known
            if node.op_type not in MOVES:
                plain = plain_of(node, place, channels)
                return None if plain is None else self._passed(plain, place)
            value = node.outputs[0]
        return None

    def _passed(self, plain: Plain, place: Place) -> Passed | None:
        constant = self._named(plain.node.inputs[plain.position], place)
        if constant is None:
            return None
        intercept = plain.intercept
        return Passed(
            plain=plain,
            constant=constant,
            sought=Sought(
                norm=None,  # type: ignore[arg-type]  # none: what is asked for are numbers
                slope=plain.slope,
                intercept=intercept,
                terms=np.abs(intercept),
                dtype=constant.values.dtype.name,
                before=None,
            ),
        )

    def linear(self, row: Row) -> Linear | str:
        """The operator before a row, or why its weights cannot be told."""
        before = row.before
        if before is None:
            return "the reference has no operator before it"
        return self.weights(*before)

    def weights(self, node: Node, place: Place) -> Linear | str:
        """An operator with its weights, or why they cannot be told."""
        weights = self._named(node.input(1), place)
        adder = bias_adder(node, place)
        name = node.input(2)
        if not name and adder is not None:
            name = next(each for each in adder.inputs if place.source(each).is_constant)
        bias = self._named(name, place) if name else None
        if weights is None or (name and bias is None):
            return f"the reference does not store the weights of {node.op_type} {node.label!r}"
        return Linear(
            node=node,
            place=place,
            weights=weights,
            bias=bias,
            more=bool(node.input(2)) and adder is not None,
        )

    def _original(self, norm: BatchNorm) -> Original | str:
        """A BatchNorm's tensors, or why they are not to be had."""
        if norm.form is not Form.NATIVE:
            return "the reference does not hold it as a BatchNormalization node"
        if norm.training:
            return "it normalises by the batch in the reference"
        place = self._places[norm.scope]
        four = [self._named(each.value, place) for _, each in norm.parameters]
        found = tuple(each for each in four if each is not None)
        shapes = {each.values.shape for each in found}
        if len(found) != len(four) or len(shapes) != 1 or len(*shapes) != 1:
            return "the reference does not store all of its parameters"
        node = place.producer(norm.output)
        return Original(
            norm=norm,
            four=found,
            sought=_sought(norm, found, place),
            notes={} if node is None else node.metadata,
        )

    def _named(self, value: str, place: Place) -> Named | None:
        """A stored tensor and its name; the first one where a node only passes it on."""
        tensor = place.binding(value).tensor
        if tensor is None or not tensor.is_float or tensor.external in self._model.missing_data:
            return None
        return Named(
            key=(self._model.path, tensor.key),
            name=_name(tensor, value),
            values=self._model.weights.load(tensor),
        )


def _name(tensor: Tensor, value: str) -> str:
    return tensor.name or value


def _sought(norm: BatchNorm, four: tuple[Named, ...], place: Place) -> Sought:
    """The map that a BatchNorm computes, in float64."""
    scale, bias, mean, var = (each.values.astype(np.float64) for each in four)
    # A negative variance is a fact about the model; nothing matches NaN.
    with np.errstate(all="ignore"):
        slope = scale / np.sqrt(var + np.float64(norm.epsilon or 0.0))
    return Sought(
        norm=norm,
        slope=slope,
        intercept=bias - mean * slope,
        terms=np.abs(bias) + np.abs(mean * slope),
        dtype=four[3].values.dtype.name,
        before=_before(norm, place),
    )


def _before(norm: BatchNorm, place: Place) -> tuple[Node, Place] | None:
    node = linear_before(norm.entered, place) if norm.entered else None
    return None if node is None else (node, place)
