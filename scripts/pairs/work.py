"""Processes that make and judge pairs: one that hangs or dies costs its own pair alone."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from .judge import Row, judge, row
from .kinds import KINDS
from .make import Plan, make, save
from .truth import show


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every worker has to know; `keep` is the folder that pairs stay in, if any."""

    seed: int
    exports: Path | None
    corpus: Path | None
    keep: Path | None
    timeout: float = 120.0


def one(name: str, job: Job) -> Row | None:
    """Make, prove and judge the pair of a name; None where it cannot be made."""
    from .bases import base_of

    plan = Plan.of(name)
    base = base_of(plan.net, job.seed + plan.turn, job.exports, job.corpus)
    pair = make(plan, base, job.seed) if base else None
    if pair is None:
        return None
    try:
        sides = (*pair.parts, pair.changed)
        found = [show(pair.plain, each, pair.bounds, job.seed) for each in sides]
        # Of several faults the one that does least: each has to be one.
        shown = min(found, key=lambda each: each.apart) if pair.kind.harmful else found[-1]
    except Exception as error:  # noqa: BLE001  # whatever a runtime throws: the truth is unknown
        return row(pair, "discarded", why=f"does not run: {str(error)[:200]}")
    if not (shown.harmful if pair.kind.harmful else shown.harmless):
        why = f"{shown.apart:.3g} floors of {shown.floor:.2g} apart, float64 {shown.in_double}"
        return row(pair, "discarded", why=why, apart=shown.apart)
    if job.keep is not None:
        return judge(pair, save(pair, job.keep / name), shown.apart, job.seed)
    with tempfile.TemporaryDirectory(prefix="bninspect-pair-") as folder:
        return judge(pair, save(pair, Path(folder)), shown.apart, job.seed)


def _serve(pipe: Connection, job: Job) -> None:
    """Answer names with rows until None comes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    while (name := pipe.recv()) is not None:
        try:
            pipe.send(one(name, job))
        except Exception as error:  # noqa: BLE001  # a fault of ours or of bninspect: the row says it
            pipe.send(_lost(name, "crashed", f"{type(error).__name__}: {str(error)[:300]}"))


def _lost(name: str, state: str, why: str) -> Row:
    kind = KINDS[Plan.of(name).kind]
    return Row(
        name=name,
        kind=kind.name,
        harmful=kind.harmful,
        coarse=kind.coarse,
        companion="?",
        turned=False,
        state=state,
        why=why,
    )


class _Worker:
    """One process, started again when it was lost."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.name = ""
        self.since = 0.0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process: Any = context.Process(target=_serve, args=(far, self.job), daemon=True)
        self.process.start()
        far.close()

    def give(self, name: str) -> None:
        self.name, self.since = name, time.monotonic()
        self.pipe.send(name)

    def take(self) -> Row | None:
        """The answer; a row that says so where the process died."""
        name, self.name = self.name, ""
        try:
            found: Row | None = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode
            self._start()
            return _lost(name, "crashed", f"the process ended with {code}")
        return found

    def expired(self) -> Row | None:
        """End a process that takes too long."""
        if not self.name or time.monotonic() - self.since < self.job.timeout:
            return None
        name, self.name = self.name, ""
        self.stop()
        self._start()
        return _lost(name, "timed out", f"no answer in {self.job.timeout:g} s")

    def stop(self) -> None:
        self.process.kill()
        self.process.join(5)
        self.pipe.close()


def rows(
    names: Iterator[str], job: Job, *, jobs: int, wanted: int, seen: Callable[[Row], None]
) -> list[Row]:
    """Judge pairs until so many were, or there are no more; each is told to `seen`.

    An interrupt ends the looking, not the report of what was found.
    """
    workers = [_Worker(job) for _ in range(jobs)]
    found: list[Row] = []
    try:
        while True:
            judged = sum(each.state != "discarded" for each in found)
            busy = sum(bool(each.name) for each in workers)
            for worker in workers:
                if not worker.name and judged + busy < wanted:
                    name = next(names, None)
                    if name is None:
                        break
                    worker.give(name)
                    busy += 1
            if not busy:
                return found
            found += _answers(workers, seen)
    except KeyboardInterrupt:
        return found
    finally:
        for worker in workers:
            worker.stop()


def _answers(workers: Sequence[_Worker], seen: Callable[[Row], None]) -> list[Row]:
    busy = {worker.pipe: worker for worker in workers if worker.name}
    ready = wait(list(busy), timeout=1.0)
    answers = [busy[each].take() for each in ready if isinstance(each, Connection)]
    answers += [worker.expired() for worker in workers]
    found = [each for each in answers if each is not None]
    for each in found:
        seen(each)
    return found
