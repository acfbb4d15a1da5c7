"""When this process looks for garbage in cycles."""

from __future__ import annotations

import gc


def leave_cycles() -> None:
    """Switch the collector of cycles off, for a process that builds its facts, shows them and ends.

    The facts of a large model are hundreds of thousands of small objects with no cycle among them,
    and the collector walks them again and again as they grow: that is half of the time of
    `inspect`.
    """
    gc.disable()


def collect_cycles() -> None:
    """Switch it on again, for commands that run long and leave large arrays in cycles."""
    gc.enable()


def collects_cycles() -> bool:
    """Whether it is on: whether this is such a command."""
    return gc.isenabled()
