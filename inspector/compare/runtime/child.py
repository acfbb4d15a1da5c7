"""The process in which models run; `inspector.compare.runtime.host` is the other side.

Whatever a model does to the runtime, crash, hang or take all memory, it does to this process
alone. Messages come from standard input and are answered on standard output, one after the other.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from inspector.compare.runtime.frames import Arrays, FrameError, Header, receive, send
from inspector.compare.runtime.run import Fed, InParts, Runner, prepare
from inspector.errors import UndecidedError, UsageError
from inspector.facts.patch import Runnable
from inspector.memory import available_memory, limit_memory

_FIRST_TO_GO = "500"
"""Linux, out of memory, ends this process and not the one that reports it."""


def main(memory: str) -> None:
    """Answer until the other side hangs up.

    `memory` are bytes that models may take beyond what starting took; 0 for most of what is free.
    """
    source, answers = _own_streams()
    # Whoever interrupts means the process that asks: it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    _go_first()
    prepare()  # before memory is limited: the runtime's own needs are not the model's

    limit_memory(int(memory) or available_memory())
    runners: dict[int, InParts] = {}
    while True:
        try:
            header, arrays, data = receive(source)
        except (FrameError, OSError):
            return
        if header["do"] == "drop":
            runners.pop(header["id"], None)
            continue  # nobody waits for an answer
        try:
            answer, given = _answer(header, arrays, data, runners)
        except UndecidedError as error:
            answer, given = {"error": error.what}, {}
        except UsageError as error:
            answer, given = {"usage": error.what, "hint": error.hint}, {}
        except MemoryError:
            answer, given = {"error": "it needs more memory than there is"}, {}
        try:
            send(answers, answer, given)
        except OSError:
            return


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for messages; what the runtime prints goes to standard error."""
    source, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return os.fdopen(source, "rb"), os.fdopen(answers, "wb")


def _answer(
    header: Header, arrays: Arrays, data: bytes, runners: dict[int, InParts]
) -> tuple[Header, Arrays]:
    match header["do"]:
        case "load" if header["evaluated"]:
            from inspector.compare.runtime.evaluated import (
                Evaluated,  # onnx, which is seldom needed
            )

            source = Runnable(data=data, folder=header["folder"])
            runners[header["id"]] = Evaluated(source, name=header["name"])
            return {}, {}
        case "load":
            runners[header["id"]] = Runner(
                Path(os.fsdecode(data))
                if header["is_path"]
                else Runnable(data=data, folder=header["folder"]),
                name=header["name"],
                optimise=header["optimise"],
                providers=tuple(header["providers"]),
                instead=arrays,
            )
            return {}, {}
        case "run":
            return {}, runners[header["id"]].run(Fed(values=arrays))
        case other:
            raise AssertionError(f"no message {other!r} is ever sent")


def _go_first() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    except OSError:
        return  # not Linux, or not allowed: then the system chooses


def _die_with_parent() -> None:
    """A parent that is killed closes no socket that a run would look at."""
    if sys.platform != "linux":
        return
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
