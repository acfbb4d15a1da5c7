"""The commands and their options."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from inspector.cli.check import add_check
from inspector.cli.compare import add_compare
from inspector.cli.exports import add_exports
from inspector.cli.group import DefaultGroup
from inspector.cli.options import (
    ExternalDirOption,
    Format,
    FormatOption,
    ModelArgument,
    Style,
    TableFormat,
    TableFormatOption,
)
from inspector.cli.terminal import print_report, wants_color, width
from inspector.cli.usage import Command
from inspector.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from inspector.facts.reconciliation import Explanation, Reconciliation

_HELP = """Tell the truth about BatchNorm in any ONNX model, whichever framework wrote it.

`bninspect MODEL.onnx` is short for `bninspect inspect MODEL.onnx`.

Exit codes: 0 fine, 1 findings or different, 2 wrong usage, 3 input that cannot be read,
4 undecided.
"""

app = typer.Typer(
    cls=DefaultGroup,
    help=_HELP,
    add_completion=False,
    # Plain help: Rich's frames cost more time than all the rest of `--help` together.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from inspector import __version__

        print_report(f"bninspect {__version__}\n")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(cls=Command, short_help="Show BatchNorms, and count parameters three ways.")
def inspect(
    model: ModelArgument,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="REFERENCE",
            help="The same network with its BatchNorms kept: says what became of each of them.",
        ),
    ] = None,
    external_dir: ExternalDirOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Show a model's BatchNorms and count its parameters in each framework's way."""
    from inspector.flows import inspect_file
    from inspector.report import render

    fact = inspect_file(model, against=against, external_dirs=external_dir or ())
    print_report(render(fact, format, width=width(), color=wants_color(sys.stdout)))


@app.command(cls=Command, short_help="List a model's layers as Keras, PyTorch or ONNX would.")
def summary(
    model: ModelArgument,
    style: Annotated[
        Style | None,
        typer.Option(
            "--style",
            case_sensitive=False,
            help="Whose summary it looks like; the model's own where the file tells.",
        ),
    ] = None,
    external_dir: ExternalDirOption = None,
    format: TableFormatOption = TableFormat.text,
) -> None:
    """List a model's layers, whichever framework it came from, as a user of one knows them."""
    from inspector.flows import summarise_file, summary_table
    from inspector.report import render

    fact = summary_table(summarise_file(model, external_dirs=external_dir or ()), style or "")
    print_report(render(fact, format, width=width(), color=wants_color(sys.stdout)))


@app.command(cls=Command, short_help="Why two totals of parameters differ, to the unit.")
def reconcile(
    left: Annotated[str, typer.Argument(metavar="A", help="An ONNX file.")],
    right: Annotated[
        str | None, typer.Argument(metavar="[B]", help="The ONNX file to hold against it.")
    ] = None,
    total: Annotated[
        str | None,
        typer.Option("--total", metavar="N", help="A number from somebody's summary instead of B."),
    ] = None,
    external_dir: ExternalDirOption = None,
    format: TableFormatOption = TableFormat.text,
) -> None:
    """Say why two models, or a model and a number, have other totals: a list that adds up.

    Exits with 1 where something is left unexplained.
    """
    from inspector.flows import explain_total, reconcile_files
    from inspector.report import render

    fact: Reconciliation | Explanation
    if (right is None) is (total is None):
        given = "one model alone" if right is None else "a second model and a total"
        raise UsageError(f"reconcile is given {given}", hint="give either B or --total N")
    if right is not None:
        fact = reconcile_files(left, right, external_dirs=external_dir or ())
    else:
        assert total is not None  # one of the two is given
        fact = explain_total(left, _count(total), external_dirs=external_dir or ())
    print_report(render(fact, format, width=width(), color=wants_color(sys.stdout)))
    if not fact.is_explained:
        raise typer.Exit(ExitCode.FINDINGS)


add_compare(app)
add_check(app)


def _count(text: str) -> int:
    """A number of parameters as summaries print it: ``13,108,758``."""
    plain = text.strip().replace(",", "").replace("_", "")
    if not plain.isdecimal() or len(plain) > _MOST_DIGITS:
        raise UsageError(
            f"--total {text!r} is no number of parameters",
            hint="give a whole number, as 13108758 or 13,108,758",
        )
    return int(plain)


_MOST_DIGITS = 18


add_exports(app)
