"""Checking: read, recognise, run the rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from inspector.errors import UnreadableError
from inspector.flows.opened import Path, opened

if TYPE_CHECKING:
    from inspector.check.rule import Rule
    from inspector.check.subject import Subject
    from inspector.facts.finding import CheckedFile, CheckSettings


def check_one(
    path: Path,
    settings: CheckSettings,
    *,
    baseline: Path | None = None,
    external_dirs: Sequence[Path] = (),
) -> CheckedFile:
    """Check one file; one that cannot be read is reported and raises nothing.

    Parameters
    ----------
    settings
        What is asked for.
    baseline
        The release before, for the rules about drift.
    external_dirs
        Folders in which data files may lie beside the models' own.

    Raises
    ------
    inspector.errors.UsageError
        The settings make no sense.
    inspector.errors.UnreadableError
        The baseline cannot be read.
    """
    from inspector.check import check
    from inspector.check.rules import RULES
    from inspector.check.select import selected
    from inspector.facts.finding import CheckedFile

    rules: tuple[Rule, ...] = selected(RULES, settings)
    before = None if baseline is None else _subject(baseline, external_dirs, None)
    try:
        return check(_subject(path, external_dirs, before), rules, settings)
    except UnreadableError as error:
        return CheckedFile(path=os.fspath(path), unreadable=str(error))


def _subject(path: Path, external_dirs: Sequence[Path], baseline: Subject | None) -> Subject:
    from inspector.check.subject import Subject
    from inspector.read.shapes import with_inferred_shapes
    from inspector.recognise import find_batchnorms
    from inspector.recognise.values import load_values

    model = opened(path, external_dirs)
    return Subject(
        model,
        find_batchnorms(model),
        load=load_values,
        infer=with_inferred_shapes,
        baseline=baseline,
    )
