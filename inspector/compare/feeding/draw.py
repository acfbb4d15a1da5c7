"""Random values for one input: of its type, and in the range that its readers tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inspector.compare.feeding.ranges import Range
from inspector.compare.runtime.run import Array
from inspector.errors import UndecidedError
from inspector.facts.model import Value

DEFAULT_TOP = 10
"""Integers are drawn below this where no operator says how large they may be."""

WORDS = ("word", "Another", "42", "naïve Straße", "")
"""Strings that are drawn beside those that the model knows."""

SHARE_KNOWN = 0.5
"""Of the elements that are drawn, those that the model itself knows, where it knows some."""

TAME = 3
"""Ways to draw integers and words that are tried where what the ranges allow does not run: from
the two least, ones alone, and zeros alone."""

_MILDER = {"wide": "normal", "flat": "dim", "far": "normal"}
"""What is drawn in place of inputs that a model is hardly calibrated on: a static quantisation cuts
off what lies beyond that in each layer, which is what it is meant to do."""

_DEVIATIONS = 8.0
"""Standard deviations of what is drawn in the whole width of a grid."""

DType = np.dtype[np.generic]


def numpy_type(value: Value) -> DType:
    """The NumPy type in which an input is fed.

    Raises
    ------
    inspector.errors.UndecidedError
        There is none.
    """
    if value.dtype == "string":
        return np.dtype(object)
    try:
        dtype = np.dtype(value.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if value.dtype is None:
        raise UndecidedError(f"input {value.name!r} is no tensor, and only tensors are fed")
    if dtype.kind not in "fiub":
        raise UndecidedError(
            f"input {value.name!r} is of type {value.dtype}, which cannot be fed",
            hint="export it with an input of another type",
        )
    return dtype


def common_type(left: Value, right: Value) -> tuple[DType, DType]:
    """The types of a pair: the one that what is drawn has to fit most, and the other.

    Raises
    ------
    inspector.errors.UndecidedError
        Nothing is of both types.
    """
    types = sorted((numpy_type(left), numpy_type(right)), key=_strictness)
    if (types[0].kind == "O") != (types[1].kind == "O"):
        raise UndecidedError(
            f"input {left.name!r} is of type {left.dtype} on the left and {right.name!r} of type "
            f"{right.dtype} on the right",
            hint="compare models that take the same inputs",
        )
    return types[0], types[1]


def _strictness(dtype: DType) -> tuple[int, int]:
    """What is exact as a bool is so as an integer, and that as a float, the smaller first."""
    return "Obuif".index(dtype.kind) if dtype.kind != "u" else 3, dtype.itemsize


class Drawer:
    """Draws one input's values, the same for both sides.

    Parameters
    ----------
    left, right
        The input of each side.
    allowed
        What the graphs tell of it.
    """

    def __init__(self, left: Value, right: Value, allowed: Range) -> None:
        self._dtype, self._other = common_type(left, right)
        self._allowed = allowed

    @property
    def has_signs(self) -> bool:
        """Whether it draws numbers of either sign alike."""
        return self._dtype.kind == "f" and not self._is_bound

    @property
    def _is_bound(self) -> bool:
        """Whether something in the graphs tells a range of its numbers."""
        allowed = self._allowed
        return allowed.real is not None or allowed.high is not None or allowed.is_length

    def draw(
        self,
        dims: Sequence[int],
        rng: np.random.Generator,
        *,
        kind: str,
        tame: int,
        longest: int,
    ) -> Array:
        """Values of `dims`, exact in both sides' types.

        Parameters
        ----------
        kind
            How floats are distributed: ``normal``, ``uniform``, ``flat`` or ``wide``; or larger
            than networks expect: ``far``.
        tame
            How integers and words are held back, see `TAME`; 0 for not at all.
        longest
            The length of a sequence whose own length is open.
        """
        match self._dtype.kind:
            case "O":
                return self._words(dims, rng, tame)
            case "b":
                drawn = rng.integers(0, 2, tuple(dims))
                return (drawn * (not self._allowed.never)).astype(self._dtype)
            case "i" | "u":
                return self._integers(dims, rng, tame, longest).astype(self._dtype)
            case _:
                return self._numbers(tuple(dims), rng, kind, longest).astype(self._dtype)

    def _words(self, dims: Sequence[int], rng: np.random.Generator, tame: int) -> Array:
        known = [each for each in self._allowed.known if isinstance(each, str)]
        only_known = bool(known) and (self._allowed.closed or tame > 0)
        words = np.array(known if only_known else [*known, *WORDS], dtype=object)
        chances = None
        if known and not only_known:
            chances = np.full(len(words), (1 - SHARE_KNOWN) / len(WORDS))
            chances[: len(known)] = SHARE_KNOWN / len(known)
        chosen = rng.choice(len(words), size=tuple(dims), p=chances)
        return np.asarray(words[chosen], dtype=object).reshape(tuple(dims))

    def _integers(
        self, dims: Sequence[int], rng: np.random.Generator, tame: int, longest: int
    ) -> Array:
        allowed, shape = self._allowed, tuple(dims)
        if (allowed.is_shape or allowed.is_axes) and not tame:
            return _as_shape(shape) if allowed.is_shape else _as_axes(shape)
        low, high = self._bounds(longest)
        if tame:
            low, high = _held_back(low, high, tame)
        others = [each for each in allowed.known if each not in (0, 1)]
        if allowed.mask and allowed.high is None and not others and not tame:
            return _as_mask(rng.integers(0, 2, shape))
        values = rng.integers(low, high, shape, dtype=np.int64)
        known = [each for each in allowed.known if isinstance(each, int) and low <= each < high]
        if known and not tame:
            take = rng.random(shape) < SHARE_KNOWN
            values = np.where(take, rng.choice(np.array(known, np.int64), shape), values)
        return np.asarray(values)

    def _bounds(self, longest: int) -> tuple[int, int]:
        """From, and below what; within what both types hold."""
        allowed = self._allowed
        least, most = self._held()
        low, high = allowed.low, allowed.high
        if allowed.is_length:
            high = min(longest, high or longest) + 1
        known = [each for each in allowed.known if isinstance(each, int)]
        if high is None:
            byte = self._dtype.itemsize == 1
            default = most + 1 if byte else DEFAULT_TOP
            high = max([default, *(each + 2 for each in known)])
            if low is None:
                low = least if byte else min([0, *known])
        low = max(least, low or 0)
        high = min(most + 1, high)
        return low, max(high, low + 1)

    def _held(self) -> tuple[int, int]:
        """The least and the largest integer that both sides' types hold exactly."""
        least, most = -(2**62), 2**62
        for dtype in (self._dtype, self._other):
            if dtype.kind in "iu":
                info = np.iinfo(dtype.name)
                least, most = max(least, int(info.min)), min(most, int(info.max))
            elif dtype.kind == "f":
                exact = 2 ** (np.finfo(dtype.name).nmant + 1)
                least, most = max(least, -exact), min(most, exact)
        return least, most

    def _numbers(
        self, dims: tuple[int, ...], rng: np.random.Generator, kind: str, longest: int
    ) -> Array:
        allowed = self._allowed
        if allowed.real is not None:
            return rng.uniform(*allowed.real, dims)
        if allowed.high is not None or allowed.is_length:  # cast to an integer on the way
            low, high = self._bounds(longest)
            return rng.integers(low, high, dims)
        drawn = _distributed(dims, rng, _MILDER.get(kind, kind) if allowed.mild else kind)
        return drawn if allowed.grid is None else _onto(allowed.grid, drawn, kind)

    def negated(self, values: Array) -> Array:
        """Values with all signs turned: on a grid, around its middle."""
        grid = self._allowed.grid
        return -values if grid is None else np.asarray(grid[0] + grid[1] - values, values.dtype)


def _held_back(low: int, high: int, tame: int) -> tuple[int, int]:
    match tame:
        case 1:
            return low, min(high, low + 2)
        case 2:
            one = min(max(low, 1), high - 1)
            return one, one + 1
        case _:
            zero = min(max(low, 0), high - 1)
            return zero, zero + 1


def _as_shape(dims: tuple[int, ...]) -> Array:
    """A target that every tensor can be reshaped to: as long as it is, then ones."""
    values = np.ones(dims, np.int64)
    values.reshape(-1)[:1] = -1
    return values


def _as_axes(dims: tuple[int, ...]) -> Array:
    """Axes that are there, none twice."""
    return np.arange(int(np.prod(dims, dtype=np.int64)), dtype=np.int64).reshape(dims)


def _as_mask(values: Array) -> Array:
    """Zeros and ones, with one that is set in each row: a softmax over none is NaN."""
    if values.ndim and values.size:
        values[..., 0] = 1
    return values


def _onto(grid: tuple[float, float], drawn: Array, kind: str) -> Array:
    """What was drawn for a grid: about its middle, and never beyond its ends."""
    middle, width = (grid[0] + grid[1]) / 2, grid[1] - grid[0]
    if kind == "uniform":
        return np.asarray(middle + (drawn - 0.5) * width / 2)
    return np.clip(middle + drawn * width / _DEVIATIONS, *grid)


def _distributed(dims: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    match kind:
        case "uniform":
            return rng.random(dims)
        case "wide":
            return 3.0 * rng.standard_normal(dims)
        case "far":
            return 10.0 * rng.standard_normal(dims)
        case "dim":
            return 0.5 * rng.standard_normal(dims)
        case "flat":
            # Each row nearly one number, as a dark or a bright image is.
            rows = rng.standard_normal((*dims[:1], *(1 for _ in dims[1:])))
            return rows + 0.1 * rng.standard_normal(dims)
        case _:
            return rng.standard_normal(dims)
