"""The loops that fuzz: atheris (libFuzzer, led by coverage) or, where it is not, plain mutation.

Both go on after a finding: the smallest input of each kind is kept in `findings/`, and statistics
are written every second, since libFuzzer ends its process without a word to Python.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import random
import re
import resource
import sys
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import mutate

LARGEST = 1_000_000
"""Bytes of an input."""

PACKAGES = ("inspector.read", "inspector.recognise", "inspector.count", "inspector.report")

LONGEST = 10
"""Seconds after which an input is given up as hanging."""

BOTH = 8
"""One input in so many is read either way, and the answers compared."""

TEXT = 4
"""One input in so many gets a text report too: it takes most of the time, and is the same code."""


@dataclass(slots=True)
class Statistics:
    """Sums over one process; `slowest` in seconds, `peak` in bytes."""

    runs: int = 0
    opened: int = 0
    loaded: int = 0
    compared: int = 0
    one_way_refuses: int = 0
    slowest: float = 0.0
    peak: int = 0
    findings: dict[str, str] = field(default_factory=dict)


class Session:
    """Runs inputs, and keeps what is worth keeping in `folder`."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        from .target import Target

        self.statistics = Statistics()
        self._folder = folder
        self._target = Target(scratch)
        self._saved = 0.0

    def run(self, data: bytes) -> str:
        """Run one input and say in a word what came of it; a finding is written down."""
        from .target import FindingError

        self.statistics.runs += 1
        try:
            word = self._outcome(data)
        except FindingError as error:
            self.keep(data, error.kind)
            word = error.kind
        if time.monotonic() - self._saved > 1:
            self.save()
        return word

    def _outcome(self, data: bytes) -> str:
        # Chosen by the bytes, not by a counter: the same input always takes the same way.
        choice = zlib.crc32(data)
        seen = self.statistics
        if choice // 2 % BOTH == 0:
            outcome, walked = self._target.run_both(data)
            seen.compared += 1
            if (outcome.report is None) != (walked.report is None):
                # No promise: one way may see less damage than the other. Worth a look all the same.
                seen.one_way_refuses += 1
                (self._folder / "one_way_refuses.onnx").write_bytes(data)
        else:
            outcome = self._target.run(
                data, walk=choice % 2 == 1, text=choice // 2 // BOTH % TEXT == 0
            )
        seen.opened += outcome.report is not None
        seen.loaded += outcome.loaded
        if outcome.seconds > seen.slowest:
            seen.slowest = outcome.seconds
            (self._folder / "slowest.onnx").write_bytes(data)
        return re.sub(r"'.*?'|\d+", "", outcome.message.rpartition("/")[2])

    def keep(self, data: bytes, kind: str) -> None:
        """The smallest input of each kind of finding."""
        known = self.statistics.findings.get(kind)
        if known is not None and Path(known).stat().st_size <= len(data):
            return
        slug = re.sub(r"\W+", "_", kind)[:60]
        path = self._folder / "findings" / f"{slug}.{hashlib.sha256(data).hexdigest()[:8]}.onnx"
        path.write_bytes(data)
        if known is not None and known != str(path):
            Path(known).unlink(missing_ok=True)
        self.statistics.findings[kind] = str(path)
        self.save()

    def save(self) -> None:
        unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
        self.statistics.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        self._saved = time.monotonic()
        (self._folder / "statistics.json").write_text(json.dumps(asdict(self.statistics)))


def has_atheris() -> bool:
    try:
        import atheris  # noqa: F401  # whether it can be imported at all, not only found
    except ImportError:
        return False
    return True


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory where the system has one."""
    memory = Path("/dev/shm")  # noqa: S108  # a unique folder is made in it
    return tempfile.TemporaryDirectory(
        prefix="bninspect-fuzz-", dir=memory if memory.is_dir() else None
    )


# --- with atheris


def with_atheris(folder: Path, seconds: int) -> None:
    """Fuzz until the time is over; never returns (libFuzzer ends the process)."""
    import atheris

    # The whole of the package could be named only; what is imported later stays as it is.
    with atheris.instrument_imports(include=["inspector"]):
        _import_all()
    with scratch() as place:
        session = Session(folder, Path(place))
        session.run(b"\x08\x08")  # imports the rest, which counts to the memory held before
        _start(atheris, session, folder, seconds)


def _start(atheris: Any, session: Session, folder: Path, seconds: int) -> None:
    def change(data: bytes, most: int, seed: int) -> bytes:
        return mutate.mutated(data, most, seed, atheris.Mutate)

    def cross(data: bytes, other: bytes, most: int, seed: int) -> bytes:
        return mutate.crossed(data, other, most, seed)

    def once(data: bytes) -> None:
        session.run(data)

    atheris.Setup(
        [sys.argv[0], *_flags(folder, seconds)], once, custom_mutator=change, custom_crossover=cross
    )
    atheris.Fuzz()


def _flags(folder: Path, seconds: int) -> list[str]:
    from .target import MEGABYTES

    # The target itself measures time and memory of each input and goes on. These two limits end
    # the process: for what does not come back, and for what adds up over many inputs.
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    return [
        str(folder / "corpus"),
        str(folder / "seeds"),
        f"-max_total_time={seconds}",
        f"-timeout={LONGEST}",
        f"-rss_limit_mb={held + MEGABYTES}",
        f"-max_len={LARGEST}",
        "-len_control=100",  # a mutator of one's own would switch it off
        "-print_final_stats=1",
        f"-artifact_prefix={folder / 'findings'}/",
    ]


def _import_all() -> None:
    """Every module of the stages under test: what they import late would go uninstrumented."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for each in pkgutil.iter_modules(package.__path__, f"{name}."):
            importlib.import_module(each.name)
    importlib.import_module("inspector.flows")


# --- without


def plainly(folder: Path, seconds: int) -> None:
    """Mutate seeds for a while; an input that is answered in new words becomes a seed."""
    from .target import FindingError, stopped_after

    dice = random.Random(int(time.time()))  # noqa: S311  # as good as any
    pool = [each.read_bytes() for part in ("seeds", "corpus") for each in _files(folder / part)]
    words: set[str] = set()
    end = time.monotonic() + seconds
    with scratch() as place:
        session = Session(folder, Path(place))
        while time.monotonic() < end:
            base = dice.choice(pool)
            if dice.random() < 0.1:
                base = mutate.crossed(base, dice.choice(pool), LARGEST, dice.getrandbits(32))
            data = mutate.mutated(base, LARGEST, dice.getrandbits(32))
            try:
                with stopped_after(LONGEST):
                    word = session.run(data)
            except FindingError as error:
                session.keep(data, error.kind)
                continue
            if word not in words:
                words.add(word)
                pool.append(data)
                (folder / "corpus" / hashlib.sha1(data).hexdigest()).write_bytes(data)  # noqa: S324  # as libFuzzer names its files
        session.save()


def _files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_file())


# --- bombs, and single files


def replay(path: Path) -> str:
    """Run one file in every way; the finding as text, or nothing."""
    from .target import FindingError, Target, stopped_after

    with scratch() as place:
        target = Target(Path(place))
        target.run(b"\x08\x08", walk=False)  # what is imported is no cost of the file
        try:
            with stopped_after(LONGEST):
                for each in target.run_both(path.read_bytes()):
                    words = each.message or f"opened, {each.loaded} tensors loaded"
                    print(f"  {each.seconds * 1000:,.0f} ms: {words}")
        except FindingError as error:
            return str(error)
    return ""
