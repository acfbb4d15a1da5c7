"""The same pairs through the peers, each in an environment of its own, as a user would run them.

polygraphy compares two models by running one, keeping its inputs and outputs, and running the
other on them; onnxdiff (of onnxdiffer) and diffonnx take both. The last two exit 0 whatever they
find, so what they print is read.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .judge import Row

SAME, DIFFERENT, SILENT = "same", "different", "no answer"

SECONDS = 60
"""For one command of a peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What to install, the program, and how one answer comes from two files."""

    packages: tuple[str, ...]
    program: str
    ask: Callable[[Path, Path, Path], str]


def _said(*command: object) -> str:
    """What a command prints; nothing where it does not end."""
    try:
        ran = subprocess.run(
            [str(each) for each in command],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return ""
    return ran.stdout + ran.stderr


def _polygraphy(program: Path, left: Path, right: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "inputs.json", Path(folder) / "outputs.json"
        first = (program, "run", left, "--onnxrt")
        _said(*first, "--save-inputs", inputs, "--save-outputs", outputs)
        second = (program, "run", right, "--onnxrt")
        said = _said(*second, "--load-inputs", inputs, "--load-outputs", outputs)
    if "All outputs matched" in said:
        return SAME
    return DIFFERENT if "FAILED | Mismatched outputs" in said or "Pass Rate: 0" in said else SILENT


def _onnxdiff(program: Path, left: Path, right: Path) -> str:
    said = _said(program, "--onnx_a", left, "--onnx_b", right, "--ort", 1, "--struct", 0)
    if "verify complete:  True" in said:
        return SAME
    return DIFFERENT if "verify complete:  False" in said else SILENT


def _diffonnx(program: Path, left: Path, right: Path) -> str:
    said = _said(program, left, right).splitlines()
    if any(each.startswith(("Not Equal Outputs", "Mismatched Outputs")) for each in said):
        return DIFFERENT
    return SAME if any(each.startswith("Equal Outputs") for each in said) else SILENT


PEERS: dict[str, Peer] = {
    "polygraphy run --onnxrt": Peer(
        packages=("polygraphy", "onnxruntime", "onnx"), program="polygraphy", ask=_polygraphy
    ),
    "onnxdiff --ort": Peer(packages=("onnxdiffer",), program="onnxdiff", ask=_onnxdiff),
    "diffonnx": Peer(packages=("diffonnx", "onnxruntime"), program="diffonnx", ask=_diffonnx),
}


def report(
    rows: Sequence[Row], kept: Path, folder: Path | None, *, count: int, seed: int
) -> Iterator[str]:
    """Each peer's confusion matrix on a sample of the pairs, with bninspect's beside it."""
    sample = _sample(
        [each for each in rows if each.state == "judged" and not each.coarse], count, seed
    )
    with tempfile.TemporaryDirectory(prefix="bninspect-peers-") as temporary:
        yield f"peers, on {len(sample)} pairs:"
        yield f"{'':<26}{'harmful':^36}{'harmless':^36}"
        heads = "".join(f"{each:>12}" for each in (SAME, DIFFERENT, SILENT))
        yield f"{'':<26}{heads}{heads}"
        yield _line("bninspect", [(each.harmful, _ours(each)) for each in sample])
        for name, peer in PEERS.items():
            program = _installed(peer, (folder or Path(temporary)) / peer.program)
            if program is None:
                yield f"{name:<26}could not be installed"
                continue
            answers = [(each.harmful, peer.ask(program, *_paths(kept, each))) for each in sample]
            yield _line(name, answers)


def _paths(kept: Path, row: Row) -> tuple[Path, Path]:
    return kept / row.name / "left.onnx", kept / row.name / "right.onnx"


def _sample(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """So many pairs, half of them harmful."""
    rng = np.random.default_rng([seed, 5])
    chosen: list[Row] = []
    for harmful in (True, False):
        of = sorted((each for each in rows if each.harmful is harmful), key=lambda each: each.name)
        chosen += [of[at] for at in rng.permutation(len(of))[: count // 2]]
    return chosen


def _ours(row: Row) -> str:
    """`agrees` says that outputs do and parameters do not: for a peer that is the same."""
    if row.verdict == "undecided":
        return SILENT
    return DIFFERENT if row.verdict == "different" else SAME


def _line(name: str, answers: Sequence[tuple[bool, str]]) -> str:
    counts = Counter(answers)
    cells = [counts[truth, each] for truth in (True, False) for each in (SAME, DIFFERENT, SILENT)]
    return f"{name:<26}" + "".join(f"{each:>12}" for each in cells)


def _installed(peer: Peer, folder: Path) -> Path | None:
    """A peer's program in an environment of its own; None where pip cannot have it."""
    program = folder / "bin" / peer.program
    if program.exists():
        return program
    commands = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "pip"), "install", "--quiet", *peer.packages],
    )
    for command in commands:
        try:
            ran = subprocess.run(command, check=False, capture_output=True, timeout=900)
        except subprocess.TimeoutExpired:
            return None
        if ran.returncode:
            return None
    return program if program.exists() else None
