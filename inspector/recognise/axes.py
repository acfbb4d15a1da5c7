"""On which axis of the data the numbers of a run lie, and whether those are its channels."""

from __future__ import annotations

from collections.abc import Sequence

from inspector.facts.model import Dim
from inspector.recognise.around import dims_of
from inspector.recognise.place import Place
from inspector.recognise.runs import Link, one_channel

_CHANNELS_SECOND = frozenset({"Conv", "ConvTranspose", "BatchNormalization", "MaxPool"})
"""Operators that have the channels of what they give on its second axis."""


def channel_axis(run: Sequence[Link], place: Place) -> int | None:
    """The axis of the channels, counted from the first where the rank is known.

    None where it is an axis that no layer has its channels on: neither the second nor the last.
    """
    axis = written_axis(run)
    dims = dims_of(run[0].data, place)
    if axis is None:
        return _axis_of_one(run, dims)
    ordered = dims if dims is not None else run[0].perm
    if ordered is None:
        return axis
    rank = len(ordered)
    if run[0].perm is not None and len(run[0].perm) != rank:
        return None  # two ranks for one value are damage
    axis = axis if axis >= 0 else axis + rank
    return axis if 0 <= axis < rank and axis in (1, rank - 1) else None


def written_axis(run: Sequence[Link]) -> int | None:
    """The axis that the constants lie on, of the data that enters the first link."""
    perm, axis = run[0].perm, None
    for each in run:
        if each.axis is not None:
            axis = each.axis
            break
    if axis is None or perm is None or not -len(perm) <= axis < len(perm):
        return axis
    return perm.index(axis % len(perm)) - len(perm)


def _axis_of_one(run: Sequence[Link], dims: Sequence[Dim] | None) -> int | None:
    """The axis of a single channel, if a map of single numbers lies on one.

    A number without axes is one for the whole tensor, whatever its dims.
    """
    return one_channel(dims) if all(each.dims for each in run) else None


def of_length(links: Sequence[Link], place: Place, axis: int, channels: int) -> bool:
    """Whether the data may have so many channels, and is not stretched to them."""
    dims = dims_of(links[0].data, place)
    return dims is None or not isinstance(dims[axis], int) or dims[axis] == channels


def beside_channels(links: Sequence[Link], place: Place, axis: int) -> bool:
    """Whether numbers lie along another axis than the channels of the operator in front."""
    producer, dims = place.producer(links[0].data), dims_of(links[0].data, place)
    second = producer is not None and producer.op_type in _CHANNELS_SECOND
    return second and axis != 1 and dims is not None and len(dims) > 2
