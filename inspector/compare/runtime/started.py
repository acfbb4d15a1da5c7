"""The process in which models run, started: nothing large is imported to do so."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from typing import IO

from inspector.processes import command


class Started:
    """A child process that waits for messages (`inspector.compare.runtime.host`).

    Whoever has things to import first starts it before: it imports its own meanwhile.

    Parameters
    ----------
    memory
        Bytes that models and their runs may take; None for what the machine has free. Linux
        enforces it, other systems do not.

    A context manager: on leaving, the process is ended, whatever it does.
    """

    def __init__(self, memory: int | None = None) -> None:
        self.words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self.process = subprocess.Popen(  # noqa: S603  # this Python, with our own module
            command("inspector.compare.runtime.child", str(memory or 0)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
            # NumPy's own threads have nothing to do there, and take time to start.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        # What a large model takes is given back meanwhile: nobody has to wait for it.
        threading.Thread(target=self.process.wait, daemon=True).start()
        for each in (self.process.stdout, self.process.stdin, self.words):
            try:
                if each is not None:
                    each.close()
            except OSError:
                continue  # what the process did not take is of no use any more
