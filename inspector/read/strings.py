"""Strings of a protobuf message, whatever bytes they hold."""

from __future__ import annotations

from collections.abc import Iterable


def text(field: str | bytes) -> str:
    """A string field as text; bytes that are no UTF-8 are written out as escapes.

    ONNX's messages are proto2, whose strings are not checked on parsing: protobuf hands invalid
    ones out as bytes (https://protobuf.dev/programming-guides/encoding/#structure).
    """
    return field.decode("utf-8", "backslashreplace") if isinstance(field, bytes) else str(field)


def texts(fields: Iterable[str | bytes]) -> tuple[str, ...]:
    """String fields as text, each as `text`."""
    return tuple(map(text, fields))
