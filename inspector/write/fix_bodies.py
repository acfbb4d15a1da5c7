"""The graphs and functions of a model's messages by scope, and small changes to their nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import onnx

from inspector.facts.model import Scope, function_name
from inspector.read.strings import text

Body: TypeAlias = onnx.GraphProto | onnx.FunctionProto


class CannotFixError(Exception):
    """A change cannot be made; the message says why."""


class Bodies:
    """Finds the graph or function at a scope, called as `inspector.recognise.scopes` calls them."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._functions = {
            (text(each.domain), function_name(text(each.name), text(each.overload))): each
            for each in proto.functions
        }
        self._known: dict[Scope, Body] = {(): proto.graph}

    def at(self, scope: Scope) -> Body:
        """The body that a scope's nodes stand in.

        Raises
        ------
        CannotFixError
            There is none.
        """
        if scope not in self._known:
            for part, body in self._inside(self.at(scope[:-1])):
                self._known.setdefault((*scope[:-1], part), body)
        if scope not in self._known:
            raise CannotFixError("its graph is not found again")
        return self._known[scope]

    def graph(self, scope: Scope) -> onnx.GraphProto:
        """The graph that a scope's nodes stand in.

        Raises
        ------
        CannotFixError
            They stand in a function.
        """
        found = self.at(scope)
        if not isinstance(found, onnx.GraphProto):
            raise CannotFixError("it stands in a function, whose body all of its calls share")
        return found

    def _inside(self, body: Body) -> Iterator[tuple[str, Body]]:
        names = [_label(node) or text(node.op_type) for node in body.node]
        times = Counter(names)
        for at, (node, name) in enumerate(zip(body.node, names, strict=True)):
            label = name if times[name] == 1 else f"{name}#{at}"
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield f"{label}.{text(attribute.name)}", attribute.g
                for index, graph in enumerate(attribute.graphs):
                    yield f"{label}.{text(attribute.name)}[{index}]", graph
            key = text(node.domain), function_name(text(node.op_type), text(node.overload))
            if key in self._functions:
                yield label, self._functions[key]


def producer(body: Body, output: str) -> onnx.NodeProto:
    """The node that computes a value.

    Raises
    ------
    CannotFixError
        There is none.
    """
    node: onnx.NodeProto
    for node in reversed(body.node):
        if output in node.output:
            return node
    raise CannotFixError(f"no node computes {output!r}")


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside of it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)
            for each in attribute.graphs:
                yield from graphs_of(each)


def reads(graph: onnx.GraphProto) -> Counter[str]:
    """How often each value is read by nodes or given out, in a graph and those inside of it."""
    found: Counter[str] = Counter()
    for each in graphs_of(graph):
        found.update(name for node in each.node for name in node.input if name)
        found.update(value.name for value in each.output)
    return found


def names_of(graph: onnx.GraphProto) -> set[str]:
    """Every name of a value, in a graph and those inside of it."""
    found: set[str] = set()
    for each in graphs_of(graph):
        found.update(value.name for value in (*each.input, *each.output, *each.initializer))
        found.update(sparse.values.name for sparse in each.sparse_initializer)
        for node in each.node:
            found.update(node.input)
            found.update(node.output)
    return found


def node_names(graph: onnx.GraphProto) -> set[str]:
    """Every name of a node, in a graph and those inside of it."""
    return {node.name for each in graphs_of(graph) for node in each.node}


def unique(wanted: str, taken: set[str]) -> str:
    """`wanted`, or the first of `wanted_1`, `wanted_2`, … that is free; it is then taken."""
    name, number = wanted, 0
    while not name or name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let all that reads `old` in a graph, or inside of it, read `new`."""
    for each in graphs_of(graph):
        for node in each.node:
            for at, name in enumerate(node.input):
                if name == old:
                    node.input[at] = new


def remove(body: Body, node: onnx.NodeProto) -> None:
    """Take a node away."""
    del body.node[place_of(body, node)]


def place_of(body: Body, node: onnx.NodeProto) -> int:
    """Where in its body a node stands."""
    return next(at for at, each in enumerate(body.node) if each is node)


def forget(body: Body, names: set[str]) -> None:
    """Take out what is declared of values that are no more."""
    keep(body.value_info, lambda each: each.name not in names)
    if isinstance(body, onnx.GraphProto):
        keep(body.quantization_annotation, lambda each: each.tensor_name not in names)


def keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    """Take out those elements of a repeated field that are not wanted."""
    for at in range(len(field) - 1, -1, -1):
        if not wanted(field[at]):
            del field[at]


def prune(main: onnx.GraphProto, dropped: set[str]) -> None:
    """Take out what computes or stores these values and is not read any more."""
    counts = reads(main)
    waiting = {name for name in dropped if name and not counts[name]}
    while waiting:
        gone: set[str] = set()
        for graph in graphs_of(main):
            gone |= _pruned(graph, waiting, counts)
        waiting = {name for name in gone if name and not counts[name]}


def _pruned(graph: onnx.GraphProto, unread: set[str], counts: Counter[str]) -> set[str]:
    """Take out of one graph what gives nothing but `unread`; the values that that has read."""
    freed: set[str] = set()
    vanished: set[str] = set()
    for at in range(len(graph.node) - 1, -1, -1):
        node = graph.node[at]
        given = {name for name in node.output if name}
        if not given & unread or any(counts[name] for name in given) or _nests(node):
            continue
        vanished |= given
        freed.update(node.input)
        counts.subtract(name for name in node.input if name)
        del graph.node[at]
    stored = {each.name for each in graph.initializer} & unread
    if stored:
        keep(graph.initializer, lambda each: each.name not in stored)
        # Before IR version 4 initializers were inputs too; what has lost its value is none.
        keep(graph.input, lambda each: each.name not in stored)
    forget(graph, vanished | stored)
    return freed


def _nests(node: onnx.NodeProto) -> bool:
    return any(each.HasField("g") or each.graphs for each in node.attribute)


def _label(node: onnx.NodeProto) -> str:
    return text(node.name) or next((text(each) for each in node.output if each), "")
