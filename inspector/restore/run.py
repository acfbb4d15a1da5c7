"""Restore a stock export against a reference that kept every BatchNorm: find, change, verify."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from inspector.errors import ExportDisagreesError, UsageError
from inspector.facts.restored import Agreement, Outcome, Restored
from inspector.facts.traced import Fate
from inspector.read.open import open_model
from inspector.read.shapes import with_inferred_shapes
from inspector.recognise import find_batchnorms
from inspector.restore.change import Changed, Changes
from inspector.restore.check import agreement, check_tensors
from inspector.restore.computed import with_weights
from inspector.restore.large import write
from inspector.write.save import check_destination

Progress = Callable[[str], None]


def silently(stage: str) -> None:
    """Say nothing of the progress."""


def restore(stock: Path, kept: Path, output: Path, *, progress: Progress | None = None) -> Restored:
    """Make the BatchNorms of a stock export nodes again, with the framework's tensors.

    Each is looked for by its numbers: in arithmetic, in the weights that took it in, or as the
    node that it still is. What is not found, or cannot be put back without changing a value that
    others read, stays as it is. The file is written only if it gives the stock file's outputs
    within what rounding explains, and every tensor is the framework's in every bit.

    Parameters
    ----------
    stock
        An ONNX file as an exporter or an optimiser wrote it.
    kept
        The same network's own export with every BatchNorm kept, as `inspector.export` writes it.
    output
        Where the restored file goes.
    progress
        Called with the name of each stage.

    Raises
    ------
    inspector.errors.UsageError
        The output cannot be written where it is to go, or the reference has no BatchNorm.
    inspector.errors.UnreadableError
        A file cannot be read or written.
    inspector.errors.ExportDisagreesError
        The restored model is not the stock model's function, or a tensor has other bits.
    inspector.errors.UndecidedError
        The restored model does not run, is not valid or too large for one file.
    """
    check_destination(output)
    return carried_out(stock, kept, output, progress or silently, is_network=True)


def carried_out(
    stock: Path, kept: Path, output: Path, say: Progress, *, is_network: bool
) -> Restored:
    """Restore; `is_network` says whether the reference is one whose outputs can be compared.

    Raises
    ------
    inspector.errors.UsageError, inspector.errors.UnreadableError
        See `restore`.
    inspector.errors.ExportDisagreesError, inspector.errors.UndecidedError
        See `restore`.
    """
    say("reading both models")
    reference, computed = with_weights(with_inferred_shapes(open_model(kept)))
    norms = find_batchnorms(reference)
    if not norms.batchnorms:
        raise UsageError(
            "the framework's model has no BatchNorm", where=str(kept), hint="nothing to restore"
        )
    model = with_inferred_shapes(open_model(stock))
    say("looking for the BatchNorms")
    changes = Changes(model, reference, norms)
    # What is large goes where there has to be room for it anyway.
    beside = output.resolve().parent if changes.is_large else None
    with tempfile.TemporaryDirectory(prefix=".bninspect-restore-", dir=beside) as folder:
        path = Path(folder) / "restored.onnx"
        changed, with_stock = _verified(changes, stock, path, output.name, say)
        if with_stock is None:
            return _nothing(changed.outcomes)
        with_reference = None
        if is_network:
            with_reference = agreement(kept, path, same_inputs=False, progress=say)
    size = write(changed.data, changed.fill, output)
    tensors = sum(len(each.four) for _, each in changed.wanted)
    return Restored(
        path=str(output),
        size=size,
        outcomes=changed.outcomes,
        with_stock=with_stock,
        with_reference=with_reference,
        bitwise=tensors,  # else it was refused
        of=tensors,
        notes=_on_computed(computed, changed.outcomes),
    )


def _on_computed(names: Sequence[str], outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """A note on weights that the framework holds as something else."""
    if not names or not any(each.restored and each.was is Fate.FOLDED for each in outcomes):
        return ()
    whose = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    return (f"the framework computes {whose} from other parameters: what they give is stored",)


def _verified(
    changes: Changes, stock: Path, path: Path, name: str, say: Progress
) -> tuple[Changed, Agreement | None]:
    """The largest change that keeps the stock model's outputs, at `path`; no agreement of none."""

    def tried(rows: Sequence[int]) -> tuple[Changed, Agreement | None]:
        changed = changes.made(rows)
        if not changed.wanted:
            return changed, None
        say("verifying the restored model")
        write(changed.data, changed.fill, path)
        check_tensors(path, changed.wanted, name)
        return changed, agreement(stock, path, same_inputs=True, progress=say)

    def holding(rows: Sequence[int]) -> list[int]:
        """Those that keep the outputs, found by halves."""
        found = tried(rows)[1]
        if found is None or found.within:
            return list(rows)
        if len(rows) == 1:
            return []
        middle = len(rows) // 2
        return holding(rows[:middle]) + holding(rows[middle:])

    everything = range(changes.count)
    changed, found = tried(everything)
    if found is not None and not found.within and not found.undecided:
        say("looking for the layers that change the outputs")
        changed, found = tried(holding(everything))
    if found is not None:
        _refuse_if_apart(found, name)
    return changed, found


def _nothing(outcomes: tuple[Outcome, ...]) -> Restored:
    return Restored(
        path="",
        size=0,
        outcomes=outcomes,
        with_stock=None,
        with_reference=None,
        bitwise=0,
        of=0,
        notes=("no BatchNorm could be restored, so nothing was written",),
    )


def _refuse_if_apart(found: Agreement, name: str) -> None:
    if found.within:
        return
    if found.undecided:
        what = f"the restored model cannot be verified: {found.undecided}"
    else:
        what = (
            f"the restored model's outputs lie {found.max_abs:.3g} from the stock model's, and "
            f"rounding explains {found.tolerance:.3g}"
        )
    raise ExportDisagreesError(
        what, where=name, hint="nothing was written; please report the model"
    )
