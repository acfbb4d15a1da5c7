"""What `check` does with --fix and --diff."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from inspector.cli.terminal import print_aside, print_report, wants_color, width
from inspector.cli.verdicts import check_exit_code
from inspector.errors import ExitCode, UsageError
from inspector.report.page import Page
from inspector.report.text_fix import write_diff, write_fixes, write_would
from inspector.report.words import many, printable

if TYPE_CHECKING:
    from inspector.facts.finding import Check, CheckSettings
    from inspector.facts.fix import FixedFile, FixOptions

FOLDING = "BN033"
"""The rule that is fixed only by whom asks for it by this whole code, or by --fold."""

_SMALLEST = 1.1754943508222875e-38
"""Of float32, in which epsilon is stored: what is less may be read as 0."""


def fix_options(
    *,
    fix: bool,
    diff: bool,
    no_backup: bool,
    fold: bool,
    epsilon: float | None,
    momentum: float | None,
    selected: Sequence[str],
) -> FixOptions | None:
    """What is asked of the fixes; None where none are asked for.

    Parameters
    ----------
    selected
        Codes that the command line selects.

    Raises
    ------
    inspector.errors.UsageError
        An option makes no sense without --fix, or a number none at all.
    """
    from inspector.facts.fix import FixOptions

    given = {
        "--no-backup": no_backup,
        "--fold": fold,
        "--set-epsilon": epsilon is not None,
        "--set-momentum": momentum is not None,
    }
    if not fix and not diff:
        for name, is_given in given.items():
            if is_given:
                raise UsageError(f"{name} is about fixes", hint="give --fix or --diff with it")
        return None
    if epsilon is not None and not _SMALLEST <= epsilon < 1:
        raise UsageError(f"--set-epsilon {epsilon:g} is no epsilon", hint="give one as 1e-5")
    if momentum is not None and not 0 <= momentum <= 1:
        raise UsageError(
            f"--set-momentum {momentum:g} is no share of the old statistic", hint="give 0 to 1"
        )
    return FixOptions(
        epsilon=epsilon,
        momentum=momentum,
        fold=fold or FOLDING in selected,
        backup=not no_backup,
        diff=diff,
    )


def refuse_unselected(options: FixOptions, settings: CheckSettings) -> None:
    """Refuse to fold where nothing looks for what could be folded.

    Raises
    ------
    inspector.errors.UsageError
        See above.
    """
    from inspector.check.rules import RULES
    from inspector.check.select import selected

    run = {rule.info.code for rule in selected(RULES, settings)}
    if options.fold and FOLDING not in run:
        raise UsageError(
            f"--fold is about {FOLDING}, which is not selected",
            hint=f"give --extend-select {FOLDING} with it",
        )


def show_diff(check: Check, files: Sequence[FixedFile], *, quiet: bool) -> None:
    """The diff on standard output, and what it is of on standard error."""
    page, aside = _page(), Page(width=width(), color=wants_color(sys.stderr))
    write_diff(files, page)
    print_report(page.text() if page.lines else "")
    write_would([each for each in files if each.failure or not quiet], aside)
    for file in check.files:
        if file.unreadable:
            aside.line(printable(f"{file.path}: {file.unreadable}"), hang=2)
    if not quiet and not any(each.diff for each in files):
        left = sum(len(file.findings) for file in check.files)
        more = f", and {many(left, 'finding')} would be left" if left else ""
        aside.line(f"nothing would change{more}", hang=2)
    if aside.lines:
        print_aside(aside.text())


def show_fixes(files: Sequence[FixedFile], *, aside: bool, quiet: bool) -> None:
    """What was fixed; on standard error where standard output holds a report for programs."""
    told = [each for each in files if each.failure or not quiet]
    if not told:
        return
    page = Page(width=width(), color=wants_color(sys.stderr)) if aside or quiet else _page()
    if not (aside or quiet):
        page.blank()
    write_fixes(told, page)
    if aside or quiet:
        print_aside(page.text())
    else:
        print_report(page.text())


def fix_exit_code(check: Check, files: Sequence[FixedFile], *, diff: bool) -> ExitCode:
    """What is left decides; where that is nothing, whether something could not be done.

    With --diff: whether anything would change.
    """
    if diff:
        if any(each.diff for each in files):
            return ExitCode.FINDINGS
        code = ExitCode.UNREADABLE if check.unreadable else ExitCode.OK
    else:
        code = check_exit_code(check)
    if code is not ExitCode.OK:
        return code
    if any(each.unwritable for each in files):
        return ExitCode.UNREADABLE
    return ExitCode.UNDECIDED if any(each.failure for each in files) else ExitCode.OK


def _page() -> Page:
    return Page(width=width(), color=wants_color(sys.stdout))
