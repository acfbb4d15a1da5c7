"""A process that checks files; `inspector.flows.workers` starts it and is the other side.

Whatever a file does to the reader, it does to this process alone.
"""

from __future__ import annotations

import os
import pickle
import signal
from typing import BinaryIO

from inspector.flows.check import Checker
from inspector.flows.messages import to_line


def main() -> None:
    """Answer each path with what is found in the file, until the other side hangs up."""
    source, answers = _own_streams()
    # Whoever interrupts means the process that asks: it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = pickle.load(source)  # noqa: S301  # from our own parent
    checker = Checker(
        asked["settings"], baseline=asked["baseline"], external_dirs=asked["external_dirs"]
    )
    while True:
        try:
            path = pickle.load(source)  # noqa: S301  # from our own parent
        except EOFError:  # it has no more, or is gone
            return
        answers.write(to_line(checker.check(path)))
        answers.flush()


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for messages; what a library prints goes to standard error."""
    source, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return os.fdopen(source, "rb"), os.fdopen(answers, "wb")
