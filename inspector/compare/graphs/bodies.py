"""What two bodies of an If, a Loop or a Scan differ in first, in words.

That two subgraphs are not the same says nothing to whoever has to find out why. Nodes are held
together in the order of the file, which two exports of one network share; where they do not, the
operators that one side alone has are named.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from inspector.facts.model import Graph, Model, Node, Tensor


def in_words(left: Graph, right: Graph, models: tuple[Model, Model]) -> tuple[str, str] | None:
    """The first difference, as each side has it; None where none is found."""
    if [_operator(each) for each in left.nodes] != [_operator(each) for each in right.nodes]:
        return _operators(left, right)
    places = _places(left), _places(right)
    for a, b in zip(left.nodes, right.nodes, strict=True):
        names = [each.label or each.op_type for each in (a, b)]
        shown = [f"{_operator(n)} {label!r}" for n, label in zip((a, b), names, strict=True)]
        for name in sorted(a.attributes.keys() | b.attributes.keys()):
            one, other = a.attributes.get(name), b.attributes.get(name)
            if isinstance(one, Graph) and isinstance(other, Graph):
                inner = in_words(one, other, models)
                if inner is not None:
                    return f"{shown[0]}, {inner[0]}", f"{shown[1]}, {inner[1]}"
            elif isinstance(one, int | float | bytes | tuple) and one != other:
                return f"{name} of {shown[0]} {_text(one)}", f"{name} of {shown[1]} {_text(other)}"
        for at, (here, there) in enumerate(zip(a.inputs, b.inputs, strict=False)):
            tensors = _stored(models[0], left, here), _stored(models[1], right, there)
            if tensors[0] is not None and tensors[1] is not None:
                words = _numbers(tensors[0], tensors[1], models)
                if words is not None:
                    return f"input {at} of {shown[0]}: {words[0]}", words[1]
            elif places[0].get(here) != places[1].get(there):
                return f"input {at} of {shown[0]} is {here!r}", f"of {shown[1]} is {there!r}"
    return None


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _operator(node: Node) -> str:
    return node.op_type if node.is_standard else f"{node.domain}.{node.op_type}"


def _operators(left: Graph, right: Graph) -> tuple[str, str] | None:
    """Operators that there are more of on a side."""
    counts = [Counter(_operator(each) for each in graph.nodes) for graph in (left, right)]
    more = counts[0] - counts[1], counts[1] - counts[0]
    if not more[0] and not more[1]:
        return None
    words = [", ".join(sorted(each.elements())) or "nothing more" for each in more]
    return words[0], words[1]


def _places(graph: Graph) -> dict[str, tuple[int, int]]:
    """Where each of a body's own values comes from; what is read from outside has no place."""
    found = {each.name: (-1, at) for at, each in enumerate(graph.inputs)}
    for number, node in enumerate(graph.nodes):
        found |= {name: (number, at) for at, name in enumerate(node.outputs) if name}
    return found


def _stored(model: Model, body: Graph, name: str) -> Tensor | None:
    for graph in (body, model.graph):
        if name in graph.initializers:
            return graph.initializers[name]
        for node in graph.nodes:
            value = node.attributes.get("value")
            if name in node.outputs and node.op_type == "Constant" and isinstance(value, Tensor):
                return value
    return None


def _numbers(one: Tensor, other: Tensor, models: tuple[Model, Model]) -> tuple[str, str] | None:
    """What two stored tensors are, where they are not the same."""
    left, right = models[0].weights.load(one), models[1].weights.load(other)
    if left.dtype == right.dtype and left.tobytes() == right.tobytes() and one.dims == other.dims:
        return None
    shown = f"{one.dtype} {list(one.dims)}"
    if left.shape != right.shape or left.dtype.kind not in "fiu" or right.dtype.kind not in "fiu":
        return shown, f"{other.dtype} {list(other.dims)}"
    far = np.abs(left.astype(np.float64) - right.astype(np.float64)).max(initial=0.0)
    return shown, f"values up to {far:.3g} away on the right"
