"""Walk every place nodes live in: the main graph, subgraphs, and each call of a function.

A subgraph sees the values of the graphs around it; a function sees its arguments alone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from inspector.errors import UnreadableError
from inspector.facts.batchnorm import Origin
from inspector.facts.graphs import subgraphs
from inspector.facts.model import Graph, Model, Node, Scope, Wiring, function_name
from inspector.recognise.attributes import called
from inspector.recognise.binding import Binding
from inspector.recognise.chains import Chains
from inspector.recognise.place import Place

MOST_SCOPES = 10_000
"""Functions that call functions twice each unfold into millions; no real model comes near."""

MOST_UNFOLDED = 200_000
"""Nodes in the bodies of all calls together: a long body may be called often, too."""


def places(model: Model) -> Iterator[Place]:
    """Every scope of the model, outer ones first.

    Raises
    ------
    inspector.errors.UnreadableError
        Functions call each other in a circle or unfold beyond `MOST_SCOPES`.
    """
    _check_circles(model)
    main = _main_place(model)
    pending = deque([main])
    scopes = unfolded = 0
    while pending:
        place = pending.popleft()
        yield place
        if not place.wiring.nesting and not model.functions:
            continue
        for node, label in zip(place.nodes, _labels(place.nodes), strict=True):
            for inner in _inner(model, place, node, label):
                scopes += 1
                unfolded += len(inner.nodes)
                if scopes > MOST_SCOPES or unfolded > MOST_UNFOLDED:
                    raise UnreadableError(
                        f"its functions and subgraphs unfold into more than {MOST_SCOPES:,} "
                        f"scopes or {MOST_UNFOLDED:,} nodes",
                        where=model.path,
                        hint="inline them, or export the model again",
                    )
                pending.append(inner)


def check_scopes(model: Model) -> None:
    """Refuse a model that unfolds without end, before anything else unfolds it.

    Raises
    ------
    inspector.errors.UnreadableError
        See `places`.
    """
    if model.functions:
        for _ in places(model):
            pass


def _check_circles(model: Model) -> None:
    """Refuse functions that call each other in a circle, which ONNX forbids.

    Functions that call none are taken away again and again; a circle stays.
    """
    calls = {
        key: {inner for node in _with_inner(each.nodes) if (inner := _key(model, node))}
        for key, each in model.functions.items()
    }
    callers: dict[tuple[str, str], list[tuple[str, str]]] = {key: [] for key in calls}
    for key, inner_keys in calls.items():
        for each in inner_keys:
            callers[each].append(key)
    done = [key for key, inner_keys in calls.items() if not inner_keys]
    for key in done:
        for caller in callers[key]:
            calls[caller].discard(key)
            if not calls[caller]:
                done.append(caller)
    if len(done) < len(calls):
        domain, name = next(key for key, inner_keys in calls.items() if inner_keys)
        raise UnreadableError(
            f"its functions call each other in a circle, {name!r} of {domain!r} among them",
            where=model.path,
            hint="inline them, or export the model again",
        )


def _key(model: Model, node: Node) -> tuple[str, str] | None:
    """The key of the function that a node calls."""
    key = node.domain, function_name(node.op_type, node.overload)
    return key if key in model.functions else None


def _with_inner(nodes: Sequence[Node]) -> Iterator[Node]:
    """Nodes, and those of the subgraphs inside them."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _with_inner(graph.nodes)


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
                yield _graph_place(graph, (*place.scope, part), place)
    function = model.function(node)
    if function is not None:
        bound = {
            inner: _as_argument(place.source(node.input(position)))
            for position, inner in enumerate(function.inputs)
        }
        nodes = called(function, node)
        body = Place(
            scope=(*place.scope, label),
            wiring=Wiring(nodes),
            opsets=function.opsets or place.opsets,
            tensors={},
            bound=bound,
            outputs=function.outputs,
            parent=None,
            chains=place.chains,
        )
        given = zip(function.inputs, node.inputs, strict=False)
        body.caller = place, {inner: outer for inner, outer in given if outer}
        yield body


def _main_place(model: Model) -> Place:
    graph = model.graph
    # Before IR version 4 every initializer had to be listed as an input, and none was one.
    fixed = graph.initializers.keys() if model.ir_version < 4 else ()
    place = Place(
        scope=(),
        wiring=graph.wiring,
        opsets=model.opsets,
        tensors=graph.initializers,
        bound={value.name: _GRAPH_INPUT for value in graph.inputs if value.name not in fixed},
        outputs=[value.name for value in graph.outputs],
        parent=None,
        chains=Chains(model),
    )
    place.declared = graph.values
    return place


def _graph_place(graph: Graph, scope: Scope, parent: Place) -> Place:
    """The place of a subgraph, which its parent's names reach."""
    stored = graph.initializers
    place = Place(
        scope=scope,
        wiring=graph.wiring,
        opsets=parent.opsets,
        tensors=stored,
        bound={value.name: _GRAPH_INPUT for value in graph.inputs if value.name not in stored},
        outputs=[value.name for value in graph.outputs],
        parent=parent,
        chains=parent.chains,
    )
    place.declared = graph.values
    return place


_PASSED_AS_IT_IS = frozenset(
    {Origin.OVERRIDABLE, Origin.COMPUTED, Origin.GRAPH_INPUT, Origin.ABSENT}
)


def _as_argument(binding: Binding) -> Binding:
    """What an argument is within the function; a default that may be overridden stays one."""
    if binding.origin in _PASSED_AS_IT_IS:
        return binding
    return replace(binding, origin=Origin.FUNCTION_ARGUMENT)


_GRAPH_INPUT = Binding(origin=Origin.GRAPH_INPUT, tensor=None, reason="fed as an input")
