"""Where a layer stands in the file: the nodes of its scope, and what their names stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from inspector.facts.batchnorm import BatchNorm
from inspector.facts.graphs import captured
from inspector.facts.model import Function, Graph, Model, Node, Scope, Tensor, Value, Wiring

_MOST_STEPS = 32
"""Identities that are seen through; a longer row of them is a circle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One scope of a model.

    `outer` is the scope whose values its nodes see as well; of a function it is the caller's, and
    `arguments` are the names of its inputs there: no others are seen.
    """

    wiring: Wiring
    initializers: Mapping[str, Tensor]
    values: Mapping[str, Value]
    opset: int
    outer: Site | None = None
    arguments: Mapping[str, str] | None = None
    inner: dict[str, tuple[Node, Graph | Function]] = field(default_factory=dict)

    def tensor(self, value: str) -> Tensor | None:
        """What the file stores under a name, seen through Identity and out of functions."""
        site: Site | None = self
        for _ in range(_MOST_STEPS):
            if site is None or not value:
                return None
            if value in site.initializers:
                return site.initializers[value]
            node = site.wiring.producers.get(value)
            if node is None:
                if site.arguments is not None:
                    value = site.arguments.get(value, "")
                site = site.outer
            elif node.op_type == "Constant":
                stored = node.attributes.get("value")
                return stored if isinstance(stored, Tensor) else None
            elif node.op_type == "Identity":
                value = node.input(0)
            else:
                return None
        return None

    def producer(self, value: str) -> Node | None:
        """The node of this scope that computes a value, seen through Identity."""
        for _ in range(_MOST_STEPS):
            node = self.wiring.producers.get(value)
            if node is None or node.op_type != "Identity":
                return node
            value = node.input(0)
        return None


class Sites:
    """The scopes of a model by their paths, as `BatchNorm.scope` writes them."""

    def __init__(self, model: Model) -> None:
        self._model = model
        graph = model.graph
        main = _site(graph, model.opset, None)
        self._known: dict[Scope, Site | None] = {(): main}
        self._read_inside: dict[int, frozenset[str]] = {}
        self._leaving: dict[Scope, frozenset[str]] = {}
        self._fill(main)

    def at(self, scope: Scope) -> Site | None:
        """The scope at a path; None where there is none."""
        if scope not in self._known:
            outer = self.at(scope[:-1])
            self._known[scope] = None if outer is None else self._inner(outer, scope[-1])
        return self._known[scope]

    def node(self, norm: BatchNorm) -> Node | None:
        """The node that is a BatchNorm, where one is."""
        site = self.at(norm.scope)
        if site is None or not norm.op_type:
            return None
        node = site.wiring.producers.get(norm.output)
        return node if node is not None and node.op_type == norm.op_type else None

    def read_inside(self, site: Site) -> frozenset[str]:
        """The names of a scope that the subgraphs of its nodes read."""
        found = self._read_inside.get(id(site))
        if found is None:
            nesting = site.wiring.nesting
            found = frozenset(name for each in nesting for name in captured(each))
            self._read_inside[id(site)] = found
        return found

    def leaving(self, scope: Scope) -> frozenset[str]:
        """The names under which values leave a scope."""
        found = self._leaving.get(scope)
        if found is None:
            outer = self.at(scope[:-1]) if scope else None
            body = self._model.graph if outer is None else outer.inner[scope[-1]][1]
            names = (each if isinstance(each, str) else each.name for each in body.outputs)
            found = self._leaving[scope] = frozenset(names)
        return found

    def _inner(self, outer: Site, part: str) -> Site | None:
        found = outer.inner.get(part)
        if found is None:
            return None
        node, body = found
        if isinstance(body, Graph):
            site = _site(body, outer.opset, outer)
        else:
            opset = body.opsets.get("", 1) if body.opsets else outer.opset
            site = Site(
                wiring=Wiring(body.nodes),
                initializers={},
                values={},
                opset=opset,
                outer=outer,
                arguments=dict(zip(body.inputs, node.inputs, strict=False)),
            )
        self._fill(site)
        return site

    def _fill(self, site: Site) -> None:
        """Note what each node of a scope opens, under the names that paths give it."""
        if not site.wiring.nesting and not self._model.functions:
            return
        nodes = site.wiring.nodes
        names = [node.label or node.op_type for node in nodes]
        times = Counter(names)
        for at, (node, name) in enumerate(zip(nodes, names, strict=True)):
            label = name if times[name] == 1 else f"{name}#{at}"
            for part, body in _opened(self._model, node, label):
                site.inner[part] = node, body


def _opened(model: Model, node: Node, label: str) -> Iterator[tuple[str, Graph | Function]]:
    for name, value in node.attributes.items():
        if isinstance(value, Graph):
            yield f"{label}.{name}", value
        elif isinstance(value, tuple):
            for at, each in enumerate(value):
                if isinstance(each, Graph):
                    yield f"{label}.{name}[{at}]", each
    function = model.function(node)
    if function is not None:
        yield label, function


def _site(graph: Graph, opset: int, outer: Site | None) -> Site:
    return Site(
        wiring=graph.wiring,
        initializers=graph.initializers,
        values=graph.values,
        opset=opset,
        outer=outer,
    )
