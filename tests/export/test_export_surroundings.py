"""What stands around an export: missing extras, light imports, silence, whole files."""

from __future__ import annotations

import importlib.util
import logging
import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from inspector.errors import ExitCode, MissingExtraError, UnreadableError, UsageError
from inspector.export import export_keras, export_torch
from inspector.export.quiet import environment, quiet, silent_stderr
from inspector.write.save import save

HEAVY = ("tensorflow", "keras", "tf2onnx", "torch", "onnxscript", "onnxruntime", "onnx")


def test_importing_the_package_imports_no_framework() -> None:
    code = f"import sys, inspector.export; print([n for n in {HEAVY!r} if n in sys.modules])"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # this interpreter
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("export", "spec", "extra", "package"),
    [
        (export_keras, "keras_cnn.py:small", "keras", "tensorflow"),
        (export_keras, "keras_cnn.py:small", "keras", "tf2onnx"),
        (export_torch, "torch_cnn.py:small", "torch", "torch"),
        (export_torch, "torch_cnn.py:small", "torch", "onnxscript"),
    ],
)
def test_a_missing_package_names_its_extra(
    export: Any,
    spec: str,
    extra: str,
    package: str,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == package else found(name, *a)
    )
    with pytest.raises(MissingExtraError) as caught:
        export(f"{models / spec}", tmp_path / "x.onnx")
    assert caught.value.hint == f'pip install "bninspect[{extra}]"'
    assert f"needs {package}, which is not installed" in caught.value.what
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_broken_import_in_the_users_file_is_not_a_missing_extra(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import tensorflow_of_tomorrow\n")
    with pytest.raises(UnreadableError, match="tensorflow_of_tomorrow"):
        export_torch(f"{tmp_path}/net.py:build", tmp_path / "x.onnx")


@pytest.mark.parametrize("export", [export_keras, export_torch])
@pytest.mark.parametrize("output", ["no/such/folder/x.onnx", ".", ""])
def test_an_impossible_output_is_refused_before_any_work(
    export: Any, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="output"):
        export("no_such_module_at_all:f", output)
    assert list(tmp_path.iterdir()) == []


def test_save_replaces_and_keeps_permissions(tmp_path: Path) -> None:
    target = tmp_path / "x.onnx"
    target.write_bytes(b"old")
    target.chmod(0o640)
    save(b"new", target)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [target]


def test_save_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to("real.onnx")
    save(b"new", tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert (tmp_path / "real.onnx").read_bytes() == b"new"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_old_file_alone(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.onnx"
    target.write_bytes(b"old")

    def fail(_: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((UnreadableError, KeyboardInterrupt)) as caught:
        save(b"new", target)
    if isinstance(caught.value, UnreadableError):
        assert "No space left on device" in str(caught.value)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_quiet_is_quiet_and_puts_everything_back(caplog: pytest.LogCaptureFixture) -> None:
    logger, child = logging.getLogger("tf2onnx"), logging.getLogger("tf2onnx.something")
    child.setLevel(logging.DEBUG)
    levels = (logger.level, child.level)

    def chatter() -> None:
        logger.error("said")
        child.error("said")
        warnings.warn("said", UserWarning, stacklevel=1)
        raise ZeroDivisionError

    with warnings.catch_warnings(record=True) as warned:
        # Inside, so that what is compared is not what the recorder put there.
        filters = list(warnings.filters)
        with pytest.raises(ZeroDivisionError), quiet():
            chatter()
        assert list(warnings.filters) == filters
    assert warned == []
    assert caplog.records == []
    assert (logger.level, child.level) == levels
    child.setLevel(logging.NOTSET)


def test_standard_error_is_dropped_and_comes_back(capfd: pytest.CaptureFixture[str]) -> None:

    def chatter() -> None:
        os.write(2, b"chatter\n")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), silent_stderr():
        chatter()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNINSPECT_SET", "mine")
    with environment(BNINSPECT_SET="other", BNINSPECT_UNSET="x"):
        assert os.environ["BNINSPECT_SET"] == "mine"
        assert os.environ["BNINSPECT_UNSET"] == "x"
    assert "BNINSPECT_UNSET" not in os.environ
