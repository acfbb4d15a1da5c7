"""Follow every stored tensor to the operators that use it.

A tensor that reaches an operator through operators that only move or convert values (Transpose,
Cast, DequantizeLinear …), or as the argument of a function, has the role it has there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from inspector.count.roles import (
    INTEGER_PRODUCTS,
    Use,
    arrives_as_numbers,
    fixed_use,
    passes_on,
    use_of,
)
from inspector.facts.count import Role
from inspector.facts.fact import fact
from inspector.facts.model import Function, Graph, Model, Node, Scope, Tensor, Wiring

MOST_STEPS = 64
"""Moving operators in a row; more of them stand in a circle."""


@fact(frozen=True, slots=True, kw_only=True)
class Site:
    """One place where a tensor is used; the node is None where it is given out as it is.

    `call` is the node outside of all functions that called the one with the node in it.
    """

    use: Use
    node: Node | None
    position: int = 0
    call: Node | None = None


class Uses:
    """Finds the uses of stored values within one scope and the scopes inside it."""

    def __init__(
        self,
        wiring: Wiring,
        outputs: Sequence[str],
        functions: Functions,
        stored: Mapping[str, Tensor],
    ) -> None:
        self._stored = stored
        self._users = wiring.users
        self._producers = wiring.producers
        self._outputs = frozenset(outputs)
        self._functions = functions
        self._any_functions = bool(functions)

    def of(
        self,
        value: str,
        tensor: Tensor,
        *,
        as_numbers: bool = False,
        entered: set[tuple[int, str]] | None = None,
    ) -> tuple[Site, ...]:
        """Every use of `value`, which holds `tensor`.

        Parameters
        ----------
        as_numbers
            See `inspector.count.roles.use_of`.
        entered
            Arguments of functions that this tensor was followed into: none is entered twice.
        """
        users = self._users.get(value, ())
        if len(users) == 1 and value not in self._outputs and not self._any_functions:
            # Most tensors by far have one use, and that says it all.
            node, position = users[0]
            numbers = as_numbers or tensor.is_float
            use = fixed_use(node.op_type, position, node.domain) if numbers else None
            if use is not None:
                return (Site(use=use, node=node, position=position),)
            if not passes_on(node, position) and node.op_type not in ("Loop", "Scan"):
                use = self._use(node, position, tensor, as_numbers=numbers)
                return (Site(use=use, node=node, position=position),)
        entered = set() if entered is None else entered
        found: list[Site] = []
        pending, seen = [(value, as_numbers or tensor.is_float, tensor)], {value}
        while pending:
            name, numbers, part = pending.pop()
            if name in self._outputs:
                role = Role.UNKNOWN if numbers else Role.CONSTANT
                found.append(Site(use=Use(role=role, why="it is an output"), node=None))
            for node, position in self._users.get(name, ()):
                if (inside := self._functions.entry(node, position)) is not None:
                    uses, inner = inside
                    if (key := (id(uses), inner)) not in entered:
                        entered.add(key)
                        sites = uses.of(inner, part, as_numbers=numbers, entered=entered)
                        found += [replace(each, call=node) for each in sites]
                elif (body := _in_body(node, position)) is not None:
                    if body not in seen:
                        seen.add(body)
                        pending.append((body, numbers, part))
                elif passes_on(node, position):
                    fresh = [each for each in node.outputs if each and each not in seen]
                    seen.update(fresh)
                    numeric = numbers or arrives_as_numbers(node, tensor)
                    cut = _cut(node, part)
                    pending.extend((each, numeric, cut) for each in fresh)
                else:
                    use = self._use(node, position, part, as_numbers=numbers)
                    found.append(Site(use=use, node=node, position=position))
        return tuple(found)

    def _use(self, node: Node, position: int, tensor: Tensor, *, as_numbers: bool) -> Use:
        """What a tensor is here; a single number added to many channels is no bias."""
        # What an operator's other input is tells a bias from a constant, and only an Add has one.
        behind = self._behind(node, position) if node.op_type == "Add" else None
        use = use_of(node, position, tensor, behind=behind, as_numbers=as_numbers)
        if node.op_type == "Mul" and self._is_slope(node, position):
            return Use(role=Role.LEARNED, why="the slopes of a PReLU, written out")
        if behind is None or use.role is not Role.LEARNED or tensor.elements != 1:
            return use
        weight = self._stored.get(behind.input(1))
        if weight is not None and _channels(behind, weight) > 1:
            return Use(role=Role.CONSTANT, why=f"a single number, added to {behind.op_type}")
        return use

    def _behind(self, node: Node, position: int) -> Node | None:
        """What computes the other of two inputs, seen through operators that move values."""
        found = self._producers.get(node.input(1 - position)) if position < 2 else None
        found = self._moved_from(found)
        if found is not None and found.op_type == "Mul" and found.is_standard:
            # Products of integers are scaled to numbers before their bias comes to them.
            for name in found.inputs:
                product = self._moved_from(self._producers.get(name))
                if product is not None and product.op_type in INTEGER_PRODUCTS:
                    return product
        return found

    def _is_slope(self, node: Node, position: int) -> bool:
        """Whether a Mul is that of ``relu(x) + slope · relu(-x)``, as Keras writes a PReLU."""
        gate = self._producers.get(node.input(1 - position))
        if gate is None or gate.op_type != "Relu" or not node.outputs:
            return False
        negated = self._producers.get(gate.input(0))
        if negated is None or negated.op_type != "Neg":
            return False
        for reader, at in self._users.get(node.outputs[0], ()):
            other = self._producers.get(reader.input(1 - at)) if reader.op_type == "Add" else None
            if other is not None and other.op_type == "Relu":
                return other.input(0) == negated.input(0)
        return False

    def _moved_from(self, node: Node | None) -> Node | None:
        """The node itself, or what computes what it only moves or converts."""
        steps = 0
        while node is not None and passes_on(node, 0) and steps < MOST_STEPS:
            node = self._producers.get(node.input(0))
            steps += 1
        return node


def _channels(node: Node, weight: Tensor) -> int:
    """Channels that a linear operator gives, by the dims of its weight."""
    if len(weight.dims) < 2:
        return 1
    match node.op_type:
        case "Conv" | "ConvInteger":
            return weight.dims[0]
        case "ConvTranspose":
            return weight.dims[1] * node.int_attribute("group", 1)
        case "Gemm" if node.int_attribute("transB", 0):
            return weight.dims[0]
        case _:
            return weight.dims[-1]


def _cut(node: Node, tensor: Tensor) -> Tensor:
    """A tensor as each output of a Split has it that takes one axis apart, else as it is.

    Keras' GRU has both of its biases in the rows of one tensor.
    """
    axis = node.int_attribute("axis", 0)
    if node.op_type != "Split" or not -len(tensor.dims) <= axis < len(tensor.dims):
        return tensor
    if tensor.dims[axis] != len(node.outputs):
        return tensor
    dims = list(tensor.dims)
    dims[axis] = 1
    return replace(tensor, dims=tuple(dims))


def _in_body(node: Node, position: int) -> str | None:
    """The name in its body of what a Loop or a Scan is given and hands on unchanged each time.

    What the body changes is a state, and no weight whatever it is multiplied with. Sources:
    https://onnx.ai/onnx/operators/onnx__Loop.html and onnx__Scan.html.
    """
    body = node.attributes.get("body") if node.op_type in ("Loop", "Scan") else None
    if not isinstance(body, Graph) or not node.is_standard or position >= len(body.inputs):
        return None
    # A Loop's body is given the iteration and the condition first, and gives the condition.
    first, given = (2, position - 1) if node.op_type == "Loop" else (0, position)
    if position < first or given >= len(body.outputs):
        return None
    name, back = body.inputs[position].name, body.outputs[given].name
    for _ in range(MOST_STEPS):
        if back == name:
            return name
        producer = body.wiring.producers.get(back)
        if producer is None or producer.op_type != "Identity":
            return None
        back = producer.input(0)
    return None


class Functions:
    """The model's functions, each looked through once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._uses: dict[int, Uses] = {}

    def __bool__(self) -> bool:
        return bool(self._model.functions)

    def of(self, function: Function) -> Uses:
        """Uses inside a function's body."""
        if id(function) not in self._uses:
            wiring = _with_inner(Wiring(function.nodes))
            # What a function gives back is used by its caller, and not followed any further.
            self._uses[id(function)] = Uses(wiring, function.outputs, self, {})
        return self._uses[id(function)]

    def entry(self, node: Node, position: int) -> tuple[Uses, str] | None:
        """Where the input of a call goes on: the uses inside, and its name there."""
        if not self:
            return None
        function = self._model.function(node)
        if function is None or position >= len(function.inputs):
            return None
        return self.of(function), function.inputs[position]


Stored: TypeAlias = tuple[Scope, str, Tensor, tuple[Site, ...]]


def stored_tensors(model: Model) -> Iterator[Stored]:
    """Every stored tensor once: (scope, value name, tensor, its uses)."""
    functions = Functions(model)
    yield from _of_graph(model.graph, (), functions)
    for function in model.functions.values():
        scope = (function.name,)
        wiring = Wiring(function.nodes)
        yield from _of_nodes(wiring, scope, {}, functions.of(function), functions)


def _of_graph(graph: Graph, scope: Scope, functions: Functions) -> Iterator[Stored]:
    wiring = _with_inner(graph.wiring)
    uses = Uses(wiring, [each.name for each in graph.outputs], functions, graph.initializers)
    yield from _of_nodes(graph.wiring, scope, graph.initializers, uses, functions)


def _of_nodes(
    wiring: Wiring,
    scope: Scope,
    initializers: Mapping[str, Tensor],
    uses: Uses,
    functions: Functions,
) -> Iterator[Stored]:
    for name, tensor in initializers.items():
        yield scope, name, tensor, uses.of(name, tensor)
    for node in wiring.holding:
        for key, value in node.attributes.items():
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Tensor):
                    yield _attribute(node, scope, key, each, uses)
    for node in wiring.nesting:
        for key, value in node.attributes.items():
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Graph):
                    yield from _of_graph(each, (*scope, f"{node.label}.{key}"), functions)


def _attribute(node: Node, scope: Scope, key: str, tensor: Tensor, uses: Uses) -> Stored:
    """A tensor that is an attribute: of a Constant it is its output, else the operator's own."""
    name = node.outputs[0] if node.outputs else ""
    if node.is_standard and node.op_type == "Constant":
        return scope, name, tensor, uses.of(name, tensor)
    role = Role.CONSTANT if node.is_standard else Role.UNKNOWN
    use = Use(role=role, why=f"attribute {key} of {node.op_type}")
    return scope, "", tensor, (Site(use=use, node=node),)


def _with_inner(wiring: Wiring) -> Wiring:
    """The wiring of nodes together with the subgraphs inside them, which see their values."""
    return Wiring(tuple(_flat(wiring.nodes))) if wiring.nesting else wiring


def _flat(nodes: Sequence[Node]) -> Iterator[Node]:
    yield from nodes
    for node in nodes:
        for value in node.attributes.values():
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Graph):
                    yield from _flat(each.nodes)
