"""How much memory there is, and holding a process to that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SHARE = 0.9
"""Of the memory that is free, what is taken for granted."""

_GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and what of the use is a cache that can go: of Linux's control groups 2 and 1."""


def available_memory(
    system: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes that can be had before the system, or the container, runs short; 0 where none says."""
    found = [_of_system(system), *(_of_group(groups, *names) for names in _GROUPS)]
    return int(_SHARE * min((each for each in found if each is not None), default=0))


def size_in_words(size: float) -> str:
    """Bytes, in the unit that has few digits: 512 kB, 1.2 GB."""
    for unit, each in (("GB", 1e9), ("MB", 1e6)):
        if size >= each:
            return f"{size / each:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"


def limit_memory(most: int) -> None:
    """Let the system refuse memory beyond `most` bytes more than there is now; 0 for no limit.

    A refusal is an error with a reason; memory that runs out ends processes, not always this one.
    """
    if sys.platform == "win32" or not most:
        return
    import resource

    used = _data_bytes()
    if used is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + most
    resource.setrlimit(
        resource.RLIMIT_DATA,
        (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard),
    )


@contextmanager
def limited_memory() -> Iterator[None]:
    """Within it, the system refuses this process more than there is (`limit_memory`)."""
    if sys.platform == "win32":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit_memory(available_memory())
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _of_system(path: Path) -> int | None:
    found = _fields(path).get("MemAvailable:")
    return None if found is None else found * 1024


def _of_group(groups: Path, limit: str, use: str, cached: str) -> int | None:
    """What a container may still take; None where it has no limit."""
    most, used = (_number(groups / each) for each in (limit, use))
    if most is None or used is None:
        return None
    cache = _fields((groups / limit).with_name("memory.stat")).get(cached, 0)
    return max(most - used + cache, 0)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # it is not there, or "max"
        return None


def _fields(path: Path) -> dict[str, int]:
    """The first number behind each name, in a file of lines."""
    try:
        lines = [each.split() for each in path.read_text().splitlines()]
    except OSError:  # not on this system
        return {}
    return {each[0]: int(each[1]) for each in lines if len(each) > 1 and each[1].isdecimal()}


def _data_bytes() -> int | None:
    """What this process holds of what RLIMIT_DATA counts; Linux alone counts all of it."""
    found = _fields(Path("/proc/self/status")).get("VmData:")
    return None if found is None else found * 1024
