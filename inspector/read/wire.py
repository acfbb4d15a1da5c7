"""Walk a serialised model at the wire level, past the data of its tensors.

What comes out is a skeleton: the same ModelProto for the official parser, in which each large
tensor has become external data under a name that no file can know, numbered in the order of the
file. The data stays where it lies; a field is skipped by its length alone
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from google.protobuf.message import DecodeError

from inspector.errors import UnreadableError
from inspector.read.fields import END, FIXED32, FIXED64, GROUP, LEN, VARINT
from inspector.read.protos import TensorProto

KEPT_WHOLE = 4096
"""Bytes up to which a message goes into the skeleton as it is: below, there is nothing to save."""

DEEPEST = 100
"""Messages within messages, as far as protobuf's own parsers go."""

MOST_FIELDS = 5_000_000
"""Fields looked at, ten times those of the largest graphs known: each one costs a microsecond."""

_NARROW, _WIDE = 4096, 2**18
"""Bytes read at once: little behind a field that was skipped, more where fields lie close."""

_LONGEST_HEADER = 20
"""Bytes of two varints: a field's number and type, and its length."""

_TENSOR = "TensorProto"

MESSAGES: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: _TENSOR, 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: _TENSOR,
        6: "GraphProto",
        10: _TENSOR,
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
}
"""Fields through which a message of ONNX can reach a tensor, by number.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; a test holds this against the
descriptors of the installed onnx.
"""

_MODEL_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})

_FLOAT_DATA, _STRING_DATA, _RAW_DATA, _DOUBLE_DATA = 4, 6, 9, 10
_DATA_FIELDS = frozenset({_FLOAT_DATA, 5, _STRING_DATA, 7, _RAW_DATA, _DOUBLE_DATA, 11})
_DOC_STRING = 12

_LISTS = frozenset({7, 8, 9})
"""Fields of an AttributeProto that repeat: floats, ints, strings."""

_FIRST_FIELDS = 8
"""How far to look for them: writers put them behind the name, in the order of their numbers."""

_WIDTHS = {_FLOAT_DATA: 4, _DOUBLE_DATA: 8}
"""Bytes of an entry; all others are varints."""

_CONTINUED = bytes(range(128, 256))
"""Bytes after which a varint goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Where the data of a large tensor lies in the model's own file, in bytes.

    `plain`: the stretch is the values themselves, in little-endian order as ``raw_data`` holds
    them. Otherwise it is the whole TensorProto, whose fields only the official parser decodes:
    `entries` counts what each of them holds, by its number (of ``raw_data``, the bytes).
    """

    offset: int
    length: int
    plain: bool
    entries: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skeleton:
    """A serialised ModelProto without the data of its large tensors.

    Each of these names `token` as the location of its data, and as the offset its position in
    `embedded`. No file can name it: it is drawn anew at every opening.
    """

    data: bytes
    token: str
    embedded: tuple[Embedded, ...]


class Readable(Protocol):
    """Gives stretches of a file."""

    def read(self, offset: int, length: int) -> bytes: ...


def skeleton(file: Readable, size: int, where: str, *, above: int = KEPT_WHOLE) -> Skeleton:
    """Walk a model of `size` bytes.

    Parameters
    ----------
    above
        Bytes above which a message is walked into, and a tensor's data left out.

    Raises
    ------
    inspector.errors.UnreadableError
        The file is cut off, or its bytes do not make messages; the message says at which byte.
    """
    walk = _Walk(file, size, where, above)
    data = walk.message("ModelProto", 0, size, depth=1)
    return Skeleton(data=data, token=walk.token, embedded=tuple(walk.embedded))


class _Walk:
    def __init__(self, file: Readable, size: int, where: str, above: int) -> None:
        self.token = os.urandom(16).hex()
        self.embedded: list[Embedded] = []
        self._file = file
        self._size = size
        self._where = where
        self._above = above
        self._seen = 0
        self._groups = 0

    def message(self, name: str, start: int, end: int, *, depth: int) -> bytes:
        """The message between two bytes, with each large tensor in it made a stub."""
        if depth > DEEPEST:
            raise self._damaged(start, f"lies more than {DEEPEST} messages deep")
        if name == "AttributeProto" and self._lists(start, end):
            return self._file.read(start, end - start)
        children = MESSAGES[name]
        parts: list[bytes] = []
        kept_from = start
        found = self._fields(start, end, self._above, top=depth == 1)
        for number, wire, at, payload, after in found:
            child = children.get(number)
            if child is None or wire != LEN:
                continue
            parts.append(self._file.read(kept_from, at - kept_from))
            inner = (
                self._tensor(payload, after)
                if child == _TENSOR
                else self.message(child, payload, after, depth=depth + 1)
            )
            parts += (_varint(number << 3 | LEN), _varint(len(inner)), inner)
            kept_from = after
        parts.append(self._file.read(kept_from, end - kept_from))
        return b"".join(parts)

    def _lists(self, start: int, end: int) -> bool:
        """Whether an attribute lists numbers or strings: each is a field, and there are millions.

        Such an attribute holds no tensor; if against the rules it does, that is read with it.
        """
        first = islice(self._fields(start, end, -1), _FIRST_FIELDS)
        return any(number in _LISTS for number, *_ in first)

    def _tensor(self, start: int, end: int) -> bytes:
        """A TensorProto whose data, if it has any, is left where it lies."""
        kept: list[bytes] = []
        data: list[tuple[int, int, int]] = []
        for number, wire, at, payload, after in self._fields(start, end, -1):
            if number in _DATA_FIELDS:
                if wire != LEN or number == _STRING_DATA:
                    # A field an element: the official parser is a hundred times faster at these.
                    return self._file.read(start, end - start)
                data.append((number, payload, after))
            elif number != _DOC_STRING:
                kept.append(self._file.read(at, after - at))
        try:
            stub = TensorProto.FromString(b"".join(kept))
        except DecodeError:
            raise self._damaged(start, "begins a tensor that does not parse") from None
        if data and stub.data_location != TensorProto.EXTERNAL:
            self._point_to(stub, data, start, end)
        return bytes(stub.SerializeToString())

    def _point_to(
        self, stub: TensorProto, data: list[tuple[int, int, int]], start: int, end: int
    ) -> None:
        number, payload, after = data[0]
        plain = len(data) == 1 and (
            number == _RAW_DATA
            or (number == _FLOAT_DATA and stub.data_type == TensorProto.FLOAT)
            or (number == _DOUBLE_DATA and stub.data_type == TensorProto.DOUBLE)
        )
        del stub.external_data[:]
        stub.data_location = TensorProto.EXTERNAL
        stub.external_data.add(key="location", value=self.token)
        stub.external_data.add(key="offset", value=str(len(self.embedded)))
        if plain:
            embedded = Embedded(offset=payload, length=after - payload, plain=True)
        else:
            entries = self._entries(data)
            embedded = Embedded(offset=start, length=end - start, plain=False, entries=entries)
        self.embedded.append(embedded)

    def _entries(self, data: list[tuple[int, int, int]]) -> dict[int, int]:
        """How many entries the packed fields of a tensor hold."""
        found: dict[int, int] = {}
        for number, payload, after in data:
            if number == _RAW_DATA:
                found[number] = after - payload  # the last one counts; the others add up
                continue
            width = _WIDTHS.get(number)
            held = (after - payload) // width if width else self._varints(payload, after)
            found[number] = found.get(number, 0) + held
        return found

    def _varints(self, start: int, end: int) -> int:
        """How many varints a stretch holds: as many as it has bytes that end one."""
        count = 0
        for at in range(start, end, _WIDE):
            part = self._file.read(at, min(_WIDE, end - at))
            count += len(part.translate(None, _CONTINUED))
        return count

    def _fields(
        self, start: int, end: int, above: int, *, top: bool = False, in_group: bool = False
    ) -> Iterator[tuple[int, int, int, int, int]]:
        """Fields of more than `above` bytes, as number, wire type, start, payload and end.

        Within a group the field that ends it comes last.
        """
        base, data, step = start, b"", _NARROW
        at = start
        while at < end:
            read_to = base + len(data)
            if at + _LONGEST_HEADER > read_to < end:
                step = min(2 * step, _WIDE) if at <= read_to else _NARROW
                base, data = at, self._file.read(at, min(step, end - at))
            try:
                key, payload = _decoded(data, at - base)
                wire = key & 7
                if wire == LEN:
                    length, payload = _decoded(data, payload)
                    payload += base
                    after = payload + length
                elif wire == VARINT:
                    payload += base
                    after = base + _decoded(data, payload - base)[1]
                elif wire in (FIXED32, FIXED64):
                    payload += base
                    after = payload + (4 if wire == FIXED32 else 8)
                elif wire == GROUP:
                    payload += base
                    after = self._end_of_group(key >> 3, payload, end)
                elif wire == END and in_group:
                    yield key >> 3, wire, at, base + payload, base + payload
                    return
                else:
                    raise self._damaged(at, f"begins a field of wire type {wire}, unknown to ONNX")
            except IndexError:
                raise self._beyond(at, end + 1, end, top) from None
            except OverflowError:
                raise self._damaged(at, "begins no field") from None
            if not 0 < key >> 3 < 2**29:
                raise self._damaged(at, "begins no field")
            if after > end:
                raise self._beyond(at, after, end, top and key >> 3 in _MODEL_FIELDS)
            self._seen += 1
            if self._seen > MOST_FIELDS:
                raise self._too_many()
            if after - payload > above:
                yield key >> 3, wire, at, payload, after
            at = after

    def _end_of_group(self, number: int, start: int, end: int) -> int:
        """Where a group ends: an old way to nest, which ONNX never used and parsers skip."""
        self._groups += 1
        if self._groups > DEEPEST:
            raise self._damaged(start, f"lies more than {DEEPEST} messages deep")
        for inner, wire, at, _, after in self._fields(start, end, -1, in_group=True):
            if wire == END:
                if inner != number:
                    raise self._damaged(at, "ends a group that did not begin")
                self._groups -= 1
                return after
        raise self._damaged(start, "begins a group without an end")

    def _beyond(self, at: int, after: int, end: int, cut_off: bool) -> UnreadableError:
        """A field that ends behind what holds it: a model's own, where the file is cut off."""
        if cut_off:
            return UnreadableError(
                f"cut off: it ends at byte {self._size:,} of {after:,} or more",
                where=self._where,
                hint="copy, download or export it again",
            )
        return self._damaged(at, f"begins a field that would end {after - end:,} bytes too late")

    def _too_many(self) -> UnreadableError:
        return UnreadableError(
            f"more than {MOST_FIELDS:,} fields beside its tensors: no model is that large",
            where=self._where,
        )

    def _damaged(self, at: int, what: str) -> UnreadableError:
        return UnreadableError(
            f"not an ONNX model, or damaged: byte {at:,} of {self._size:,} {what}",
            where=self._where,
            hint="compare its size with the original, and copy or export it again",
        )


def _decoded(data: bytes, at: int) -> tuple[int, int]:
    """A varint and where it ends.

    Raises
    ------
    IndexError
        The data ends before the varint does.
    OverflowError
        It has more than ten bytes, or more than 64 bits.
    """
    value = data[at]
    at += 1
    if value < 128:
        return value, at
    value &= 127
    for shift in range(7, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >= 2**64:
                break
            return value, at
    raise OverflowError


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
