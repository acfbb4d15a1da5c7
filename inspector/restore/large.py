"""Restore what one ONNX file cannot hold: large tensors stay where they lie until the end.

While nodes are changed, each of them is a number that stands for it, drawn anew each time, so that
no tensor of a file can be taken for one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.facts.model import Model
from inspector.read.data import is_outside
from inspector.read.protos import ModelProto, TensorProto
from inspector.read.tensors import tensors_of
from inspector.read.weights import ProtoWeights
from inspector.recognise.operators import FLOAT_TYPES
from inspector.write.large import prepared
from inspector.write.save import save
from inspector.write.splice import Splice

LARGE = 1_500_000_000
"""Bytes above which the weights go into a file beside the model, as when exporting."""

_HEAVY = 2**16
"""Bytes from which a tensor is kept out."""

Fill = Callable[[ModelProto], None]


def is_large(model: Model) -> bool:
    """Whether a model with its data is too large to be written as one file."""
    weights = model.weights
    if not isinstance(weights, ProtoWeights):
        return False
    outside = (each for each in tensors_of(weights.proto) if is_outside(each))
    size = weights.proto.ByteSize() + sum(weights.data.length_outside(each) for each in outside)
    return bool(size > LARGE)


def splice_of(model: Model) -> Splice:
    """A splice that takes models of any size.

    Raises
    ------
    inspector.errors.UndecidedError, inspector.errors.UnreadableError
        See `inspector.write.splice.Splice`.
    """
    return LargeSplice(model) if is_large(model) else Splice(model)


class LargeSplice(Splice):
    """A splice whose large tensors are numbers until `fill` puts their bytes in.

    Raises
    ------
    inspector.errors.UndecidedError, inspector.errors.UnreadableError
        See `inspector.write.splice.Splice`.
    """

    def __init__(self, model: Model) -> None:
        weights = model.weights
        assert isinstance(weights, ProtoWeights)  # else it is not large
        self._data = weights.data
        self._first = secrets.randbits(62)
        self._stubs: dict[int, TensorProto] = {}
        self._arrays: dict[int, NDArray[Any]] = {}
        self._numbers: dict[str, int] = {}
        hollow = ModelProto()
        hollow.CopyFrom(weights.proto)
        if not model.missing_data:
            self._hollow_out(hollow)
        super().__init__(replace(model, weights=ProtoWeights(hollow, weights.data)))

    def _hollow_out(self, proto: ModelProto) -> None:
        for tensor in proto.graph.initializer:
            if not is_outside(tensor) or self._data.length_outside(tensor) < _HEAVY:
                continue
            number = self._first + len(self._stubs)
            stub = TensorProto()
            stub.CopyFrom(tensor)
            self._stubs[number] = stub
            self._numbers[tensor.name] = number
            tensor.CopyFrom(_stored(_standing_for(number), tensor.name))

    def tensor(self, key: Hashable, wanted: str, values: NDArray[Any]) -> str:
        """See `inspector.write.splice.Splice`."""
        if values.nbytes < _HEAVY:
            return super().tensor(key, wanted, values)
        number = self._numbers.get(wanted)
        if number is None or not self._is_stored(number, values):
            # Far behind those of the tensors that are there.
            number = self._first + 2**40 + len(self._arrays)
            self._arrays[number] = values
        return super().tensor(key, wanted, _standing_for(number))

    def _is_stored(self, number: int, values: NDArray[Any]) -> bool:
        """Whether the model holds these very values under that name already."""
        stub = self._stubs[number]
        if tuple(stub.dims) != values.shape:
            return False
        same = _TYPES.get(values.dtype.name) == stub.data_type
        return same and bool(self._data.filled(stub).raw_data == values.tobytes())

    def fill(self, proto: ModelProto) -> None:
        """Put the bytes of large tensors in the place of the numbers."""
        for tensor, number in _numbered(proto):
            name = tensor.name
            if number in self._stubs:
                tensor.CopyFrom(self._data.filled(self._stubs[number]))
            elif number in self._arrays:
                tensor.CopyFrom(_stored(self._arrays[number], name))
            tensor.name = name


def _standing_for(number: int) -> NDArray[Any]:
    return np.array([number], dtype=np.uint64)


def _stored(values: NDArray[Any], name: str) -> TensorProto:
    """A tensor of these values; they are little-endian wherever ONNX Runtime runs."""
    return TensorProto(
        name=name,
        data_type=_TYPES[values.dtype.name],
        dims=values.shape,
        raw_data=values.tobytes(),
    )


_TYPES = {"uint64": int(TensorProto.UINT64)} | {each: at for at, each in FLOAT_TYPES.items()}
"""ONNX's numbers of the types that are written here, by their names."""


def _numbered(proto: ModelProto) -> Iterator[tuple[TensorProto, int]]:
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.UINT64 and list(tensor.dims) == [1]:
            yield tensor, int.from_bytes(tensor.raw_data, "little")


def write(data: bytes, fill: Fill | None, path: Path) -> int:
    """Write a changed model, with its weights beside it where it is large; bytes of all.

    Raises
    ------
    inspector.errors.UsageError, inspector.errors.UnreadableError
        See `inspector.write.save.save`.
    """
    if fill is None:
        save(data, path)
        return len(data)
    proto = ModelProto()
    proto.ParseFromString(data)
    fill(proto)
    with prepared(proto, path) as made:
        size = made.rewrite(proto)
        made.place()
    return size
