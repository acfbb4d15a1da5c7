"""Inputs for a comparison: seeded, one set for both models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm, prod

import numpy as np

from inspector.compare.layout import Axes
from inspector.compare.pair import Pair
from inspector.compare.run import Array, Fed
from inspector.errors import UndecidedError, UsageError
from inspector.facts.model import Dim, Model, Node, Value

BATCH_SIZES = (1, 32, 32)
"""One row alone, then two batches: rows of a batch go through other kernels than one row."""

MORE_SIZES = (*BATCH_SIZES, 32, 32, 32, 32, 32)
"""Where outputs agree and the graphs do not: a unit that fires on one input in a hundred hides
what is wrong with it."""

MOST_ELEMENTS = 2**18
"""Elements of one input's batch that are worth their time: large images come in fewer rows."""

FREE_LENGTHS = (32, 64, 224, 1)
"""Lengths of a dimension that neither model fixes, the batch apart, in the order they are tried:
deep networks need large images, and some lengths have to be that of a stored tensor."""

ENOUGH = 2**22
"""Elements of a batch that no model is asked for twice: it is one that fixes such a size."""

MOST_ROWS = 64
"""Rows of a batch that is a multiple of two fixed batch sizes, at most."""

DEFAULT_TOP = 10
"""Integers are drawn below this where no operator says how large they may be."""


_KINDS = ("normal", "normal", "uniform", "flat", "wide", "normal", "flat", "uniform")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is fed: rows of each batch and lengths where the models leave them open.

    `positive` draws all numbers from [0, 1), for models that take a logarithm of them.
    """

    sizes: tuple[int, ...] = BATCH_SIZES
    free: int = FREE_LENGTHS[0]
    positive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of the same values for both models, by each model's own input names."""

    left: Fed
    right: Fed
    size: int


def make_batches(
    pairs: Sequence[Pair],
    orders: Sequence[Axes],
    models: tuple[Model, Model],
    *,
    seed: int,
    plan: Plan,
) -> tuple[Batch, ...]:
    """Random inputs: each batch of another kind (`_KINDS`), in turn.

    Parameters
    ----------
    orders
        For each pair the permutation to use, left dimensions by right position.

    Raises
    ------
    inspector.errors.UsageError
        The seed is negative.
    inspector.errors.UndecidedError
        The two models fix different lengths, or take what cannot be drawn at random.
    """
    if seed < 0:
        raise UsageError(f"the seed {seed} is negative", hint="use 0 or a positive number")
    tops = [_top(pair, models) for pair in pairs]
    batches = []
    for at, size in enumerate(plan.sizes):
        rng = np.random.default_rng([seed, at])
        lengths = Lengths(pairs, orders, size, plan.free)
        left: dict[str, Array] = {}
        right: dict[str, Array] = {}
        rows = 0
        for pair, order, top in zip(pairs, orders, tops, strict=True):
            dims = lengths.of(pair, order)
            rows = rows or (dims[0] if dims else 0)
            kind = "uniform" if plan.positive else _KINDS[at % len(_KINDS)]
            values = _draw(pair, dims, rng, top, kind)
            left[pair.left.name] = np.ascontiguousarray(values.astype(_numpy(pair.left)))
            moved = values.transpose(order).astype(_numpy(pair.right))
            right[pair.right.name] = np.ascontiguousarray(moved)
        parts = lengths.parts
        batches.append(
            Batch(
                left=Fed(values=left, rows=parts[0]),
                right=Fed(values=right, rows=parts[1]),
                size=rows or size,
            )
        )
        if sum(each.size for each in left.values()) > ENOUGH:
            break
    return tuple(batches)


def has_free_lengths(pairs: Sequence[Pair]) -> bool:
    """Whether a dimension other than the batch is left open on either side."""
    values = [value for pair in pairs for value in (pair.left, pair.right)]
    return any(not isinstance(dim, int) for value in values for dim in (value.dims or ())[1:])


class Lengths:
    """A length for every dimension of every input that both sides take.

    A name stands for one length wherever it occurs in a model's inputs. Where the two fix
    batches of different sizes, both get a multiple of them, in parts (`Fed.rows`).
    """

    def __init__(self, pairs: Sequence[Pair], orders: Sequence[Axes], size: int, free: int) -> None:
        self._free = free
        self._size = _affordable(pairs, orders, size, free)
        self._named: dict[tuple[int, str], int] = {}
        self.parts = (0, 0)
        for pair, order in zip(pairs, orders, strict=True):
            for at, sides in enumerate(_dims(pair, order)):
                fixed = [each for each in sides if isinstance(each, int)]
                if len(set(fixed)) == 2:
                    self._differ(pair, at, fixed)
                elif fixed:
                    self._name(sides, fixed[0])

    def of(self, pair: Pair, order: Axes) -> tuple[int, ...]:
        """Lengths of one input, in the left side's order."""
        found = []
        for at, sides in enumerate(_dims(pair, order)):
            fixed = [each for each in sides if isinstance(each, int)]
            names = [(n, each) for n, each in enumerate(sides) if isinstance(each, str) and each]
            known = [self._named[each] for each in names if each in self._named]
            length = lcm(*fixed) if fixed else None
            if length is None:
                length = known[0] if known else self._size if at == 0 else self._free
                self._name(sides, length)
            found.append(length)
        return tuple(found)

    def _name(self, sides: tuple[Dim, Dim], length: int) -> None:
        for side, each in enumerate(sides):
            if isinstance(each, str) and each:
                self._named.setdefault((side, each), length)

    def _differ(self, pair: Pair, at: int, fixed: Sequence[int]) -> None:
        rows = (fixed[0], fixed[1])
        possible = at == 0 and min(rows) > 0 and lcm(*rows) <= MOST_ROWS
        if not possible or self.parts not in ((0, 0), rows):
            raise UndecidedError(
                f"input {pair.left.name!r} is {fixed[0]} long on the left where "
                f"{pair.right.name!r} is {fixed[1]} on the right",
                hint="compare models that take the same inputs",
            )
        self.parts = rows


def _affordable(pairs: Sequence[Pair], orders: Sequence[Axes], size: int, free: int) -> int:
    """Fewer rows where each is large; never one where several were asked for."""
    largest = 1
    for pair, order in zip(pairs, orders, strict=True):
        known = [next((e for e in each if isinstance(e, int)), free) for each in _dims(pair, order)]
        largest = max(largest, prod(known[1:]))
    return min(size, max(2, MOST_ELEMENTS // largest)) if size > 1 else size


def _dims(pair: Pair, order: Axes) -> list[tuple[Dim, Dim]]:
    """Both sides' lengths, in the left side's order."""
    if pair.left.dims is None and pair.right.dims is None:
        raise UndecidedError(
            f"input {pair.left.name!r} declares no rank",
            hint="export it with a shape",
        )
    unknown = (None,) * len(order)
    a, b = pair.left.dims, pair.right.dims
    there = dict(zip(order, unknown if b is None else b, strict=True))
    return [(dim, there[at]) for at, dim in enumerate(unknown if a is None else a)]


def _draw(
    pair: Pair, dims: tuple[int, ...], rng: np.random.Generator, top: int | None, kind: str
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
        values = _numbers(drawn, rng, kind)
    return np.asarray(values.astype(dtype).transpose(axes))


def _numbers(dims: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    match kind:
        case "uniform":
            return rng.random(dims)
        case "wide":
            return 3.0 * rng.standard_normal(dims)
        case "flat":
            # Each row nearly one number, as a dark or a bright image is.
            rows = rng.standard_normal((*dims[:1], *(1 for _ in dims[1:])))
            return rows + 0.1 * rng.standard_normal(dims)
        case _:
            return rng.standard_normal(dims)


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
    if _numpy(pair.left).kind not in "iu":
        return None
    tops = [
        top
        for value, model in zip((pair.left, pair.right), models, strict=True)
        for top in _tables(value.name, model)
    ]
    return min(tops, default=None)


def _tables(value: str, model: Model) -> Iterator[int]:
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in model.graph.nodes:
        for name in dict.fromkeys(node.inputs):
            readers[name].append(node)
    pending, seen = [value], {value}
    while pending:
        name = pending.pop()
        for node in readers[name]:
            if not node.is_standard:
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
