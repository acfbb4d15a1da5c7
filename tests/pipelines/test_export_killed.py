"""An export that is killed, or fails, leaves the old file or the new one, whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

pytest.importorskip("onnxscript", reason="this export needs it")

SOURCE = """
import torch
from torch import nn


def net():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2000), nn.BatchNorm1d(2000)).eval()
    wide.example_input_array = torch.zeros(1, 3, 32, 32)
    return wide


def nan():
    broken = net()
    broken[2].weight.data[7] = float("nan")
    return broken


class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError("the dataset is not mounted\\nand this is a second line")


def failing():
    return Failing()
"""


def start(folder: Path, callable_: str, *more: str, kind: str = "torch") -> subprocess.Popen[str]:
    (folder / "nets.py").write_text(SOURCE)
    words = ["export", kind, f"nets.py:{callable_}", "-o", "out/net.onnx", *more]
    return subprocess.Popen(  # noqa: S603  # this interpreter
        [sys.executable, "-m", "inspector", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("old", [False, True], ids=["nothing there", "a file there"])
@pytest.mark.parametrize("when", ["written", "a second", "at once"])
def test_a_killed_export_is_whole_or_not_there(tmp_path: Path, when: str, old: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    before = b"what was there before"
    if old:
        (out / "net.onnx").write_bytes(before)
    process = start(tmp_path, "net")
    if when == "a second":
        time.sleep(1.0)
    while when == "written" and process.poll() is None and not list(out.glob(".*.part")):
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    path = out / "net.onnx"
    if path.exists() and path.read_bytes() != before:
        onnx.checker.check_model(str(path), full_check=True)
    else:
        assert path.exists() is old
    # The next one is in nobody's way.
    again = start(tmp_path, "net")
    said, error = again.communicate()
    assert (again.returncode, error) == (0, ""), error
    assert "wrote" in said
    onnx.checker.check_model(str(path), full_check=True)


FAILURES = [
    ("nan", (), 1, "outputs are NaN or infinite"),
    ("failing", ("--input-shape", "1,3"), 3, "the dataset is not mounted"),
    ("net", ("--opset", "99"), 2, "opset 99 is not one that PyTorch's exporter writes"),
    ("nothing", (), 3, "has no callable 'nothing'"),
    ("net", ("--input-shape", "1,a"), 2, "is no shape"),
    ("net", ("--dynamic", "breadth"), 2, "'breadth' names no axis"),
    ("net", ("--weights", "none.pt"), 3, "no such file"),
    ("net", ("--example", "none.npz"), 3, "no such file"),
]


@pytest.mark.parametrize(("callable_", "more", "code", "said"), FAILURES)
def test_a_failure_is_one_line(
    callable_: str, more: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    process = start(tmp_path, callable_, *more)
    out, error = process.communicate()
    assert (process.returncode, out) == (code, ""), error
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    assert said in error
    assert not os.listdir(tmp_path / "out")


def test_debug_shows_what_led_to_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    process = start(tmp_path, "failing", "--input-shape", "1,3", "--debug")
    _, error = process.communicate()
    assert process.returncode == 3
    assert "Traceback (most recent call last)" in error
    assert "and this is a second line" in error
    assert error.splitlines()[-1].startswith("error: ")


def test_a_keras_file_keeps_tensorflow_quiet_in_any_command(tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx", reason="this export needs it")
    models = Path(__file__).resolve().parents[2] / "models"
    ran = subprocess.run(  # noqa: S603  # this interpreter
        [
            sys.executable,
            "-m",
            "inspector",
            "export-compare",
            f"{models}/keras_cnn.py:small",
            f"{models}/torch_cnn.py:small_matched",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
