"""Which axes of a model's inputs may have any length, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum

from inspector.errors import UsageError

BATCH = "batch"


class Order(StrEnum):
    """Where a framework's inputs have their channels."""

    FIRST = "channels first"
    LAST = "channels last"


_NAMED: Mapping[Order, Mapping[int, tuple[str, ...]]] = {
    Order.LAST: {
        2: ("",),
        3: ("length", ""),
        4: ("height", "width", ""),
        5: ("depth", "height", "width", ""),
    },
    Order.FIRST: {
        2: ("length",),
        3: ("", "length"),
        4: ("", "height", "width"),
        5: ("", "depth", "height", "width"),
    },
}
"""What the axes behind the batch are called, by rank."""

_GIVEN = re.compile(r"([A-Za-z_]\w*)=(\d+)")
_NAMES = ("batch", "length", "depth", "height", "width")


def free_axes(
    wanted: Sequence[str], ranks: Sequence[int], order: Order
) -> tuple[dict[int, str], ...]:
    """For each input, the axes that are to be free, with their names.

    Parameters
    ----------
    wanted
        Names: ``batch``, ``height``, ``width``, ``depth``, ``length``, or ``name=axis`` for an axis
        by its number, counted from the batch as 0. Nothing: all axes are fixed.
    ranks
        Of the inputs, the batch included.
    order
        How names of axes of images and signals are understood.

    Raises
    ------
    inspector.errors.UsageError
        A name is none, or no input has such an axis.
    """
    found: tuple[dict[int, str], ...] = tuple({} for _ in ranks)
    for each in wanted:
        placed = False
        for axes, rank in zip(found, ranks, strict=True):
            for axis, name in _places(each, rank, order):
                axes[axis] = name
                placed = True
        if not placed and ranks:
            raise UsageError(
                f"no input has an axis {each!r}",
                hint=f"the inputs have {_listed(ranks)} axes; name=axis takes one by its number",
            )
    return found


def parse(text: str) -> tuple[str, ...]:
    """The names in ``batch,height,width``; ``none`` for no free axis at all.

    Raises
    ------
    inspector.errors.UsageError
        One of them is neither a name nor ``name=axis``.
    """
    parts = tuple(each.strip() for each in text.split(",") if each.strip())
    if parts in ((), ("none",)):
        return ()
    for each in parts:
        if each not in _NAMES and not _GIVEN.fullmatch(each):
            raise UsageError(
                f"{each!r} names no axis",
                hint=f"write {', '.join(_NAMES)}, name=axis as in tokens=1, or none",
            )
    return parts


def _places(wanted: str, rank: int, order: Order) -> list[tuple[int, str]]:
    if given := _GIVEN.fullmatch(wanted):
        axis = int(given[2])
        return [(axis, given[1])] if axis < rank else []
    if wanted == BATCH:
        return [(0, BATCH)] if rank else []
    names = _NAMED[order].get(rank, ())
    return [(axis, name) for axis, name in enumerate(names, start=1) if name == wanted]


def _listed(ranks: Sequence[int]) -> str:
    return " and ".join(map(str, dict.fromkeys(ranks)))
