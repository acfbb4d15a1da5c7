"""What a file is that begins with the signature of another format."""

from __future__ import annotations

import re
import shlex
import zlib
from pathlib import Path

from inspector.read.plaintext import decoded, name_text

HEAD = 512
"""How many bytes of a file's beginning are looked at."""

ORIGINAL = "name the ONNX file it was made from"
FROM_TORCH = "export the module: `bninspect export torch file.py:callable -o model.onnx`"
_MEANT = "check that it is the model you meant"
_UNPACK = "unpack it first: `tar -xf {file}`"

# {file}: see for_file.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"BZh", "a bzip2 archive", "unpack it first: `bzip2 -dc {file} > unpacked.onnx`"),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it first: `xz -dc {file} > unpacked.onnx`"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first: `zstd -dc {file} > unpacked.onnx`"),
    (b"\x04\x22\x4d\x18", "an lz4 archive", "unpack it first: `lz4 -dc {file} > unpacked.onnx`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first: `7z x {file}`"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first: `unrar x {file}`"),
    (b"\x00\x05\x16\x07", "an AppleDouble file of macOS metadata", "use the file it belongs to"),
    (b"GGUF", "a GGUF model: weights without a graph", "export the original model to ONNX"),
    (b"RKNN\0", "an RKNN model", ORIGINAL),
    # `p` up to TensorRT 4, `f` since: https://github.com/lutzroeder/netron tensorrt.js.
    (
        b"ftrt",
        "a TensorRT engine: compiled, without a graph",
        "name the ONNX file it was built from",
    ),
    (
        b"ptrt",
        "a TensorRT engine: compiled, without a graph",
        "name the ONNX file it was built from",
    ),
    (b"\x93NUMPY", "a NumPy array (.npy), not a model", _MEANT),
    (
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        "a PyTorch file (torch.save, legacy format): weights without a graph",
        FROM_TORCH,
    ),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", _MEANT),
    (b"\xff\xd8\xff", "a JPEG image", _MEANT),
    (b"GIF8", "a GIF image", _MEANT),
    (b"%PDF-", "a PDF document", _MEANT),
    (b"SQLite format 3\0", "an SQLite database", _MEANT),
    (b"\x7fELF", "a compiled program or library (ELF)", _MEANT),
)

_FLATBUFFERS = {
    b"TFL3": (
        "a TFLite model",
        "convert it: `python -m tf2onnx.convert --tflite {file} --output model.onnx`",
    ),
    b"ORTM": ("a model in ONNX Runtime's ORT format", ORIGINAL),
    b"ET12": ("an ExecuTorch program (.pte)", FROM_TORCH),
}

# Pickle's protocols 2 to 5, and the opcodes that real ones go on with.
_PICKLE = re.compile(
    rb"\x80(?:[\x02\x03][\]}()cXKJGNM\x8a\x8c\x88\x89]|[\x04\x05][\x95\]}()\x8cKN])"
)


def name_head(head: bytes, where: str, size: int) -> tuple[str, str] | None:
    """What a file is that begins like this, and what to do; None for what is not known.

    This is no proof that the file is not a model: see `inspector.read.fields.may_be_message`.

    Parameters
    ----------
    head
        The first `HEAD` bytes, or all of a shorter file.
    where
        The file, for the commands of the hints, and to look into a zip; may be empty.
    size
        Of the whole file, in bytes.
    """
    named = _binary(head, where, size)
    if named is None and head:
        text = decoded(head, whole=size <= len(head))
        named = None if text is None else name_text(text, where)
    if named is None:
        return None
    return named[0], for_file(named[1], where)


def for_file(hint: str, where: str) -> str:
    """A hint with the file's name in its command, quoted for a shell."""
    return hint.replace("{file}", shlex.quote(where) if where else "FILE")


def _binary(head: bytes, where: str, size: int) -> tuple[str, str] | None:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        from inspector.read.archives import name_archive

        return name_archive(Path(where))
    if head.startswith(b"\x1f\x8b"):
        return _gzip(head)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "an HDF5 file (Keras .h5)", export_keras(where, (".h5", ".hdf5"))
    for signature, what, hint in _SIGNATURES:
        if head.startswith(signature):
            return what, hint
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if head[4:8] in _FLATBUFFERS:
        return _FLATBUFFERS[head[4:8]]
    if _PICKLE.match(head):
        return (
            "a Python pickle, which may run code when it is loaded",
            "export the model in it to ONNX with the library that made it",
        )
    return _with_header(head, size)


def _with_header(head: bytes, size: int) -> tuple[str, str] | None:
    """Formats that begin with the length of a JSON header."""
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= min(size - 8, 10**8):
        return "a safetensors file: weights without a graph", FROM_TORCH
    # https://github.com/ultralytics/ultralytics writes its metadata before the engine.
    if head[4:6] == b'{"' and int.from_bytes(head[:4], "little") <= min(size - 4, 2**20):
        return "a TensorRT engine of Ultralytics", "name the ONNX file it was built from"
    return None


def _gzip(head: bytes) -> tuple[str, str]:
    try:
        inside = zlib.decompressobj(31).decompress(head, HEAD)
    except zlib.error:
        inside = b""
    if inside[257:262] == b"ustar":
        return "a gzip archive of a tar", _UNPACK
    return "a gzip archive", "unpack it first: `gzip -dc {file} > unpacked.onnx`"


def export_keras(where: str, extensions: tuple[str, ...]) -> str:
    """How to export a file of Keras, which `bninspect export` knows by its extension."""
    path = Path(where or f"model{extensions[0]}")
    if path.suffix.lower() in extensions:
        return f"export it: `bninspect export keras {shlex.quote(str(path))} -o model.onnx`"
    new = path.with_suffix(extensions[0])
    command = f"`bninspect export keras {shlex.quote(str(new))} -o model.onnx`"
    return f"rename it to {new.name}, and export it: {command}"
