"""Exit codes of verdicts and checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspector.errors import ExitCode

if TYPE_CHECKING:
    from inspector.facts.comparison import Verdict
    from inspector.facts.finding import Check


def exit_code(verdict: Verdict, *, strict: bool) -> ExitCode:
    """What a verdict means to whoever called the process."""
    from inspector.facts.comparison import Verdict

    match verdict:
        case Verdict.IDENTICAL | Verdict.EQUIVALENT:
            return ExitCode.OK
        case Verdict.AGREES:
            return ExitCode.FINDINGS if strict else ExitCode.OK
        case Verdict.DIFFERENT:
            return ExitCode.FINDINGS
        case Verdict.UNDECIDED:
            return ExitCode.UNDECIDED


def check_exit_code(check: Check) -> ExitCode:
    """What a check means: what was found goes before what could not be looked at.

    Neither lets a gate pass, whatever it makes of the two codes.
    """
    if check.failed:
        return ExitCode.FINDINGS
    return ExitCode.UNREADABLE if check.unreadable else ExitCode.OK
