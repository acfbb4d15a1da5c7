"""The command group that takes a bare file name for `inspect`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from inspector.cli.usage import Group
from inspector.errors import UsageError

DEFAULT = "inspect"


class DefaultGroup(Group):
    """Runs `inspect` where the first word is neither a command nor an option of the group."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            refuse_mistaken(args, self.commands)
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


def refuse_mistaken(args: list[str], commands: Iterable[str]) -> None:
    """Say so where the words look like another command than `inspect`.

    Raises
    ------
    inspector.errors.UsageError
        The first word is nearly a command's name, or two files are given.
    """
    first = args[0]
    word = first.isalpha() and not os.path.lexists(first)
    if word and (meant := _nearest(first, commands)):
        raise UsageError(
            "neither a command nor a file",
            where=first,
            hint=f"did you mean `bninspect {meant}`?",
        )
    # A word behind an option is its value.
    words = [word for before, word in zip(["", *args], args, strict=False) if before[:1] != "-"]
    files = [word for word in words if os.path.isfile(word)]
    if len(files) > 1:
        raise UsageError(
            f"{len(files)} files are given, and inspect takes one",
            hint="to hold two against each other: bninspect compare LEFT RIGHT",
        )


def _nearest(word: str, commands: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word.lower(), commands, n=1)), None)
