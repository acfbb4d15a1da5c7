"""Entry point: the one place that turns errors into lines and exit codes.

Everything is imported where it is used: Ctrl-C is to be silent while modules load, too.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from inspector.cli.collector import collects_cycles, leave_cycles

_PROGRAM = "bninspect"
_DEFECT = 70
"""EX_SOFTWARE of sysexits.h: a defect of bninspect itself, none of its documented answers."""
_INTERRUPTED = 130
"""What shells give for a process that SIGINT has ended."""


def main() -> NoReturn:
    """Run the command line as what its process is for; never returns."""
    leave_cycles()  # before anything large is imported
    try:
        code = _answer()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


def run() -> NoReturn:
    """The process's entry: `main`, and the shortest way out where nothing is left to tidy up."""
    try:
        try:
            main()
        except SystemExit as done:
            from inspector.cli.terminal import empty_streams

            empty_streams()
            if collects_cycles():
                raise
            # Taking the facts of a large model apart again takes as long as to show them.
            os._exit(done.code if isinstance(done.code, int) else int(done.code is not None))
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)


def _answer() -> int:
    """Run the command and say on stderr what went wrong; gives the exit code."""
    from inspector.cli.terminal import print_error, print_report
    from inspector.errors import InspectorError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # neither None nor what a test puts in its place
            # An arrow that a terminal cannot show is no reason to fail.
            stream.reconfigure(errors="replace")
    try:
        code = _command()
        if sys.stdout is not None and not sys.stdout.closed:
            print_report("")  # what others have written, a framework or the user's own module
        return code
    except InspectorError as error:
        if os.environ.get("BNINSPECT_DEBUG"):
            _print_traceback(error)
        print_error(str(error))
        return int(error.exit_code)
    except Exception as error:  # the last stop: a line instead of a traceback
        if os.environ.get("BNINSPECT_DEBUG"):
            raise
        print_error(
            f"this is a defect of bninspect ({type(error).__name__}: {error}); "
            "please report it with the output of BNINSPECT_DEBUG=1"
        )
        return _DEFECT


def _print_traceback(error: Exception) -> None:
    """What led to an error, for whoever asked for it."""
    import traceback

    from inspector.cli.terminal import print_aside

    print_aside("".join(traceback.format_exception(error)))


def _command() -> int:
    """Parse the arguments and run what they ask for; gives the exit code.

    Not by calling `app`, which prints in words of its own, ends the process, and takes any broken
    pipe or end of file in a flow for the terminal's.
    """
    from typer import Abort, Exit
    from typer.main import get_command

    from inspector.cli.app import app
    from inspector.cli.usage import usage_error

    try:
        with get_command(app).make_context(_PROGRAM, sys.argv[1:]) as context:
            context.command.invoke(context)
    except Exit as done:
        return done.exit_code
    except Abort:
        raise KeyboardInterrupt from None
    except Exception as error:  # parsers of arguments share no public base; the rest goes on
        if refused := usage_error(error):
            raise refused from error
        raise
    return 0
