"""Where the numbers of a BatchNorm are that could not be put back, and where else they may be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inspector.facts.arrays import Vector
from inspector.facts.model import Model
from inspector.recognise.folding import room_for
from inspector.recognise.place import Place
from inspector.recognise.scopes import places
from inspector.restore.kept import Original
from inspector.restore.product import Plain, called, plain_of

_NOTHING = "nothing in the stock export has its numbers"


class Clues:
    """The constant operators of a stock export, and the numbers in them."""

    def __init__(self, model: Model) -> None:
        self._places = list(places(model))
        self._plain: dict[int, list[Plain]] = {}

    def of(self, original: Original) -> str:
        """Which operators hold a BatchNorm's slope and intercept, and why that is not enough."""
        sought = original.sought
        if sought.slope.size < 2:
            return _NOTHING  # one number may be anything's
        found = self._of(sought.slope.size)
        slope = next(_holding(found, sought.slope, np.abs(sought.slope), original), "")
        intercept = next(_holding(found, sought.intercept, sought.terms, original), "")
        if slope and intercept:
            return (
                f"{slope} holds its slope and {intercept} its intercept, but what they are "
                "applied to is not what the reference has before it"
            )
        if slope or intercept:
            which, other = ("slope", "intercept") if slope else ("intercept", "slope")
            return (
                f"{slope or intercept} holds its {which}, but its {other} is not found: it was "
                "merged with other numbers"
            )
        return _NOTHING

    def _of(self, channels: int) -> list[Plain]:
        if channels not in self._plain:
            self._plain[channels] = [
                found for place in self._places for found in _all_plain(place, channels)
            ]
        return self._plain[channels]


def _all_plain(place: Place, channels: int) -> Iterator[Plain]:
    for node in place.nodes:
        found = plain_of(node, place, channels)
        if found is not None and found.values.size == channels:
            yield found


def _holding(
    found: list[Plain], wanted: Vector, scale: Vector, original: Original
) -> Iterator[str]:
    """The operators whose constant is `wanted`, where that is more than one number repeated."""
    if bool((wanted == wanted[0]).all()):
        return
    for each in found:
        values = each.slope if each.node.op_type in ("Mul", "Div") else each.intercept
        room = room_for(each.tensor.dtype, original.sought) * scale
        if bool((np.abs(values - wanted) <= room).all()):
            yield called(each.node)
