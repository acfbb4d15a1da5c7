"""Models in ONNX's text forms: opened by their extension, as onnx itself does it.

https://onnx.ai/onnx/repo-docs/Syntax.html and ``onnx/serialization.py``.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from inspector.errors import UnreadableError
from inspector.read.plaintext import ONNX_TEXTS, decoded, name_pointer, onnx_text
from inspector.read.signatures import HEAD, name_head

if TYPE_CHECKING:
    import onnx

TEXT_LIMIT = 64 * 2**20
"""The longest text that is parsed, in bytes: the parsers take far more memory than that."""

_DEEPEST = 100
"""Brackets within brackets; protobuf itself reads no message nested deeper than this."""

_EXTENSIONS = {
    **dict.fromkeys((".onnxtxt", ".onnxtext"), "onnxtxt"),
    **dict.fromkeys((".txtpb", ".textproto", ".prototxt", ".pbtxt"), "textproto"),
    **dict.fromkeys((".json", ".onnxjson"), "json"),
}
_NO_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|#[^\n]*|[^(){}\[\]"#]+', re.DOTALL)
_STEPS = bytes.maketrans(b"({[)}]", b"\x01\x01\x01\xff\xff\xff")


def text_kind(path: Path) -> str | None:
    """Which text form a file has by its extension: "onnxtxt", "textproto", "json", or none."""
    return _EXTENSIONS.get(path.suffix.lower())


def parse_text(data: bytes, kind: str, where: str) -> onnx.ModelProto:
    """A model from one of ONNX's text forms.

    Parameters
    ----------
    data
        The whole file, or more than `TEXT_LIMIT` bytes of one that is too long.
    kind
        What `text_kind` says.

    Raises
    ------
    inspector.errors.UnreadableError
        It is something else, too long or too deep, or the parser refuses it: the message has
        the parser's own reason, with its line and column. Or there is no graph in it.
    """
    form = ONNX_TEXTS[kind][0]
    if len(data) > TEXT_LIMIT:
        raise UnreadableError(
            f"longer than {TEXT_LIMIT:,} bytes, which is all that is read of a text",
            where=where,
            hint="save it as a binary .onnx file",
        )
    text = _text(data, form, where)
    if kind == "onnxtxt" and _depth(text) > _DEEPEST:
        # onnx's own parser recurses without a limit, and takes the process down with it.
        raise UnreadableError(
            f"its brackets are nested deeper than {_DEEPEST}",
            where=where,
            hint="check that it is the model you meant",
        )
    try:
        proto = _PARSERS[kind](text)
    except Exception as error:  # noqa: BLE001  # four parsers, and what they raise is not written down
        raise UnreadableError(
            f"not an ONNX model in {form}: {_reason(error)}",
            where=where,
            hint=_hint(text, kind, where),
        ) from None
    if not proto.HasField("graph"):
        raise UnreadableError(
            f"not an ONNX model in {form}: it holds no graph",
            where=where,
            hint=_hint(text, kind, where),
        )
    return proto


def _text(data: bytes, form: str, where: str) -> str:
    head = data[:HEAD]
    begin = decoded(head, whole=len(data) <= HEAD)
    # In a text file the pointers alone are worth a name before its own parser has spoken.
    named = name_head(head, where, len(data)) if begin is None else name_pointer(begin)
    if named is not None:
        raise UnreadableError(f"this is {named[0]}", where=where, hint=named[1])
    try:
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"not {form}: byte {error.start:,} is no text",
            where=where,
            hint="if it is a binary ONNX model, rename it to .onnx",
        ) from None


def _depth(text: str) -> int:
    """How deep brackets are nested; never less than the parser's own count.

    Strings and comments are left out as ``onnx/defs/parser.h`` leaves them out. A bracket that
    closes nothing makes the parser stop, so that what comes after it does not matter.
    """
    brackets = _NO_BRACKETS.sub(b"", text.encode(errors="replace"))
    return max(accumulate(array("b", brackets.translate(_STEPS))), default=0)


def _onnxtxt(text: str) -> onnx.ModelProto:
    import onnx.parser

    return onnx.parser.parse_model(text)


def _textproto(text: str) -> onnx.ModelProto:
    from google.protobuf import text_format

    from inspector.read.protos import ModelProto

    proto: ModelProto = text_format.Parse(text, ModelProto())
    return proto


def _json(text: str) -> onnx.ModelProto:
    from google.protobuf import json_format

    from inspector.read.protos import ModelProto

    proto: ModelProto = json_format.Parse(text, ModelProto())
    return proto


_PARSERS: dict[str, Callable[[str], onnx.ModelProto]] = {
    "onnxtxt": _onnxtxt,
    "textproto": _textproto,
    "json": _json,
}


def _reason(error: Exception) -> str:
    """One line of what a parser says."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    said = error.args[0] if error.args else type(error).__name__
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    if found := re.match(r"\[ParseError at position \(line: (\d+) column: (\d+)\)\]", text):
        # The line in between is the context: all of a line, however long.
        text = f"line {found[1]}, column {found[2]}: {text.splitlines()[-1]}"
    elif found := re.match(r"(\d+):(\d+) : ", text):
        text = f"line {found[1]}, column {found[2]}: {text[found.end() :]}"
    elif text in {"stoll", "stoull"}:
        text = "a number in it is too large"
    line = " ".join(text.split("\n Available Fields")[0].split()).rstrip(". ")
    return line if len(line) <= 200 else f"{line[:200]}…"


def _hint(text: str, kind: str, where: str) -> str:
    other = onnx_text(text[:HEAD])
    if other is None or other == kind:
        return "check that it is the model you meant"
    form, extension = ONNX_TEXTS[other]
    return f"it looks like {form}: rename it to {Path(where).with_suffix(extension).name}"
