"""Weights that a reference computes from its parameters each time it runs.

``torch.nn.utils.weight_norm`` and the like hold no weights: an operator gets ``g · v / |v|``. What
an exporter has folded a BatchNorm into is the result, so the result is computed here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from inspector.errors import UnreadableError
from inspector.facts.model import Model, Node, Tensor
from inspector.recognise.linear import is_linear

if TYPE_CHECKING:
    from inspector.restore.kept import Array

_MOST_NODES = 64
"""Nodes that one weight is computed by; a parametrisation takes about ten."""

_RANDOM = ("Random", "Bernoulli", "Multinomial")


def with_weights(model: Model) -> tuple[Model, tuple[str, ...]]:
    """A model whose operators hold their weights, and the names of those that it computed.

    What depends on an input, or cannot be computed here, stays as it is.
    """
    graph = model.graph
    stored = dict(graph.initializers)
    fed = {each.name for each in graph.inputs}
    producers = {name: node for node in graph.nodes for name in node.outputs if name}
    found: dict[str, Tensor] = {}
    for node in graph.nodes:
        name = node.input(1)
        if not is_linear(node) or name in stored or name not in producers or name in found:
            continue
        needed = _needed(name, producers, stored, fed)
        values = None if needed is None else _computed(name, needed, stored, model)
        if values is not None:
            found[name] = model.weights.keep(name, values)
    if not found:
        return model, ()
    nodes = tuple(each for each in graph.nodes if found.keys().isdisjoint(each.outputs))
    graph = replace(graph, nodes=nodes, initializers={**stored, **found})
    return replace(model, graph=graph), tuple(found)


def _needed(
    name: str, producers: Mapping[str, Node], stored: Mapping[str, Tensor], fed: set[str]
) -> list[Node] | None:
    """The nodes that compute a value from what is stored, in order; None where others feed it."""
    order: dict[int, Node] = {}
    waiting = [(name, False)]
    while waiting:
        value, done = waiting.pop()
        if done:
            order.setdefault(id(producers[value]), producers[value])
            continue
        if value in fed:
            return None
        if not value or value in stored or id(producers.get(value)) in order:
            continue
        node = producers.get(value)
        if node is None or not _may_run(node) or len(order) + len(waiting) > _MOST_NODES:
            return None
        waiting += [(value, True), *((each, False) for each in node.inputs)]
    return list(order.values())


def _may_run(node: Node) -> bool:
    """Whether a node gives the same each time, and is one of the standard's."""
    return node.is_standard and not node.op_type.startswith(_RANDOM)


def _computed(
    name: str, nodes: list[Node], stored: Mapping[str, Tensor], model: Model
) -> Array | None:
    known: dict[str, Array] = {}
    try:
        for node in nodes:
            inputs = []
            for each in node.inputs:
                if each and each not in known:
                    values = model.values(stored[each])
                    if values is None:
                        return None
                    known[each] = values
                inputs.append(known[each] if each else None)
            given = model.evaluator.run(node, inputs, model.opset)
            known.update(zip(node.outputs, given, strict=False))
    except UnreadableError:
        return None  # an operator that cannot be computed here: its weights stay unknown
    return known.get(name)
