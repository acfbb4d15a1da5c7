"""Inputs for a comparison: seeded, one set for both models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import lcm, prod

import numpy as np

from inspector.compare.feeding.draw import TAME, Drawer, common_type, numpy_type
from inspector.compare.feeding.ranges import find_ranges
from inspector.compare.pairing.layout import Axes
from inspector.compare.pairing.pair import Pair
from inspector.compare.runtime.run import Array, Fed
from inspector.errors import UndecidedError, UsageError
from inspector.facts.model import Dim, Model
from inspector.memory import size_in_words

BATCH_SIZES = (1, 32, 32)
"""One row alone, then two batches: rows of a batch go through other kernels than one row."""

FEW_SIZES = BATCH_SIZES[:2]
"""Where each run is dear, and outputs agree: what was found in the graphs says the rest."""

MORE_SIZES = (*BATCH_SIZES, 32, 32, 32, 32, 32)
"""Where outputs agree and the graphs do not: a unit that fires on one input in a hundred hides
what is wrong with it."""

MOST_AT_ONCE = 32
"""Rows of a batch where the user says how many there shall be in all."""

MOST_ELEMENTS = 2**18
"""Elements of one input's batch that are worth their time: large images come in fewer rows."""

FREE_LENGTHS = (32, 64, 224, 1)
"""Lengths of a dimension that neither model fixes, the batch apart, in the order they are tried:
deep networks need large images, and some lengths have to be that of a stored tensor."""

ENOUGH = 2**22
"""Elements of a batch that no model is asked for twice: it is one that fixes such a size."""

MOST_ROWS = 64
"""Rows of a batch that is a multiple of two fixed batch sizes, at most."""

_HELD = 2
"""Times that inputs are held at once: as they are, and moved, or on their way to the runtime."""

_DRAWN = 16
"""Bytes that drawing an element takes, in float64 and turned."""

FAR_SIZES = (32, 32, 32)
"""Where outputs agree and the graphs do not: bounds that ordinary inputs do not reach."""

_FAR_KINDS = ("far",)

_KINDS = ("normal", "normal", "uniform", "flat", "wide", "normal", "flat", "uniform")

_NEGATED = {5: 1, 6: 3}
"""Batches that are an earlier one with all signs turned: what asks for the sign of a sum is
answered both ways, whatever the seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is fed: rows of each batch and lengths where the models leave them open.

    `samples` are rows in all, in place of `sizes`; `most` bounds those of a batch. `positive` draws
    all numbers from [0, 1), for models that take a logarithm of them; `far` draws them larger than
    networks expect. `tame` holds integers back, see `inspector.compare.feeding.draw.TAME`.
    `memory` are the bytes that there are; 0 where that is not known.
    """

    sizes: tuple[int, ...] = BATCH_SIZES
    samples: int | None = None
    most: int = MOST_AT_ONCE
    free: int = FREE_LENGTHS[0]
    positive: bool = False
    far: bool = False
    tame: int = 0
    memory: int = 0

    def wanted(self) -> Iterator[int]:
        """Rows to ask for, batch by batch; without end where `samples` are to be reached."""
        if self.samples is None:
            yield from (min(each, self.most) for each in self.sizes)
            return
        yield 1
        while True:
            yield self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of the same values for both models, by each model's own input names."""

    left: Fed
    right: Fed
    size: int

    @property
    def lengths(self) -> tuple[tuple[int, ...], ...]:
        """What was fed, without the rows."""
        return tuple(values.shape[1:] for values in self.left.values.values())


def plans(pairs: Sequence[Pair], plan: Plan) -> Iterator[Plan]:
    """What to try in turn until something runs, starting from `plan`.

    Any batch and length first; then what a model may insist on without saying so: one row, and
    integers as an index or a divisor may have to be.
    """
    lengths = FREE_LENGTHS if has_free_lengths(pairs) else FREE_LENGTHS[:1]
    kinds = {kind for pair in pairs for kind in _kinds_of(pair)}
    for tame in range(TAME + 1 if kinds & {"i", "u", "O"} else 1):
        for most in (plan.most, 1):
            for free in lengths:
                yield replace(plan, free=free, most=most, tame=tame)


def _kinds_of(pair: Pair) -> tuple[str, str]:
    dtypes = common_type(pair.left, pair.right)
    return dtypes[0].kind, dtypes[1].kind


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
        The seed is negative, or there is no sample to draw.
    inspector.errors.UndecidedError
        The two models fix different lengths, or take what cannot be drawn at random.
    """
    if seed < 0:
        raise UsageError(f"the seed {seed} is negative", hint="use 0 or a positive number")
    check_samples(plan.samples)
    drawers = _drawers(pairs, models)
    batches: list[Batch] = []
    rows = 0
    for at, size in enumerate(plan.wanted()):
        left_over = size if plan.samples is None else min(size, plan.samples - rows)
        batches.append(_batch(pairs, orders, drawers, at, size=left_over, seed=seed, plan=plan))
        rows += batches[-1].size
        if plan.samples is not None:
            _check_samples_memory(batches[-1], plan.samples, plan.memory)
            # A model without inputs has no rows to count.
            if rows >= plan.samples or not pairs:
                break
        elif sum(each.size for each in batches[-1].left.values.values()) > ENOUGH:
            break
    return tuple(batches)


def check_samples(samples: int | None) -> None:
    """Refuse a number of rows that is none.

    Raises
    ------
    inspector.errors.UsageError
        It is below 1.
    """
    if samples is not None and samples < 1:
        raise UsageError(f"{samples} samples are none", hint="use --samples with 1 or more")


def _drawers(pairs: Sequence[Pair], models: tuple[Model, Model]) -> tuple[Drawer, ...]:
    lefts = find_ranges([each.left.name for each in pairs], models[0])
    rights = find_ranges([each.right.name for each in pairs], models[1])
    return tuple(
        Drawer(pair.left, pair.right, left & right)
        for pair, left, right in zip(pairs, lefts, rights, strict=True)
    )


def _batch(
    pairs: Sequence[Pair],
    orders: Sequence[Axes],
    drawers: Sequence[Drawer],
    at: int,
    *,
    size: int,
    seed: int,
    plan: Plan,
) -> Batch:
    lengths = Lengths(pairs, orders, size, plan.free)
    kinds = _FAR_KINDS if plan.far else _KINDS
    kind = "uniform" if plan.positive else kinds[at % len(kinds)]
    dims = [lengths.of(pair, order) for pair, order in zip(pairs, orders, strict=True)]
    _check_memory(pairs, dims, plan.memory)
    left: dict[str, Array] = {}
    right: dict[str, Array] = {}
    longest = min(size, plan.free)
    mirrored = not plan.far and not plan.positive and at in _NEGATED
    for turn, n in enumerate(_in_turn(pairs)):
        pair = pairs[n]
        # Drawn channels first where the layout is known, so that swapping sides draws the same.
        axes = pair.left_axes or tuple(range(len(dims[n])))
        drawn = [dims[n][axes.index(axis)] for axis in range(len(axes))]
        negated = mirrored and drawers[n].has_signs
        of = [seed, _NEGATED[at] if negated else at, turn, int(plan.far)]
        rng = np.random.default_rng(of)
        values = drawers[n].draw(drawn, rng, kind=kind, tame=plan.tame, longest=longest)
        if negated:
            values = drawers[n].negated(values)
        left[pair.left.name], right[pair.right.name] = both_sides(
            values.transpose(axes), pair, orders[n]
        )
    firsts = [(each[0], _is_open(pair)) for each, pair in zip(dims, pairs, strict=True) if each]
    rows = max(firsts, key=lambda each: each[1], default=(0, False))[0]
    return Batch(
        left=Fed(values=left, rows=lengths.parts[0]),
        right=Fed(values=right, rows=lengths.parts[1]),
        size=rows or size,
    )


def _check_memory(pairs: Sequence[Pair], dims: Sequence[tuple[int, ...]], memory: int) -> None:
    """Refuse inputs that cannot be held, before they are drawn: a model may declare any size."""
    sizes = [prod(each) for each in dims]
    stored = sum(
        size * sum(dtype.itemsize for dtype in common_type(pair.left, pair.right))
        for size, pair in zip(sizes, pairs, strict=True)
    )
    needed = _HELD * stored + _DRAWN * max(sizes, default=0)
    if 0 < memory < needed:
        raise UndecidedError(
            f"its inputs take {size_in_words(needed)} a batch, and there are "
            f"{size_in_words(memory)}",
            hint="give it more memory, or the lengths that it leaves open with --data",
        )


def _check_samples_memory(batch: Batch, samples: int, memory: int) -> None:
    """Refuse more rows than can be held: all of them are, for the runs that measure rounding."""
    held = sum(each.nbytes for side in (batch.left, batch.right) for each in side.values.values())
    needed = _HELD * held * samples / max(batch.size, 1)
    if 0 < memory < needed:
        raise UndecidedError(
            f"{samples:,} samples take {size_in_words(needed)}, "
            f"and there are {size_in_words(memory)}",
            hint="use fewer, or feed files of them with --data",
        )


def _is_open(pair: Pair) -> bool:
    """Whether both sides leave the first length open: that is the one that counts rows."""
    dims = [each.dims[0] for each in (pair.left, pair.right) if each.dims]
    return not any(isinstance(each, int) for each in dims)


def both_sides(values: Array, pair: Pair, order: Axes) -> tuple[Array, Array]:
    """Values in the left side's order as each side takes them."""
    left = np.ascontiguousarray(values.astype(numpy_type(pair.left)))
    right = np.ascontiguousarray(values.transpose(order).astype(numpy_type(pair.right)))
    # A scalar would become a row of one.
    return left.reshape(values.shape), right.reshape([values.shape[axis] for axis in order])


def _in_turn(pairs: Sequence[Pair]) -> list[int]:
    """The order in which inputs are drawn: the same from either side and in any order."""

    def told(at: int) -> tuple[list[str], list[str]]:
        sides = pairs[at].left, pairs[at].right
        return sorted(each.name for each in sides), sorted(f"{e.dtype} {e.dims}" for e in sides)

    return sorted(range(len(pairs)), key=told)


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
            hint="export it with a shape, or give inputs with --data",
        )
    unknown = (None,) * len(order)
    a, b = pair.left.dims, pair.right.dims
    there = dict(zip(order, unknown if b is None else b, strict=True))
    return [(dim, there[at]) for at, dim in enumerate(unknown if a is None else a)]
