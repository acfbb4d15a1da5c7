"""Walk every place nodes live in: the main graph, subgraphs, and each call of a function.

A subgraph sees the values of the graphs around it; a function sees its arguments alone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence

from inspector.errors import UnreadableError
from inspector.facts.batchnorm import Origin
from inspector.facts.model import Graph, Model, Node, Scope, Tensor
from inspector.recognise.attributes import called
from inspector.recognise.place import Binding, Place

MOST_SCOPES = 20_000
"""Functions that call functions twice each unfold without end; no real model comes near."""

DEEPEST_SCOPE = 128
"""Protobuf nests messages 100 deep; beyond that, a function must be calling itself."""


def places(model: Model) -> Iterator[Place]:
    """Every scope of the model, outer ones first.

    Raises
    ------
    inspector.errors.UnreadableError
        Functions call each other in a circle or unfold beyond `MOST_SCOPES`.
    """
    main = _graph_place(model.graph, (), model.opsets, None, overridable=model.ir_version >= 4)
    pending = deque([main])
    seen = 0
    while pending:
        place = pending.popleft()
        seen += 1
        if seen > MOST_SCOPES or len(place.scope) > DEEPEST_SCOPE:
            raise UnreadableError(
                "its functions call each other without end",
                where=model.path,
                hint="inline them, or export the model again",
            )
        yield place
        for node, label in zip(place.nodes, _labels(place.nodes), strict=True):
            pending.extend(_inner(model, place, node, label))


def _labels(nodes: Sequence[Node]) -> list[str]:
    """What to call each node in a scope's path: its name, with its position where that repeats."""
    names = [node.label or node.op_type for node in nodes]
    times = Counter(names)
    return [
        name if times[name] == 1 else f"{name}#{position}" for position, name in enumerate(names)
    ]


def _inner(model: Model, place: Place, node: Node, label: str) -> Iterator[Place]:
    """The scopes that one node opens: its subgraphs, and the body of a function it calls."""
    for name, value in node.attributes.items():
        graphs = value if isinstance(value, tuple) else (value,)
        for index, graph in enumerate(graphs):
            if isinstance(graph, Graph):
                part = f"{label}.{name}" + (f"[{index}]" if isinstance(value, tuple) else "")
                yield _graph_place(graph, (*place.scope, part), place.opsets, place)
    function = model.function(node)
    if function is not None:
        bound = {
            inner: _as_argument(place.binding(node.input(position)))
            for position, inner in enumerate(function.inputs)
        }
        nodes = called(function, node)
        yield Place(
            scope=(*place.scope, label),
            nodes=nodes,
            opsets=function.opsets or place.opsets,
            bound=bound | _constants(nodes),
            outputs=function.outputs,
            parent=None,
        )


def _graph_place(
    graph: Graph,
    scope: Scope,
    opsets: Mapping[str, int],
    parent: Place | None,
    *,
    overridable: bool = False,
) -> Place:
    bound = {value.name: _GRAPH_INPUT for value in graph.inputs}
    for name, tensor in graph.initializers.items():
        # Before IR version 4 every initializer had to be listed as an input.
        over = overridable and name in bound
        bound[name] = Binding(
            origin=Origin.OVERRIDABLE if over else Origin.INITIALIZER, tensor=tensor
        )
    return Place(
        scope=scope,
        nodes=graph.nodes,
        opsets=opsets,
        bound=bound | _constants(graph.nodes),
        outputs=[value.name for value in graph.outputs],
        parent=parent,
    )


def _constants(nodes: Sequence[Node]) -> dict[str, Binding]:
    """Outputs of Constant nodes that hold a tensor."""
    found = {}
    for node in nodes:
        if node.op_type == "Constant" and node.is_standard and node.outputs:
            value = node.attributes.get("value") or node.attributes.get("sparse_value")
            if isinstance(value, Tensor):
                found[node.outputs[0]] = Binding(origin=Origin.CONSTANT, tensor=value)
    return found


def _as_argument(binding: Binding) -> Binding:
    return Binding(origin=Origin.FUNCTION_ARGUMENT, tensor=binding.tensor, reason=binding.reason)


_GRAPH_INPUT = Binding(origin=Origin.GRAPH_INPUT, tensor=None, reason="fed as an input")
