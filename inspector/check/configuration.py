"""Find and read the configuration file that a check goes by."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspector.check.rule import Rule
from inspector.check.settings import Configuration, configuration
from inspector.check.table import Table
from inspector.errors import UsageError

OWN = "bninspect.toml"
PROJECT = "pyproject.toml"
_TABLE = "tool.bninspect"


def find_configuration(start: Path, rules: Sequence[Rule]) -> Configuration:
    """The settings of the nearest file that has any, from a folder upwards; else the defaults.

    In one folder, ``bninspect.toml`` goes before ``pyproject.toml``, which counts only where it
    has a table ``[tool.bninspect]``.

    Raises
    ------
    inspector.errors.UsageError
        A file on the way cannot be read, or what it says makes no sense.
    """
    folder = start.absolute()
    for each in (folder, *folder.parents):
        own, project = each / OWN, each / PROJECT
        # Not `Path.is_file`, which raises where a folder above may not be looked into.
        if os.path.isfile(own):
            return configuration(_top(_read(own), own), own, rules)
        if os.path.isfile(project) and (table := _table(_read(project), project)) is not None:
            return configuration(table, project, rules, within=f"{_TABLE}.")
    return Configuration()


def read_configuration(path: Path, rules: Sequence[Rule]) -> Configuration:
    """The settings of a file: a ``pyproject.toml``, or one whose top level they are.

    Raises
    ------
    inspector.errors.UsageError
        It is not there or cannot be read, or what it says makes no sense.
    """
    whole = _read(path)
    if path.name != PROJECT:
        return configuration(_top(whole, path), path, rules)
    table = _table(whole, path)
    if table is None:
        raise UsageError(
            f"there is no table [{_TABLE}] in it", where=str(path), hint="add it, or name another"
        )
    return configuration(table, path, rules, within=f"{_TABLE}.")


def _top(whole: dict[str, Any], path: Path) -> dict[str, Any]:
    """The top level of a file of its own."""
    if "tool" in whole:
        raise UsageError(
            f"[{_TABLE}] is for a {PROJECT}",
            where=str(path),
            hint=f"here the settings are the top level: leave out [{_TABLE}], and write "
            f"[severity] for [{_TABLE}.severity]",
        )
    return whole


def _table(whole: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """The table in a ``pyproject.toml``; None where it has none."""
    tool = Table(whole, where=str(path)).table("tool")
    return dict(tool.table("bninspect").values) if "bninspect" in tool else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise UsageError(
            f"the configuration cannot be read ({what})",
            where=str(path),
            hint="check the path, or do without any: --isolated",
        ) from None
    except UnicodeError:
        raise UsageError(
            "the configuration is not written in UTF-8", where=str(path), hint="save it so"
        ) from None
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        raise UsageError(
            f"the configuration is no TOML: {said[:1].lower()}{said[1:]}",
            where=str(path),
            hint="mend it, or do without any: --isolated",
        ) from None
