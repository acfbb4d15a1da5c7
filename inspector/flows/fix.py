"""Fixing: plan what answers the findings, change a copy, verify it, put it in the file's place."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, TypeAlias

from inspector.errors import InspectorError, UndecidedError, UnreadableError, escaped
from inspector.facts.fix import FixedFile, FixOptions, Refused, Verified
from inspector.flows.check import Checker
from inspector.flows.fix_known import gone, place_of
from inspector.flows.fix_plan import GROUPS, Plan, Planned, plan, wanted
from inspector.flows.fix_verify import Verifier, is_changing
from inspector.flows.opened import Path, opened

if TYPE_CHECKING:
    import onnx

    from inspector.check.subject import Subject
    from inspector.facts.finding import Check, CheckedFile, CheckSettings, Finding

Progress: TypeAlias = Callable[[str], None]

_MOST_STEPS = 24
"""Of one file: what a step has changed may show the next what to fix."""


def fix_files(
    check: Check,
    settings: CheckSettings,
    options: FixOptions,
    *,
    baseline: Path | None = None,
    external_dirs: Sequence[Path] = (),
    progress: Progress | None = None,
) -> tuple[Check, tuple[FixedFile, ...]]:
    """Fix what can be fixed of the findings of a check.

    Each file is changed in a copy beside it, the copy is compared with it, and only then takes its
    place. Whatever fails, the file stays as it was in every byte.

    Parameters
    ----------
    check
        What was found, see `inspector.flows.check.check_files`.
    settings, baseline, external_dirs
        What it was asked for.
    options
        What is asked of the fixes.
    progress
        Called with the name of each stage.

    Returns
    -------
    inspector.facts.finding.Check
        What is left. With `FixOptions.diff`, `check` as it is.
    tuple of inspector.facts.fix.FixedFile
        One for each file that has something to fix.
    """
    checker = Checker(settings, baseline=baseline, external_dirs=external_dirs)
    files: list[CheckedFile] = []
    done: list[FixedFile] = []
    for file in check.files:
        files.append(file)
        if file.unreadable or not any(wanted(each, options) for each in file.findings):
            continue
        fixed = _Fixer(file, settings, options, external_dirs, progress or _silently).fix()
        if not options.diff:
            # Even where nothing was fixed: the same file may have been, by another name.
            files[-1] = checker.check(file.path)
            if fixed.verified:
                fixed = replace(fixed, fixed=gone(file.findings, files[-1].findings))
        done.append(fixed)
    return replace(check, files=tuple(files)), tuple(done)


def _silently(_: str) -> None:
    """Without `progress` nothing is said."""


class _Fixer:
    """Fixes one file, step by step."""

    def __init__(
        self,
        file: CheckedFile,
        settings: CheckSettings,
        options: FixOptions,
        external_dirs: Sequence[Path],
        progress: Progress,
    ) -> None:
        path = FilePath(file.path)
        own = dict.fromkeys((path.parent, FilePath(os.path.realpath(path)).parent))
        self._file, self._settings, self._options = file, settings, options
        self._folders = (*own, *map(FilePath, external_dirs))
        self._progress = progress
        self._verifier = Verifier(self._folders, progress)
        self._given_up: dict[str, str] = {}
        self._cannot: dict[tuple[object, ...], Refused] = {}
        self._alone = False
        self._verified: list[Verified] = []
        self._refused: list[Refused] = []

    def fix(self) -> FixedFile:
        """Fix what can be fixed; what goes wrong is reported and raises nothing."""
        found = FixedFile(path=self._file.path, before=len(self._file.findings))
        try:
            return self._fixed(found)
        except InspectorError as error:
            return replace(
                found,
                failure=_plain(error, self._file.path),
                unwritable=isinstance(error, UnreadableError),
            )
        except MemoryError:
            return replace(found, failure="it needs more memory than there is; nothing was changed")
        except Exception as error:  # a defect on one file is no reason to leave all others
            if os.environ.get("BNINSPECT_DEBUG"):
                raise
            return replace(
                found,
                failure=f"this is a defect of bninspect ({type(error).__name__}: "
                f"{escaped(str(error))}); nothing was changed; please report it with the output "
                "of BNINSPECT_DEBUG=1",
            )

    def _fixed(self, found: FixedFile) -> FixedFile:
        from inspector.write.fix_folder import Original
        from inspector.write.fix_text import difference
        from inspector.write.fixes import has_manifest, is_valid, read_whole

        path = self._file.path
        original = None if self._options.diff else Original(path)
        before = read_whole(path)
        with self._folder(original) as folder:
            after, made = self._steps(before, folder)
            if made is not None and is_valid(before) and is_valid(after) is False:
                raise UndecidedError("the fixed file is not valid ONNX; nothing was changed")
            found = replace(
                found,
                refused=tuple(self._refused),
                failure=self._failure(),
                verified=tuple(self._verified),
            )
            if made is None:
                return found
            notes: tuple[str, ...] = ()
            if has_manifest(before) and not has_manifest(after):
                notes = (
                    "the export's manifest was taken out: it told of the file as it was exported",
                )
            if original is None:
                return replace(found, diff=difference(before, after, path), notes=notes)
            backup = original.replace(made, backup=self._options.backup)
        return replace(found, backup=backup, notes=notes)

    @contextmanager
    def _folder(self, original: object) -> Iterator[FilePath]:
        from inspector.write.fix_folder import Original, workshop

        if isinstance(original, Original):
            with workshop(original) as folder:
                yield folder
        else:
            with tempfile.TemporaryDirectory(prefix="bninspect-") as made:
                yield FilePath(made)

    def _steps(
        self, before: onnx.ModelProto, folder: FilePath
    ) -> tuple[onnx.ModelProto, FilePath | None]:
        """The model after all steps that were verified, and its file; none where none was."""
        proto, file, made = before, FilePath(self._file.path), None
        for number in range(_MOST_STEPS):
            subject, findings = self._look(file)
            todo = plan(subject, findings, self._options)
            refused = [each for each in todo.refused if self._is_open(each.finding)]
            self._refused = [*refused, *self._cannot.values()]
            step = self._next(todo)
            if not step:
                break
            # Unlike any name of a data file, which would be looked for beside it first.
            made_there = folder / f"{number}.{secrets.token_hex(8)}.part"
            after = self._step(proto, step, file, made_there)
            if after is not None:
                proto, file = after
                made = file
        return proto, made

    def _is_open(self, finding: Finding) -> bool:
        return finding.rule not in self._given_up

    def _next(self, todo: Plan) -> list[Planned]:
        """What is done in one step: all of one group, or of one rule where that went wrong."""
        for group in GROUPS:
            found = [
                each
                for each in todo.planned
                if each.finding.rule in group
                and self._is_open(each.finding)
                and place_of(each) not in self._cannot
            ]
            if found:
                first = found[0].finding.rule
                return [e for e in found if not self._alone or e.finding.rule == first]
        return []

    def _step(
        self,
        proto: onnx.ModelProto,
        step: Sequence[Planned],
        file: FilePath,
        made: FilePath,
    ) -> tuple[onnx.ModelProto, FilePath] | None:
        """Make a step and verify it; None where it is not to be made."""
        from inspector.write.fix_folder import write_part
        from inspector.write.fixes import serialised, with_changes

        self._progress(f"fixing {self._file.path}")
        after, why_not = with_changes(proto, [each.change for each in step])
        for at, why in why_not.items():
            each = step[at]
            self._cannot[place_of(each)] = Refused(finding=each.finding, why=why)
        step = [each for at, each in enumerate(step) if at not in why_not]
        if not step:
            return None
        write_part(serialised(after, self._file.path), made, self._file.path)
        files, protos = (file, made), (proto, after)
        try:
            verify = self._verifier.changed if is_changing(step) else self._verifier.kept
            found = verify(files, protos, step, self._subject(made))
        except (UndecidedError, UnreadableError) as error:
            made.unlink()
            rules = {each.finding.rule for each in step}
            if len(rules) > 1:
                self._alone = True
            else:
                self._give_up(rules.pop(), error.what)
            return None
        self._verified.append(found)
        return after, made

    def _give_up(self, rule: str, why: str) -> None:
        self._given_up.setdefault(rule, why)

    def _failure(self) -> str:
        told = [f"{rule} was not fixed: {why}" for rule, why in sorted(self._given_up.items())]
        return "; ".join(told)

    def _look(self, path: FilePath) -> tuple[Subject, Sequence[Finding]]:
        """A file as it is by now, and what is found in it."""
        from inspector.check import check
        from inspector.check.rules import RULES
        from inspector.check.select import selected

        subject = self._subject(path)
        checked = check(subject, selected(RULES, self._settings), self._settings)
        return subject, checked.findings

    def _subject(self, path: FilePath) -> Subject:
        from inspector.check.subject import Subject
        from inspector.read.shapes import with_inferred_shapes
        from inspector.recognise import find_batchnorms
        from inspector.recognise.values import load_values

        # Ignores go by the path that the user knows.
        model = replace(opened(path, self._folders), path=self._file.path)
        return Subject(model, find_batchnorms(model), load=load_values, infer=with_inferred_shapes)


def _plain(error: InspectorError, path: str) -> str:
    """What an error says, without the path under which it is reported."""
    if os.path.normpath(error.where or path) != os.path.normpath(path):
        return str(error)
    return escaped(f"{error.what}; {error.hint}" if error.hint else error.what)
