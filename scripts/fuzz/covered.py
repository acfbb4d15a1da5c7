"""Lines and branches of the reader that a corpus reaches, measured in a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import engine


def covered(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Replay seeds and corpus: each module of `inspector.read` with its shares, and the whole."""
    import coverage

    measuring = coverage.Coverage(
        data_file=None, branch=True, source_pkgs=["inspector.read"], config_file=False
    )
    measuring.start()
    with engine.scratch() as place:
        from .target import FindingError, Target

        target = Target(Path(place))
        for each in sorted([*(folder / "seeds").iterdir(), *(folder / "corpus").iterdir()]):
            for walk in (False, True):
                try:
                    target.run(each.read_bytes(), walk=walk, text=False)
                except FindingError:
                    continue  # counted where it was found
    measuring.stop()
    report = _report(measuring)
    for name, module in report["files"].items():
        yield Path(name).name, *_shares(module["summary"])
    yield "inspector/read", *_shares(report["totals"])


def _report(measuring: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "coverage.json"
        measuring.json_report(outfile=str(path))
        report: dict[str, Any] = json.loads(path.read_text())
    return report


def _shares(summary: dict[str, Any]) -> tuple[float, float]:
    """Percent of lines and of branches; all of none is all."""
    pairs = (
        (summary["covered_lines"], summary["num_statements"]),
        (summary["covered_branches"], summary["num_branches"]),
    )
    lines, branches = (100 * part / whole if whole else 100.0 for part, whole in pairs)
    return lines, branches
