"""What a stored tensor is to the operators that use it.

Roles follow use, not names: input 1 of a Conv is learned whatever it is called. A tensor that
reaches an operator through operators that only move or convert values (Transpose, Cast …) has
the role it has there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from inspector.facts.count import Role
from inspector.facts.model import Graph, Model, Node, Scope, Tensor

_LEARNED_INPUTS: Mapping[str, frozenset[int]] = {
    op: frozenset(positions)
    for op, positions in {
        "BatchNormalization": (1, 2),
        "Conv": (1, 2),
        "ConvInteger": (1,),
        "ConvTranspose": (1, 2),
        "DeformConv": (1, 3),
        "Einsum": (0, 1, 2, 3),
        "FC": (1, 2),
        "GRU": (1, 2, 3),
        "Gather": (0,),
        "Gemm": (0, 1, 2),
        "GroupNormalization": (1, 2),
        "InstanceNormalization": (1, 2),
        "LSTM": (1, 2, 3, 7),
        "LayerNormalization": (1, 2),
        "MatMul": (0, 1),
        "MatMulInteger": (0, 1),
        "PRelu": (1,),
        "QLinearConv": (3, 8),
        "QLinearMatMul": (0, 3),
        "RMSNormalization": (1,),
        "RNN": (1, 2, 3),
    }.items()
}
_STATISTIC_INPUTS: Mapping[str, frozenset[int]] = {"BatchNormalization": frozenset({3, 4})}

_MOVES_VALUES = frozenset(
    "Identity Cast Transpose Reshape Flatten Squeeze Unsqueeze Expand Tile Slice Concat Split "
    "DequantizeLinear QuantizeLinear".split()
)
_LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
_SCALES_OR_SHIFTS = frozenset({"Add", "Sub", "Mul", "Div"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One way a tensor is used, and the role that gives it."""

    role: Role
    why: str


class Uses:
    """Finds the uses of stored values within one scope and the scopes inside it."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self._users: dict[str, list[tuple[Node, int]]] = defaultdict(list)
        self._producers: dict[str, Node] = {}
        for node in nodes:
            for position, name in enumerate(node.inputs):
                if name:
                    self._users[name].append((node, position))
            self._producers.update({name: node for name in node.outputs if name})

    def of(self, value: str, tensor: Tensor) -> tuple[Use, ...]:
        """Every use of `value`, followed through operators that only move values."""
        found: list[Use] = []
        pending, seen = [value], {value}
        while pending:
            for node, position in self._users.get(pending.pop(), ()):
                if node.is_standard and node.op_type in _MOVES_VALUES and position == 0:
                    fresh = [name for name in node.outputs if name and name not in seen]
                    seen.update(fresh)
                    pending.extend(fresh)
                else:
                    found.append(self._use(node, position, tensor))
        return tuple(found)

    def _use(self, node: Node, position: int, tensor: Tensor) -> Use:
        why = f"input {position} of {node.op_type}"
        if position in _STATISTIC_INPUTS.get(node.op_type, ()):
            return Use(role=Role.STATISTIC, why=why)
        if not tensor.is_float and node.op_type not in ("QLinearConv", "QLinearMatMul"):
            return Use(role=Role.CONSTANT, why=why)
        if position in _LEARNED_INPUTS.get(node.op_type, ()):
            return Use(role=Role.LEARNED, why=why)
        if node.op_type in _SCALES_OR_SHIFTS:
            return self._scale_or_shift(node, position, tensor, why)
        if node.is_standard and tensor.elements <= 1:
            return Use(role=Role.CONSTANT, why=f"a single number, {why}")
        return Use(role=Role.UNKNOWN, why=f"{why}, which tells nothing of its role")

    def _scale_or_shift(self, node: Node, position: int, tensor: Tensor, why: str) -> Use:
        other = self._behind(node.input(1 - position) if position < 2 else "")
        behind = other.op_type if other is not None else ""
        if node.op_type == "Add" and behind in _LINEAR and tensor.dims:
            return Use(role=Role.LEARNED, why=f"the bias added to {behind}")
        if tensor.elements <= 1:
            return Use(role=Role.CONSTANT, why=f"a single number, {why}")
        return Use(
            role=Role.UNKNOWN,
            why=f"{why}: a bias, a constant, or what is left of a normalisation",
        )

    def _behind(self, value: str) -> Node | None:
        """What computes `value`, looking through operators that only move values."""
        node = self._producers.get(value)
        seen = 0
        while node is not None and node.op_type in _MOVES_VALUES and seen < 64:
            node = self._producers.get(node.input(0))
            seen += 1
        return node


def role_of(uses: tuple[Use, ...]) -> Use:
    """One role from all uses: what is learned anywhere is learned."""
    for role in (Role.LEARNED, Role.STATISTIC, Role.UNKNOWN, Role.CONSTANT):
        for use in uses:
            if use.role is role:
                return use
    return Use(role=Role.UNKNOWN, why="no operator uses it")


Stored: TypeAlias = tuple[Scope, str, Tensor, Uses]


def stored_tensors(model: Model) -> Iterator[Stored]:
    """Every stored tensor once: (scope, value name, tensor, uses within its scope)."""
    yield from _of_graph(model.graph, ())
    for function in model.functions.values():
        yield from _of_nodes(function.nodes, (function.name,), {}, Uses(function.nodes))


def _of_graph(graph: Graph, scope: Scope) -> Iterator[Stored]:
    uses = Uses(_with_inner(graph.nodes))
    yield from _of_nodes(graph.nodes, scope, graph.initializers, uses)


def _of_nodes(
    nodes: tuple[Node, ...], scope: Scope, initializers: Mapping[str, Tensor], uses: Uses
) -> Iterator[Stored]:
    for name, tensor in initializers.items():
        yield scope, name, tensor, uses
    for node in nodes:
        for key, value in node.attributes.items():
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Tensor):
                    yield scope, node.outputs[0] if node.outputs else "", each, uses
                elif isinstance(each, Graph):
                    yield from _of_graph(each, (*scope, f"{node.label}.{key}"))


def _with_inner(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """The nodes of a graph and of the subgraphs inside it, which see its values."""
    found = list(nodes)
    for node in nodes:
        for value in node.attributes.values():
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Graph):
                    found.extend(_with_inner(each.nodes))
    return tuple(found)
