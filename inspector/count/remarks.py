"""What a reader has to know to take the totals right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from inspector.facts.count import Beyond, CountedTensor, Role

if TYPE_CHECKING:
    from inspector.facts.manifest import Manifest


def on_sharing(counted: Sequence[CountedTensor], merged: int) -> Iterator[str]:
    """What to say of tensors with several uses."""
    tied = [each for each in counted if each.layers > 1]
    if tied:
        yield (
            f"{len(tied)} {_tensors(tied)} shared by several operators and counted once: "
            f"{_named(tied)}"
        )
    copies = [each for each in counted if each.copy_of]
    if copies:
        yield (
            f"{len(copies)} {_tensors(copies)} tied weights that the exporter stores again, "
            f"transposed; they count once: {_named(copies)}"
        )
    several = [each for each in counted if each.again]
    if several:
        yield (
            f"the exporter merged equal tensors: {len(several)} {_tensors(several)} stored for "
            f"{sum(1 + len(each.again) for each in several)} of the framework, so {merged:,} "
            f"elements are counted that the file does not store: {_named(several)}"
        )


def on_doubts(counted: Sequence[CountedTensor]) -> Iterator[str]:
    """What to say of tensors that may be no parameters of the framework."""
    doubtful = [each for each in counted if each.doubt and each.role is Role.LEARNED]
    if doubtful:
        yield (
            f"{_size(doubtful):,} of the learned elements are in doubt: {len(doubtful)} "
            f"{_tensors(doubtful)} all ones or zeros under a name that tells nothing, and may "
            f"stand for what a layer does not have: {_named(doubtful)}"
        )
    statistics = [each for each in counted if each.doubt and each.role is Role.UNKNOWN]
    if statistics:
        steps = (len(statistics) + 1) // 2
        yield (
            f"{_size(statistics):,} elements may be the mean and variance of Keras' Normalization "
            f"({_named(statistics)}); if they were adapted to data, Keras counts them, and one "
            f"step for each layer: {_size(statistics) + steps:,} more, not trainable"
        )


def _size(some: Sequence[CountedTensor]) -> int:
    return sum(each.tensor.elements for each in some)


def _tensors(some: Sequence[CountedTensor]) -> str:
    return "tensor is" if len(some) == 1 else "tensors are"


_MOST_NAMED = 6


def _named(some: Sequence[CountedTensor]) -> str:
    names = [repr(each.value or each.tensor.name) for each in some[:_MOST_NAMED]]
    return ", ".join(names) + (f" and {len(some) - len(names)} more" if some[_MOST_NAMED:] else "")


_FRAMEWORKS = {"keras": "Keras", "torch": "PyTorch"}


def on_framework(manifest: Manifest | None, beyond: Beyond) -> Iterator[str]:
    """What the framework counted itself, where the file does not add up to it."""
    if manifest is None:
        return
    counted = manifest.totals.trainable + manifest.totals.other
    missing = beyond.learned + beyond.statistics
    if not missing:
        return
    name = _FRAMEWORKS.get(manifest.framework, manifest.framework)
    absent = [each for each in manifest.not_exported if each.is_weight]
    names = ", ".join(repr(each.source) for each in absent[:_MOST_NAMED])
    listed = f" (not stored as such: {names})" if absent else ""
    yield (
        f"{name} counted {counted:,} when this was exported, and the file holds "
        f"{counted - missing:,} of them{listed}"
        if missing > 0
        else f"{name} counted {counted:,} when this was exported, and the file holds "
        f"{counted - missing:,}: {-missing:,} were written by the exporter{listed}"
    )
