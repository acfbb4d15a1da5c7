"""Inputs for a comparison: seeded, one set for both models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inspector.compare.layout import Axes
from inspector.compare.pair import Pair
from inspector.compare.run import Array
from inspector.errors import UndecidedError
from inspector.facts.model import Dim, Model, Node, Value

BATCH_SIZES = (1, 8, 8)
"""One row alone, then two batches: rows of a batch go through other kernels than one row."""

FREE_LENGTH = 32
"""Length of a dimension that neither model fixes, the batch apart."""

DEFAULT_TOP = 10
"""Integers are drawn below this where no operator says how large they may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of the same values for both models, by each model's own input names."""

    left: dict[str, Array]
    right: dict[str, Array]
    size: int


def make_batches(
    pairs: Sequence[Pair],
    orders: Sequence[Axes],
    models: tuple[Model, Model],
    *,
    seed: int,
) -> tuple[Batch, ...]:
    """Random inputs: normal in the first two batches, uniform in [0, 1) in the third.

    Parameters
    ----------
    orders
        For each pair the permutation to use, left dimensions by right position.

    Raises
    ------
    inspector.errors.UndecidedError
        The two models fix different lengths, or take what cannot be drawn at random.
    """
    batches = []
    for at, size in enumerate(BATCH_SIZES):
        rng = np.random.default_rng([seed, at])
        left: dict[str, Array] = {}
        right: dict[str, Array] = {}
        rows = size
        for pair, order in zip(pairs, orders, strict=True):
            dims = _dims(pair, order, size)
            rows = dims[0] if dims else 1
            values = _draw(pair, dims, rng, _top(pair, models), uniform=at == 2)
            left[pair.left.name] = np.ascontiguousarray(values.astype(_numpy(pair.left)))
            moved = values.transpose(order).astype(_numpy(pair.right))
            right[pair.right.name] = np.ascontiguousarray(moved)
        batches.append(Batch(left=left, right=right, size=rows))
    return tuple(batches)


def _dims(pair: Pair, order: Axes, size: int) -> tuple[int, ...]:
    """Lengths that both sides take, in the left side's order."""
    a, b = pair.left.dims, pair.right.dims
    if a is None or b is None:
        raise UndecidedError(
            f"input {pair.left.name!r} declares no rank",
            hint="export it with a shape",
        )
    there: dict[int, Dim] = {here: b[at] for at, here in enumerate(order)}
    found = []
    for at, dim in enumerate(a):
        fixed = [each for each in (dim, there[at]) if isinstance(each, int)]
        if len(set(fixed)) > 1:
            raise UndecidedError(
                f"input {pair.left.name!r} is {fixed[0]} long on the left where "
                f"{pair.right.name!r} is {fixed[1]} on the right",
                hint="compare models that take the same inputs",
            )
        found.append(fixed[0] if fixed else size if at == 0 else FREE_LENGTH)
    return tuple(found)


def _draw(
    pair: Pair, dims: tuple[int, ...], rng: np.random.Generator, top: int | None, *, uniform: bool
) -> Array:
    """Values in the left side's order, exact in both sides' dtypes."""
    # Drawn channels first where the layout is known, so that swapping sides draws the same.
    axes = pair.left_axes or tuple(range(len(dims)))
    drawn = tuple(dims[axes.index(axis)] for axis in range(len(dims)))
    dtype = min((_numpy(pair.left), _numpy(pair.right)), key=lambda each: each.itemsize)
    values: Array
    if dtype.kind == "b":
        values = rng.integers(0, 2, drawn)
    elif dtype.kind in "iu":
        byte = dtype.itemsize == 1 and dtype.kind == "u"
        values = rng.integers(0, top or (256 if byte else DEFAULT_TOP), drawn)
    else:
        values = rng.random(drawn) if uniform else rng.standard_normal(drawn)
    return np.asarray(values.astype(dtype).transpose(axes))


def _numpy(value: Value) -> np.dtype[np.generic]:
    try:
        dtype = np.dtype(value.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if value.dtype is None or dtype.kind not in "fiub":
        raise UndecidedError(
            f"input {value.name!r} is of type {value.dtype}, for which no random values are drawn",
        )
    return dtype


def _top(pair: Pair, models: tuple[Model, Model]) -> int | None:
    """How large an integer input may be: the shortest table that it indexes on either side."""
    tops = [
        top
        for value, model in zip((pair.left, pair.right), models, strict=True)
        for top in _tables(value.name, model)
    ]
    return min(tops, default=None)


def _tables(value: str, model: Model) -> Iterator[int]:
    pending, seen = [value], {value}
    while pending:
        name = pending.pop()
        for node in model.graph.nodes:
            if name not in node.inputs or not node.is_standard:
                continue
            if node.op_type == "Gather" and node.input(1) == name:
                length = _table_length(node, model)
                if length:
                    yield length
            elif node.op_type in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"):
                fresh = [each for each in node.outputs if each not in seen]
                seen.update(fresh)
                pending.extend(fresh)


def _table_length(node: Node, model: Model) -> int | None:
    table = model.graph.values.get(node.input(0))
    stored = model.graph.initializers.get(node.input(0))
    dims = stored.dims if stored is not None else table.dims if table is not None else None
    axis = node.int_attribute("axis", 0)
    length = dims[axis] if dims is not None and -len(dims) <= axis < len(dims) else None
    return length if isinstance(length, int) else None
