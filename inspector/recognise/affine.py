"""Per-channel affine maps: what most exporters leave of a BatchNorm.

``y = slope · x + intercept`` is all that is left; scale, mean, var and epsilon cannot be told from
two numbers. Whether it was a BatchNorm is told by names alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.facts.batchnorm import Step
from inspector.recognise.chains import Chains
from inspector.recognise.runs import Link

_SCALES = frozenset({"Mul", "Div"})


def units(links: Sequence[Link]) -> Iterator[tuple[Link, ...]]:
    """Parts of a run that each are one map: shifts, then scales, then one shift.

    A new unit begins where the names speak of another layer, and at a scale behind a shift.
    """
    unit: list[Link] = []
    scaled = False
    for link in links:
        if unit and _begins(unit[-1], link, scaled=scaled):
            yield tuple(unit)
            unit, scaled = [], False
        unit.append(link)
        scaled = scaled or link.op_type in _SCALES
    if unit:
        yield tuple(unit)


def _begins(last: Link, link: Link, *, scaled: bool) -> bool:
    """Whether a link is the first of another map."""
    shifted = scaled and last.op_type not in _SCALES
    if link.layer != last.layer:
        # The shift behind a named scale is its own, whatever it is called.
        return not scaled or shifted or link.op_type in _SCALES
    return shifted and link.op_type in _SCALES


def evidence(links: Sequence[Link]) -> tuple[str, str]:
    """What tells that a map was a BatchNorm, in words, and that layer's name."""
    return next(((each.told, each.layer) for each in links if each.layer), ("", ""))


def steps(links: Sequence[Link], chains: Chains) -> tuple[Step, ...] | None:
    """The operators of a map as facts; None where a constant cannot be computed."""
    found = []
    for each in links:
        tensor = chains.settled(each.source).tensor
        if tensor is None:
            return None
        found.append(
            Step(op_type=each.op_type, value=each.value, tensor=tensor, reversed=each.reversed)
        )
    return tuple(found)


def is_per_channel(links: Sequence[Link]) -> bool:
    """Whether a map scales each channel by a number of its own."""
    return any(each.op_type in _SCALES and each.axis is not None for each in links)


def is_pair(links: Sequence[Link]) -> bool:
    """Whether a map scales and shifts."""
    scales = sum(each.op_type in _SCALES for each in links)
    return 0 < scales < len(links)
