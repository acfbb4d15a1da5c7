"""The rounding floor: how far a model lies from itself when nothing but rounding changes.

Two float32 programs that compute one function do not give the same bits: sums run in another
order, kernels are fused. The floor measures that on the model at hand, so that no tolerance has
to be guessed: the model with graph optimisation on and off, and with its inputs moved by one unit
in the last place.

One output can hold numbers of very different size (a detector's coordinates beside its
probabilities; the likely class beside the others), and a tolerance that suits the largest would
pass anything in the smallest. So floors are taken along the second and the last axis, where
channels, classes and features lie, and every element has to keep the tighter of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inspector.compare.runtime.run import Array, Fed, InParts

FLOORS = 16.0
"""How many floors two outputs may lie apart. Measured on 700 matched pairs: at most 4.5 floors, and
3.2 in 99 of 100; in float32 a wrong epsilon alone stood 670 floors and more away
(scripts/measure_floor.py)."""

FLOORS_COARSE = 4.0
"""The same where a side computes in less than float32: its floor is measured with its weights moved
and its grids drawn anew, and is what a difference is expected to be, not the least that it can be.
Measured: matched pairs lie at most 4 such floors apart, most of them 1 (scripts/measure_floor.py,
docs/decisions/0011-precision.md)."""

ULPS = 4.0
"""The least tolerance, in units in the last place of the largest output: a small model can give
the same bits each time, and its twin with sums in another order cannot be asked to."""

DRAWS = 2
"""How often inputs are moved: one draw can leave a small model's output as it was."""

FILLED, FILLED_BEYOND = 2.0**10, 2.0**8
"""How large a number is at least that was put in, and how many times all others: a mask's -1e9.
Where an operator saturates (1 of a Softmax, 6 of a Clip, 255 of an image) lies below."""

MOST_FILLED = 8
"""Numbers that may have been put in, one beyond the other."""

FAR = 0.1
"""Share of an output's spread by which graph optimisation cannot move it by rounding alone."""

Deviations = dict[str, list[Array]]
"""For each output and batch, how far each element moved at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allowance:
    """What rounding accounts for: the largest deviation, and bounds for the elements by batch.

    `whole` is the bound that the output's largest elements have.
    """

    floor: float
    whole: float
    bounds: tuple[Array, ...]


def moved_by_an_ulp(fed: Fed, rng: np.random.Generator, unit: float = 0.0) -> Fed:
    """`fed` with every float element moved to a neighbour, up or down at random."""
    moved = {name: neighbours(each, rng, unit) for name, each in fed.values.items()}
    return replace(fed, values=moved)


def neighbours(values: Array, rng: np.random.Generator, unit: float = 0.0) -> Array:
    """Every float element moved by one unit in the last place, up or down at random.

    `unit` is the last place of 1 in the type that they will be rounded to, where that is coarser
    than their own.
    """
    if values.dtype.kind != "f":
        return values
    if unit > float(np.finfo(values.dtype).eps):
        _, exponents = np.frexp(values)
        steps = np.ldexp(np.where(rng.random(values.shape) < 0.5, -unit, unit), exponents - 1)
        return np.asarray(values + np.where(values == 0.0, 0.0, steps), values.dtype)
    towards = np.where(rng.random(values.shape) < 0.5, -np.inf, np.inf).astype(values.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond the largest is infinity
        return np.asarray(np.nextafter(values, towards))


def neighbouring_weights(values: Array, rng: np.random.Generator, unit: float = 0.0) -> Array:
    """Weights as `neighbours` moves them, and a stored mask's -1e9 as it is: no one trained it."""
    moved = neighbours(values, rng, unit)
    top = float(np.abs(values).max(initial=0.0)) if values.dtype.kind == "f" else 0.0
    if not top >= FILLED:  # nor NaN
        return moved
    filled = np.abs(values) == top
    several = values.size == 1 or np.count_nonzero(filled) > 1
    return np.where(filled, values, moved) if several else moved


def measure(
    optimised: InParts,
    others: Iterable[InParts],
    batches: Sequence[Fed],
    results: Sequence[Mapping[str, Array]],
    *,
    seed: int,
    unit: float = 0.0,
    draws: int = DRAWS,
) -> Deviations:
    """How far each element of each output moves where nothing but rounding changes.

    Parameters
    ----------
    optimised
        The model with graph optimisation.
    others
        The same without it, and more of the same that differ by rounding alone. Each is let go
        before the next is taken: large models are not all held at a time.
    batches
        Feeds, batch by batch.
    results
        What `optimised` gave for each of `batches`.
    unit
        The last place of 1 in the coarsest type that the model computes in; 0.0 for that of the
        inputs themselves.
    draws
        How often inputs are moved.
    """
    rng = np.random.default_rng(seed)
    found: Deviations = {
        name: [np.zeros(each[name].shape) for each in results] for name in results[0]
    }

    def add(at: int, run: Mapping[str, Array]) -> None:
        for name, values in results[at].items():
            np.maximum(found[name][at], _apart(values, run[name]), out=found[name][at])

    for other in others:
        for at, fed in enumerate(batches):
            add(at, other.run(fed))
        del other  # before the next is made
    for at, fed in enumerate(batches):
        for _ in range(draws):
            add(at, optimised.run(moved_by_an_ulp(fed, rng, unit)))
    return found


def _apart(values: Array, other: Array) -> Array:
    """Distances that are rounding; none for what is no float or has changed its shape."""
    if values.dtype.kind != "f" or values.shape != other.shape:
        return np.zeros(values.shape)
    with np.errstate(invalid="ignore"):
        apart: Array = np.abs(np.subtract(values, other, dtype=np.float64))
    if np.isfinite(apart).all():
        return np.asarray(apart)
    # What overflows when an input moves by a bit tells nothing: infinitely far.
    finite = np.isfinite(values), np.isfinite(other)
    return np.where(finite[0] & finite[1], apart, np.where(finite[0] == finite[1], 0.0, np.inf))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grain:
    """How coarse the two sides are together: what the bounds on their distance are made of.

    `unit` is the last place of 1 in the coarsest type of either side, 0.0 for that of the outputs.
    `quantised` says that integers stand for real numbers on one of them.
    """

    unit: float = 0.0
    quantised: bool = False

    @property
    def coarse(self) -> bool:
        return self.quantised or self.unit > float(np.finfo(np.float32).eps)

    @property
    def floors(self) -> float:
        return FLOORS_COARSE if self.coarse else FLOORS


FINE = Grain()


def allowance(
    lefts: Sequence[Array],
    rights: Sequence[Array],
    *deviations: Sequence[Array],
    grain: Grain = FINE,
) -> Allowance:
    """Bounds on the distance between two outputs, given each side's deviations by batch.

    Zero for outputs that are not floats: those are equal or they are not.
    """
    floor = max((float(each.max(initial=0.0)) for one in deviations for each in one), default=0.0)
    if not _are_floats(lefts) or not _are_floats(rights):
        zeros = tuple(np.zeros((1,) * each.ndim) for each in lefts)
        return Allowance(floor=0.0, whole=0.0, bounds=zeros)
    unit = max(grain.unit, *(float(np.finfo(each.dtype).eps) for each in (*lefts, *rights)))
    moved = [np.maximum.reduce(each) for each in zip(*deviations, strict=True)]
    sizes = [_size(a, b) for a, b in zip(lefts, rights, strict=True)]
    _leave_out_filled(sizes, lefts, rights, moved)
    top = max((float(each.max(initial=0.0)) for each in sizes), default=0.0)
    whole = max(grain.floors * floor, ULPS * unit * top)
    bounds = [np.full((1,) * each.ndim, whole) for each in lefts]
    for axis in _feature_axes(sizes):
        allowed = _along(_profile(moved, axis), _profile(sizes, axis), unit, grain.floors)
        shape = [1] * sizes[0].ndim
        shape[axis] = -1
        bounds = [np.minimum(each, allowed.reshape(shape)) for each in bounds]
    return Allowance(floor=floor, whole=whole, bounds=tuple(bounds))


def _are_floats(arrays: Sequence[Array]) -> bool:
    return bool(arrays) and all(each.dtype.kind == "f" for each in arrays)


def _size(a: Array, b: Array) -> Array:
    """The larger magnitude of each element, of those that are finite."""
    found = np.asarray(np.maximum(np.abs(a), np.abs(b)))
    if np.isfinite(found.max(initial=0.0)):  # NaN is the maximum of whatever holds it
        return found
    magnitudes = [np.where(np.isfinite(each), np.abs(each), 0) for each in (a, b)]
    return np.asarray(np.maximum(*magnitudes))


def _leave_out_filled(
    sizes: Sequence[Array], lefts: Sequence[Array], rights: Sequence[Array], moved: Sequence[Array]
) -> None:
    """Set to 0 the sizes of what was put in: a mask's -1e9 says nothing of what stands beside it.

    Its last place is 64, which would pass anything in its row or column. It is no sum that could
    be rounded: it stands at several places, the same on both sides, and nothing moves it.
    """
    for _ in range(MOST_FILLED):
        top = max((float(each.max(initial=0.0)) for each in sizes), default=0.0)
        if top < FILLED:
            return
        filled = [each == top for each in sizes]
        if sum(int(np.count_nonzero(each)) for each in filled) < 2:  # it stands alone
            return
        rest = (
            float(each.max(initial=0.0, where=~here))
            for each, here in zip(sizes, filled, strict=True)
        )
        if max(rest) * FILLED_BEYOND > top:
            return
        for here, a, b, far in zip(filled, lefts, rights, moved, strict=True):
            if not np.array_equal(a[here], b[here]) or far[here].any():
                return
        for each, here in zip(sizes, filled, strict=True):
            each[here] = 0


def _feature_axes(arrays: Sequence[Array]) -> list[int]:
    """The second and the last axis, where each batch has the same length along them."""
    rank = arrays[0].ndim
    axes = dict.fromkeys((1, rank - 1)) if rank > 1 else {}
    return [axis for axis in axes if len({each.shape[axis] for each in arrays}) == 1]


def _profile(arrays: Sequence[Array], axis: int) -> Array:
    """The largest element at each place along `axis`."""
    others = tuple(each for each in range(arrays[0].ndim) if each != axis)
    found: Array = np.maximum.reduce([each.max(axis=others, initial=0.0) for each in arrays])
    return found.astype(np.float64)


def _along(floors: Array, sizes: Array, unit: float, times: float) -> Array:
    """The bound at each place along an axis, from the floor and the size there.

    A place where few numbers were seen can have a floor of 0 by chance: the share of its size
    that rounding typically makes serves there. Sizes below the last place of the output's
    largest count as that.
    """
    sizes = np.maximum(sizes, unit * sizes.max(initial=0.0))
    shares = floors[sizes > 0.0] / sizes[sizes > 0.0]
    typical = _median(shares) if shares.size else 0.0
    with np.errstate(invalid="ignore"):
        typically = np.where(sizes > 0.0, typical * sizes, 0.0)
    return np.maximum(times * np.maximum(floors, typically), ULPS * unit * sizes)


def _median(values: Array) -> float:
    """What np.median gives, which imports the masked arrays of NumPy to do it."""
    ordered = np.sort(values)
    half = len(ordered) // 2
    last = float(ordered[-1])
    return last if np.isnan(last) else (float(ordered[half]) + float(ordered[~half])) / 2.0


def widen(moved: Deviations, by: Deviations) -> None:
    """What moves an element further than it was known to move."""
    for name, deviations in by.items():
        for at, each in enumerate(deviations):
            np.maximum(moved[name][at], each, out=moved[name][at])


def far_from_itself(results: Sequence[Mapping[str, Array]], moved: Deviations) -> bool:
    """Whether an output moves by more than rounding ever could, on a model that is no chaos."""
    for name, deviations in moved.items():
        for values, apart in zip((each[name] for each in results), deviations, strict=True):
            if values.dtype.kind == "f" and apart.size:
                finite = values[np.isfinite(values)].astype(np.float64)
                spread = float(finite.std()) if finite.size else 0.0
                if 0.0 < FAR * spread < float(apart.max()):
                    return True
    return False
