"""Which files paths, folders and patterns mean."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from inspector.errors import UnreadableError, UsageError
from inspector.flows.discover import discover


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some files, in the working folder."""
    for name in (
        "b.onnx",
        "a/z.onnx",
        "a/inner/y.ONNX",
        "a/README.md",
        "a/model.pb",
        "a/.hidden/h.onnx",
        "a/._z.onnx",
        "c.onnx/inside.onnx",
        "empty/notes.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


MEANT = {
    "a folder, by names": (["."], ["a/inner/y.ONNX", "a/z.onnx", "b.onnx", "c.onnx/inside.onnx"]),
    "in the order asked for": (["b.onnx", "a"], ["b.onnx", "a/inner/y.ONNX", "a/z.onnx"]),
    "a file is always taken": (["a/README.md", "none"], ["a/README.md", "none"]),
    "a hidden folder that is named": (["a/.hidden"], ["a/.hidden/h.onnx"]),
    "each once": (["a/z.onnx", "a", "./a/../a/z.onnx"], ["a/z.onnx", "a/inner/y.ONNX"]),
    "a folder twice": (["a", "a"], ["a/inner/y.ONNX", "a/z.onnx"]),
    "a pattern": (["*.onnx"], ["b.onnx", "c.onnx/inside.onnx"]),
    "a pattern of any depth": (["a/**"], ["a/inner/y.ONNX", "a/z.onnx"]),
    "a pattern of another ending": (["a/*.pb"], ["a/model.pb"]),
    "a pattern of folders": (["[ac]*"], ["a/inner/y.ONNX", "a/z.onnx", "c.onnx/inside.onnx"]),
}


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(("paths", "expected"), MEANT.values(), ids=MEANT)
def test_what_is_meant(paths: list[str], expected: list[str]) -> None:
    assert list(discover(paths)) == [each.replace("/", os.sep) for each in expected]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ([], "no file is named"),
        (["b.onnx", ""], "a path is empty"),
        (["empty"], "empty: no *.onnx file lies in this folder"),
        (["b.onnx", "empty"], "empty: no *.onnx file lies in this folder"),
        (["nothing*"], "nothing*: no *.onnx file fits this pattern"),
        (["a/*.tflite"], "a/*.tflite: no file fits this pattern"),
    ],
)
def test_nothing_is_an_error(paths: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        discover(paths)
    assert str(caught.value).startswith(said)


def test_a_file_with_a_patterns_name_is_a_file(tree: Path) -> None:
    (tree / "x[1].onnx").write_bytes(b"x")
    assert discover(["x[1].onnx"]) == ("x[1].onnx",)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few make links")
def test_links(tree: Path) -> None:
    (tree / "a" / "loop").symlink_to(tree / "a")
    (tree / "a" / "self").symlink_to("self")
    (tree / "a" / "gone.onnx").symlink_to("nowhere")
    (tree / "a" / "latest.onnx").symlink_to("z.onnx")
    assert discover(["a"]) == ("a/gone.onnx", "a/inner/y.ONNX", "a/latest.onnx", "a/z.onnx")
    # What a link leads to is found under it, too, where it is named.
    (tree / "linked").symlink_to(tree / "a" / "inner")
    assert discover(["linked"]) == ("linked/y.ONNX",)
    assert discover(["a/inner", "linked"]) == ("a/inner/y.ONNX",)


def test_a_folder_that_cannot_be_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir

    def refuse(path: str) -> list[str]:
        if path == os.path.join("a", "inner"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    # Not by its mode: tests may run as root, whom no mode keeps out.
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UnreadableError, match=r"inner: this folder cannot be listed"):
        discover(["."])


def test_a_name_that_no_file_can_have_is_left_to_reading() -> None:
    assert discover(["a\0b"]) == ("a\0b",)
