"""Reductions, which exporters write in many ways that compute the same.

A mean over height and width is a GlobalAveragePool, or a ReduceMean whose axes are an attribute
or (from opset 13 or 18 on) an input, counted from the front or from the back, in one layout or the
other, with the reduced axes kept as ones or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inspector.compare.pairing.layout import Axes
from inspector.facts.model import Dim, Node

_POOLS = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}
_SPELLING = ("axes", "keepdims", "noop_with_empty_axes", "input 1")


def is_reduction(node: Node) -> bool:
    """Whether a node reduces whole axes."""
    return node.is_standard and (node.op_type.startswith("Reduce") or node.op_type in _POOLS)


def operator(node: Node) -> str:
    """The reduction's own name, whatever the node is called."""
    return _POOLS.get(node.op_type, node.op_type)


def attributes(
    node: Node,
    words: Mapping[str, str],
    *,
    axes: Axes | None,
    dims: Sequence[Dim] | None,
    given: Sequence[int] | None,
    readers: Sequence[tuple[Axes | None, Sequence[Dim] | None]],
) -> dict[str, str]:
    """What the reduction computes: its axes, channels first, and nothing of how they are written.

    Whether the reduced axes are kept is told by what other layers read: behind a Flatten, or a
    Squeeze, a mean that kept them is the one that did not.

    Parameters
    ----------
    words
        The node's attributes in words.
    axes, dims
        Layout and lengths of what it reads, where they are known.
    given
        Axes that are stored as its second input; None where there are none.
    readers
        Layout and lengths in which other layers read its result.
    """
    reduced = given if given is not None else node.ints_attribute("axes")
    if node.op_type in _POOLS:
        reduced = range(2, len(dims)) if dims is not None else None
    elif not reduced:
        # No axes: all of them, unless the node says that it then does nothing.
        if node.int_attribute("noop_with_empty_axes", 0) or dims is None:
            return dict(words)
        reduced = range(len(dims))
    if reduced is None or dims is None:
        return dict(words)
    places = [each + len(dims) if each < 0 else each for each in reduced]
    if axes is not None and all(0 <= each < len(axes) for each in places):
        places = [axes[each] for each in places]
    rest = {name: text for name, text in words.items() if name not in _SPELLING}
    return {**rest, "axes": str(sorted(places)), **_as_read(node, places, readers)}


def _as_read(
    node: Node,
    reduced: Sequence[int],
    readers: Sequence[tuple[Axes | None, Sequence[Dim] | None]],
) -> dict[str, str]:
    """Rank and axes of length 1 in which the result is read; as it is written if that is unknown.

    No other lengths: one model may leave open what the other fixes.
    """
    if any(dims is None for _, dims in readers):
        kept = node.op_type in _POOLS or node.int_attribute("keepdims", 1) != 0
        return {"keepdims": str(int(kept))}
    forms = set()
    for axes, dims in readers:
        known = dims or ()
        places = axes if axes is not None and len(axes) == len(known) else range(len(known))
        ones = sorted(at for at, dim in zip(places, known, strict=True) if dim == 1)
        # A batch of one is no axis that was kept.
        forms.add((len(known), tuple(at for at in ones if at != 0 or 0 in reduced)))
    words = [f"rank {rank}, 1 at {list(ones)}" for rank, ones in sorted(forms)]
    return {"keepdims": "read as " + " and ".join(words)} if words else {}
