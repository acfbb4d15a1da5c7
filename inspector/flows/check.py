"""Checking: read, recognise, run the rules; one file, or many in several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from inspector.errors import UnreadableError, UsageError
from inspector.flows.opened import Path, opened

if TYPE_CHECKING:
    from inspector.check.subject import Subject
    from inspector.facts.finding import Check, CheckedFile, CheckSettings
    from inspector.facts.model import Model

Progress = Callable[[int, int], None]


def check_files(
    paths: Path | Sequence[Path],
    settings: CheckSettings | None = None,
    *,
    baseline: Path | None = None,
    external_dirs: Sequence[Path] = (),
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Check:
    """Check files; what cannot be read is reported, and the rest is checked all the same.

    Parameters
    ----------
    paths
        Files, folders and patterns, see `inspector.flows.discover.discover`.
    settings
        What is asked for; every rule with its defaults where left out. Configuration files are
        read by `inspector.check.configuration` alone, never here.
    baseline
        The release before, for the rules about drift.
    external_dirs
        Folders in which data files may lie beside the models' own.
    jobs
        Processes that work at the same time; as many as there are processors where left out. A few
        small files are checked in this one, whatever it is. In processes of their own, a file that
        ends the process is reported as unreadable.
    progress
        Called with how many files are done, and of how many.

    Returns
    -------
    inspector.facts.finding.Check
        Its files are in the order of `paths`, whichever is done first.

    Raises
    ------
    inspector.errors.UsageError
        The settings make no sense, a folder or a pattern has no model, or one of `external_dirs`
        is none.
    inspector.errors.UnreadableError
        The baseline or a data file of it cannot be read, or a folder cannot be listed.
    """
    from inspector import __version__
    from inspector.check.rules import RULES
    from inspector.check.select import selected
    from inspector.facts.finding import Check, CheckSettings
    from inspector.flows.discover import discover

    settings = settings or CheckSettings()
    rules = selected(RULES, settings)
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    files = discover(several)
    if external_dirs:
        from inspector.read.external import Folders

        Folders.of(FilePath(), external_dirs)  # wrong ones are said once, not for each file
    say = progress or _silently
    workers = min(_processors() if jobs is None else jobs, _worth(files))
    if workers > 1:
        from inspector.flows.workers import check_in_processes

        if baseline is not None:
            # What is wrong with it is said once, and before any process is started.
            Checker(settings, baseline=baseline, external_dirs=external_dirs)
        checked = check_in_processes(
            files, settings, workers, baseline=baseline, external_dirs=external_dirs, progress=say
        )
    else:
        checker = Checker(settings, baseline=baseline, external_dirs=external_dirs)
        say(0, len(files))
        done = []
        for each in files:
            done.append(checker.check(each))
            say(len(done), len(files))
        checked = tuple(done)
    return Check(
        files=checked,
        rules=tuple(rule.info for rule in rules),
        fail_on=settings.fail_on,
        version=__version__,
    )


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
        The baseline or a data file of it cannot be read.
    """
    return Checker(settings, baseline=baseline, external_dirs=external_dirs).check(path)


class Checker:
    """Checks one file after the other with the same settings.

    Parameters and errors as those of `check_one`.
    """

    def __init__(
        self,
        settings: CheckSettings,
        *,
        baseline: Path | None = None,
        external_dirs: Sequence[Path] = (),
    ) -> None:
        from inspector.check.rules import RULES
        from inspector.check.select import selected

        self._settings = settings
        self._rules = selected(RULES, settings)
        self._external_dirs = tuple(external_dirs)
        self._baseline = None
        if baseline is not None:
            self._baseline = self._subject(baseline, None)
            _refuse_missing(self._baseline)

    def check(self, path: Path) -> CheckedFile:
        """What is found in a file; one that cannot be read is reported and raises nothing."""
        from inspector.check import check
        from inspector.facts.finding import CheckedFile
        from inspector.flows.remarks import remarks

        name = os.fspath(path)
        try:
            subject = self._subject(path, self._baseline)
            _refuse_missing(subject)
            notes = remarks(subject.model)
            return replace(check(subject, self._rules, self._settings, notes=notes), path=name)
        except UnreadableError as error:
            return CheckedFile(path=name, unreadable=_why(error, name))
        except UsageError:
            raise
        except MemoryError:
            return CheckedFile(path=name, unreadable="it needs more memory than there is")
        except Exception as error:  # a defect on one file is no reason to drop all
            if os.environ.get("BNINSPECT_DEBUG"):
                raise
            return CheckedFile(
                path=name,
                unreadable=f"this is a defect of bninspect ({type(error).__name__}: {error}); "
                "please report it with the output of BNINSPECT_DEBUG=1",
            )

    def _subject(self, path: Path, baseline: Subject | None) -> Subject:
        from inspector.check.subject import Subject
        from inspector.recognise import find_batchnorms
        from inspector.recognise.values import load_values

        model = opened(path, self._external_dirs)
        return Subject(
            model,
            find_batchnorms(model),
            load=load_values,
            infer=_inferred,
            baseline=baseline,
        )


def _refuse_missing(subject: Subject) -> None:
    """Refuse a model whose BatchNorms' values lie in files that are not there.

    Rules say nothing of values that they do not know, and that would pass.

    Raises
    ------
    inspector.errors.UnreadableError
        See above.
    """
    model = subject.model
    if not model.missing_data:
        return
    norms = subject.norms
    tensors = [each.tensor for norm in norms.batchnorms for _, each in norm.parameters]
    tensors += [step.tensor for norm in norms.batchnorms for step in norm.steps]
    tensors += [step.tensor for affine in norms.affines for step in affine.steps]
    if any(each is not None and each.external in model.missing_data for each in tensors):
        raise _missing(model)


def _missing(model: Model) -> UnreadableError:
    from inspector.read.external import data_files_missing

    return data_files_missing(model.missing_data, model.path)


def _why(error: UnreadableError, path: str) -> str:
    """What an error says, without the path under which it is reported."""
    text = str(error)
    if os.path.normpath(error.where) != os.path.normpath(path):
        return text
    return f"{error.what}; {error.hint}" if error.hint else error.what


def _processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Linux alone tells
        return os.cpu_count() or 1


def _inferred(model: Model) -> Model:
    # All of onnx, which most models can be checked without.
    from inspector.read.shapes import with_inferred_shapes

    return with_inferred_shapes(model)


def _worth(files: Sequence[str]) -> int:
    """How many processes have enough to do to be worth their start."""
    from inspector.flows.discover import size_of

    size = sum(map(size_of, files))
    return min(int((len(files) * _A_FILE + size * _A_BYTE) / _A_START), len(files))


# Seconds of a processor, as measured on a corpus of 247 files and 41 MB that takes 3.5 s.
_A_START = 0.4
_A_FILE = 0.008
_A_BYTE = 4e-8


def _silently(_done: int, _of: int) -> None:
    """Without `progress` nothing is said."""
