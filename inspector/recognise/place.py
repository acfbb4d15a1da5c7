"""One scope of a model: what its names stand for, what computes them, and who reads them.

Recognisers ask here, and so need not know of subgraphs, functions and Identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from inspector.facts.batchnorm import Origin
from inspector.facts.graphs import captured
from inspector.facts.model import Dim, Node, Scope, Tensor, Value, Wiring
from inspector.recognise.binding import ABSENT, Binding, computed
from inspector.recognise.chains import COMPUTABLE, Chains, may_compute, recipe_for

if TYPE_CHECKING:
    from inspector.recognise.algebra import Algebra


MOST_PASSES = 16
"""Over nodes that are not sorted; more of them stand in a circle, or upside down."""

_DIMS_ALONE = frozenset({"Shape", "Size"})
"""Operators that read no numbers."""


class Place:
    """The nodes of one scope, with what its names stand for and who uses them.

    `declared` is what its graph declares of its values, and `caller` the place that a function is
    called from, with the names that its inputs have there; whoever makes the place sets them.

    Parameters
    ----------
    tensors
        Initializers by name.
    bound
        Names that are fed: graph inputs, arguments of a function's call. An initializer that is
        among them may be overridden.
    """

    def __init__(
        self,
        *,
        scope: Scope,
        wiring: Wiring,
        opsets: Mapping[str, int],
        tensors: Mapping[str, Tensor],
        bound: Mapping[str, Binding],
        outputs: Sequence[str],
        parent: Place | None,
        chains: Chains,
    ) -> None:
        self.scope = scope
        self.nodes = wiring.nodes
        self.wiring = wiring
        self.opsets = opsets
        self.parent = parent
        self.outputs = frozenset(outputs)
        self.declared: Mapping[str, Value] = {}
        self.caller: tuple[Place, Mapping[str, str]] | None = None
        self.dims: dict[str, tuple[Dim, ...] | None] = {}
        self.algebras: dict[tuple[int, bool], Algebra] = {}
        self._tensors = tensors
        self._overridable = bound.keys() & tensors.keys()
        self._constants = _constants(wiring.holding)
        self._bound = bound
        self._producers = wiring.producers
        self.chains = chains
        self._sources: dict[str, Binding] = {}
        self._is_followed = False
        self._consumers: dict[str, Sequence[Node]] = {}
        self._readers: dict[str, Sequence[Node]] = {}
        self._capturing: dict[str, list[Node]] = {}
        for node in wiring.nesting:
            for name in captured(node):
                self._capturing.setdefault(name, []).append(node)

    def declaration(self, value: str) -> Value | None:
        """What the graph that `value` belongs to declares of it."""
        home = self if value in self._producers else self._home(value)
        return None if home is None else home.declared.get(value)

    @cached_property
    def operators(self) -> frozenset[str]:
        """The types of operators that there are in this place and those around it."""
        around = self.parent.operators if self.parent is not None else frozenset()
        return around | {node.op_type for node in self.nodes}

    @property
    def opset(self) -> int:
        return self.opsets.get("", 1)

    def consumers(self, value: str) -> Sequence[Node]:
        """The nodes of this scope that read `value`, themselves or in their subgraphs."""
        if value in self._consumers:
            return self._consumers[value]
        used = self.wiring.users.get(value, ())
        if len(used) == 1 and not self._capturing:
            return (used[0][0],)  # most values by far
        found: list[Node] = []
        for node, _ in used:
            if not found or found[-1] is not node:
                found.append(node)
        if self._capturing:
            read = {id(node) for node in found}
            found += [each for each in self._capturing.get(value, ()) if id(each) not in read]
        self._consumers[value] = found
        return found

    def readers(self, value: str) -> Sequence[Node]:
        """The consumers of `value` that read its numbers, and not its dims alone."""
        found = self._readers.get(value)
        if found is None:
            found = [each for each in self.consumers(value) if each.op_type not in _DIMS_ALONE]
            self._readers[value] = found
        return found

    def producer(self, value: str) -> Node | None:
        """The node that computes `value`, in this scope or one around it."""
        if value in self._producers:
            return self._producers[value]
        home = self._home(value)
        return home._producers.get(value) if home is not None else None

    def is_input(self, value: str) -> bool:
        """Whether `value` is fed into its scope rather than stored or computed."""
        home = self._home(value)
        binding = home._stored(value) if home is not None else None
        return binding is not None and binding.tensor is None

    def is_local(self, value: str) -> bool:
        """Whether a node of this very scope computes `value`."""
        return value in self._producers

    def initializer(self, value: str) -> Tensor | None:
        """The initializer of this very scope that `value` names and that nothing overrides."""
        return None if value in self._overridable else self._tensors.get(value)

    def binding(self, value: str) -> Binding:
        """What `value` stands for here, computed where it follows from constants."""
        return self.chains.settled(self.source(value))

    def source(self, value: str) -> Binding:
        """What `value` stands for here, with nothing computed yet."""
        found = self._sources.get(value)
        if found is not None:
            return found
        if not value:
            return ABSENT
        home = self if value in self._tensors else self._home(value)
        if home is None:
            return Binding(origin=Origin.ABSENT, tensor=None, reason=f"nothing computes {value!r}")
        return home._known(value) or home._traced(value)

    def is_constant(self, value: str) -> bool:
        """Whether the file alone tells what `value` is."""
        found = self._sources.get(value)
        if found is None and value in self._producers and value not in self._tensors:
            if self._is_followed:
                return False
            self._follow()
            found = self._sources.get(value)
            if found is None:
                return False
        if found is None:
            found = self.source(value)
        return found.tensor is not None or found.recipe is not None

    def _follow(self) -> None:
        """Trace what nodes here compute from constants alone, in one pass over sorted nodes.

        ONNX has every value computed before it is used; files that break the rule take more.
        """
        self._is_followed = True
        for _ in range(MOST_PASSES):
            late = self._followed()
            if not any(name in self._sources for name in late):
                return

    def _followed(self) -> list[str]:
        """One such pass; gives the values that were not known when a node asked for them."""
        sources, producers, tensors = self._sources, self._producers, self._tensors
        opset = self.opset
        late = []
        for node in self.nodes:
            if node.op_type not in COMPUTABLE or not node.is_standard:
                continue
            if node.outputs and node.outputs[0] in sources:
                continue
            inputs: list[Binding | None] = []
            for name in self._deciding(node) if node.op_type == "CastLike" else node.inputs:
                known = sources.get(name) if name else None
                if name and known is None:
                    if name in producers and name not in tensors:
                        late.append(name)
                        break
                    known = self.source(name)
                if known is not None and known.tensor is None and known.recipe is None:
                    break
                inputs.append(known)
            else:
                inputs += [self._type_of(each) for each in node.inputs[len(inputs) :]]
                for output in node.outputs:
                    if output and output not in sources and producers[output] is node:
                        known = self._known(output) if output in tensors else None
                        sources[output] = known or recipe_for(node, inputs, opset, output)
        return late

    def _known(self, value: str) -> Binding | None:
        """What one of this place's own values stands for, where it is stored or was asked for."""
        found = self._sources.get(value)
        if found is None:
            found = self._stored(value)
            if found is not None:
                self._sources[value] = found
        return found

    def _traced(self, value: str) -> Binding:
        """What a node here computes, from what its inputs stand for.

        Chains may be long: no recursion. Whoever waits for itself stands in a circle.
        """
        node = self._producers[value]
        inputs, waiting = self._inputs(node) if may_compute(node) else (None, [])
        if inputs is None or not waiting:
            # Most are told by one look at the inputs.
            found = (
                computed(node) if inputs is None else recipe_for(node, inputs, self.opset, value)
            )
            self._sources[value] = found
            return found
        pending: list[tuple[Place, str]] = [(self, value)]
        entered: set[tuple[int, str]] = set()
        while pending:
            place, name = pending[-1]
            if name in place._sources:
                pending.pop()
                continue
            node = place._producers[name]
            inputs, waiting = place._inputs(node) if may_compute(node) else (None, [])
            entered.add((id(place), name))
            if inputs is None or any((id(home), each) in entered for home, each in waiting):
                place._sources[name] = computed(node)
            elif waiting:
                pending += waiting
            else:
                place._sources[name] = recipe_for(node, inputs, place.opset, name)
        return self._sources[value]

    def _inputs(self, node: Node) -> tuple[list[Binding | None] | None, list[tuple[Place, str]]]:
        """What the inputs of a node stand for, and which of them are not known yet.

        None where one is known to be no constant. Identity passes on whatever it gets, the reason
        included.
        """
        found: list[Binding | None] = []
        waiting: list[tuple[Place, str]] = []
        deciding = self._deciding(node) if node.op_type == "CastLike" else node.inputs
        for name in deciding:
            known = self._sources.get(name) if name else None
            if name and known is None:
                home = self._home(name)
                if home is None:
                    return None, []
                known = home._known(name)
                if known is None:
                    waiting.append((home, name))
            if known is not None and not known.is_constant and node.op_type != "Identity":
                return None, []
            found.append(known)
        found += [self._type_of(each) for each in node.inputs[len(found) :]]
        return found, waiting

    def _deciding(self, node: Node) -> tuple[str, ...]:
        """The inputs whose values decide what a node gives: of CastLike's second, the type does."""
        return node.inputs[:1] if self._type_of(node.input(1)) is not None else node.inputs

    def _type_of(self, value: str) -> Binding | None:
        """A constant of the type that `value` is declared to have, if it is."""
        declared = self.declaration(value)
        if declared is None or declared.dtype is None:
            return None
        tensor = self.chains.empty(declared.dtype)
        return None if tensor is None else Binding(origin=Origin.CONSTANT, tensor=tensor)

    def _stored(self, value: str) -> Binding | None:
        """What `value` stands for where no node of this scope has to compute it."""
        if value in self._constants:
            return Binding(origin=Origin.CONSTANT, tensor=self._constants[value])
        if value in self._tensors:
            over = value in self._overridable
            origin = Origin.OVERRIDABLE if over else Origin.INITIALIZER
            return Binding(origin=origin, tensor=self._tensors[value])
        return self._bound.get(value)

    def _home(self, value: str) -> Place | None:
        """The nearest scope in which `value` is bound or computed."""
        place: Place | None = self
        while place is not None and not (
            value in place._tensors or value in place._producers or value in place._bound
        ):
            place = place.parent
        return place


def _constants(nodes: Iterable[Node]) -> dict[str, Tensor]:
    """Outputs of Constant nodes that hold a tensor."""
    found = {}
    for node in nodes:
        if node.op_type == "Constant" and node.is_standard and node.outputs:
            value = node.attributes.get("value") or node.attributes.get("sparse_value")
            if isinstance(value, Tensor):
                found[node.outputs[0]] = value
    return found
