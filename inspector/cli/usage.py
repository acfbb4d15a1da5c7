"""Help and wrong usage, said in this project's way whichever library parses the arguments."""

from __future__ import annotations

from typing import Any

from typer import Exit
from typer.core import TyperCommand, TyperGroup

from inspector.cli.terminal import print_aside, print_report
from inspector.errors import ExitCode, UsageError


def usage_error(error: Exception) -> UsageError | None:
    """What the parser of arguments says in several lines, as one; None for any other error.

    Older releases of typer raise click's errors, newer ones those of a private module; what they
    have in common are `format_message` and `exit_code`
    (https://click.palletsprojects.com/en/stable/api/#exceptions).
    """
    wording = getattr(error, "format_message", None)
    if not callable(wording) or not isinstance(getattr(error, "exit_code", None), int):
        return None
    what = str(wording()).strip().removesuffix(".")
    command = getattr(getattr(error, "ctx", None), "command_path", None) or "bninspect"
    return UsageError(what[:1].lower() + what[1:], hint=f"see `{command} --help`")


class Command(TyperCommand):
    """A command whose help is written as its reports are."""

    def get_help_option(self, ctx: Any) -> Any:
        return _as_report(super().get_help_option(ctx))


class Group(TyperGroup):
    """A group whose help is written as reports are; alone it shows the help, as wrong usage."""

    def get_help_option(self, ctx: Any) -> Any:
        return _as_report(super().get_help_option(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            print_aside(f"{ctx.get_help()}\n")
            raise Exit(int(ExitCode.USAGE))
        return super().parse_args(ctx, args)


def _as_report(option: Any) -> Any:
    if option is not None:
        option.callback = _show_help
    return option


def _show_help(ctx: Any, _option: Any, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        print_report(f"{ctx.get_help()}\n")
        raise Exit
