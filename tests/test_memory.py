"""How much memory there is, as the system and a container say it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inspector.memory import available_memory, limited_memory

GIB = 2**30
SYSTEM = f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\nHugePages_Total: 0\n"


def told(folder: Path) -> int:
    (folder / "meminfo").write_text(SYSTEM)
    return available_memory(folder / "meminfo", folder)


def test_it_is_what_the_system_says_is_available(tmp_path: Path) -> None:
    assert told(tmp_path) == int(0.9 * 8 * GIB)


def test_a_container_may_have_less(tmp_path: Path) -> None:
    stat = f"anon {GIB}\ninactive_file {GIB // 2}\n"
    for name, text in {
        "memory.max": f"{2 * GIB}\n",
        "memory.current": f"{3 * GIB // 2}\n",
        "memory.stat": stat,
    }.items():
        (tmp_path / name).write_text(text)
    # Half a GiB is a cache that can go.
    assert told(tmp_path) == int(0.9 * GIB)


def test_a_container_of_the_first_kind(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in {
        "memory.limit_in_bytes": f"{3 * GIB}\n",
        "memory.usage_in_bytes": f"{GIB}\n",
    }.items():
        (tmp_path / "memory" / name).write_text(text)
    assert told(tmp_path) == int(0.9 * 2 * GIB)


@pytest.mark.parametrize("most", ["max\n", "9223372036854771712\n", ""])
def test_a_container_without_a_limit(tmp_path: Path, most: str) -> None:
    (tmp_path / "memory.max").write_text(most)
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    assert told(tmp_path) == int(0.9 * 8 * GIB)


def test_none_says_anything(tmp_path: Path) -> None:
    assert available_memory(tmp_path / "none", tmp_path / "none") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count all of it")
def test_more_than_there_is_is_refused_and_the_limit_taken_back() -> None:
    code = """
import resource, numpy
from inspector.memory import available_memory, limited_memory
before = resource.getrlimit(resource.RLIMIT_DATA)
with limited_memory():
    try:
        numpy.empty(2 * available_memory(), numpy.uint8)
    except MemoryError:
        print("refused")
print(before == resource.getrlimit(resource.RLIMIT_DATA))
"""
    root = Path(__file__).resolve().parents[1]
    found = subprocess.run(  # noqa: S603  # our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert found.stdout.split() == ["refused", "True"]


def test_it_can_be_entered_twice() -> None:
    with limited_memory(), limited_memory():
        assert available_memory() >= 0
