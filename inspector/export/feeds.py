"""Seeded inputs for running a model twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from inspector.compare.runtime.run import Array

Feeds: TypeAlias = Mapping[str, Array]
"""Values by input name, for one run."""

SEED = 20240611


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A model input: `dims` has None where the size is free, the first of them being the batch.

    `pool` holds values to draw from, for inputs such as token ids whose range only an example
    tells; None draws from a distribution.
    """

    name: str
    dtype: np.dtype[np.generic]
    dims: tuple[int | None, ...]
    pool: Array | None = None

    @property
    def free_batch(self) -> bool:
        return bool(self.dims) and self.dims[0] is None


def batch_sizes(inputs: Sequence[Input]) -> tuple[int, ...]:
    """1 and 5 where every input takes any batch, else the one size that the inputs have."""
    if all(each.free_batch for each in inputs):
        return (1, 5)
    return (next((each.dims[0] for each in inputs if each.dims and each.dims[0]), 1),)


def make(
    inputs: Sequence[Input], batch: int, *, other: int = 32, positive: bool = False
) -> dict[str, Array]:
    """Values for every input: standard normal, or uniform over [0, 1) where `positive`.

    Parameters
    ----------
    batch
        Size of a free first axis.
    other
        Size of any other free axis.
    """
    rng = np.random.default_rng((SEED, batch))
    return {each.name: _values(each, batch, other, positive, rng) for each in inputs}


def _values(each: Input, batch: int, other: int, positive: bool, rng: np.random.Generator) -> Array:
    shape = tuple(
        (batch if axis == 0 else other) if size is None else size
        for axis, size in enumerate(each.dims)
    )
    if each.pool is not None and each.pool.size:
        return np.asarray(rng.choice(each.pool.reshape(-1), shape)).astype(each.dtype)
    if each.dtype.kind in "f":
        drawn = rng.random(shape) if positive else rng.standard_normal(shape)
        return np.asarray(drawn).astype(each.dtype)
    # 0 and 1 are valid ids in any table and the only booleans.
    return rng.integers(0, 2, shape).astype(each.dtype)
