"""Which input and output of one model is which of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inspector.compare.layout import (
    Axes,
    Layouts,
    channel_first,
    channel_last,
    name_of,
    permutation,
)
from inspector.errors import UndecidedError, UsageError
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

    @property
    def told(self) -> bool:
        return len(self.permutations) == 1


class OutputsDifferError(UndecidedError):
    """The two models do not have outputs that could be compared one with one."""


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
    inspector.errors.UsageError
        `layout` is no pair of layouts that one of the inputs could have.
    inspector.errors.UndecidedError
        The inputs do not correspond; the message says how they differ.
    """
    lefts, rights = fed_inputs(left), fed_inputs(right)
    if len(lefts) != len(rights):
        raise UndecidedError(
            f"the left model has {_many(len(lefts), 'input')} and the right one {len(rights)}",
            hint="compare models of one interface",
        )
    if layout is not None:
        _check_asked(layout, lefts)
    pairs = _by_name_then_order(lefts, rights)
    for a, b in pairs:
        if a.dims is not None and b.dims is not None and len(a.dims) != len(b.dims):
            raise UndecidedError(
                f"input {a.name!r} is {shown_dims(a)} on the left "
                f"and {b.name!r} {shown_dims(b)} on the right",
                hint="compare models of one interface",
            )
    return tuple(_with_layout(a, b, layouts, layout) for a, b in pairs)


def pair_outputs(left: Model, right: Model, layouts: tuple[Layouts, Layouts]) -> tuple[Pair, ...]:
    """Pair the outputs of two models; see `pair_inputs`.

    Raises
    ------
    OutputsDifferError
        One has more outputs than the other.
    inspector.errors.UndecidedError
        There is nothing to compare.
    """
    lefts, rights = _outputs(left), _outputs(right)
    if len(lefts) != len(rights):
        raise OutputsDifferError(
            f"the left model has {_many(len(lefts), 'output')} and the right one {len(rights)}"
        )
    if not lefts:
        raise UndecidedError("neither model has an output")
    pairs = _by_name_then_order(lefts, rights)
    return tuple(_output(a, b, layouts) for a, b in pairs)


def fed_inputs(model: Model) -> tuple[Value, ...]:
    """Graph inputs without those that an initializer gives a value."""
    fed = (each for each in model.graph.inputs if each.name not in model.graph.initializers)
    return tuple(_with_open_dims(each) for each in fed)


def _outputs(model: Model) -> tuple[Value, ...]:
    """Graph outputs, with the shapes that inference found where none is declared."""
    known = model.graph.values
    return tuple(_with_open_dims(known.get(v.name, v)) for v in model.graph.outputs)


def _with_open_dims(value: Value) -> Value:
    """Some exporters write an unknown length as −1."""
    if value.dims is None or all(not isinstance(dim, int) or dim >= 0 for dim in value.dims):
        return value
    dims = (None if isinstance(dim, int) and dim < 0 else dim for dim in value.dims)
    return replace(value, dims=tuple(dims))


def shown_dims(value: Value, axes: Axes | None = None) -> str:
    """Dims as messages show them: ``[N, 64, 64, 1] NHWC``."""
    if value.dims is None:
        return "[unknown rank]"
    names = ["?" if dim is None else str(dim) for dim in value.dims]
    layout = f" {name_of(axes)}" if axes is not None and len(axes) == len(names) > 2 else ""
    return f"[{', '.join(names)}]{layout}"


def _by_name_then_order(left: Sequence[Value], right: Sequence[Value]) -> list[tuple[Value, Value]]:
    """By name where names tell; the rest by order, or by the only order that the types allow."""
    by_name = {value.name: value for value in right}
    named = {value.name for value in left if value.name in by_name}
    chosen = {name: by_name[name] for name in named}
    rest = [value for value in left if value.name not in named]
    free = [value for value in right if value.name not in named]
    chosen |= {a.name: b for a, b in _by_order(rest, free)}
    pairs = [(value, chosen[value.name]) for value in left]
    if not all(_may_pair(a, b) for a, b in pairs):
        in_order = _by_order(left, right)
        if all(_may_pair(a, b) for a, b in in_order):
            return in_order
    return pairs


def _by_order(left: Sequence[Value], right: Sequence[Value]) -> list[tuple[Value, Value]]:
    if all(_may_pair(a, b) for a, b in zip(left, right, strict=True)):
        return list(zip(left, right, strict=True))
    free = list(right)
    pairs = []
    for a in left:
        b = next((each for each in free if _may_pair(a, each)), free[0])
        free.remove(b)
        pairs.append((a, b))
    return pairs


def _may_pair(a: Value, b: Value) -> bool:
    """Whether two values could hold the same: numbers of one kind, of as many dimensions."""
    ranks = [len(each.dims) for each in (a, b) if each.dims is not None]
    kinds = [_kind(each.dtype) for each in (a, b) if each.dtype is not None]
    return len(set(ranks)) < 2 and len(set(kinds)) < 2


def _kind(dtype: str) -> str:
    """float16 and float32 may pair, float and int may not."""
    return dtype.removeprefix("b").removeprefix("u").rstrip("0123456789")


def _many(count: int, kind: str) -> str:
    return f"{count} {kind}" if count == 1 else f"{count} {kind}s"


def _with_layout(
    left: Value, right: Value, layouts: tuple[Layouts, Layouts], layout: str | None
) -> Pair:
    rank = next((len(each.dims) for each in (left, right) if each.dims is not None), 0)
    same = tuple(range(rank))
    if layout is not None and (asked := _asked(layout, rank)) is not None:
        return Pair(left=left, right=right, permutations=(asked,), told_by="--layout")
    if rank <= 2:
        return Pair(left=left, right=right, permutations=(same,), told_by="")
    if (told := _told(left, right, layouts)) is not None:
        return told
    fitting = _fitting(left, right, rank)
    if not fitting:
        raise UndecidedError(
            f"{left.name!r} is {shown_dims(left)} on the left and {right.name!r} "
            f"{shown_dims(right)} on the right, and no operator tells how the axes correspond",
            hint="say it with --layout LEFT:RIGHT, for instance --layout NHWC:NCHW",
        )
    return Pair(left=left, right=right, permutations=fitting, told_by="")


def _output(left: Value, right: Value, layouts: tuple[Layouts, Layouts]) -> Pair:
    """Outputs whose declared lengths fit no order may still have the same: they are run."""
    if (told := _told(left, right, layouts)) is not None:
        return told
    rank = next((len(each.dims) for each in (left, right) if each.dims is not None), 0)
    same = tuple(range(rank))
    fitting = _fitting(left, right, rank) if rank > 2 else ()
    return Pair(left=left, right=right, permutations=fitting or (same,), told_by="")


def _told(left: Value, right: Value, layouts: tuple[Layouts, Layouts]) -> Pair | None:
    """The pair where both graphs tell a layout that people use.

    Any other order of axes (height and width swapped) is what a model computes, not how it is fed.
    """
    a, b = layouts[0].axes.get(left.name), layouts[1].axes.get(right.name)
    if a is None or b is None or len(a) != len(b):
        return None
    if not {a, b} <= {channel_first(len(a)), channel_last(len(a))}:
        return None
    by = dict.fromkeys((layouts[0].told_by[left.name], layouts[1].told_by[right.name]))
    return Pair(
        left=left,
        right=right,
        permutations=(permutation(a, b),),
        told_by=" and ".join(by),
        left_axes=a,
    )


def _fitting(left: Value, right: Value, rank: int) -> tuple[Axes, ...]:
    same = tuple(range(rank))
    last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    if left.dims is not None and right.dims is not None and len(left.dims) != len(right.dims):
        return ()
    return tuple(each for each in dict.fromkeys((same, last, first)) if _fits(left, right, each))


def _check_asked(layout: str, values: Sequence[Value]) -> None:
    ranks = [len(value.dims) for value in values if value.dims is not None]
    if layout != "same" and all(_asked(layout, rank) is None for rank in ranks):
        raise UsageError(
            f"--layout {layout!r} fits none of the inputs",
            hint="use 'same' or two layouts with a colon between, for instance NHWC:NCHW",
        )


def _asked(layout: str, rank: int) -> Axes | None:
    """The permutation that ``LEFT:RIGHT`` asks for; None where it speaks of another rank."""
    if layout == "same":
        return tuple(range(rank))
    if rank <= 2:
        return None
    known = {name_of(axes): axes for axes in (channel_first(rank), channel_last(rank))}
    left, _, right = layout.upper().partition(":")
    return permutation(known[left], known[right]) if {left, right} <= known.keys() else None


def _fits(left: Value, right: Value, order: Axes) -> bool:
    if left.dims is None or right.dims is None:
        return True
    moved = [left.dims[i] for i in order]
    # Not the batch: models of different fixed batches are fed in parts.
    return all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(moved[1:], right.dims[1:], strict=True)
    )
