"""Exit codes of verdicts."""

from __future__ import annotations

from inspector.errors import ExitCode
from inspector.facts.comparison import Verdict


def exit_code(verdict: Verdict, *, strict: bool) -> ExitCode:
    """What a verdict means to whoever called the process."""
    match verdict:
        case Verdict.IDENTICAL | Verdict.EQUIVALENT:
            return ExitCode.OK
        case Verdict.AGREES:
            return ExitCode.FINDINGS if strict else ExitCode.OK
        case Verdict.DIFFERENT:
            return ExitCode.FINDINGS
        case Verdict.UNDECIDED:
            return ExitCode.UNDECIDED
