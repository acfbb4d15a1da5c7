"""Settings from a configuration file's table, and what the command line adds to them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from inspector.check.rule import Rule
from inspector.check.select import check_settings
from inspector.check.table import Table
from inspector.errors import UsageError
from inspector.facts.finding import CheckSettings, Ignore, Severity

NEVER = "never"
"""What ``fail-on`` is where no finding is to make a check fail."""

_KEYS = (
    "select",
    "extend-select",
    "ignore",
    "fail-on",
    "severity",
    "options",
    "ignores",
    "per-file-ignores",
    "baseline",
    "external-dir",
    "jobs",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a configuration file asks for; `path` is empty where there is none.

    Paths in it are those of the file's folder.
    """

    settings: CheckSettings = field(default_factory=CheckSettings)
    baseline: str = ""
    external_dirs: tuple[str, ...] = ()
    jobs: int | None = None
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for; None and empty where it says nothing."""

    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    severities: Mapping[str, Severity] = field(default_factory=dict)
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fail_on: str = ""


def configuration(
    values: Mapping[str, object], path: Path, rules: Sequence[Rule], *, within: str = ""
) -> Configuration:
    """The settings of a table of TOML.

    Parameters
    ----------
    values
        The table, as `tomllib` reads it.
    path
        The file that it stands in.
    rules
        Those that there are: codes and options are held against them.
    within
        The table's name in the file, with a full stop behind it.

    Raises
    ------
    inspector.errors.UsageError
        A key is unknown or a value makes no sense; the message says which would.
    """
    table = Table(values, where=str(path), name=within)
    table.allow(_KEYS)
    folder = path.absolute().parent
    settings = CheckSettings(
        select=(*table.strings("select", ("BN",)), *table.strings("extend-select")),
        ignore=table.strings("ignore"),
        severities=_severities(table.table("severity")),
        thresholds={
            code: {key: own.number(key) for key in own}
            for code, own in table.table("options").tables()
        },
        ignores=(
            *(each for row in table.rows("ignores") for each in _ignores(row, folder)),
            *_by_file(table.table("per-file-ignores"), folder),
        ),
        fail_on=fail_on(table.word("fail-on", (*Severity, NEVER), Severity.WARNING)),
    )
    try:
        check_settings(rules, settings)
    except UsageError as error:
        raise UsageError(error.what, where=str(path), hint=error.hint) from None
    baseline = table.string("baseline")
    return Configuration(
        settings=settings,
        baseline=str(folder / baseline) if baseline else "",
        external_dirs=tuple(str(folder / each) for each in table.strings("external-dir")),
        jobs=table.count("jobs"),
        path=str(path),
    )


def with_asked(settings: CheckSettings, asked: Asked) -> CheckSettings:
    """Settings of a file, and over them those of the command line.

    As ruff does: ``--select`` takes the place of what the file selects and ignores, all else is
    added, and wins over what the file says of the same codes.
    """
    if asked.select is None:
        select = _but(settings.select, asked.ignore)
        ignore = tuple(each for each in settings.ignore if each not in asked.extend_select)
    else:
        select, ignore = asked.select, ()
    thresholds = {code: dict(each) for code, each in settings.thresholds.items()}
    for code, numbers in asked.thresholds.items():
        thresholds[code] = {**thresholds.get(code, {}), **numbers}
    kept = _but(settings.severities, asked.severities)
    return replace(
        settings,
        select=(*select, *asked.extend_select),
        ignore=(*ignore, *asked.ignore),
        severities={**{each: settings.severities[each] for each in kept}, **asked.severities},
        thresholds=thresholds,
        fail_on=fail_on(asked.fail_on) if asked.fail_on else settings.fail_on,
    )


def fail_on(word: str) -> Severity | None:
    """The severity that a word means; None for ``never``."""
    return None if word == NEVER else Severity(word)


def _but(codes: Iterable[str], prefixes: Iterable[str]) -> tuple[str, ...]:
    """Codes that begin with none of `prefixes`."""
    begins = tuple(prefixes)
    return tuple(each for each in codes if not each.startswith(begins))


def _severities(table: Table) -> dict[str, Severity]:
    return {code: Severity(table.word(code, tuple(Severity), "")) for code in table}


def _ignores(row: Table, folder: Path) -> Iterable[Ignore]:
    """What one table of ``ignores`` asks for, a fact for each pair of patterns."""
    row.allow(("rules", "files", "layers", "reason"))
    reason = row.string("reason").strip()
    if not reason:
        raise row.wrong("has no reason", "say why these findings are not to be told")
    rules = row.strings_or_one("rules")
    files, layers = row.strings_or_one("files"), row.strings_or_one("layers")
    if not (rules or files or layers):
        raise row.wrong("would ignore all findings", "give it rules, files or layers")
    places = [place for each in files for place in _anchored(each, folder)]
    for place in places or ("",):
        for layer in layers or ("",):
            yield Ignore(rules=rules, files=place, layers=layer, reason=reason)


def _by_file(table: Table, folder: Path) -> Iterable[Ignore]:
    """What ``per-file-ignores`` asks for: as in ruff, without a reason of its own."""
    for pattern in table:
        for place in _anchored(pattern, folder):
            yield Ignore(
                rules=table.strings(pattern),
                files=place,
                reason=f"per-file-ignores of {pattern!r}",
            )


def _anchored(pattern: str, folder: Path) -> tuple[str, ...]:
    """A pattern that names folders, from the root on; one of names alone fits in any folder.

    As in a shell, ``**/`` may stand for no folder at all.
    """
    head, any_folders, tail = pattern.partition("**/")
    if any_folders:
        return (*_anchored(head + tail, folder), *_anchored(f"{head}*/{tail}", folder))
    if "/" not in pattern:
        return (pattern,)
    return (os.path.normpath(Path(glob.escape(str(folder))) / pattern).replace("\\", "/"),)
