"""The options of `check`, and what is written in them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from inspector.cli.outputs import CheckFormat
from inspector.errors import UsageError

if TYPE_CHECKING:
    from inspector.facts.finding import Severity


class FailOn(StrEnum):
    """The least severity that makes a check fail."""

    error = "error"
    warning = "warning"
    info = "info"
    never = "never"


PathsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="ONNX files, folders that are searched for *.onnx, or patterns ('models/**').",
        show_default=False,
    ),
]
SelectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="CODES",
        help="Run these rules alone: codes or beginnings of codes, with commas; repeatable.",
    ),
]
ExtendSelectOption = Annotated[
    list[str] | None,
    typer.Option("--extend-select", metavar="CODES", help="Run these rules, too."),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="CODES", help="Do not run these rules."),
]
SeverityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--severity",
        metavar="CODE=SEVERITY",
        help="Another severity for a rule, as BN015=info; repeatable.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="CODE.OPTION=N",
        help="Another number for a rule to go by, as BN014.slope=1e4; repeatable.",
    ),
]
FailOnOption = Annotated[
    FailOn | None,
    typer.Option(
        "--fail-on", help="The least severity that gives exit code 1; warning where left out."
    ),
]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        "--baseline", metavar="FILE", help="The release before: says what has drifted since."
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration, instead of the nearest bninspect.toml or [tool.bninspect] of a "
        "pyproject.toml.",
    ),
]
IsolatedOption = Annotated[bool, typer.Option("--isolated", help="Read no configuration at all.")]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Processes that work at the same time; as many as processors where left out.",
    ),
]
CheckFormatOption = Annotated[
    CheckFormat, typer.Option("--format", help="How to write the report to standard output.")
]
ReportsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="[FORMAT:]FILE",
        help="Write a report to a file, too: sarif:out.json, or by its suffix (.json, .sarif, .xml "
        "for junit, .md, .txt); repeatable.",
    ),
]
FullOption = Annotated[
    bool, typer.Option("--full", help="Show all findings, however many a rule has in a file.")
]
ShowIgnoredOption = Annotated[
    bool, typer.Option("--show-ignored", help="Show what was ignored, too, and why.")
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Show findings alone, and what cannot be read."),
]
FixOption = Annotated[
    bool,
    typer.Option(
        "--fix",
        help="Fix in the files what can be fixed safely; each fix is verified before a file is "
        "replaced.",
    ),
]
DiffOption = Annotated[
    bool, typer.Option("--diff", help="Show what --fix would change, and write nothing.")
]
NoBackupOption = Annotated[
    bool, typer.Option("--no-backup", help="With --fix: keep no copy (FILE.bak) of what it fixes.")
]
FoldOption = Annotated[
    bool,
    typer.Option(
        "--fold",
        help="With --fix: fold BatchNorms into the operators in front of them, too (BN033).",
    ),
]
SetEpsilonOption = Annotated[
    float | None,
    typer.Option(
        "--set-epsilon",
        metavar="N",
        help="With --fix: the epsilon to set where BN043 or BN044 complain of one.",
    ),
]
SetMomentumOption = Annotated[
    float | None,
    typer.Option(
        "--set-momentum",
        metavar="N",
        help="With --fix: the momentum to set where BN045 complains of one.",
    ),
]


def codes(given: Sequence[str] | None) -> tuple[str, ...]:
    """Codes with commas between, in capitals."""
    return tuple(
        code.strip().upper() for each in given or () for code in each.split(",") if code.strip()
    )


def severities(given: Sequence[str] | None) -> dict[str, Severity]:
    """Severities by code, from ``BN015=info``.

    Raises
    ------
    inspector.errors.UsageError
        It is written in another way.
    """
    from inspector.facts.finding import Severity

    found = {}
    for each in given or ():
        code, _, word = each.partition("=")
        if word.strip().lower() not in set(Severity):
            raise UsageError(
                f"--severity {each!r} names no severity",
                hint="write it as BN015=info, with error, warning or info",
            )
        found[code.strip().upper()] = Severity(word.strip().lower())
    return found


def numbers(given: Sequence[str] | None) -> dict[str, dict[str, float]]:
    """Thresholds by code and name, from ``BN014.slope=1e4``.

    Raises
    ------
    inspector.errors.UsageError
        It is written in another way.
    """
    found: dict[str, dict[str, float]] = {}
    for each in given or ():
        place, _, text = each.partition("=")
        code, point, name = place.strip().partition(".")
        try:
            value = float(text)
        except ValueError:
            point = ""
        if not point:
            raise UsageError(f"--set {each!r} sets no number", hint="write it as BN014.slope=1e4")
        found.setdefault(code.upper(), {})[name] = value
    return found
