"""Which sizes an exported model takes, and how its inputs lie in ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from inspector.errors import UsageError
from inspector.export.axes import BATCH, Order, free_axes
from inspector.export.feeds import Input
from inspector.export.tensorflow_subject import Subject

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked of the inputs: shapes and axes in the model's own layout.

    `dynamic` of None leaves it to the model.
    """

    shapes: tuple[tuple[int, ...], ...] | None = None
    dynamic: tuple[str, ...] | None = None
    as_nchw: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How a model is called.

    Attributes
    ----------
    inputs
        As ONNX has them.
    moved
        Positions of the inputs that ONNX takes with channels first and the model with them last.
    axes
        Names of free axes, by input.
    samples
        Shapes to run at: those that the model was built for, and others; empty where the model
        itself leaves a length free.
    traced
        Whether axes are free that the model has fixed: eager calls refuse other lengths there.
    """

    inputs: tuple[Input, ...]
    moved: frozenset[int] = frozenset()
    axes: tuple[Mapping[int, str], ...] = ()
    samples: tuple[tuple[tuple[int, ...], ...], ...] = ()
    traced: bool = False

    def names(self) -> dict[str, Mapping[int, str]]:
        """Names of free axes by the input's name."""
        return {each.name: axes for each, axes in zip(self.inputs, self.axes, strict=True)}


def signatures(subject: Subject, request: Request) -> list[Signature]:
    """Ways to call the model, the best first.

    Without a wish these are: with any batch, then with the one it was built for.

    Raises
    ------
    inspector.errors.UsageError
        The shapes do not fit the model, or an axis has no length and is not to be free.
    """
    _check_shapes(subject, request.shapes)
    if request.as_nchw and subject.order is Order.FIRST:
        raise UsageError(
            "the model has its channels first already",
            where=subject.title,
            hint="leave --inputs-as-nchw out",
        )
    if request.dynamic is not None:
        found = [_asked(subject, request, request.dynamic)]
    else:
        found = _offered(subject, request)
    return [_turned(each, subject) for each in found] if request.as_nchw else found


def _check_shapes(subject: Subject, shapes: Sequence[Sequence[int]] | None) -> None:
    if shapes is None:
        return
    if len(shapes) != len(subject.inputs):
        raise UsageError(
            f"it has {len(subject.inputs)} inputs, and {len(shapes)} shapes are given",
            where=subject.title,
            hint="give one shape for each input",
        )
    for each, shape in zip(subject.inputs, shapes, strict=True):
        if len(shape) != len(each.dims):
            raise UsageError(
                f"input {each.name!r} has {len(each.dims)} axes, and {list(shape)} has "
                f"{len(shape)}",
                where=subject.title,
                hint="give the batch as well",
            )
        for axis, (own, given) in enumerate(zip(each.dims, shape, strict=True)):
            if axis and own is not None and own != given:
                raise UsageError(
                    f"axis {axis} of input {each.name!r} is {own} in the model, not {given}",
                    where=subject.title,
                    hint="--dynamic frees an axis; --input-shape gives free ones a length",
                )


def _offered(subject: Subject, request: Request) -> list[Signature]:
    """What the model itself leaves free, where the user gave no length for it."""
    shapes = request.shapes or [None] * len(subject.inputs)

    def signature(*, free: bool) -> Signature:
        inputs = []
        for each, shape in zip(subject.inputs, shapes, strict=True):
            rest = each.dims[1:] if shape is None else tuple(shape[1:])
            batch = None if free else (each.dims[0] if shape is None else shape[0])
            inputs.append(replace(each, dims=(batch, *rest) if each.dims else ()))
        return Signature(inputs=tuple(inputs), axes=tuple(_plain(each, free) for each in inputs))

    batches = [each.dims[0] for each in subject.inputs if each.dims]
    found = [signature(free=True)]
    if batches and (request.shapes is not None or None not in batches):
        found.append(signature(free=False))
    return found


def _plain(each: Input, free: bool) -> dict[int, str]:
    return {
        axis: BATCH if axis == 0 and free else f"{each.name}_{axis}"
        for axis, size in enumerate(each.dims)
        if size is None
    }


def _asked(subject: Subject, request: Request, dynamic: Sequence[str]) -> Signature:
    """Exactly the free axes that were asked for."""
    named = free_axes(dynamic, [len(each.dims) for each in subject.inputs], subject.order)
    shapes = request.shapes or [()] * len(subject.inputs)
    known = [_lengths(each, shape) for each, shape in zip(subject.inputs, shapes, strict=True)]
    for each, lengths, axes in zip(subject.inputs, known, named, strict=True):
        for axis, length in enumerate(lengths):
            if length is None and axis not in axes:
                raise UsageError(
                    f"axis {axis} of input {each.name!r} has no length, and is not to be free",
                    where=subject.title,
                    hint="give --input-shape, or name it in --dynamic",
                )
    inputs = tuple(
        replace(each, dims=tuple(None if a in axes else d for a, d in enumerate(lengths)))
        for each, lengths, axes in zip(subject.inputs, known, named, strict=True)
    )
    return Signature(
        inputs=inputs,
        axes=_apart(inputs, known, named),
        samples=_samples(known, named),
        traced=any(
            own is not None and axis in axes
            for each, axes in zip(subject.inputs, named, strict=True)
            for axis, own in enumerate(each.dims)
        ),
    )


def _lengths(each: Input, shape: Sequence[int]) -> list[int | None]:
    """The length of each axis, as far as the model or the user tells it; a batch of 1 by itself."""
    found: list[int | None] = [*(shape or each.dims)]
    if found and found[0] is None:
        found[0] = 1
    return found


def _apart(
    inputs: Sequence[Input],
    known: Sequence[Sequence[int | None]],
    named: Sequence[Mapping[int, str]],
) -> tuple[dict[int, str], ...]:
    """One name means one length: an axis of another length is called after its input too."""
    first: dict[str, int | None] = {}
    found = []
    for each, lengths, axes in zip(inputs, known, named, strict=True):
        own = {}
        for axis, name in axes.items():
            same = name == BATCH or first.setdefault(name, lengths[axis]) == lengths[axis]
            own[axis] = name if same else f"{each.name}_{name}"
        found.append(own)
    return tuple(found)


def _samples(
    known: Sequence[Sequence[int | None]], named: Sequence[Mapping[int, str]]
) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The model's own lengths, and multiples of them that differ from axis to axis.

    Multiples: networks that halve and double their images take no odd lengths.
    """
    if not any(axis for axes in named for axis in axes):
        return ()
    if any(length is None for lengths in known for length in lengths):
        return ()
    names = list(dict.fromkeys(name for axes in named for name in axes.values() if name != BATCH))
    factors = {name: 2 + position for position, name in enumerate(names)} | {BATCH: 2}
    plain = tuple(tuple(int(d or 1) for d in lengths) for lengths in known)
    other = tuple(
        tuple(d * factors[axes[a]] if a in axes else d for a, d in enumerate(lengths))
        for lengths, axes in zip(plain, named, strict=True)
    )
    return plain, other


def _turned(how: Signature, subject: Subject) -> Signature:
    """The same with channels first in ONNX wherever an input looks like an image."""
    moved = frozenset(i for i, each in enumerate(how.inputs) if len(each.dims) in (4, 5))
    if not moved:
        raise UsageError(
            "no input has the rank of an image",
            where=subject.title,
            hint="leave --inputs-as-nchw out",
        )
    return replace(
        how,
        moved=moved,
        inputs=tuple(
            replace(each, dims=_first(each.dims)) if i in moved else each
            for i, each in enumerate(how.inputs)
        ),
        axes=tuple(
            {_place(axis, len(each.dims)): name for axis, name in axes.items()}
            if i in moved
            else axes
            for i, (each, axes) in enumerate(zip(how.inputs, how.axes, strict=True))
        ),
        samples=tuple(
            tuple(_first(shape) if i in moved else shape for i, shape in enumerate(shapes))
            for shapes in how.samples
        ),
    )


def _first(dims: tuple[_T, ...]) -> tuple[_T, ...]:
    return (dims[0], dims[-1], *dims[1:-1])


def _place(axis: int, rank: int) -> int:
    return axis if axis == 0 else (1 if axis == rank - 1 else axis + 1)
