"""Operators that only move a value, on its way from what computes it to where it is read.

Layers are held together without them, so what they do to the axes has to be told apart from what
they merely undo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from inspector.facts.model import Dim, Graph, Node

_RESHAPES = frozenset("Reshape Flatten Squeeze Unsqueeze".split())


def way(producer: Mapping[str, Node], source: str, name: str) -> tuple[Node, ...] | None:
    """The nodes that move axes from `source` to `name`, in order; None where none lead there."""
    found: list[Node] = []
    while name != source:
        node = producer.get(name)
        if node is None or len(found) > len(producer):
            return None
        found.append(node)
        name = node.input(0)
    return tuple(each for each in reversed(found) if each.op_type in _RESHAPES | {"Transpose"})


def axis_behind(graph: Graph, nodes: Sequence[Node], axis: int) -> int | None:
    """Which axis `axis` is behind nodes that move it; None where it is none, or is not known."""
    for node in nodes:
        before, after = (_dims(graph, name) for name in (node.input(0), node.outputs[0]))
        found: int | None = None
        if node.op_type == "Transpose":
            perm = node.ints_attribute("perm")
            if perm is None and before is not None:
                perm = tuple(reversed(range(len(before))))
            found = perm.index(axis) if perm is not None and axis in perm else None
        elif before is not None and after is not None and axis < len(before):
            found = _reshaped(before, after, axis)
        if found is None:
            return None
        axis = found
    return axis


def _dims(graph: Graph, name: str) -> Sequence[Dim] | None:
    known = graph.values.get(name)
    return None if known is None else known.dims


def fixed_dims(graph: Graph, name: str) -> tuple[int | None, ...] | None:
    """A value's dims, with None for those that are not fixed; None where its rank is not known."""
    dims = _dims(graph, name)
    return None if dims is None else tuple(dim if isinstance(dim, int) else None for dim in dims)


def _reshaped(before: Sequence[Dim], after: Sequence[Dim], axis: int) -> int | None:
    """The axis of a reshaped value that runs over the same elements in the same steps."""
    for at, dim in enumerate(after):
        if dim is None or dim != before[axis] or dim == 1:
            continue
        if _alike(before[axis + 1 :], after[at + 1 :]) or _alike(before[:axis], after[:at]):
            return at
    return None


def _alike(one: Sequence[Dim], other: Sequence[Dim]) -> bool:
    """Whether dims surely come to one number of elements."""
    products = [math.prod(dim for dim in each if isinstance(dim, int)) for each in (one, other)]
    names = [sorted(str(dim) for dim in each if not isinstance(dim, int)) for each in (one, other)]
    return products[0] == products[1] and names[0] == names[1] and "None" not in names[0]


def in_words(graph: Graph, nodes: Sequence[Node]) -> str:
    """What nodes that move a value do, written alike for those that do the same."""
    found = []
    for node in nodes:
        if node.op_type == "Transpose":
            found.append(f"Transpose {node.ints_attribute('perm')}")
        else:
            dims = _dims(graph, node.outputs[0])
            found.append(str([dim if isinstance(dim, int) else None for dim in dims or ()]))
    return ", ".join(found)
