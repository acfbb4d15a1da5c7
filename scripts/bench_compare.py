"""Whether comparing tells the truth: pairs of models that are known to be the same or not.

    python scripts/bench_compare.py [--pairs 800] [--quick] [--kinds epsilon_one,renamed]
        [--nets resnet,unet] [--seed 0] [--jobs 2] [--json FILE] [--keep DIR] [--peers]
    python scripts/bench_compare.py --only epsilon_one.resnet.0,renamed.stack.1 --keep /tmp/pairs

Networks are made by hand, exported by the frameworks that are installed, and taken from the corpus
of real models where it is there. Each kind of change is applied to each network that it fits; half
of the pairs have the changed model on the left, and two in five of the harmful ones have a harmless
change on the other side besides. That a harmful pair is harmful and a harmless one is not is shown
for each by plain ONNX Runtime and by onnx's evaluator in float64 (scripts/pairs/truth.py); where
it could not be, the pair is discarded and counted. A pair is made anew from its name and the seed:
`--only` runs some alone, with `--keep` its files stay for `bninspect compare`.

An interrupted run (Ctrl-C, or SIGTERM) prints what it found so far. Exit 1 where a harmful pair is
called identical or equivalent.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from pairs import bases, exports, make, peers, table  # noqa: E402  # the path has to be set first
from pairs.judge import Row  # noqa: E402  # behind what it needs
from pairs.kinds import KINDS  # noqa: E402  # behind what it needs
from pairs.work import Job, rows  # noqa: E402  # behind what it needs

QUICK = 170
"""Pairs of a quick look: about one of each kind."""

TURNS = 4
"""How often each kind may be applied to each network."""


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="bninspect-exports-") as folder:
        exported = None
        if not options.no_exports:
            exported = options.exports or Path(folder)
            print(exports.written(exported, options.seed), flush=True)
        found = _run(options, exported)
    for line in table.lines(found):
        print(line)
    if options.json is not None:
        options.json.write_text(json.dumps([each.as_dict() for each in found], indent=1))
    return int(any(each.false_equivalent and not each.coarse for each in found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=800, help="pairs that are judged; 800")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} pairs")
    parser.add_argument("--kinds", default="", help="only these kinds, with commas between")
    parser.add_argument("--nets", default="", help="only these networks, with commas between")
    parser.add_argument("--only", default="", help="pairs by name, kind.net.turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="worker processes; 2")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds a pair; 120")
    parser.add_argument("--json", type=Path, help="write all rows to this file")
    parser.add_argument("--keep", type=Path, help="keep the pairs' files in this folder")
    parser.add_argument("--corpus", type=Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument("--exports", type=Path, help="keep exports here, and use those there are")
    parser.add_argument("--no-exports", action="store_true", help="networks by hand alone")
    parser.add_argument("--peers", action="store_true", help="run the peers too (needs pip)")
    parser.add_argument("--peer-pairs", type=int, default=100, help="pairs that peers get; 100")
    parser.add_argument("--peer-folder", type=Path, help="the peers' environment, kept there")
    parser.add_argument("--list", action="store_true", help="list kinds and networks, and end")
    return parser.parse_args()


def _run(options: argparse.Namespace, exported: Path | None) -> list[Row]:
    job = Job(
        seed=options.seed,
        exports=exported,
        corpus=options.corpus if options.corpus.exists() else None,
        keep=options.keep,
        timeout=options.timeout,
    )
    names = _names(options, job)
    wanted = QUICK if options.quick else options.pairs
    with tempfile.TemporaryDirectory(prefix="bninspect-pairs-") as folder:
        if options.peers and job.keep is None:
            job = Job(**{**_fields(job), "keep": Path(folder)})
        found = rows(names, job, jobs=options.jobs, wanted=wanted, seen=_progress)
        if options.peers:
            assert job.keep is not None, "set above"
            for line in peers.report(
                found, job.keep, options.peer_folder, count=options.peer_pairs, seed=options.seed
            ):
                print(line, flush=True)
    return sorted(found, key=lambda each: each.name)


def _fields(job: Job) -> dict[str, object]:
    return {name: getattr(job, name) for name in Job.__dataclass_fields__}


def _names(options: argparse.Namespace, job: Job) -> Iterator[str]:
    if options.only:
        return iter(options.only.split(","))
    known = [*bases.HAND, *bases.exported_names(job.exports)]
    known += bases.corpus_files(job.corpus) if job.corpus else []
    nets = _chosen(options.nets, known, "network")
    kinds = _chosen(options.kinds, list(KINDS), "kind")
    print(
        f"{len(nets)} networks; {sum(KINDS[k].harmful for k in kinds)} harmful kinds of change, "
        f"{sum(not KINDS[k].harmful for k in kinds)} harmless",
        flush=True,
    )
    if options.list:
        print("networks:", *nets, "\nkinds:", *kinds)
        return iter(())
    rng = np.random.default_rng(options.seed)

    def fits(plan: make.Plan) -> bool:
        base = bases.base_of(plan.net, job.seed + plan.turn, job.exports, job.corpus)
        return base is not None and make.make(plan, base, job.seed) is not None

    return (each.name for each in make.plans(nets, kinds, rng, TURNS, fits))


def _chosen(asked: str, known: list[str], what: str) -> list[str]:
    names = [each for each in asked.split(",") if each]
    unknown = [each for each in names if each not in known]
    if unknown:
        sys.exit(f"no such {what}: {', '.join(unknown)}; --list lists them")
    return names or known


def _progress(row: Row) -> None:
    """A dot a pair on a terminal's error stream, letters for what went wrong."""
    letter = "." if row.state == "judged" else {"discarded": "-"}.get(row.state, "!")
    if row.false_equivalent or row.false_alarm:
        letter = "E" if row.false_equivalent else "A"
    print(letter, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
