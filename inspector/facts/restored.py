"""What a restoration did: the native BatchNorms that were put back into a stock export."""

from __future__ import annotations

from dataclasses import dataclass

from inspector.facts.model import Scope
from inspector.facts.traced import Fate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one BatchNorm of the framework's model.

    Attributes
    ----------
    name, scope
        In the reference: the framework's own name of the layer.
    was
        What the stock export had made of it.
    where
        The node, the arithmetic or the operator of the stock file that it was found in.
    node
        The BatchNormalization node of the restored file; empty where it was not restored.
    why_not
        The reason where it was not; empty where it was.
    error, allowed
        The largest difference between the stock file's numbers and what the framework's tensors
        say, and how much rounding explains; both relative to the numbers that went in.
    """

    name: str
    scope: Scope
    was: Fate
    where: str = ""
    node: str = ""
    why_not: str = ""
    error: float | None = None
    allowed: float | None = None

    @property
    def restored(self) -> bool:
        """Whether it is a node with the framework's tensors in the restored file."""
        return bool(self.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two models lie apart on the same seeded inputs, over all of their outputs.

    `max_abs`, `floor` and `tolerance` are those of the output that takes most of what it is
    allowed, in its own unit; `relative` is `max_abs` over the output's scale. `undecided` is the
    reason where the two could not be compared; then nothing else is told.
    """

    within: bool
    batch_sizes: tuple[int, ...] = ()
    max_abs: float = 0.0
    relative: float = 0.0
    floor: float = 0.0
    tolerance: float = 0.0
    undecided: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A stock export with its BatchNorms as nodes again, as far as they were found.

    Attributes
    ----------
    path, size
        The file that was written, and its bytes; empty and 0 where nothing could be restored, and
        so nothing was written.
    outcomes
        One for each BatchNorm of the reference, in its order.
    with_stock
        The restored file against the stock file: always within what rounding explains.
    with_reference
        The restored file against the reference. It is not `within` where the stock file is not the
        reference's function in some other layer, which restoring does not change.
    bitwise, of
        How many BatchNorm tensors of the restored layers, read back from the written bytes, equal
        the framework's bit for bit: all of them.
    """

    path: str
    size: int
    outcomes: tuple[Outcome, ...]
    with_stock: Agreement | None
    with_reference: Agreement | None
    bitwise: int
    of: int
    notes: tuple[str, ...] = ()

    @property
    def restored(self) -> int:
        """How many of the reference's BatchNorms are nodes with the framework's tensors."""
        return sum(each.restored for each in self.outcomes)

    @property
    def complete(self) -> bool:
        """Whether all of them are."""
        return self.restored == len(self.outcomes)
