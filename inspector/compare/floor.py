"""The rounding floor: how far a model lies from itself when nothing but rounding changes.

Two float32 programs that compute one function do not give the same bits: sums run in another
order, kernels are fused. The floor measures that on the model at hand, so that no tolerance has
to be guessed: the model with graph optimisation on and off, with its inputs moved by one unit in
the last place, and with a batch fed row by row where it takes batches of any size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inspector.compare.difference import difference
from inspector.compare.run import Array, Feeds, Runner

FLOORS = 32.0
"""How many floors two outputs may lie apart. Measured on matched pairs: at most 8 floors; a wrong
epsilon stood 500 floors and more away (scripts/measure_floor.py)."""

ULPS = 4.0
"""The least tolerance, in units in the last place of the largest output: a small model can give
the same bits each time, and its twin with sums in another order cannot be asked to."""


def moved_by_an_ulp(feeds: Feeds, rng: np.random.Generator) -> dict[str, Array]:
    """`feeds` with every float element moved to a neighbour, up or down at random."""
    return {name: _moved(values, rng) for name, values in feeds.items()}


def _moved(values: Array, rng: np.random.Generator) -> Array:
    if values.dtype.kind != "f":
        return values
    towards = np.where(rng.random(values.shape) < 0.5, -np.inf, np.inf).astype(values.dtype)
    return np.asarray(np.nextafter(values, towards))


def measure(
    optimised: Runner,
    plain: Runner,
    batches: Sequence[Feeds],
    results: Sequence[dict[str, Array]],
    *,
    seed: int,
) -> dict[str, float]:
    """The floor of each output, in the output's own unit.

    Parameters
    ----------
    optimised, plain
        One model with graph optimisation on and off.
    batches
        Feeds, batch by batch.
    results
        What `optimised` gave for each of `batches`.
    """
    rng = np.random.default_rng(seed)
    floors: dict[str, float] = dict.fromkeys(results[0], 0.0)
    for feeds, reference in zip(batches, results, strict=True):
        again = (plain.run(feeds), optimised.run(moved_by_an_ulp(feeds, rng)))
        for other in again:
            for name, values in reference.items():
                if values.dtype.kind == "f" and values.shape == other[name].shape:
                    apart = difference(values, other[name]).max_abs
                    floors[name] = max(floors[name], apart)
    return floors


def tolerance(floor: float, reference: Sequence[Array]) -> float:
    """The largest distance that rounding accounts for, given a measured floor.

    Zero for outputs that are not floats: those are equal or they are not.
    """
    if not reference or reference[0].dtype.kind != "f":
        return 0.0
    tops = [np.abs(values[np.isfinite(values)]).max(initial=0.0) for values in reference]
    least = ULPS * float(np.finfo(reference[0].dtype).eps) * float(max(tops))
    return max(FLOORS * floor, least)
