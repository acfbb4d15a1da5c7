"""Verify each step of ``--fix`` before anything is replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspector.errors import UndecidedError
from inspector.facts.batchnorm import Form
from inspector.facts.fix import SetInference, SetNumber, Verified, WriteNative
from inspector.flows import compare
from inspector.flows.fix_plan import CHANGING, Planned

if TYPE_CHECKING:
    import onnx

    from inspector.check.subject import Subject
    from inspector.facts.batchnorm import BatchNorm
    from inspector.facts.comparison import Comparison

_ANY = 1e30
"""A tolerance where a difference is meant: why there is one is not to be looked for."""

Progress = Callable[[str], None]


class Verifier:
    """Holds a file before a step of the fixes against the one after.

    Parameters
    ----------
    folders
        In which data files may lie.
    progress
        Called with the name of each stage.
    """

    def __init__(self, folders: Sequence[Path], progress: Progress) -> None:
        self._folders = folders
        self._progress = progress

    def kept(
        self,
        files: tuple[Path, Path],
        protos: tuple[onnx.ModelProto, onnx.ModelProto],
        planned: Sequence[Planned],
        subject: Subject,
    ) -> Verified:
        """Verify a step that was to keep what the model computes.

        Parameters
        ----------
        subject
            The model after it.

        Raises
        ------
        inspector.errors.UndecidedError
            It does not, or that cannot be told.
        inspector.errors.UnreadableError
            The file that was made cannot be read.
        """
        from inspector.facts.comparison import Verdict
        from inspector.write.fix_proof import nothing_else, same_interface

        if not same_interface(*protos):
            raise UndecidedError("more than the graph would change")
        more = nothing_else(*protos, [each.change for each in planned])
        if more:
            raise UndecidedError(f"more than was meant would change: {more}")
        for each in planned:
            if isinstance(each.change, WriteNative):
                _check_written(each.change, subject)
        found = self._compared(*files)
        if found.verdict is Verdict.UNDECIDED:
            raise UndecidedError(f"it cannot be verified: {_reason(found)}")
        if found.verdict is Verdict.DIFFERENT:
            raise UndecidedError(f"the model would compute something else: {_reason(found)}")
        return _verified(found, planned, same=True)

    def changed(
        self,
        files: tuple[Path, Path],
        protos: tuple[onnx.ModelProto, onnx.ModelProto],
        planned: Sequence[Planned],
        subject: Subject,
    ) -> Verified:
        """Verify a step that was to change what the model computes, and nothing else.

        Parameters
        ----------
        subject
            The model after it.

        Raises
        ------
        inspector.errors.UndecidedError
            More has changed, or less, or the file does not run.
        inspector.errors.UnreadableError
            The file that was made cannot be read.
        """
        from inspector.facts.comparison import Verdict
        from inspector.write.fix_proof import only_these_differ

        changes = [e.change for e in planned if isinstance(e.change, SetInference | SetNumber)]
        more = only_these_differ(*protos, changes)
        if more:
            raise UndecidedError(f"more than was meant would change: {more}")
        by_place = {(norm.scope, norm.output): norm for norm in subject.norms.batchnorms}
        for change in changes:
            if not _is_done(change, by_place.get((change.scope, change.output))):
                raise UndecidedError(f"{change.output!r} would not be as it was to be")
        found = self._compared(*files, atol=_ANY)
        if found.verdict is Verdict.UNDECIDED:
            alone = self._compared(files[1], files[1])
            if alone.verdict is Verdict.UNDECIDED:
                raise UndecidedError(f"the fixed file cannot be verified: {_reason(alone)}")
        return _verified(found, planned, same=False)

    def _compared(self, before: Path, after: Path, atol: float | None = None) -> Comparison:
        return compare.compare_files(
            before, after, external_dirs=self._folders, progress=self._progress, atol=atol
        )


def _check_written(change: WriteNative, subject: Subject) -> None:
    """Read a new node back: its parameters are those of the arithmetic in every bit."""
    wanted = [each.values for each in change.parameters]
    for norm in subject.norms.batchnorms:
        if norm.scope != change.scope or norm.form is not Form.NATIVE or norm.training:
            continue
        arrays = subject.arrays(norm)
        four = (arrays.scale, arrays.bias, arrays.mean, arrays.var)
        same = all(
            one is not None and one.dtype == other.dtype and one.tobytes() == other.tobytes()
            for one, other in zip(four, wanted, strict=True)
        )
        if same and np.float32(norm.epsilon or 0.0) == np.float32(change.epsilon):
            return
    raise UndecidedError(f"the parameters of {change.name} are not found again in every bit")


def _is_done(change: SetInference | SetNumber, norm: BatchNorm | None) -> bool:
    """Whether a BatchNorm, as it is read again, is what a change was to make of it."""
    if norm is None:
        return False
    if isinstance(change, SetInference):
        return not norm.training
    number = norm.epsilon if change.name == "epsilon" else norm.momentum
    return number is not None and np.float32(number) == np.float32(change.value)


def _verified(found: Comparison, planned: Sequence[Planned], *, same: bool) -> Verified:
    differences = [each.difference for each in found.outputs]
    known = bool(differences)
    return Verified(
        rules=tuple(sorted({each.finding.rule for each in planned})),
        verdict=found.verdict,
        same=same,
        max_abs=max(each.max_abs for each in differences) if known else None,
        relative=max(each.relative for each in differences) if known else None,
        changed=tuple(dict.fromkeys(each.words for each in planned)),
    )


def _reason(found: Comparison) -> str:
    """Why a comparison came out as it did, without the names of files that are gone soon."""
    reason = found.reason
    for path in sorted((found.left, found.right), key=len, reverse=True):
        reason = reason.replace(f"{path}: ", "").replace(path, "the file")
    return reason


def is_changing(planned: Sequence[Planned]) -> bool:
    """Whether a step was to change what the model computes."""
    return any(each.finding.rule in CHANGING for each in planned)
