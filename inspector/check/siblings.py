"""Numbers that the layers of one network have in common, and those that stand apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from inspector.facts.batchnorm import BatchNorm, Form

FEWEST = 4
"""Layers that it takes to tell what is usual."""

_PART = 3
"""Layers in a row that are a part of the network with its own settings, and not a slip."""


def told_epsilon(norm: BatchNorm) -> float | None:
    """Epsilon where it is told: arithmetic that adds none may have had it added to the variance."""
    return None if norm.form is Form.DECOMPOSED and norm.epsilon == 0 else norm.epsilon


def by_value(
    norms: Sequence[BatchNorm], value: Callable[[BatchNorm], float | None]
) -> dict[float, list[BatchNorm]]:
    """Layers by a number of theirs; those that have none are left out, and all NaN are one."""
    found: dict[float, list[BatchNorm]] = {}
    nan = float("nan")
    for norm in norms:
        number = value(norm)
        if number is not None:
            found.setdefault(number if number == number else nan, []).append(norm)  # noqa: PLR0124  # NaN alone is not itself
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """Layers with a number that is not the usual one, and how many layers have that."""

    number: float
    norms: tuple[BatchNorm, ...]
    usual: float
    others: int


def strangers(
    groups: Mapping[float, Sequence[BatchNorm]],
    order: Sequence[BatchNorm],
    *,
    most: float,
    same: Callable[[float, float], bool],
) -> Iterator[Stranger]:
    """Layers whose number differs from what all but a share of `most` have.

    Parameters
    ----------
    order
        All layers, in the file's order: several that stand apart in a row are a part of the network
        that has settings of its own, and no mistake.
    """
    finite = {number: norms for number, norms in groups.items() if isfinite(number)}
    total = sum(map(len, finite.values()))
    if total < FEWEST:
        return
    usual = max(finite, key=lambda each: len(finite[each]))
    near = sum(len(norms) for number, norms in finite.items() if same(number, usual))
    if total - near > total * most:
        return
    places = {id(norm): at for at, norm in enumerate(order)}
    for number, norms in finite.items():
        if same(number, usual):
            continue
        first, last = places[id(norms[0])], places[id(norms[-1])]
        if len(norms) < _PART or last - first + 1 > len(norms):
            yield Stranger(number=number, norms=tuple(norms), usual=usual, others=near)
