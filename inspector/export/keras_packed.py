"""Variables that are stored in another form: proved bit for bit, and said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.export import protos

if TYPE_CHECKING:
    from onnx import ModelProto

_GATES = (0, 3, 1, 2)
"""Keras has an LSTM's gates as i, f, c, o; ONNX as i, o, f, c
(https://onnx.ai/onnx/operators/onnx__LSTM.html)."""
_BESIDE = "beside others, its gates in ONNX's order"
_IN_ROWS = "row by row"
_SMALLEST = 1e-7
"""Keras' epsilon, below which it lets no standard deviation fall."""


@dataclass(slots=True, kw_only=True, eq=False)
class Packed:
    """What was found.

    `tied` are initializers that hold one variable, `suffixes` what to add to the names of those
    that hold a function of it. `elsewhere` are the initializers that hold a variable beside others
    or in parts, and how, by the variable's id.
    """

    tied: dict[str, Any] = field(default_factory=dict)
    suffixes: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[int, tuple[tuple[str, ...], str]] = field(default_factory=dict)


def packed(
    proto: ModelProto,
    left: Mapping[str, Any],
    unread: Mapping[str, Sequence[Any]],
    tied: Mapping[str, Any],
    value: Callable[[Any], Array],
) -> Packed:
    """Find variables in initializers that `keras_names.tie` could not tie to any.

    Parameters
    ----------
    left
        Variables that the graph reads and that are tied to nothing, by their constants' names.
    unread
        Variables that the graph does not read, by the scopes that their layers compute in: a layer
        may have computed constants from them beforehand.
    tied
        What is tied already.
    """
    found = Packed()
    _of_recurrent(proto, list(left.values()), tied, value, found)
    _of_constants(proto, unread, tied, value, found)
    return found


def _of_recurrent(
    proto: ModelProto,
    left: Sequence[Any],
    tied: Mapping[str, Any],
    value: Callable[[Any], Array],
    found: Packed,
) -> None:
    waiting = [(each, value(each)) for each in left]
    held = protos.initializers(proto)
    for node in protos.nodes(proto):
        if node.op_type != "LSTM":
            continue
        for part, name in enumerate(node.input[1:4]):
            if name not in held or name in tied or name in found.tied:
                continue
            stored = protos.array(held[name])
            owners = []
            for direction in stored:
                owner = _owner(direction, bias=part == 2, waiting=waiting)
                owners.append(owner)
                waiting = [each for each in waiting if each[0] is not owner]
            if len(owners) == 1 and owners[0] is not None:
                found.tied[name] = owners[0]
            elif len(owners) > 1:
                found.elsewhere.update(
                    {id(each): ((name,), _BESIDE) for each in owners if each is not None}
                )
    _in_rows(proto, waiting, {*tied, *found.tied}, found)


def _in_rows(
    proto: ModelProto,
    waiting: Sequence[tuple[Any, Array]],
    tied: Collection[str],
    found: Packed,
) -> None:
    """The two biases of a GRU: Keras has one variable for both, and takes it apart."""
    rows: dict[bytes, str] = {}
    for name, tensor in protos.initializers(proto).items():
        if name not in tied and protos.is_float(tensor) and len(tensor.dims):
            rows.setdefault(protos.array(tensor).tobytes(), name)
    for variable, values in waiting:
        if values.ndim == 2 and len(values) == 2:
            names = [rows.get(each.tobytes()) for each in np.ascontiguousarray(values)]
            if None not in names:
                found.elsewhere[id(variable)] = (tuple(map(str, names)), _IN_ROWS)


def _owner(direction: Array, *, bias: bool, waiting: Sequence[tuple[Any, Array]]) -> Any:
    """The first variable that a direction of an LSTM's weights holds, or None."""
    for variable, values in waiting:
        if bias and direction.shape == (2 * values.size,) and values.ndim == 1:
            # ONNX has a bias of its own for the state: zeros.
            wanted = np.concatenate([_reordered(values), np.zeros_like(values)])
        elif not bias and values.shape == direction.shape[::-1] and values.ndim == 2:
            wanted = _reordered(values).T
        else:
            continue
        if np.ascontiguousarray(wanted.astype(direction.dtype)).tobytes() == direction.tobytes():
            return variable
    return None


def _reordered(values: Array) -> Array:
    parts = np.split(values, 4, axis=-1)
    return np.concatenate([parts[gate] for gate in _GATES], axis=-1)


def _of_constants(
    proto: ModelProto,
    unread: Mapping[str, Sequence[Any]],
    tied: Mapping[str, Any],
    value: Callable[[Any], Array],
    found: Packed,
) -> None:
    for name, tensor in protos.initializers(proto).items():
        variables = [
            each for scope, some in unread.items() if name.startswith(f"{scope}/") for each in some
        ]
        if not variables or name in tied or not protos.is_float(tensor):
            continue
        stored = protos.array(tensor)
        matches = [
            (variable, suffix)
            for variable in variables
            for suffix, values in _forms(value(variable))
            if values.size == stored.size and _bits(values, stored) == stored.tobytes()
        ]
        if matches:
            taken = {id(each) for each in found.tied.values()}
            # Of equal ones each in its turn; what all have had is a call of the layer again.
            first = next((each for each in matches if id(each[0]) not in taken), matches[0])
            found.tied[name], found.suffixes[name] = first


def _forms(values: Array) -> Iterator[tuple[str, Array]]:
    # A single 0 or 1 is anywhere.
    if values.dtype.kind == "f" and (values.size > 1 or not np.isin(values, (0, 1)).any()):
        yield "", values
        if (values >= 0).all():
            yield "/root", np.maximum(np.sqrt(values), np.asarray(_SMALLEST, values.dtype))


def _bits(values: Array, stored: Array) -> bytes:
    return values.astype(stored.dtype).tobytes()
