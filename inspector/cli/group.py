"""The command group that takes a bare file name for `inspect`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

DEFAULT = "inspect"


class DefaultGroup(TyperGroup):
    """Runs `inspect` where the first word is neither a command nor an option of the group."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)
