"""Seven faults that other tools pass by, made in one exported network and found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "blind_spots.py"


def test_each_fault_is_found_and_the_sound_network_has_none_of_them(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the network is exported from torch")
    done = subprocess.run(  # noqa: S603  # our own script
        [sys.executable, "-W", "ignore", str(SCRIPT), "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 of 7 found" in done.stdout
    assert "MISSED" not in done.stdout
    # The others' silence is what makes them blind spots.
    assert done.stdout.count("onnx.checker             passes") == 7
    assert done.stdout.count("ONNX Runtime             runs") == 7
