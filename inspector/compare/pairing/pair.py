"""Which input and output of one model is which of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inspector.compare.pairing.asked import Interfaces
from inspector.compare.pairing.layout import (
    Axes,
    Layouts,
    channel_first,
    channel_last,
    name_of,
    permutation,
)
from inspector.compare.pairing.matching import fits, may_pair, orders_of, paired
from inspector.errors import UndecidedError, UsageError
from inspector.facts.model import Model, Value

MOST_NAMED = 4
"""Names that one message lists."""


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
    left: Model,
    right: Model,
    layouts: tuple[Layouts, Layouts],
    layout: str | None = None,
    named: Sequence[str] = (),
) -> tuple[Pair, ...]:
    """Pair the inputs that each model has to be fed.

    Parameters
    ----------
    layout
        What the user says of the layouts, as ``LEFT:RIGHT`` (``NHWC:NCHW``) or ``same``.
    named
        What the user says of inputs and outputs that correspond, as ``left=right`` each.

    Raises
    ------
    inspector.errors.UsageError
        `layout` is no pair of layouts that one of the inputs could have, or `named` names what
        the models do not have.
    inspector.errors.UndecidedError
        The inputs do not correspond; the message says how they differ.
    """
    asked, _ = _interfaces(left, right).read(named)
    lefts, rights = fed_inputs(left), fed_inputs(right)
    if len(lefts) != len(rights):
        raise UndecidedError(
            f"the left model has {_many(len(lefts), 'input')} and the right one {len(rights)}"
            f"{_alone(lefts, rights, asked)}",
            hint="compare models of one interface",
        )
    if layout is not None:
        _check_asked(layout, lefts)
    pairs = paired(lefts, rights, asked)
    for a, b in pairs:
        if a.dims is not None and b.dims is not None and len(a.dims) != len(b.dims):
            raise UndecidedError(
                f"input {a.name!r} is {shown_dims(a)} on the left "
                f"and {b.name!r} {shown_dims(b)} on the right",
                hint="compare models of one interface",
            )
    return tuple(_with_layout(a, b, layouts, layout) for a, b in pairs)


def pair_outputs(
    left: Model,
    right: Model,
    layouts: tuple[Layouts, Layouts],
    named: Sequence[str] = (),
) -> tuple[Pair, ...]:
    """Pair the outputs of two models; see `pair_inputs`.

    Where one has more outputs than the other and `named` names outputs, those are compared and
    whatever has its namesake beside them: `left_out` says what is not.

    Raises
    ------
    OutputsDifferError
        One has more outputs than the other, and `named` does not say which correspond.
    inspector.errors.UsageError
        `named` names what the models do not have.
    inspector.errors.UndecidedError
        There is nothing to compare.
    """
    _, asked = _interfaces(left, right).read(named)
    lefts, rights = _outputs(left), _outputs(right)
    if len(lefts) != len(rights):
        if not asked:
            raise OutputsDifferError(
                f"the left model has {_many(len(lefts), 'output')} and the right one {len(rights)}"
                f"{_alone(lefts, rights, asked)}",
                hint="to compare some of them, say which correspond with --map LEFT=RIGHT",
            )
        wanted = asked | _namesakes(lefts, rights, asked)
        lefts = tuple(each for each in lefts if each.name in wanted)
        rights = tuple(each for each in rights if each.name in wanted.values())
    if not lefts:
        raise UndecidedError("neither model has an output")
    pairs = paired(lefts, rights, asked)
    return tuple(_output(a, b, layouts) for a, b in pairs)


def left_out(left: Model, right: Model, outputs: Sequence[Pair]) -> tuple[str, ...]:
    """A sentence for each side's outputs that `outputs` does not hold against any other."""
    said = []
    for side, model, kept in (
        ("left", left, {each.left.name for each in outputs}),
        ("right", right, {each.right.name for each in outputs}),
    ):
        names = [repr(each.name) for each in model.graph.outputs if each.name not in kept]
        if names:
            kind = "output" if len(names) == 1 else "outputs"
            said.append(f"not compared: {kind} {_some(names)} of the {side} model")
    return tuple(said)


def fed_inputs(model: Model) -> tuple[Value, ...]:
    """Graph inputs without those that an initializer gives a value."""
    fed = (each for each in model.graph.inputs if each.name not in model.graph.initializers)
    return tuple(fed)


def _outputs(model: Model) -> tuple[Value, ...]:
    """Graph outputs, with the shapes that inference found where none is declared."""
    known = model.graph.values
    return tuple(known.get(v.name, v) for v in model.graph.outputs)


def shown_dims(value: Value, axes: Axes | None = None) -> str:
    """Dims as messages show them: ``[N, 64, 64, 1] NHWC``."""
    if value.dims is None:
        return "[unknown rank]"
    names = ["?" if dim is None else str(dim) for dim in value.dims]
    layout = f" {name_of(axes)}" if axes is not None and len(axes) == len(names) > 2 else ""
    return f"[{', '.join(names)}]{layout}"


def _many(count: int, kind: str) -> str:
    return f"{count} {kind}" if count == 1 else f"{count} {kind}s"


def _alone(lefts: Sequence[Value], rights: Sequence[Value], asked: Mapping[str, str]) -> str:
    """What only one side has, where names tell."""
    names = {each.name for each in rights} | {*asked}
    others = {each.name for each in lefts} | {*asked.values()}
    extra = [f"{each.name!r} on the left" for each in lefts if each.name not in names]
    extra += [f"{each.name!r} on the right" for each in rights if each.name not in others]
    # Where every name differs they say nothing.
    if not extra or len(extra) == len(lefts) + len(rights):
        return ""
    return f" (alone: {_some(extra)})"


def _namesakes(
    lefts: Sequence[Value], rights: Sequence[Value], asked: Mapping[str, str]
) -> dict[str, str]:
    """Outputs of one name that the user did not speak of."""
    by_name = {each.name: each for each in rights if each.name not in asked.values()}
    return {
        each.name: each.name
        for each in lefts
        if each.name not in asked and each.name in by_name and may_pair(each, by_name[each.name])
    }


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _interfaces(left: Model, right: Model) -> Interfaces:
    return Interfaces(
        inputs=(_names(fed_inputs(left)), _names(fed_inputs(right))),
        outputs=(_names(left.graph.outputs), _names(right.graph.outputs)),
    )


def _names(values: Sequence[Value]) -> tuple[str, ...]:
    return tuple(each.name for each in values)


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
    if left.dims is not None and right.dims is not None and len(left.dims) != len(right.dims):
        return ()
    return tuple(each for each in orders_of(rank) if fits(left, right, each))


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
