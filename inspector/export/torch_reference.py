"""What a PyTorch source gives on seeded inputs, at lengths that it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inspector.compare.runtime.run import Array
from inspector.errors import InspectorError, UnreadableError
from inspector.export import feeds as feed
from inspector.export import torch_trace
from inspector.export.feeds import Feeds, Input
from inspector.export.references import Reference, reference
from inspector.export.torch_inputs import Example

if TYPE_CHECKING:
    from onnx import ModelProto

_CHANGES: tuple[Callable[[int], int], ...] = (
    lambda length: 2 * length,
    lambda length: length + 1,
    lambda length: length - 1,
    lambda length: length // 2,
)
"""Other lengths for a free axis: networks that halve images take doubles, tables end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Length:
    """A free axis behind the batch: its name and its length in the example."""

    name: str
    own: int


def seeded(
    call: Callable[..., Any], proto: ModelProto, example: Example, name: str
) -> tuple[Reference, list[str]]:
    """The reference that the exported model is held against, and notes about its lengths.

    Raises
    ------
    inspector.errors.UnreadableError
        An axis is free in the file, and the source takes no length of it but the example's.
    inspector.errors.ExportDisagreesError
        See `inspector.export.verify.reference`.
    Exception
        Whatever the source's own code raises.
    """
    run = torch_trace.runner(call, proto, example)
    given = torch_trace.inputs_of(proto, example)
    try:
        return reference(run, given), []
    except InspectorError:
        raise
    except Exception:  # whatever the source's code raises at lengths that it is not made for
        free = _lengths(proto, example)
        _refuse_fixed_batch(run, _at(given, free, lambda length: length, ()), proto, example, name)
        if not any(each for axes in free for each in axes.values()):
            raise
    names = dict.fromkeys(each.name for axes in free for each in axes.values())
    found = _working(run, given, free, tuple(names))
    if found is None:
        _refuse_fixed(run, given, free, tuple(names), name)
        found = _at(given, free, lambda length: length, tuple(names))
    at = ", ".join(
        f"{axis.name} {inputs.dims[position]}"
        for inputs, axes in zip(found, free, strict=True)
        for position, axis in axes.items()
    )
    return reference(run, found), [f"verified at {at}: the module does not take every length"]


def check_lengths(call: Callable[..., Any], proto: ModelProto, example: Example, name: str) -> None:
    """Refuse free axes that the source has fixed, where nothing else is to be run.

    Raises
    ------
    inspector.errors.UnreadableError
        An axis is free in the file, and the source takes no length of it but the example's.
    """
    run = torch_trace.runner(call, proto, example)
    given = torch_trace.inputs_of(proto, example)
    free = _lengths(proto, example)
    _refuse_fixed_batch(run, _at(given, free, lambda length: length, ()), proto, example, name)
    names = tuple(dict.fromkeys(each.name for axes in free for each in axes.values()))
    if names and _working(run, given, free, names) is None:
        _refuse_fixed(run, given, free, names, name)


def _lengths(proto: ModelProto, example: Example) -> list[dict[int, _Length]]:
    """For each input of the model, its free axes behind the batch."""
    tensors = example.tensors()
    positions = torch_trace.positions(proto, example)
    return [
        {
            axis: _Length(name=dim.dim_param, own=int(tensors[position].shape[axis]))
            for axis, dim in enumerate(given.type.tensor_type.shape.dim)
            if axis and not dim.HasField("dim_value")
        }
        for given, position in zip(proto.graph.input, positions, strict=True)
    ]


def _at(
    given: Sequence[Input],
    free: Sequence[dict[int, _Length]],
    change: Callable[[int], int],
    names: Sequence[str],
) -> tuple[Input, ...]:
    """The inputs with lengths for their free axes: changed where named, else the example's."""
    made = []
    for each, axes in zip(given, free, strict=True):
        dims = list(each.dims)
        for axis, length in axes.items():
            dims[axis] = change(length.own) if length.name in names else length.own
        made.append(replace(each, dims=tuple(dims)))
    return tuple(made)


def _working(
    run: Callable[[Feeds], list[Array]],
    given: Sequence[Input],
    free: Sequence[dict[int, _Length]],
    names: Sequence[str],
) -> tuple[Input, ...] | None:
    """Lengths of the named axes, other than the example's, that the source takes."""
    for change in _CHANGES:
        changed = _at(given, free, change, names)
        if any(length == 0 for each in changed for length in each.dims):
            continue
        if _runs(run, changed):
            return changed
    return None


def _runs(run: Callable[[Feeds], list[Array]], inputs: Sequence[Input]) -> bool:
    try:
        for size in feed.batch_sizes(inputs):
            run(feed.make(inputs, size))
    except Exception:  # noqa: BLE001  # as above: only whether it runs is asked
        return False
    return True


def _refuse_fixed_batch(
    run: Callable[[Feeds], list[Array]],
    given: Sequence[Input],
    proto: ModelProto,
    example: Example,
    name: str,
) -> None:
    """Say so where the source takes the example's batch alone; `given` has its other lengths."""
    tensors = [example.tensors()[at] for at in torch_trace.positions(proto, example)]
    shapes = [tuple(each.shape) for each in tensors]
    fixed = [replace(each, dims=shape) for each, shape in zip(given, shapes, strict=True)]
    if _runs(run, given) or not _runs(run, fixed):
        return
    for each, shape, value in zip(given, shapes, proto.graph.input, strict=True):
        if each.free_batch:
            raise cannot_be_free(value.type.tensor_type.shape.dim[0].dim_param, shape[0], name)


def _refuse_fixed(
    run: Callable[[Feeds], list[Array]],
    given: Sequence[Input],
    free: Sequence[dict[int, _Length]],
    names: Sequence[str],
    name: str,
) -> None:
    for axis in names:
        if _working(run, given, free, [axis]) is None:
            own = next(e.own for axes in free for e in axes.values() if e.name == axis)
            raise cannot_be_free(axis, own, name)


def cannot_be_free(axis: str, length: int, name: str) -> UnreadableError:
    """The error for an axis that was to be free and that the source fixes."""
    return UnreadableError(
        f"axis {axis!r} cannot be free: forward() is made for {length}",
        where=name,
        hint="leave it out of --dynamic; nothing was written",
    )
