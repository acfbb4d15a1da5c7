"""Protobuf's wire format, as far as it tells messages from other bytes and from each other.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LEN, GROUP, END, FIXED32 = range(6)

_TAG_BYTES, _VARINT_BYTES = 5, 10
_FIXED = {FIXED64: 8, FIXED32: 4}


class NotAMessage(ValueError):  # noqa: N818  # no failure: one of two answers
    """These bytes cannot be the beginning of any protobuf message."""


def may_be_message(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` may be a protobuf message.

    ``False`` is certain: the parser of protobuf would refuse the file too. ``True`` is not, for
    protobuf takes fields that a message does not have, and most of a file is not seen here. So
    a signature may only be believed where this says ``False``.
    """
    at, groups = 0, list[int]()
    try:
        while at < len(head):
            tag, at = _varint(head, at, size, _TAG_BYTES)
            number, wire = tag >> 3, tag & 7
            # Inside a group that it does not know, protobuf does not look at the number.
            if (number == 0 and not groups) or number >= 1 << 29:
                return False
            match wire:
                case 0:
                    _, at = _varint(head, at, size, _VARINT_BYTES)
                case 1 | 5:
                    at += _FIXED[wire]
                case 2:
                    length, at = _varint(head, at, size, _TAG_BYTES)
                    at += length
                case 3:
                    groups.append(number)
                case 4:
                    if not groups or groups.pop() != number:
                        return False
                case _:
                    return False
            if at > size:
                return False
    except NotAMessage:
        return False
    except IndexError:
        # The head ends within a number: the rest of the file would tell.
        return True
    return at < size or not groups


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Number, wire type and value of each field; what is cut off at the end is given as it is.

    Raises
    ------
    NotAMessage
        The bytes are no message, or one with groups, which ONNX and its neighbours do not have.
    """
    at = 0
    try:
        while at < len(data):
            tag, at = _varint(data, at, len(data) + 1, _TAG_BYTES)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                raise NotAMessage
            if wire == VARINT:
                value, at = _varint(data, at, len(data) + 1, _VARINT_BYTES)
                yield number, wire, value
                continue
            if wire == LEN:
                length, at = _varint(data, at, len(data) + 1, _TAG_BYTES)
            elif wire in _FIXED:
                length = _FIXED[wire]
            else:
                raise NotAMessage
            yield number, wire, data[at : at + length]
            at += length
    except IndexError:
        return


def _varint(data: bytes, at: int, size: int, longest: int) -> tuple[int, int]:
    value = 0
    for index in range(longest):
        if at + index >= size:
            raise NotAMessage
        byte = data[at + index]
        value |= (byte & 127) << (7 * index)
        if byte < 128:
            return value, at + index + 1
    raise NotAMessage
