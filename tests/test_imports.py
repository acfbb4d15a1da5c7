"""What is imported when, and that everything imports without the frameworks."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from onnx_text import FEW

import inspector

FRAMEWORKS = ("onnxruntime", "torch", "tensorflow", "keras", "tf2onnx", "onnxscript")
READING = ("onnx", "numpy", "google.protobuf", "typer", "rich")

MODULES = sorted(
    each.name
    for each in pkgutil.walk_packages(inspector.__path__, "inspector.")
    if not each.name.endswith("__main__")
)

WITHOUT = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(  # noqa: S603  # the code is this test's own
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
    )


def imported(code: str, *arguments: str) -> set[str]:
    """Top-level packages that running `code` leaves imported."""
    tail = "\nimport sys; sys.stderr.write(chr(10) + ' '.join(sys.modules))"
    if "main()" in code:
        code = code.replace("main()", "exec('try: main()\\nexcept SystemExit: pass')")
    ran = python(code + tail, *arguments)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stderr.splitlines()[-1].split())


MAIN = "from inspector.cli import main; main()"


def test_importing_the_package_costs_nothing():
    assert imported("import inspector").isdisjoint({*FRAMEWORKS, *READING})


def test_importtime_agrees():
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import inspector"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "inspector" in names
    assert names.isdisjoint({*FRAMEWORKS, *READING})


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["inspect", "--help"], ["compare", "-h"], ["export", "--help"]],
    ids=" ".join,
)
def test_help_imports_neither_frameworks_nor_onnx(words):
    assert imported(MAIN, *words).isdisjoint({*FRAMEWORKS, "onnx", "numpy", "rich", "pydantic"})


@pytest.mark.parametrize("format", ["text", "json"])
def test_inspect_imports_no_runtime(format, onnx_file):
    path = onnx_file(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
        {{ y = BatchNormalization (x, s, b, m, v) }}"""
    )
    names = imported(MAIN, str(path), "--format", format)
    assert "onnx" in names
    assert names.isdisjoint(FRAMEWORKS)
    assert names.isdisjoint({"rich", "pydantic", "inspector.facts.comparison"})


def test_every_module_imports_without_the_frameworks():
    code = WITHOUT.format(names=FRAMEWORKS) + "".join(f"import {name}\n" for name in MODULES)
    ran = python(code)
    assert ran.returncode == 0, ran.stderr


def test_every_public_name_is_there_and_no_other():
    for name in inspector.__all__:
        assert getattr(inspector, name) is not None
    assert set(dir(inspector)) >= set(inspector.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        inspector.nothing  # noqa: B018  # asking is the test


@pytest.mark.parametrize("framework", ["keras", "torch"])
def test_export_without_its_framework_says_what_to_install(framework, tmp_path: Path):
    (tmp_path / "m.py").write_text("def net():\n    return None\n")
    ran = python(
        WITHOUT.format(names=FRAMEWORKS) + MAIN,
        *("export", framework, f"{tmp_path / 'm.py'}:net", "-o", str(tmp_path / "m.onnx")),
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert f"bninspect[{framework}]" in ran.stderr


def test_inspect_works_without_the_frameworks(onnx_file):
    path = onnx_file(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
        {{ y = BatchNormalization (x, s, b, m, v) }}"""
    )
    ran = python(WITHOUT.format(names=FRAMEWORKS) + MAIN, str(path))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "1 layer: 1 native" in ran.stdout
