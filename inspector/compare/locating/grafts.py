"""The left side's values put into the right one, in the right one's form and type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from inspector.compare.locating.jumps import Jump
from inspector.compare.locating.places import Place
from inspector.compare.locating.sweep import Graft, Held, Sweep
from inspector.compare.runtime.host import HostGoneError
from inspector.compare.runtime.run import Array
from inspector.errors import UndecidedError
from inspector.facts.patch import Patch


def give_the_same(
    jumps: Sequence[Jump], sweep: Sweep, patches: Sequence[Patch] = ()
) -> bool | None:
    """Whether operators of both sides give the same for the left side's values in what they read.

    Those are rounded to the coarser type of the two where the sides have different ones, and so
    are bounds that the sides store. None where that cannot be run.

    Raises
    ------
    HostGoneError
        The process in which models run has ended.
    """
    reads = [each for jump in jumps for each in jump.reads]
    held = list(sweep.held(reads))
    grafts = grafts_of(held, sweep) if len(held) == len(reads) else None
    if grafts is None:
        return None
    bounds = [each for jump in jumps for each in _bounds(jump, sweep)]
    grafts = [*grafts, *_rounded(held, grafts, sweep), *bounds]
    given = [each for jump in jumps for each in jump.gives]
    held = list(sweep.held(given, patches, grafts))
    if len(held) != len(given):
        return None
    return all(each.max_abs == 0.0 or (sweep.coarse and each.within) for each in held)


def grafts_at(places: Sequence[Place], sweep: Sweep) -> list[Graft] | None:
    """The left side's values at places of the right side; None where they do not go there.

    Raises
    ------
    HostGoneError
        The process in which models run has ended.
    """
    held = list(sweep.held(places))
    return grafts_of(held, sweep) if len(held) == len(places) else None


def grafts_of(held: Sequence[Held], sweep: Sweep) -> list[Graft] | None:
    """The left side's values at places that were compared; None where they do not go there.

    Raises
    ------
    HostGoneError
        The process in which models run has ended.
    """
    try:
        values = sweep.left_values([each.place.left for each in held])
        return [
            Graft(place=each.place, values=_cast(each.form.to_right(own), each.right_dtype))
            for each in held
            for own in (values[each.place.left],)
        ]
    except HostGoneError:
        raise
    except (UndecidedError, ValueError):  # it cannot be put in, which None says
        return None


def _rounded(held: Sequence[Held], grafts: Sequence[Graft], sweep: Sweep) -> Iterator[Graft]:
    """What grafts hold after rounding, for the left side to read as well."""
    for each, graft in zip(held, grafts, strict=True):
        values = _cast(each.form.to_left(graft.values), each.left_dtype)
        if sweep.coarse and each.left_dtype != each.right_dtype:
            yield Graft(place=each.place, values=values, side=0)


def _bounds(jump: Jump, sweep: Sweep) -> Iterator[Graft]:
    """What the coarser side stores, for the other one, where rounding is all that differs.

    A threshold of 0.3 in float16 is another number, and what ties with it falls elsewhere.
    """
    if not sweep.unit:
        return
    for at in jump.left.constants.keys() & jump.right.constants.keys():
        left, right = (
            np.asarray(model.weights.load(layer.constants[at]))
            for model, layer in zip(sweep.models, (jump.left, jump.right), strict=True)
        )
        if left.dtype.kind != "f" or right.dtype.kind != "f" or left.shape != right.shape:
            continue
        one, other = left.astype(np.float64), right.astype(np.float64)
        far = np.abs(one - other) > sweep.unit * np.maximum(np.abs(one), np.abs(other))
        if far.any() or np.array_equal(one, other):
            continue
        side, values = (
            (1, _cast(left, right.dtype))
            if left.dtype.itemsize < right.dtype.itemsize
            else (0, _cast(right, left.dtype))
        )
        place = Place(
            left=jump.left.node_fact.inputs[at],
            right=jump.right.node_fact.inputs[at],
            left_where=jump.left.shown,
            right_where=jump.right.shown,
            layer=0,
            nodes=frozenset(),
            node=jump.right.node,
            position=at,
            left_node=jump.left.node,
        )
        yield Graft(place=place, values=values, side=side)


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # beyond the largest is infinity
        return np.asarray(values, dtype)
