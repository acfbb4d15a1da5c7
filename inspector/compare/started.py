"""The process in which models run, started: nothing large is imported to do so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO


class Started:
    """A child process that waits for messages (`inspector.compare.host`).

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
            [sys.executable, "-P", "-c", _START, str(memory or 0), _path()],
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


_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from inspector.compare.child import main
main(int(sys.argv[1]))
"""


def _path() -> str:
    """Where this process finds modules, for another one to find the same."""
    own = str(Path(__file__).parents[2])
    found = [each for each in sys.path if each]
    return json.dumps(found if own in found else [*found, own])
