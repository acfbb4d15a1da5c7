"""When this process looks for garbage in cycles."""

from __future__ import annotations

import atexit
import gc


def leave_cycles() -> None:
    """Switch the collector of cycles off, for a process that builds its facts, shows them and ends.

    The facts of a large model are hundreds of thousands of small objects with no cycle among them,
    and the collector walks them again and again as they grow: that is half of the time of
    `inspect`. Nor does it walk what is left at the end.
    """
    gc.disable()
    atexit.register(gc.freeze)


def collect_cycles() -> None:
    """Switch it on again, for commands that run long and leave large arrays in cycles."""
    gc.enable()
