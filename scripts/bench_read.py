"""Time and peak memory of reading large models, against polygraphy and against the floor.

    python scripts/bench_read.py [--folder DIR] [--runs 5] [--big-runs 3] [--polygraphy PATH]

Needs about 6 GB of disk: models of one network (163 nodes, 50 BatchNorms of 64 channels) whose
Conv weights take 18 MB, 100 MB, 1 GB and 1.9 GB inside the file and 2.4 GB beside it, and two of
20,000 nodes with tiny weights: with 500 BatchNorms, and with more of them than any network has.
`--folder` keeps the models and uses those it already holds; without it they are written to a
temporary folder and removed. Commands take turns within each case, so that a machine that slows
down slows all of them; the first turn only warms the file cache. What counts are the ratios at the
end, each with the target that it should keep.

Linux and macOS: the peak is what the kernel says of the finished process alone.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = ROOT / "tests" / "data" / "keras_small.onnx"
MAKER = Path(__file__).resolve().parent / "bench_models.py"

NEEDED = 6 * 10**9
"""Bytes of all the models together, rounded up."""

BIG = 500 * 10**6
"""Bytes from which a model is measured in fewer runs."""

TURNS = "in turn"
"""What the table has in place of a model where commands on several take turns."""

MANY = 15
"""Runs of what is cheap and compared closely."""

IMPORTS = "import numpy, typer, onnx"
WALK = """
import sys, onnx
model = onnx.load(sys.argv[1])
for node in model.graph.node:
    (node.op_type, node.name, list(node.input), list(node.output), [a.name for a in node.attribute])
for tensor in model.graph.initializer:
    (tensor.name, list(tensor.dims), tensor.data_type)
"""

SAME = (
    WALK
    + """
from onnx import numpy_helper
stored = {tensor.name: tensor for tensor in model.graph.initializer}
for node in model.graph.node:
    if node.op_type == "BatchNormalization":
        for name in node.input[1:]:
            values = numpy_helper.to_array(stored[name])
            print(node.name, name, values.min(), values.max())
"""
)
"""A walk that shows what bninspect shows: the ranges of every BatchNorm's parameters."""

OURS, PEER, LOAD, READ, HELP, PEER_HELP = (
    "bninspect",
    "polygraphy inspect model",
    "onnx.load and walk",
    "the same, reading BatchNorms",
    "bninspect --help",
    "polygraphy --help",
)
FLOOR = f"python -c '{IMPORTS}'"
LIGHT_FLOOR = "python -c 'import numpy, typer'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Commands that take turns, on one model or on none."""

    model: str
    commands: dict[str, list[str]]
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Medians of one command; `codes` are the exit codes other than 0."""

    seconds: float
    megabytes: float
    codes: tuple[int, ...]


Figures = dict[tuple[str, str], Figure]


def main() -> None:
    options = _options()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        _bench(options.folder, options)
        print(f"\nthe models stay in {options.folder}")
        return
    with tempfile.TemporaryDirectory(prefix="bninspect-bench-") as folder:
        _bench(Path(folder), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where models are kept and used again")
    parser.add_argument("--runs", type=int, default=5, help="of each command; 5")
    parser.add_argument("--big-runs", type=int, default=3, help="the same on 1 GB and more; 3")
    parser.add_argument("--polygraphy", type=Path, help="the program, where it is not found")
    return parser.parse_args()


def _bench(folder: Path, options: argparse.Namespace) -> None:
    models = _models(folder)
    if models is None:
        return
    polygraphy = _polygraphy(options.polygraphy)
    figures: Figures = {}
    print(f"{'command':<38}{'model':<18}{'median s':>10}{'peak MB':>10}")
    for case in _cases(models, polygraphy, options):
        for command, figure in measured(case).items():
            figures[command, case.model] = figure
            failed = f"   exit {figure.codes}" if figure.codes else ""
            print(
                f"{command:<38}{case.model:<18}{figure.seconds:>10.3f}{figure.megabytes:>10.0f}"
                f"{failed}",
                flush=True,
            )
    print()
    _print_ratios(figures)


# --- the models


def _models(folder: Path) -> dict[str, Path] | None:
    """Every model by its name in the table; None where the disk is too full to write them."""
    # A process of its own: numpy and what it writes would count to the peak of every child that
    # this process starts (a child begins as a copy of its parent).
    held = sum(each.stat().st_size for each in folder.iterdir() if each.is_file())
    free = shutil.disk_usage(folder).free
    if free + held < NEEDED:
        print(
            f"{folder}: {free / 1e9:.1f} GB free, and the models take {NEEDED / 1e9:.0f} GB; "
            "name a folder with room: --folder DIR"
        )
        return None
    print(f"models in {folder} ({free / 1e9:.0f} GB free)", flush=True)
    subprocess.run([sys.executable, str(MAKER), str(folder)], check=True)
    names = {
        "18 MB": "embedded_18mb.onnx",
        "100 MB": "embedded_100mb.onnx",
        "1 GB": "embedded_1000mb.onnx",
        "1.9 GB": "embedded_1900mb.onnx",
        "2.4 GB external": "external_2400mb.onnx",
        "20,000 nodes": "nodes_20000.onnx",
        "20,000, 5,000 BN": "nodes_20000_bn5000.onnx",
    }
    return {name: folder / file for name, file in names.items()}


# --- the commands


def _polygraphy(given: Path | None) -> list[str] | None:
    """How to start polygraphy: as asked, from beside this Python, from the search path."""
    beside = Path(sys.executable).parent / "polygraphy"
    found = given or (beside if beside.exists() else None) or shutil.which("polygraphy")
    if found is None:
        print("polygraphy is not installed: pip install 'bninspect[bench]', or --polygraphy PATH")
        return None
    return [str(found)]


def _cases(
    models: dict[str, Path], polygraphy: list[str] | None, options: argparse.Namespace
) -> Iterator[Case]:
    ours = [sys.executable, "-m", "inspector"]
    light = {LIGHT_FLOOR: [sys.executable, "-c", "import numpy, typer"]}
    floor = {FLOOR: [sys.executable, "-c", IMPORTS]}
    peer_help = {PEER_HELP: [*polygraphy, "--help"]} if polygraphy else {}
    yield Case(
        model="-", commands={HELP: [*ours, "--help"], **peer_help, **light}, runs=options.runs
    )
    yield Case(model="small", commands={OURS: [*ours, str(SMALL)], **floor}, runs=options.runs)
    # What is to cost the same whatever the weights take has to be measured side by side.
    sizes = ("18 MB", "1.9 GB", "2.4 GB external")
    yield Case(
        model=TURNS,
        commands={f"{OURS} {name}": [*ours, str(models[name])] for name in sizes},
        runs=max(options.runs, MANY),
    )
    for name, path in models.items():
        peer = {PEER: [*polygraphy, "inspect", "model", str(path)]} if polygraphy else {}
        walk = {LOAD: [sys.executable, "-c", WALK, str(path)]}
        if "nodes" in path.name:
            walk[READ] = [sys.executable, "-c", SAME, str(path)]
        # A model with external data weighs what its data file weighs.
        weight = sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
        yield Case(
            model=name,
            commands={OURS: [*ours, str(path)], **peer, **walk},
            runs=options.big_runs if weight > BIG else options.runs,
        )


def measured(case: Case) -> dict[str, Figure]:
    """Medians of every command of a case, run in turn."""
    seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in case.commands}
    for at in range(case.runs + 1):
        for name, command in case.commands.items():
            once = run(command)
            if at:  # the first turn warms the file cache
                seen[name].append(once)
    return {
        name: Figure(
            seconds=statistics.median(each[0] for each in runs),
            megabytes=statistics.median(each[1] for each in runs),
            codes=tuple(sorted({each[2] for each in runs} - {0})),
        )
        for name, runs in seen.items()
    }


def run(command: Sequence[str]) -> tuple[float, float, int]:
    """Seconds, peak resident memory in MB, and exit code of one command."""
    quiet = [(os.POSIX_SPAWN_OPEN, at, os.devnull, os.O_RDWR, 0) for at in (0, 1, 2)]
    # `python -m inspector` has to find this checkout whatever the folder it is started from.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # An installed package is compiled, as those that it is compared with are.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, environment, file_actions=quiet)
    _, status, used = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return seconds, used.ru_maxrss * unit / 1e6, os.waitstatus_to_exitcode(status)


# --- the ratios that matter


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One figure over another, or over nothing, and what it should stay under."""

    what: str
    of: tuple[str, str]
    over: tuple[str, str] | None
    limit: float
    value: Callable[[Figure], float]
    unit: str = "x"


def _seconds(figure: Figure) -> float:
    return figure.seconds


def _megabytes(figure: Figure) -> float:
    return figure.megabytes


def _ratio(what: str, of: tuple[str, str], over: tuple[str, str], limit: float) -> Target:
    return Target(what=what, of=of, over=over, limit=limit, value=_seconds)


_LARGEST = (OURS, "1.9 GB")
_NORMS = "20,000, 5,000 BN"
TARGETS = (
    _ratio("1.9 GB over polygraphy", _LARGEST, (PEER, "1.9 GB"), 0.1),
    Target(
        what="1.9 GB peak memory", of=_LARGEST, over=None, limit=60, value=_megabytes, unit=" MB"
    ),
    _ratio("100 MB over polygraphy", (OURS, "100 MB"), (PEER, "100 MB"), 0.7),
    _ratio("1.9 GB over 18 MB", (f"{OURS} 1.9 GB", TURNS), (f"{OURS} 18 MB", TURNS), 1.1),
    _ratio(
        "2.4 GB external over 1.9 GB",
        (f"{OURS} 2.4 GB external", TURNS),
        (f"{OURS} 1.9 GB", TURNS),
        1.1,
    ),
    _ratio("--help over polygraphy --help", (HELP, "-"), (PEER_HELP, "-"), 1.0),
    _ratio("small model over its imports", (OURS, "small"), (FLOOR, "small"), 1.5),
    _ratio("20,000 nodes over load and walk", (OURS, "20,000 nodes"), (LOAD, "20,000 nodes"), 1.5),
    _ratio("5,000 BatchNorms over reading them", (OURS, _NORMS), (READ, _NORMS), 1.5),
    # No target: it prints a table of 5,000 layers, of which the bare walk knows nothing.
    _ratio("5,000 BatchNorms over a bare walk", (OURS, _NORMS), (LOAD, _NORMS), float("inf")),
)


def _print_ratios(figures: Figures) -> None:
    print(f"{'what':<38}{'is':>12}{'target':>14}")
    for target in TARGETS:
        needed = [target.of, *([target.over] if target.over else [])]
        # A command that failed quickly would look like a fast one.
        if any(each not in figures or figures[each].codes for each in needed):
            print(f"{target.what:<38}{'-':>12}{'':>14}   not measured")
            continue
        value = target.value(figures[target.of])
        if target.over is not None:
            value /= target.value(figures[target.over])
        is_, limit = f"{value:.2f}{target.unit}", f"<= {target.limit:g}{target.unit}"
        verdict = "ok" if value <= target.limit else "over"
        if math.isinf(target.limit):
            limit = verdict = ""
        print(f"{target.what:<38}{is_:>12}{limit:>14}   {verdict}")


if __name__ == "__main__":
    main()
