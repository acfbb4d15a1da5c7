"""Restore a stock export from a file of weights, with no code of the network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from inspector.errors import UsageError
from inspector.facts.restored import Restored
from inspector.read.open import open_model
from inspector.read.shapes import with_inferred_shapes
from inspector.recognise import find_batchnorms
from inspector.restore.run import Progress, carried_out, silently
from inspector.restore.tensors import Array
from inspector.restore.weights import COMMON, Placed, placed
from inspector.write.reference import Described, reference_of
from inspector.write.save import check_destination, save


def restore_from_tensors(
    stock: Path,
    tensors: Mapping[str, Array],
    output: Path,
    *,
    progress: Progress | None = None,
) -> Restored:
    """As `restore`, from the tensors of a weights file by name, with no code of the network.

    Where each BatchNorm is, and its epsilon, is found by the numbers; what fits no layer of the
    stock export under any epsilon is not restored. The momentum stays what the stock export says.

    Raises
    ------
    inspector.errors.UsageError
        See `restore`; or no BatchNorm is among the tensors.
    inspector.errors.UnreadableError, inspector.errors.ExportDisagreesError
        See `restore`.
    inspector.errors.UndecidedError
        See `restore`.
    """
    check_destination(output)
    say = progress or silently
    say("looking for the weights in the model")
    model = with_inferred_shapes(open_model(stock))
    found = placed(model, find_batchnorms(model), tensors)
    if not found:
        raise UsageError(
            "no BatchNorm is among the tensors",
            hint="they are told by names like bn.running_mean or bn/moving_mean",
        )
    with tempfile.TemporaryDirectory(prefix="bninspect-restore-") as folder:
        path = Path(folder) / "weights.onnx"
        save(reference_of([_described(each) for each in found]), path)
        restored = carried_out(stock, path, output, say, is_network=False)
    return _told_by_weights(restored, found)


def _described(each: Placed) -> Described:
    """A BatchNorm, and the layer before it, as the reference is to hold them."""
    weight = bias = None
    if each.weight is not None and each.matrix is not None:
        weight = each.weight.name, each.matrix
        if each.weight.bias is not None:
            bias = each.weight.bias_name, each.weight.bias
    return Described(
        name=each.group.name,
        names=each.group.names,
        four=each.group.four,
        # What fits nothing is in the reference all the same, so that it is reported.
        epsilon=each.epsilons[0] if each.epsilons else COMMON[0],
        weight=weight,
        bias=bias,
    )


def _told_by_weights(restored: Restored, found: Sequence[Placed]) -> Restored:
    """The same with what weights alone leave open."""
    notes = list(restored.notes)
    notes.append("weights tell no momentum: it stays what the stock export says, or ONNX's 0.9")
    notes += _on_epsilons(found)
    nowhere = {each.group.name for each in found if not each.epsilons}
    why = (
        "nothing in the stock export has its numbers as they are, under any epsilon; what was "
        "merged with other numbers is found from the model, not from weights alone"
    )
    outcomes = tuple(
        replace(each, why_not=why) if each.name in nowhere and not each.restored else each
        for each in restored.outcomes
    )
    return replace(restored, outcomes=outcomes, notes=tuple(notes))


def _on_epsilons(found: Sequence[Placed]) -> Iterator[str]:
    """How sure the epsilons are that were found, those that are alike in one line."""
    alike: dict[tuple[float, ...], list[str]] = {}
    for each in found:
        alike.setdefault(each.epsilons, []).append(each.group.name)
    for epsilons, names in alike.items():
        first, *others = epsilons or (0.0,)
        whose = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        if others:
            also = " or ".join(f"{each:g}" for each in others)
            yield f"epsilon of {whose}: {first:g} fits best; {also} is the same within rounding"
        elif first and not any(np.float32(first) == np.float32(each) for each in COMMON):
            yield (
                f"epsilon of {whose}: {first:g} is not one in common use; the stock export says "
                "it, or no shorter number fits"
            )
