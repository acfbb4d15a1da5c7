"""What on one side corresponds to what on the other, once layers are aligned."""

from __future__ import annotations

from collections.abc import Mapping

from inspector.compare.graphs.align import Alignment
from inspector.compare.graphs.structure import Layer, Network

_AFFINE = frozenset("Mul Add Sub Div".split())
"""What may be folded, and takes the place of no activation."""

_ALONE = frozenset({"BatchNormalization", "Conv", "ConvTranspose", "Dense"})
"""What no single operator takes the place of."""


class Correspondence:
    """Looks values of two aligned networks up in each other.

    Parameters
    ----------
    inputs
        Right input names by left ones, as paired.
    """

    def __init__(
        self, left: Network, right: Network, alignment: Alignment, inputs: Mapping[str, str]
    ) -> None:
        self.left = left
        self.right = right
        self.alignment = alignment
        self.inputs = inputs
        self._rights = dict(inputs)
        for a, b in alignment.pairs:
            # Not strict: one side may leave optional outputs out.
            self._rights.update(zip(a.node_fact.outputs, b.node_fact.outputs, strict=False))
            self._rights[a.value] = b.value
        self._rights.pop("", None)
        self._lefts = {b: a for a, b in self._rights.items()}
        self._left_gaps = {each.value: each for each in alignment.left_only}
        self._right_gaps = {each.value: each for each in alignment.right_only}

    def right_of(self, left: str) -> str:
        """The right value that corresponds to a left one; empty where none does."""
        return self._rights.get(left, "")

    def left_of(self, right: str) -> str:
        """The left value that corresponds to a right one; empty where none does."""
        return self._lefts.get(right, "")

    def replacements(self) -> list[tuple[Layer, Layer]]:
        """Layers of one side alone that stand where one of the other side alone does."""
        free = [each for each in self.alignment.right_only if each.inputs and each.op not in _ALONE]
        found = []
        for a in self.alignment.left_only:
            wanted = [self.right_of(self.past_left(name)) for name in a.inputs]
            if not all(wanted) or not wanted or a.op in _ALONE:
                continue
            for b in free:
                given = [self.past_right(name) for name in b.inputs]
                if (b.op in _AFFINE) is (a.op in _AFFINE) and sorted(given) == sorted(wanted):
                    free.remove(b)
                    found.append((a, b))
                    break
        return found

    def past_left(self, value: str) -> str:
        """The left value in front of operators that the right lacks."""
        return _past(value, self._left_gaps)

    def past_right(self, value: str) -> str:
        """The right value in front of operators that the left lacks."""
        return _past(value, self._right_gaps)


def behind(value: str, network: Network) -> str:
    """Where an operator behind `value` would stand, in words."""
    for layer in network.layers:
        if layer.value == value:
            return f"after {layer.shown}"
    return f"after input {value!r}" if value else ""


def _past(value: str, gaps: Mapping[str, Layer]) -> str:
    seen = 0
    while value in gaps and gaps[value].inputs and seen <= len(gaps):
        value = gaps[value].inputs[0]
        seen += 1
    return value
