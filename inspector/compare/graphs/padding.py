"""What a Pad puts around what a window reads: padding of its own, written apart.

Keras's ZeroPadding2D and PyTorch's functional pad become nodes, where another export has the same
zeros in the convolution's attribute. ONNX's Conv takes what lies outside of its input as zero
(https://onnx.ai/onnx/operators/onnx__Conv.html), so the two add up; its MaxPool never takes what
lies outside, which is what a Pad with minus infinity comes to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from inspector.compare.runtime.run import Array
from inspector.facts.model import Node

_AXES_INPUT = 3
_SPATIAL = 2
"""The first axis of a convolution's input that is padded."""


class Padding:
    """Finds the Pads of a graph that are padding of the convolutions behind them.

    Parameters
    ----------
    producer
        Nodes by what they compute.
    alone
        Whether a value is read by one node, and given out by none.
    stored
        The values of a stored tensor; None of what is none.
    """

    def __init__(
        self,
        producer: Mapping[str, Node],
        alone: Callable[[str], bool],
        stored: Callable[[str], Array | None],
    ) -> None:
        self._producer = producer
        self._alone = alone
        self._stored = stored

    def in_front(self, node: Node) -> tuple[Node, tuple[int, ...]] | None:
        """The Pad in front of a window, and what it adds to `pads`; None where none does."""
        if node.op_type not in ("Conv", "MaxPool") or not node.is_standard:
            return None
        if len([name for name in node.outputs if name]) != 1:
            return None  # where a maximum lies is counted without the Pad
        if node.int_attribute("ceil_mode", 0):
            return None  # a last window that begins in padding is left out, and not behind a Pad
        if _word(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return None
        value, perm = node.input(0), None
        above = self._producer.get(value)
        if above is not None and above.op_type == "Transpose" and above.is_standard:
            perm = above.ints_attribute("perm")
            if perm is None or not self._alone(value):
                return None
            value = above.input(0)
            above = self._producer.get(value)
        if above is None or above.op_type != "Pad" or not above.is_standard:
            return None
        fills = _is_zero if node.op_type == "Conv" else _is_least
        own = self._fill_of(above, fills) if self._alone(value) else None
        if own is None:
            return None
        begins, ends = own
        if perm is not None:
            if sorted(perm) != list(range(len(begins))):
                return None
            begins, ends = [begins[at] for at in perm], [ends[at] for at in perm]
        if any((*begins[:_SPATIAL], *ends[:_SPATIAL])) or len(begins) <= _SPATIAL:
            return None
        return above, (*begins[_SPATIAL:], *ends[_SPATIAL:])

    def _fill_of(
        self, node: Node, fills: Callable[[float], bool]
    ) -> tuple[list[int], list[int]] | None:
        """How much a Pad puts in front of and behind each axis; None for another Pad."""
        if _word(node, "mode", "constant") != "constant" or node.input(_AXES_INPUT):
            return None
        filled = node.float_attribute("value", 0.0)  # before opset 11
        if node.input(2):
            value = self._stored(node.input(2))
            if value is None or value.size != 1:
                return None
            filled = float(value.reshape(-1)[0])
        if not fills(filled):
            return None
        pads: Sequence[int] | None = node.ints_attribute("pads")
        if node.input(1):
            given = self._stored(node.input(1))
            pads = None if given is None else [int(each) for each in given.reshape(-1)]
        if not pads or len(pads) % 2 or min(pads) < 0:
            return None
        rank = len(pads) // 2
        return list(pads[:rank]), list(pads[rank:])


def _is_zero(value: float) -> bool:
    return value == 0.0


def _is_least(value: float) -> bool:
    return value == -math.inf  # the least number of a type is more than that


def _word(node: Node, name: str, default: str) -> str:
    value = node.attributes.get(name)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else default


def together(own: Sequence[int] | None, more: Sequence[int]) -> tuple[int, ...] | None:
    """A convolution's `pads` with those of a Pad; None where they are of another rank."""
    if not own:
        return tuple(more)
    if len(own) != len(more):
        return None
    return tuple(a + b for a, b in zip(own, more, strict=True))


def explicit(node: Node, lengths: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...] | None:
    """The `pads` that `auto_pad` comes to; None where that is not settled.

    Parameters
    ----------
    lengths
        Of the spatial axes of what a convolution reads.
    kernel
        Those of its kernel.
    """
    mode = _word(node, "auto_pad", "NOTSET")
    count = len(lengths)
    strides = node.ints_attribute("strides") or (1,) * count
    dilations = node.ints_attribute("dilations") or (1,) * count
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        return None
    if not len(kernel) == len(strides) == len(dilations) == count or min(strides) < 1:
        return None
    total = [
        ((length - 1) // step) * step + (size - 1) * apart + 1 - length
        for length, size, step, apart in zip(lengths, kernel, strides, dilations, strict=True)
    ]
    if min(total) < 0:
        return None  # ONNX Runtime cuts off what ONNX leaves as it is
    first = [(each + (mode == "SAME_LOWER")) // 2 for each in total]
    return (*first, *(whole - own for whole, own in zip(total, first, strict=True)))
