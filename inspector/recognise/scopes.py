"""Walk every place nodes live in: the main graph, subgraphs, and each call of a function.

A subgraph sees the values of the graphs around it; a function sees its arguments alone. Both
are followed here once, so that recognisers can ask of a name what it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from inspector.errors import UnreadableError
from inspector.facts.batchnorm import Origin
from inspector.facts.model import Graph, Model, Node, Scope, Tensor

MOST_SCOPES = 20_000
"""Functions that call functions twice each unfold without end; no real model comes near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a name stands for. `tensor` is known where the values are stored in the file."""

    origin: Origin
    tensor: Tensor | None
    reason: str = ""


class Place:
    """The nodes of one scope, with what its names stand for and who uses them."""

    def __init__(
        self,
        *,
        scope: Scope,
        nodes: Sequence[Node],
        opsets: Mapping[str, int],
        bound: Mapping[str, Binding],
        outputs: Sequence[str],
        parent: Place | None,
    ) -> None:
        self.scope = scope
        self.nodes = nodes
        self.opsets = opsets
        self.parent = parent
        self.outputs = frozenset(outputs)
        self._bound = bound
        self._producers = {name: node for node in nodes for name in node.outputs if name}
        consumers: dict[str, list[Node]] = defaultdict(list)
        for node in nodes:
            for name in dict.fromkeys(node.inputs):
                consumers[name].append(node)
        self._consumers = consumers

    @property
    def opset(self) -> int:
        return self.opsets.get("", 1)

    def producer(self, value: str) -> Node | None:
        """The node of this scope that computes `value`."""
        return self._producers.get(value)

    def consumers(self, value: str) -> Sequence[Node]:
        """The nodes of this scope that read `value`, each once."""
        return self._consumers.get(value, ())

    def is_input(self, value: str) -> bool:
        """Whether `value` is fed into this scope rather than stored or computed."""
        binding = self._bound.get(value)
        return binding is not None and binding.tensor is None

    def binding(self, value: str) -> Binding:
        """What `value` stands for here, following Identity and the scopes around."""
        seen: set[str] = set()
        place: Place | None = self
        while place is not None:
            if value in place._bound:
                return place._bound[value]
            node = place._producers.get(value)
            if node is None:
                place = place.parent
                continue
            if not (node.op_type == "Identity" and node.is_standard) or value in seen:
                return _computed(node)
            seen.add(value)
            value = node.input(0)
        return Binding(origin=Origin.ABSENT, tensor=None, reason="nothing computes it")


def places(model: Model) -> Iterator[Place]:
    """Every scope of the model, outer ones first.

    Raises
    ------
    inspector.errors.UnreadableError
        Functions call each other in a circle or unfold beyond `MOST_SCOPES`.
    """
    main = _graph_place(model.graph, (), model.opsets, None, overridable=model.ir_version >= 4)
    pending = [main]
    seen = 0
    while pending:
        place = pending.pop(0)
        seen += 1
        if seen > MOST_SCOPES or len(place.scope) > 64:
            raise UnreadableError(
                "its functions call each other without end",
                where=model.path,
                hint="inline them, or export the model again",
            )
        yield place
        for position, node in enumerate(place.nodes):
            pending.extend(_inner(model, place, node, position))


def _inner(model: Model, place: Place, node: Node, position: int) -> Iterator[Place]:
    label = node.label or f"{node.op_type}#{position}"
    for name, value in node.attributes.items():
        graphs = value if isinstance(value, tuple) else (value,)
        for index, graph in enumerate(graphs):
            if isinstance(graph, Graph):
                part = f"{label}.{name}" + (f"[{index}]" if isinstance(value, tuple) else "")
                yield _graph_place(graph, (*place.scope, part), place.opsets, place)
    function = model.functions.get((node.domain, node.op_type))
    if function is not None:
        bound = {
            inner: _as_argument(place.binding(outer) if outer else _ABSENT)
            for inner, outer in zip(function.inputs, _padded(node, function.inputs), strict=True)
        }
        yield Place(
            scope=(*place.scope, label),
            nodes=function.nodes,
            opsets=function.opsets or place.opsets,
            bound=bound | _constants(function.nodes),
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


def _computed(node: Node) -> Binding:
    return Binding(
        origin=Origin.COMPUTED, tensor=None, reason=f"computed by {node.op_type} at run time"
    )


def _as_argument(binding: Binding) -> Binding:
    return Binding(origin=Origin.FUNCTION_ARGUMENT, tensor=binding.tensor, reason=binding.reason)


def _padded(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    return tuple(node.input(position) for position in range(len(inputs)))


_GRAPH_INPUT = Binding(origin=Origin.GRAPH_INPUT, tensor=None, reason="fed as an input")
_ABSENT = Binding(origin=Origin.ABSENT, tensor=None, reason="not given")
