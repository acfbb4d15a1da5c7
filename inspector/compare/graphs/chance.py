"""Nodes that draw random numbers: what they give out is another at each run."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.facts.graphs import subgraphs
from inspector.facts.model import Graph, Model, Node

_DRAW = frozenset(
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli".split()
)


def which_draws(models: tuple[Model, Model]) -> list[str]:
    """A sentence for each of two models whose outputs are others at each run, rounding or not."""
    found = []
    for side, model in zip(("left", "right"), models, strict=True):
        nodes = drawing(model)
        if nodes:
            shown = ", ".join(nodes[:3]) + (" and more" if nodes[3:] else "")
            found.append(f"the {side} model draws random numbers anew at each run, in {shown}")
    return found


def drawing(model: Model) -> list[str]:
    """The nodes of a model that draw random numbers, as they are shown."""
    return [f"{each.op_type} {each.label!r}" for each in _drawing(model.graph, model)]


def _drawing(graph: Graph, model: Model) -> Iterator[Node]:
    for node in graph.nodes:
        if node.is_standard and (node.op_type in _DRAW or _drops(node, graph, model)):
            yield node
        for inner in subgraphs(node):
            yield from _drawing(inner, model)


def _drops(node: Node, graph: Graph, model: Model) -> bool:
    """Whether a Dropout does: until opset 6 unless `is_test` is set, from 12 on where asked to."""
    if node.op_type != "Dropout" or model.opset < 7:
        return node.op_type == "Dropout" and not node.int_attribute("is_test", 0)
    ratio, asked = (_stored(node.input(at), graph, model) for at in (1, 2))
    return bool(asked) and ratio != 0.0


def _stored(name: str, graph: Graph, model: Model) -> float | None:
    tensor = graph.initializers.get(name)
    values = None if tensor is None or tensor.elements != 1 else model.values(tensor)
    if values is None or values.dtype.kind in "OUS":
        return None
    return float(values.reshape(()))
