"""Fuzz the reader: no file under 1 MB makes bninspect crash, hang or eat memory.

    python scripts/fuzz_read.py [--seconds 600] [--folder build/fuzz]
    python scripts/fuzz_read.py --replay FILE [FILE ...]

What is promised is written in scripts/fuzz/target.py. The engine is atheris (libFuzzer) where it
can be installed, and otherwise plain mutation without coverage to lead it. The folder keeps the
corpus for the next run, and in `findings/` the smallest input of every broken promise; the exit
code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from fuzz import engine, seeds  # noqa: E402  # the path has to be set first

PROGRESS = 30
"""Seconds between lines that say how far it is."""

MOST_STARTS = 20
"""Times that an engine which ended itself (a hang, a crash of native code) is started again."""

FATAL = ("timeout-", "crash-", "oom-", "leak-")
"""How libFuzzer names the inputs that ended it."""


@dataclass(slots=True, kw_only=True)
class Total:
    """Sums over all the starts of the engine."""

    seconds: float = 0.0
    numbers: dict[str, float] = field(default_factory=dict)
    findings: dict[str, str] = field(default_factory=dict)
    edges: str = "not measured"

    def add(self, statistics: dict[str, Any]) -> None:
        self.findings |= statistics.pop("findings", {})
        for name, value in statistics.items():
            merge = max if name in ("slowest", "peak") else lambda one, other: one + other
            self.numbers[name] = merge(self.numbers.get(name, 0), value)


def main() -> int:
    options = _options()
    if options.replay:
        return _replay(options.replay)
    if options.part:
        return _part(options)
    folder: Path = options.folder.resolve()
    _prepare(folder)
    total = Total()
    _throw_bombs(folder, total)
    _fuzz(folder, options.seconds, options.engine, total)
    lasting = dict(_confirmed(total.findings))
    _print_summary(folder, total)
    return _print_findings(total.findings, lasting)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=600, help="of fuzzing; 600")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="run these alone")
    parser.add_argument(
        "--engine",
        choices=("atheris", "plain"),
        default="atheris" if engine.has_atheris() else "plain",
        help="atheris where it is installed",
    )
    # What this script starts of itself.
    parser.add_argument("--part", choices=("fuzz", "cover"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _part(options: argparse.Namespace) -> int:
    """What runs in a process of its own."""
    if options.part == "cover":
        from fuzz.covered import covered

        print(json.dumps(list(covered(options.folder))))
        return 0
    loop = engine.with_atheris if options.engine == "atheris" else engine.plainly
    loop(options.folder, options.seconds)
    return 0


def _replay(paths: list[Path]) -> int:
    broken = 0
    for path in paths:
        print(path)
        finding = engine.replay(path)
        print(f"  finding: {finding}" if finding else "  every promise holds")
        broken += bool(finding)
    return 1 if broken else 0


# --- the parts of a run


def _prepare(folder: Path) -> None:
    """Fresh seeds and findings; the corpus of earlier runs stays."""
    for part in ("seeds", "findings", "bombs"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for part in ("seeds", "findings", "bombs", "corpus"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for part, files in (("seeds", seeds.seeds() | seeds.others()), ("bombs", seeds.bombs())):
        for name, data in files.items():
            (folder / part / f"{re.sub(r'[^a-z0-9]+', '_', name)}.onnx").write_bytes(data)


def _throw_bombs(folder: Path, total: Total) -> None:
    """The files made to be hard to read, each in a process of its own."""
    bombs = sorted((folder / "bombs").iterdir())
    print(f"{len(bombs)} files made to be hard to read", flush=True)
    for path in bombs:
        finding = _replayed(path)
        if finding:
            total.findings[f"{finding.splitlines()[0]} ({path.stem})"] = str(path)


def _replayed(path: Path) -> str:
    """What a fresh process says of one file: its finding, or nothing."""
    command = [sys.executable, __file__, "--replay", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired:
        return "hang"
    if done.returncode == 0:
        return ""
    # A process that was killed says nothing.
    return done.stdout.partition("finding: ")[2] or f"exit {done.returncode}"


def _fuzz(folder: Path, seconds: int, name: str, total: Total) -> None:
    if name == "plain":
        print("atheris is not installed here: mutating without coverage to lead it")
    begun = time.monotonic()
    for start in range(MOST_STARTS):
        left = seconds - (time.monotonic() - begun)
        if left < 1 and start:
            break
        code = _run_engine(folder, max(1, int(left)), name, total)
        known = set(total.findings.values())
        for path in (folder / "findings").iterdir():
            if path.name.startswith(FATAL) and str(path) not in known:
                total.findings[f"{path.name.partition('-')[0]} ({path.name[-8:]})"] = str(path)
        if code and not any(
            path.name.startswith(FATAL) for path in (folder / "findings").iterdir()
        ):
            total.findings[f"the engine ended with {code}: see log.txt"] = str(folder / "log.txt")
            break
    total.seconds = time.monotonic() - begun


def _run_engine(folder: Path, seconds: int, name: str, total: Total) -> int:
    statistics = folder / "statistics.json"
    statistics.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--part", "fuzz", "--engine", name]
    command += ["--folder", str(folder), "--seconds", str(seconds)]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        code = _waited(process, statistics)
    if statistics.exists():
        total.add(json.loads(statistics.read_text()))
    reached = re.findall(r"cov: (\d+) ft: (\d+)", (folder / "log.txt").read_text(errors="replace"))
    if reached:
        total.edges = "{} edges, {} features".format(*reached[-1])
    return code


def _waited(process: subprocess.Popen[bytes], statistics: Path) -> int:
    begun, told = time.monotonic(), 0.0
    while True:
        try:
            return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            spent = time.monotonic() - begun
        if spent - told > PROGRESS and statistics.exists():
            told = spent
            try:
                seen = json.loads(statistics.read_text())
            except ValueError:
                continue  # it is being written
            found = len(seen["findings"])
            print(f"{spent:6.0f} s: {seen['runs']:,} inputs, {found} findings", flush=True)


def _confirmed(findings: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What a fresh process without instrumentation, which slows things down, says of each."""
    for kind, path in findings.items():
        if path.endswith(".txt"):
            yield kind, "see the log"
        elif finding := _replayed(Path(path)):
            yield kind, finding


# --- the report


def _print_summary(folder: Path, total: Total) -> None:
    numbers = total.numbers
    runs = int(numbers.get("runs", 0))
    opened = 100 * numbers.get("opened", 0) / runs if runs else 0
    rows = {
        "executions": f"{runs:,}, {opened:.0f} % of them models that open",
        "executions per second": f"{runs / max(total.seconds, 1):,.0f}",
        "tensors loaded": f"{int(numbers.get('loaded', 0)):,}",
        "read both ways": f"{int(numbers.get('compared', 0)):,}, "
        f"{int(numbers.get('one_way_refuses', 0)):,} of them refused by one way alone",
        "slowest input": f"{1000 * numbers.get('slowest', 0):,.0f} ms (slowest.onnx)",
        "peak memory": f"{numbers.get('peak', 0) / 1e6:,.0f} MB",
        "reached": total.edges,
        "corpus": f"{len(list((folder / 'corpus').iterdir())):,} files in {folder}",
    }
    print()
    for name, value in rows.items():
        print(f"{name:<24}{value}")
    _print_coverage(folder)


def _print_coverage(folder: Path) -> None:
    command = [sys.executable, __file__, "--part", "cover", "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        last = (done.stderr.splitlines() or ["no reason given"])[-1]
        print(f"coverage was not measured: {last}")
        return
    print(f"\n{'covered by the corpus':<24}{'lines %':>10}{'branches %':>12}")
    for name, lines, branches in json.loads(done.stdout.splitlines()[-1]):
        print(f"{name:<24}{lines:>10.1f}{branches:>12.1f}")


def _print_findings(findings: dict[str, str], lasting: dict[str, str]) -> int:
    if not findings:
        print("\nno findings")
        return 0
    for kind, path in findings.items():
        if kind not in lasting:
            print(f"\nnot seen again in a fresh process: {kind}\n  {path}")
            continue
        print(f"\nfinding: {kind}\n  {lasting[kind].strip().splitlines()[-1]}")
        print(f"  python scripts/fuzz_read.py --replay {path}")
    return 1 if lasting else 0


if __name__ == "__main__":
    sys.exit(main())
