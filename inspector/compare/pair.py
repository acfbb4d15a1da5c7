"""Which input and output of one model is which of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inspector.compare.layout import Axes, Layouts, name_of, permutation
from inspector.errors import UndecidedError
from inspector.facts.model import Model, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A value of each side; `permutations` are the axis orders to try, the likeliest first.

    One permutation means that the graph (or the user) told it; more than one that it did not.
    `left_axes` is the left side's layout where the graph tells it.
    """

    left: Value
    right: Value
    permutations: tuple[Axes, ...]
    told_by: str
    left_axes: Axes | None = None


def pair_inputs(
    left: Model, right: Model, layouts: tuple[Layouts, Layouts], layout: str | None = None
) -> tuple[Pair, ...]:
    """Pair the inputs that each model has to be fed.

    Parameters
    ----------
    layout
        What the user says of the layouts, as ``LEFT:RIGHT`` (``NHWC:NCHW``) or ``same``.

    Raises
    ------
    inspector.errors.UndecidedError
        The inputs do not correspond; the message says how they differ.
    """
    pairs = _by_name_then_order(fed_inputs(left), fed_inputs(right), "input")
    return tuple(_with_layout(a, b, layouts, layout) for a, b in pairs)


def pair_outputs(left: Model, right: Model, layouts: tuple[Layouts, Layouts]) -> tuple[Pair, ...]:
    """Pair the outputs of two models; see `pair_inputs`."""
    pairs = _by_name_then_order(left.graph.outputs, right.graph.outputs, "output")
    return tuple(_with_layout(a, b, layouts, None) for a, b in pairs)


def fed_inputs(model: Model) -> tuple[Value, ...]:
    """Graph inputs without those that an initializer gives a value."""
    return tuple(v for v in model.graph.inputs if v.name not in model.graph.initializers)


def shown_dims(value: Value, axes: Axes | None = None) -> str:
    """Dims as messages show them: ``[N, 64, 64, 1] NHWC``."""
    if value.dims is None:
        return "[unknown rank]"
    names = ["?" if dim is None else str(dim) for dim in value.dims]
    layout = f" {name_of(axes)}" if axes is not None and len(axes) == len(names) > 2 else ""
    return f"[{', '.join(names)}]{layout}"


def _by_name_then_order(
    left: Sequence[Value], right: Sequence[Value], kind: str
) -> list[tuple[Value, Value]]:
    if len(left) != len(right):
        raise UndecidedError(
            f"the left model has {_many(len(left), kind)} and the right one {len(right)}",
            hint="compare models of one interface",
        )
    by_name = {value.name: value for value in right}
    pairs = [(value, by_name.pop(value.name)) for value in left if value.name in by_name]
    named = {a.name for a, _ in pairs}
    rest = [value for value in left if value.name not in named]
    pairs += zip(rest, (value for value in right if value.name in by_name), strict=True)
    order = {value.name: at for at, value in enumerate(left)}
    for a, b in pairs:
        if a.dims is not None and b.dims is not None and len(a.dims) != len(b.dims):
            raise UndecidedError(
                f"{kind} {a.name!r} is {shown_dims(a)} on the left "
                f"and {b.name!r} {shown_dims(b)} on the right",
                hint="compare models of one interface",
            )
    return sorted(pairs, key=lambda pair: order[pair[0].name])


def _many(count: int, kind: str) -> str:
    return f"{count} {kind}" if count == 1 else f"{count} {kind}s"


def _with_layout(
    left: Value, right: Value, layouts: tuple[Layouts, Layouts], layout: str | None
) -> Pair:
    a, b = layouts[0].axes.get(left.name), layouts[1].axes.get(right.name)
    rank = len(left.dims) if left.dims is not None else 0
    same = tuple(range(rank))
    if layout is not None and rank > 2:
        return Pair(
            left=left, right=right, permutations=(_asked(layout, rank),), told_by="--layout"
        )
    if rank <= 2:
        return Pair(left=left, right=right, permutations=(same,), told_by="")
    if a is not None and b is not None:
        told = " and ".join(
            dict.fromkeys((layouts[0].told_by[left.name], layouts[1].told_by[right.name]))
        )
        return Pair(
            left=left,
            right=right,
            permutations=(permutation(a, b),),
            told_by=told,
            left_axes=a,
        )
    last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    candidates = dict.fromkeys((same, last, first))
    fitting = tuple(each for each in candidates if _fits(left, right, each))
    if not fitting:
        raise UndecidedError(
            f"{left.name!r} is {shown_dims(left)} on the left and {right.name!r} "
            f"{shown_dims(right)} on the right, and no operator tells how the axes correspond",
            hint="say it with --layout LEFT:RIGHT, for instance --layout NHWC:NCHW",
        )
    return Pair(left=left, right=right, permutations=fitting, told_by="")


def _asked(layout: str, rank: int) -> Axes:
    """The permutation that ``LEFT:RIGHT`` asks for."""
    same = tuple(range(rank))
    if layout == "same":
        return same
    first, last = same, (0, *range(2, rank), 1)
    known = {name_of(first): first, name_of(last): last}
    left, _, right = layout.upper().partition(":")
    if left not in known or right not in known:
        raise UndecidedError(
            f"--layout {layout!r} does not fit an input of {rank} dimensions",
            hint=f"use 'same' or two of {', '.join(known)} with a colon between",
        )
    return permutation(known[left], known[right])


def _fits(left: Value, right: Value, order: Axes) -> bool:
    if left.dims is None or right.dims is None:
        return order == tuple(range(len(order)))
    moved = [left.dims[i] for i in order]
    return all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(moved, right.dims, strict=True)
    )
