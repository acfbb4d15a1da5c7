"""What a file is that begins with text."""

from __future__ import annotations

import re
from pathlib import Path

_MEANT = "check that it is the model you meant"

_HEADER = (
    "ir_version|opset_import|producer_name|producer_version|domain|model_version|doc_string"
    "|metadata_props"
)
_COMMENTS = r"(?:\s|#[^\n]*\n)*"
_ONNXTXT = re.compile(
    rf"{_COMMENTS}(?:<{_COMMENTS}(?:{_HEADER})\s*:"
    r"|[A-Za-z_]\w*\s*\([^)]*\)\s*=>\s*\()"
)
_TEXTPROTO = re.compile(
    rf"{_COMMENTS}(?:ir_version\s*:\s*\d|producer_name\s*:\s*[\"']|opset_import\s*:?\s*[{{<\[]"
    r"|graph\s*:?\s*[{<]\s*(?:node|name|input|output|initializer|doc_string)\s*[:{<])"
)
_JSON = re.compile(r"\s*(?:\{\s*[\"}]|\[\s*[\[{\"\d\]])")
_ONNX_JSON = re.compile(
    r'"(?:irVersion|ir_version|opsetImport|opset_import)"\s*:'
    r'|^\s*\{\s*"graph"\s*:\s*\{\s*"(?:node|name|initializer|input|output|doc_?[sS]tring)"'
)
_LFS_SIZE = re.compile(r"^size (\d{1,18})$", re.MULTILINE)

ONNX_TEXTS = {
    "onnxtxt": ("ONNX's text form", ".onnxtxt"),
    "textproto": ("protobuf's text format", ".textproto"),
    "json": ("JSON", ".json"),
}
"""The text forms that a model may have, and the extension by which each is opened."""


def decoded(head: bytes, *, whole: bool) -> str | None:
    """The text that these bytes are, or None where they are none."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        # What `>` writes in Windows PowerShell.
        encoding, head = "utf-16", head[: len(head) // 2 * 2]
    else:
        encoding = "utf-8-sig"
    try:
        text = head.decode(encoding)
    except UnicodeDecodeError as error:
        # A character of several bytes may be cut in two where the head ends.
        if whole or len(head) - error.start > 3:
            return None
        text = head[: error.start].decode(encoding)
    return text if all(char.isprintable() or char in "\t\n\r\f" for char in text) else None


def onnx_text(text: str) -> str | None:
    """Which of `ONNX_TEXTS` this begins like."""
    if _ONNXTXT.match(text):
        return "onnxtxt"
    if _TEXTPROTO.match(text):
        return "textproto"
    if _JSON.match(text) and _ONNX_JSON.search(text):
        return "json"
    return None


def name_pointer(text: str, of: str = "model") -> tuple[str, str] | None:
    """What stands in a file's place, `of` being what it should be: a pointer to it, or a page."""
    if text.startswith("version https://git-lfs.github.com/spec/"):
        size = _LFS_SIZE.search(text)
        real = f" ({int(size[1]):,} bytes)" if size else ""
        what = f"a Git LFS pointer, not the {of} itself{real}"
        return what, "run `git lfs pull` in its repository"
    if text.startswith("/annex/objects/"):
        return f"a git-annex pointer, not the {of} itself", "run `git annex get` in its repository"
    begin = text.lstrip()[:512].lower()
    if begin.startswith(("<!doctype html", "<html")) or (
        begin.startswith(("<?xml", "<!--")) and "<html" in begin
    ):
        return "an HTML page", "download the file itself, not the page that shows it"
    return None


def name_text(text: str, where: str) -> tuple[str, str]:
    """What a text is, and what to do instead of opening it."""
    if pointer := name_pointer(text):
        return pointer
    if kind := onnx_text(text):
        form, extension = ONNX_TEXTS[kind]
        new = Path(where).with_suffix(extension).name if where else f"model{extension}"
        return f"a text file with an ONNX model in {form}", f"rename it to {new}"
    begin = text.lstrip()
    if begin.startswith("<"):
        if re.match(r"(?:<\?xml[^>]*>|<!--.*?-->|\s)*<net\s[^>]*\bversion=", begin, re.DOTALL):
            return "an OpenVINO model in XML", "name the ONNX file it was made from"
        if begin.startswith("<?xml"):
            return "a text file of XML, not an ONNX model", _MEANT
    if begin.startswith("7767517"):
        return "an ncnn network", "name the ONNX file it was made from"
    if _JSON.match(text):
        if '"modelTopology"' in text:
            return "a TensorFlow.js model", "export the model it was made from to ONNX"
        return "a text file of JSON, not an ONNX model", _MEANT
    return "a text file, not a binary ONNX model", _MEANT
