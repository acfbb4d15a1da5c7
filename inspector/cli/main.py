"""Entry point: the one place that turns errors into lines and exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from inspector.cli.collector import collects_cycles, leave_cycles
from inspector.cli.terminal import print_error
from inspector.errors import InspectorError

_DEFECT = 70
"""EX_SOFTWARE of sysexits.h: a defect of bninspect itself, none of its documented answers."""


def main() -> NoReturn:
    """Run the command line as what its process is for; never returns."""
    leave_cycles()  # before anything large is imported
    from inspector.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # neither None nor what a test puts in its place
            # An arrow that a terminal cannot show is no reason to fail.
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="bninspect")
    except InspectorError as error:
        print_error(str(error))
        sys.exit(int(error.exit_code))
    except Exception as error:  # the last stop: a line instead of a traceback
        if os.environ.get("BNINSPECT_DEBUG"):
            raise
        print_error(
            f"this is a defect of bninspect ({type(error).__name__}: {error}); "
            "please report it with the output of BNINSPECT_DEBUG=1"
        )
        sys.exit(_DEFECT)
    sys.exit(0)


def run() -> NoReturn:
    """The process's entry: `main`, and the shortest way out where nothing is left to tidy up."""
    try:
        main()
    except SystemExit as done:
        if collects_cycles():
            raise
        # Taking the facts of a large model apart again takes as long as to show them.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # said already, where it was written to
                    stream.flush()
        os._exit(done.code if isinstance(done.code, int) else int(done.code is not None))
