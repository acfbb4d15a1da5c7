"""Operators that only move a value, on its way from what computes it to where it is read.

Layers are held together without them, so what they do to the axes has to be told apart from what
they merely undo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inspector.facts.model import Attribute, Dim, Graph, Model, Node, Tensor

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
        elif node.op_type not in _RESHAPES:
            found.append(node.op_type)
        else:
            dims = _dims(graph, node.outputs[0])
            found.append(str([dim if isinstance(dim, int) else None for dim in dims or ()]))
    return ", ".join(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a node that moves a value makes of it.

    `shape` is what a Reshape that does the same is told, None where no one list says it; of a
    Transpose it is the order of axes. `dims` are those of the result, `words` how the node says it.
    """

    shape: tuple[int, ...] | None
    dims: tuple[int | None, ...] | None
    words: str
    turns: bool = False

    @property
    def shown(self) -> str:
        return self.words if self.dims is None else str(self.dims).replace("None", "?")

    def differs(self, other: Target) -> bool:
        """Whether two may move values otherwise."""
        if self.words == other.words:
            return False
        if self.turns or self.dims is None or other.dims is None:
            return self.shape != other.shape
        return self.dims != other.dims


def target(model: Model, producer: Mapping[str, Node], node: Node) -> Target:
    """What a Transpose, or an operator of the Reshape family, makes of what it reads.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    graph = model.graph
    before, after = fixed_dims(graph, node.input(0)), fixed_dims(graph, node.outputs[0])
    if node.op_type == "Transpose":
        perm = node.ints_attribute("perm")
        if perm is None and before is not None:
            perm = tuple(reversed(range(len(before))))
        return Target(shape=perm, dims=after, words=str(perm), turns=True)
    stored = _stored_integers(model, producer, node.input(1))
    if node.op_type == "Reshape" and stored is not None and not node.int_attribute("allowzero", 0):
        return Target(shape=stored, dims=after, words=str(stored))
    words = str(after).replace("None", "?")
    if node.op_type == "Flatten":
        words = f"axis {node.int_attribute('axis', 1)}"
    elif node.op_type != "Reshape":
        axes = node.ints_attribute("axes") or stored
        words = "axes not set" if axes is None else f"axes {axes}"
    return Target(shape=_as_told(graph, node, before, after), dims=after, words=words)


def _as_told(
    graph: Graph,
    node: Node,
    before: tuple[int | None, ...] | None,
    after: tuple[int | None, ...] | None,
) -> tuple[int, ...] | None:
    """What a Reshape to known dims is told: 0 keeps an open length, -1 takes what is left."""
    if after is None:
        return None
    names = _dims(graph, node.input(0)) or (), _dims(graph, node.outputs[0]) or ()
    shape = []
    for at, dim in enumerate(after):
        kept = dim is None and at < len(names[0]) and names[0][at] == names[1][at] is not None
        shape.append(0 if kept else -1 if dim is None else dim)
    if shape.count(-1) > 1:
        return None
    if node.op_type == "Flatten" and before is not None and shape and after[0] is None:
        shape[0] = 0 if node.int_attribute("axis", 1) == 1 else shape[0]
    return tuple(shape)


def _stored_integers(
    model: Model, producer: Mapping[str, Node], name: str
) -> tuple[int, ...] | None:
    tensor: Attribute = model.graph.initializers.get(name)
    node = producer.get(name)
    if node is not None and node.op_type == "Constant":
        tensor = node.attributes.get("value")
        if (told := node.ints_attribute("value_ints")) is not None:
            return told
    if not isinstance(tensor, Tensor):
        return None
    return tuple(int(each) for each in model.weights.load(tensor).reshape(-1))
