"""Stored parameters of paired layers, compared in one form whatever layout they are stored in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import zip_longest
from typing import Any

import numpy as np

from inspector.compare.graphs.contents import content_digest, sample, values_of
from inspector.compare.graphs.structure import Layer, Stored
from inspector.compare.runtime.run import Array
from inspector.facts.model import Weights

ROUNDED_ULPS = 4
"""Units in the last place by which two values may differ and still be one value rounded twice."""

MOST_MATCHED = 2**12
"""Pairs of an operator's constants that are tried; of more, each is held against its place's."""

_PIECE = 2**16
"""Elements that are held together at a time."""


class Relation(Enum):
    """How two stored tensors relate once layouts are undone."""

    BITWISE = auto()
    ROUNDED = auto()
    REORDERED = auto()
    DIFFERENT = auto()
    SHAPES = auto()
    LEFT_ONLY = auto()
    RIGHT_ONLY = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPair:
    """One role of a pair of layers; `max_abs` is infinite where shapes differ.

    `values` are both in common form, where they had to be loaded.
    """

    role: str
    left: Stored | None
    right: Stored | None
    relation: Relation
    max_abs: float
    values: tuple[Array, Array] | None = field(default=None, repr=False, compare=False)


def compare_stored(
    left: Layer, right: Layer, left_weights: Weights, right_weights: Weights
) -> tuple[StoredPair, ...]:
    """Compare what two paired layers store, role by role.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    both = (left_weights, right_weights)
    lefts, rights = _by_role(left), _by_role(right)
    return tuple(
        _compared(role, a, b, both)
        for role in dict.fromkeys([*lefts, *rights])
        for a, b in _matched(lefts.get(role, []), rights.get(role, []), both)
    )


def _by_role(layer: Layer) -> dict[str, list[Stored]]:
    """What a layer stores; of several constants that commute, each is an operand."""
    found: dict[str, list[Stored]] = {}
    for each in layer.stored:
        found.setdefault(_common_role(layer, each), []).append(each)
    return found


def _matched(
    lefts: Sequence[Stored], rights: Sequence[Stored], weights: tuple[Weights, Weights]
) -> list[tuple[Stored | None, Stored | None]]:
    """Which constant of one role is which: one is one, of several the most alike are.

    The order of several is the exporter's choice, as an operator has them that commutes.
    """
    if len(lefts) <= 1 and len(rights) <= 1:
        return [(next(iter(lefts), None), next(iter(rights), None))]

    def same(a: Stored, b: Stored) -> bool:
        return content_digest(weights[0], a.tensor) == content_digest(weights[1], b.tensor)

    def near(a: Stored, b: Stored) -> bool:
        relation, _ = relate(normal(a, weights[0]), normal(b, weights[1]))
        return relation in (Relation.BITWISE, Relation.ROUNDED)

    def sized(a: Stored, b: Stored) -> bool:
        return a.tensor.elements == b.tensor.elements

    if len(lefts) * len(rights) > MOST_MATCHED:
        return list(zip_longest(lefts, rights))
    tests: list[Callable[[Stored, Stored], bool]] = [
        lambda a, b: _lie_alike(a, b) and sized(a, b) and same(a, b),
        lambda a, b: _lie_alike(a, b) and sized(a, b) and near(a, b),
        lambda a, b: sized(a, b) and same(a, b),
        lambda a, b: _lie_alike(a, b) and sized(a, b),
        sized,
        lambda a, b: True,
    ]
    free, rest = list(rights), list(lefts)
    found: list[tuple[Stored | None, Stored | None]] = []
    for alike in tests:
        for a in tuple(rest):
            b = next((each for each in free if alike(a, each)), None)
            if b is not None:
                found.append((a, b))
                rest.remove(a)
                free.remove(b)
    return [*found, *((a, None) for a in rest), *((None, b) for b in free)]


def _compared(
    role: str, a: Stored | None, b: Stored | None, weights: tuple[Weights, Weights]
) -> StoredPair:
    values = None
    if a is None or b is None:
        relation, apart = (Relation.LEFT_ONLY if b is None else Relation.RIGHT_ONLY), np.inf
    elif not _lie_alike(a, b):
        relation, apart = Relation.SHAPES, np.inf
    elif (
        _stored_alike(a, b)
        and sample(weights[0], a.tensor) == sample(weights[1], b.tensor)
        and content_digest(weights[0], a.tensor) == content_digest(weights[1], b.tensor)
    ):
        relation, apart = Relation.BITWISE, 0.0
    else:
        values = normal(a, weights[0]), normal(b, weights[1])
        strict = values[0].ndim == values[1].ndim and not (a.spreads and b.spreads)
        if strict and values[0].shape != values[1].shape:
            # A kernel of 3 by 1 is none of 1 by 3.
            relation, apart = Relation.SHAPES, np.inf
        elif a.of_either_width and b.of_either_width and np.array_equal(*values):
            relation, apart = Relation.BITWISE, 0.0
        else:
            relation, apart = relate(*values)
    return StoredPair(role=role, left=a, right=b, relation=relation, max_abs=apart, values=values)


def _common_role(layer: Layer, stored: Stored) -> str:
    """What a Gemm adds is held against a bias, though it be one number for each row."""
    adds = layer.op in ("Dense", "Gemm") and stored.role == "operand"
    return "bias" if adds else stored.role


def _lie_alike(a: Stored, b: Stored) -> bool:
    """Whether two tensors are put to the same axes, as far as their dims decide that."""
    if a.role != b.role:
        return False
    if a.place is not None and b.place is not None:
        return a.place.is_of(b.place)
    if a.tensor.elements == b.tensor.elements == 1:
        return True
    if not a.spreads or not b.spreads:
        return a.role != f"input {a.position}" or _ends_alike(a, b)
    if a.dims is None or b.dims is None:
        return False
    return _without_leading_ones(a.dims) == _without_leading_ones(b.dims)


def _ends_alike(a: Stored, b: Stored) -> bool:
    """Whether vectors that no operator spreads itself are read in dims that later ones spread so.

    What has a name of its own (a kernel, a bias) has its axes by that.
    """
    forms = _form_of(a), _form_of(b)
    if forms[0] is None or forms[1] is None:
        return True
    return _without_leading_ones(forms[0]) == _without_leading_ones(forms[1])


def _without_leading_ones(dims: tuple[int, ...]) -> tuple[int, ...]:
    first = next((at for at, dim in enumerate(dims) if dim != 1), len(dims))
    return dims[first:]


def _stored_alike(a: Stored, b: Stored) -> bool:
    """Whether equal values as they are stored are equal values in common form."""
    kinds = [
        (e.tensor.dtype, e.tensor.dims, _form_of(e), e.transposed, e.turned, e.flat) for e in (a, b)
    ]
    return kinds[0] == kinds[1]


def _form_of(stored: Stored) -> tuple[int, ...] | None:
    """The dims in which a vector is read that no operator spreads: a kernel may be stored flat."""
    moved = stored.transposed or stored.turned or stored.spreads
    vector = stored.tensor.elements == max(stored.tensor.dims, default=1)
    if moved or not vector or stored.dims is None:
        return None
    return stored.dims if math.prod(stored.dims) == stored.tensor.elements else None


def normal(stored: Stored, weights: Weights) -> Array:
    """Values in the common form: dense kernels [in, out] with channel-first features."""
    return in_common_form(values_of(weights, stored.tensor), stored)


def in_common_form(values: Array, stored: Stored) -> Array:
    """What goes with the elements of `stored`, in the order that `normal` gives."""
    if (form := _form_of(stored)) is not None:
        values = values.reshape(form)
    if stored.transposed != stored.turned:
        values = values.T
    if stored.flat is not None and values.shape[0] == int(np.prod(stored.flat.dims)):
        values = values[stored.flat.order()]
    return values


def as_stored(values: Array, like: Stored) -> Array:
    """Values in the common form as the node reads `like`: the inverse of `normal`."""
    if like.flat is not None and values.shape[0] == int(np.prod(like.flat.dims)):
        unordered = np.empty_like(values)
        unordered[like.flat.order()] = values
        values = unordered
    if like.transposed:
        values = values.T
    return np.ascontiguousarray(values.reshape(like.dims or like.tensor.dims))


def relate(left: Array, right: Array) -> tuple[Relation, float]:
    """How two arrays in common form relate, and the largest distance between their elements."""
    if left.shape != right.shape:
        # [C], [1, C, 1, 1] and [1, 1, 1, C] hold one vector; where it is put is compared before.
        left, right = np.squeeze(left), np.squeeze(right)
        if left.shape != right.shape:
            return Relation.SHAPES, float("inf")
    if left.dtype == right.dtype and _same_bits(left, right):
        return Relation.BITWISE, 0.0
    if left.dtype.kind in "OUS" or right.dtype.kind in "OUS":
        return Relation.DIFFERENT, float("inf")
    unit = max(_unit(left.dtype), _unit(right.dtype))
    largest, rounded = 0.0, True
    # In pieces that fit a processor's cache: kernels are most of what a model holds.
    a, b = np.ravel(left), np.ravel(right)
    for at in range(0, a.size, _PIECE):
        one, other = a[at : at + _PIECE], b[at : at + _PIECE]
        # Their exact distances matter only as long as rounding could be all of them.
        if rounded or not one.dtype == other.dtype == np.float32:
            one, other = one.astype(np.float64), other.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(one - other)
        top = float(apart.max())
        if not np.isfinite(top):
            largest, rounded = float("inf"), False
            break
        largest = max(largest, top)
        if rounded:
            most = np.maximum(np.abs(one), np.abs(other))
            most *= ROUNDED_ULPS * unit
            rounded = bool((apart <= most).all())
    if rounded:
        return Relation.ROUNDED, largest
    if _same_set(a, b):
        return Relation.REORDERED, largest
    return Relation.DIFFERENT, largest


def _same_bits(left: Array, right: Array) -> bool:
    if left.dtype.kind in "OUS":
        return bool(np.array_equal(left, right))
    a, b = (np.ravel(each).view(np.uint8) for each in (left, right))
    return all(
        np.array_equal(a[at : at + _PIECE], b[at : at + _PIECE]) for at in range(0, a.size, _PIECE)
    )


def _same_set(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same values in another order; one value is no order."""
    # Most are told apart by a single value, in one pass over one side.
    if a.size < 2 or not (b == a[0]).any() or a.min() != b.min() or a.max() != b.max():
        return False
    return bool(np.array_equal(np.sort(a, axis=None), np.sort(b, axis=None)))


def _unit(dtype: np.dtype[Any]) -> float:
    """Relative spacing of a dtype's numbers; 0 for integers, which are never rounded."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).eps)
    if dtype.kind == "V" or dtype.name.startswith(("bfloat", "float")):
        import ml_dtypes

        return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]  # it ships no types
    return 0.0
