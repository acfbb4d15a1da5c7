"""Say what a file is when it is not a binary ONNX model, before any parser sees it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from inspector.errors import UnreadableError

HEAD = 512
"""How many bytes the signatures below look at."""

PROTOBUF_LIMIT = 2**31 - 1

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the model itself",
        "run `git lfs pull` in its repository",
    ),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5)", "export it: `bninspect export keras`"),
    (b"PK\x03\x04", "a zip archive (.keras, .pt and .pth are such)", "export the model first"),
    (b"\x00\x05\x16\x07", "an AppleDouble file of macOS metadata", "use the file it belongs to"),
    (b"GGUF", "a GGUF model", "bninspect reads ONNX"),
    (b"<?xml", "an XML file (OpenVINO's .xml is such)", "bninspect reads ONNX"),
)


def check_is_file(path: Path) -> int:
    """Size in bytes of a regular, readable, non-empty file.

    Raises
    ------
    inspector.errors.UnreadableError
        It is missing, empty, a folder, a device, a socket or a pipe, or not readable.
    """
    where = str(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UnreadableError("no such file", where=where, hint="check the path") from None
    except (OSError, ValueError) as error:
        raise UnreadableError(_os_reason(error), where=where, hint="check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableError("is a folder", where=where, hint="name the .onnx file in it")
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for a writer that may never come.
        raise UnreadableError("is not a regular file", where=where, hint="save it to disk first")
    if not os.access(path, os.R_OK):
        raise UnreadableError("cannot be read", where=where, hint="check its permissions")
    if status.st_size == 0:
        raise UnreadableError("the file is empty", where=where, hint="export or download it again")
    return status.st_size


def read_bytes(path: Path) -> bytes:
    """The whole of a model file, once it looks like one.

    Raises
    ------
    inspector.errors.UnreadableError
        It is not a file that a binary ONNX model could be in; the message names what it is.
    """
    size = check_is_file(path)
    where = str(path)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            check_head(head, where)
            if size > PROTOBUF_LIMIT:
                raise UnreadableError(
                    f"{size:,} bytes are more than one protobuf message can hold",
                    where=where,
                    hint="save it with external data",
                )
            return head + file.read()
    except OSError as error:
        raise UnreadableError(_os_reason(error), where=where, hint="check the file") from error


def check_head(head: bytes, where: str) -> None:
    """Refuse what begins like another kind of file."""
    for signature, what, hint in _SIGNATURES:
        if head.startswith(signature):
            raise UnreadableError(f"this is {what}", where=where, hint=hint)
    for signature, what in ((b"TFL3", "a TFLite model"), (b"ORTM", "an ORT format model")):
        if head[4:8] == signature:
            raise UnreadableError(
                f"this is {what}", where=where, hint="name the ONNX file it was made from"
            )
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise UnreadableError(
            "this is an HTML page",
            where=where,
            hint="download the file itself, not the page that shows it",
        )
    if _is_text(head):
        raise UnreadableError(
            "this is a text file, not a binary ONNX model",
            where=where,
            hint="check that it is the model you meant",
        )


def _is_text(head: bytes) -> bool:
    """Whether these bytes are text: a binary ONNX model begins with the bytes 8 and its version."""
    if head[:1] == b"\x08":
        return False
    try:
        # A multi-byte character may be cut in two where the head ends.
        text = head.decode("utf-8") if len(head) < HEAD else head[:-3].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\n\r\f\ufeff" for char in text)


def _os_reason(error: OSError | ValueError) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error).lower()
