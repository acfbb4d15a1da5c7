"""What the reference tells of each BatchNorm: the framework's tensors, and what stands before it.

The reference is the network's own export with every BatchNorm kept, verified when it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.facts.batchnorm import BatchNorm, Form, Norms
from inspector.facts.model import Model, Node, Scope, Tensor
from inspector.recognise.folding import Sought
from inspector.recognise.linear import bias_adder, linear_before
from inspector.recognise.place import Place
from inspector.recognise.scopes import places

Array: TypeAlias = NDArray[np.generic]


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

    def linear(self, original: Original) -> Linear | str:
        """The operator before a BatchNorm, or why its weights cannot be told."""
        before = original.sought.before
        if before is None:
            return "the reference has no operator before it"
        node, place = before
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
