"""Time whole commands against their floor: Python importing what they cannot do without.

Usage: python scripts/bench_start.py [RUNS]

The command and its floor run in turn, so that a machine that slows down slows both; what counts
is the ratio of medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "tests" / "data" / "keras_small.onnx"

CASES = {
    "--help": (["-m", "inspector", "--help"], "import typer, rich.panel"),
    "inspect a small model": (
        ["-m", "inspector", str(MODEL)],
        "import numpy, typer, onnx, rich.console",
    ),
    "a missing file": (["-m", "inspector", "missing.onnx"], "import typer"),
}


def main(runs: int) -> None:
    print(f"{'command':<24}{'median s':>10}{'floor s':>10}{'ratio':>8}   floor")
    for name, (arguments, floor) in CASES.items():
        times: dict[str, list[float]] = {"command": [], "floor": []}
        for at in range(runs + 1):
            for which, words in (("command", arguments), ("floor", ["-c", floor])):
                seconds = timed([sys.executable, *words])
                if at:  # the first round warms the file cache
                    times[which].append(seconds)
        command, least = (statistics.median(times[which]) for which in ("command", "floor"))
        print(f"{name:<24}{command:>10.3f}{least:>10.3f}{command / least:>8.2f}   {floor}")


def timed(command: list[str]) -> float:
    # An installed package is compiled, as those that it is compared with are.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
