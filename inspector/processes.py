"""Python processes of our own: how one finds our modules, and how it ended."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

KILLED = 9
"""The signal with which Linux ends a process when memory is out."""


def command(module: str, *arguments: str) -> list[str]:
    """What starts `module`'s ``main`` in another Python, with `arguments` as its own.

    It finds modules where this one does, and nothing in the folder that it is started from.
    """
    own = str(Path(__file__).parents[1])
    found = [each for each in sys.path if each]
    path = json.dumps(found if own in found else [*found, own])
    start = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import main; "
    return [sys.executable, "-P", "-c", f"{start}main(*sys.argv[2:])", path, *arguments]


def how_it_ended(code: int) -> str:
    """What a process's return code says, for people."""
    if code >= 0:
        return f"exit code {code}"
    if -code == KILLED:
        return "killed by the system, most likely because memory was out"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
