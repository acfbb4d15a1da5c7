"""Mutations of protobuf's wire format: what no protobuf library would ever write.

A message is read as a tree of fields (https://protobuf.dev/programming-guides/encoding/), changed
and written again. A field may lie about its length or spell its numbers longer than needed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

VARINT, FIXED64, LEN, BEGIN, END, FIXED32 = range(6)
_WIDTH = {FIXED64: 8, FIXED32: 4}

DEEPEST = 12
"""Levels that are looked into; protobuf itself stops at 100."""

NUMBERS = (
    *(0, 1, 2, 3, 4, 7, 8, 13, 16, 17, 22, 64, 65, 127, 128, 255, 256, 4096),
    *(2**15, 2**16, 2**20, 2**24, 2**28, 2**28 + 1, 2**31 - 1, 2**31, 2**32, 2**33),
    *(2**62, 2**63 - 1, 2**63, 2**64 - 1),
)


@dataclass(slots=True)
class Field:
    """A field; `lie` is added to the length that it states, `extra` bytes to its numbers."""

    number: int
    kind: int
    value: int | bytes | list[Field]
    lie: int = 0
    extra: int = 0


def parse(data: bytes, depth: int = 0) -> list[Field] | None:
    """The fields of a message; None where these bytes are none."""
    found, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if at < 0 or number == 0:
            return None
        value: int | bytes | list[Field]
        if kind == VARINT:
            value, at = _read_varint(data, at)
            if at < 0:
                return None
        elif kind in _WIDTH:
            value, at = data[at : at + _WIDTH[kind]], at + _WIDTH[kind]
        elif kind == LEN:
            length, at = _read_varint(data, at)
            if at < 0 or at + length > len(data):
                return None
            value, at = data[at : at + length], at + length
            inner = parse(value, depth + 1) if value and depth < DEEPEST else None
            value = value if inner is None else inner
        elif kind in (BEGIN, END):
            value = b""
        else:
            return None
        found.append(Field(number, kind, value))
    return found if at == len(data) else None


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends; -1 for the end of one that is cut off or too long."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return 0, -1
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return 0, -1


def serialise(fields: list[Field]) -> bytes:
    return b"".join(map(_written, fields))


def _written(field: Field) -> bytes:
    tag = varint(field.number << 3 | field.kind, field.extra)
    value = field.value
    if isinstance(value, int):
        return tag + varint(value, field.extra)
    content = serialise(value) if isinstance(value, list) else value
    if field.kind != LEN:
        return tag + content
    return tag + varint(max(0, len(content) + field.lie), field.extra) + content


def varint(value: int, extra: int = 0) -> bytes:
    """A number of at most 64 bits; `extra` bytes longer than needed."""
    value &= 2**64 - 1
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    for _ in range(extra):
        written[-1] |= 0x80
        written.append(0)
    return bytes(written)


def field(number: int, content: bytes) -> bytes:
    """One field that holds `content`."""
    return varint(number << 3 | LEN) + varint(len(content)) + content


# --- mutations


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The message with one to four of its fields changed; the bytes as they are if it is none."""
    fields = parse(data)
    if not fields:
        return data
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        lists = list(_lists(fields))
        siblings = dice.choice(lists)
        if siblings:
            dice.choice(_CHANGES)(siblings, dice.randrange(len(siblings)), dice)
    return serialise(fields)


def crossed(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """A field of `other` among the fields of `data`, beside its like where there is one."""
    fields, donors = parse(data), parse(other)
    if not fields or not donors:
        return data
    given = dice.choice([each for siblings in _lists(donors) for each in siblings])
    lists = [each for each in _lists(fields) if each]
    alike = [each for each in lists if any(one.number == given.number for one in each)]
    siblings = dice.choice(alike or lists)
    siblings.insert(dice.randrange(len(siblings) + 1), given)
    return serialise(fields)


def _lists(fields: list[Field]) -> Iterator[list[Field]]:
    """Every list of sibling fields of a message, the outermost first."""
    pending = [fields]
    while pending:
        siblings = pending.pop()
        yield siblings
        pending += [each.value for each in siblings if isinstance(each.value, list)]


def _set_number(siblings: list[Field], at: int, dice: random.Random) -> None:
    """A varint becomes an interesting one, or one off; elsewhere a byte changes."""
    one = siblings[at]
    if isinstance(one.value, int):
        step = dice.choice((-1, 1))
        one.value = dice.choice((dice.choice(NUMBERS), (one.value + step) % 2**64))
    elif isinstance(one.value, bytes) and one.value:
        changed = bytearray(one.value)
        changed[dice.randrange(len(changed))] = dice.choice((0, 0x7F, 0x80, 0xFF, 0xE2, 0x1B, 0x0A))
        one.value = bytes(changed)


def _repeat(siblings: list[Field], at: int, dice: random.Random) -> None:
    siblings[at:at] = [siblings[at]] * dice.choice((1, 1, 2, 5, 40))


def _drop(siblings: list[Field], at: int, dice: random.Random) -> None:
    del siblings[at]


def _move(siblings: list[Field], at: int, dice: random.Random) -> None:
    siblings.insert(dice.randrange(len(siblings)), siblings.pop(at))


def _renumber(siblings: list[Field], at: int, dice: random.Random) -> None:
    number = dice.choice((dice.randrange(1, 26), dice.randrange(1, 26), 100, 2**29 - 1))
    siblings[at] = replace(siblings[at], number=number)


def _lie(siblings: list[Field], at: int, dice: random.Random) -> None:
    """A length that is not so: a little off, the whole file, more than there is memory."""
    lie = dice.choice((-1, 1, 2, -2, 100, 2**20, 2**31, 2**40, 2**62))
    siblings[at] = replace(siblings[at], lie=lie)


def _lengthen(siblings: list[Field], at: int, dice: random.Random) -> None:
    siblings[at] = replace(siblings[at], extra=dice.choice((1, 2, 5, 9)))


def _retype(siblings: list[Field], at: int, dice: random.Random) -> None:
    one = siblings[at]
    flat = serialise([one])[1:9].ljust(8, b"\0")
    kind = dice.randrange(8)
    match kind:
        case 0:
            siblings[at] = Field(one.number, VARINT, dice.choice(NUMBERS))
        case 1 | 5:
            siblings[at] = Field(one.number, kind, flat[: _WIDTH[kind]])
        case 2:
            siblings[at] = Field(one.number, LEN, flat[: dice.randrange(9)])
        case _:
            siblings[at] = Field(one.number, kind, b"")


def _group(siblings: list[Field], at: int, dice: random.Random) -> None:
    """Proto2's groups, which ONNX never uses and parsers must skip: closed, open, misclosed."""
    number = siblings[at].number
    depth = dice.choice((1, 1, 3, 120))
    siblings[at:at] = [Field(number, BEGIN, b"")] * depth
    if dice.random() < 0.7:
        end = at + depth + dice.randrange(2)
        siblings[end:end] = [Field(number + dice.choice((0, 0, 1)), END, b"")] * depth


def _cut(siblings: list[Field], at: int, dice: random.Random) -> None:
    one = siblings[at]
    if one.kind == LEN:
        content = serialise([one])
        siblings[at] = Field(one.number, LEN, content[2 : dice.randrange(2, len(content) + 2)])


def _deepen(siblings: list[Field], at: int, dice: random.Random) -> None:
    """A field inside itself, again and again."""
    one = siblings[at]
    if one.kind == LEN:
        content = serialise([one])
        for _ in range(dice.choice((1, 3, 30, 110))):
            content = field(one.number, content)
        siblings[at] = Field(one.number, LEN, content)


_CHANGES = (
    *(_set_number, _set_number, _set_number, _repeat, _drop, _move),
    *(_renumber, _lie, _lengthen, _retype, _group, _cut, _deepen),
)
