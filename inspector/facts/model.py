"""An ONNX model as it is written: graphs, nodes and tensors, with no tensor loaded.

Names follow the ONNX specification (https://onnx.ai/onnx/repo-docs/IR.html). A tensor is known
by name, dtype and dims; its values stay where they lie until `Weights.load` is asked for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias

from inspector.facts.fact import fact

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

Scope: TypeAlias = tuple[str, ...]
"""Path of subgraphs and function calls from the main graph, which is the empty path."""

Dim: TypeAlias = int | str | None
"""A length, the name of an unknown length, or nothing known at all."""

FLOAT_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})


class Storage(StrEnum):
    """Where the model file keeps a tensor; `NOWHERE` if its values follow from others."""

    INITIALIZER = "initializer"
    SPARSE_INITIALIZER = "sparse initializer"
    ATTRIBUTE = "attribute"
    NOWHERE = "computed from constants"


@fact(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A stored tensor. `key` is what `Weights.load` takes; it has no meaning outside its model."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    storage: Storage
    key: int
    external: str = ""

    @property
    def elements(self) -> int:
        return prod(self.dims)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOAT_DTYPES


@fact(frozen=True, slots=True, kw_only=True)
class Value:
    """A graph input, output or intermediate value; `None` stands for what is not declared.

    `noted` is what torch's exporter says that an input of its program is: ``PARAMETER``,
    ``BUFFER``, ``USER_INPUT`` …; empty where it says nothing.
    """

    name: str
    dtype: str | None
    dims: tuple[Dim, ...] | None
    noted: str = ""


Attribute: TypeAlias = (
    "int | float | bytes | Tensor | Graph | tuple[int, ...] | tuple[float, ...] "
    "| tuple[bytes, ...] | tuple[Tensor, ...] | tuple[Graph, ...] | AttributeReference | None"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeReference:
    """An attribute of a function's node that takes its value from the call."""

    name: str


NOTHING: Mapping[str, str] = MappingProxyType({})


@fact(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator call; an absent optional input is the empty name, as ONNX writes it.

    `metadata` is what the exporter noted about it.
    """

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    overload: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def input(self, position: int) -> str:
        """The name at `position`, or the empty name where the node has no such input."""
        return self.inputs[position] if position < len(self.inputs) else ""

    def int_attribute(self, name: str, default: int) -> int:
        value = self.attributes.get(name)
        return value if isinstance(value, int) else default

    def float_attribute(self, name: str, default: float) -> float:
        value = self.attributes.get(name)
        return value if isinstance(value, float) else default

    def ints_attribute(self, name: str) -> tuple[int, ...] | None:
        value = self.attributes.get(name)
        if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
            return value  # type: ignore[return-value]  # narrowed by the line above
        return None

    @property
    def label(self) -> str:
        """The node's name, or its first output's where the exporter gave it none."""
        return self.name or next((output for output in self.outputs if output), "")

    @property
    def is_standard(self) -> bool:
        """Whether the operator is of the standard domain."""
        return self.domain in ("", "ai.onnx")


class Wiring:
    """Which of some nodes compute and read each value, and which hold more than numbers.

    Attributes
    ----------
    nodes
        In the file's order.
    producers
        The node that computes a value; of several, against ONNX's rules, the last one.
    users
        The nodes that read a value, each with the position of the input.
    nesting
        The nodes with a subgraph among their attributes.
    holding
        The nodes with a tensor among their attributes.
    """

    __slots__ = ("holding", "nesting", "nodes", "producers", "users")

    def __init__(self, nodes: Sequence[Node]) -> None:
        producers: dict[str, Node] = {}
        users: dict[str, list[tuple[Node, int]]] = {}
        nesting: list[Node] = []
        holding: list[Node] = []
        # Once for each node of a model: no calls that can be left out.
        for node in nodes:
            for name in node.outputs:
                producers[name] = node
            position = 0
            for name in node.inputs:
                if name in users:
                    users[name].append((node, position))
                else:
                    users[name] = [(node, position)]
                position += 1  # noqa: SIM113  # enumerate() costs more
            if not node.attributes:
                continue
            for value in node.attributes.values():
                kind = type(value[0]) if type(value) is tuple and value else type(value)
                if kind is Graph and not (nesting and nesting[-1] is node):
                    nesting.append(node)
                elif kind is Tensor and not (holding and holding[-1] is node):
                    holding.append(node)
        # The empty name stands for what is left out.
        users.pop("", None)
        producers.pop("", None)
        self.nodes = nodes
        self.producers = producers
        self.users = users
        self.nesting = nesting
        self.holding = holding


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A graph or subgraph; `nodes` are in the file's (topological) order."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    initializers: Mapping[str, Tensor]
    values: Mapping[str, Value]
    _wiring: Wiring | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def wiring(self) -> Wiring:
        """How its nodes hang together, found out when first asked for."""
        if self._wiring is None:
            object.__setattr__(self, "_wiring", Wiring(self.nodes))
        assert self._wiring is not None  # set above
        return self._wiring


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A model-local function; `attributes` are the defaults of those that have one."""

    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    opsets: Mapping[str, int]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


class Weights(Protocol):
    """Loads tensors' values when asked for."""

    def load(self, tensor: Tensor) -> NDArray[Any]:
        """Values of `tensor`, of its own dtype and dims.

        Raises
        ------
        inspector.errors.UnreadableError
            The stored bytes do not make such a tensor, or the data file cannot be read.
        """

    def keep(self, name: str, values: NDArray[Any]) -> Tensor:
        """A tensor of values that were computed from the file's constants, to be loaded again."""

    def load_together(self, tensors: Sequence[Tensor]) -> NDArray[Any]:
        """Values of tensors of one dtype and the same dims, stacked: [len(tensors), *dims].

        Raises
        ------
        inspector.errors.UnreadableError
            See `load`.
        """


class Evaluator(Protocol):
    """Computes what a node gives on constants, by the operators' definition."""

    def run(
        self, node: Node, inputs: Sequence[NDArray[Any] | None], opset: int
    ) -> Sequence[NDArray[Any]]:
        """The outputs of one node of the standard domain; None stands for an absent input.

        Raises
        ------
        inspector.errors.UnreadableError
            The operator cannot be computed on these inputs, or the result is no array.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model file, opened.

    `missing_data` counts, by location, the tensors whose data file is not there; `data_files` are
    the real paths of those that are. `notes` say what is against the rules in the file, and how it
    was read.
    """

    path: str
    size: int
    ir_version: int
    producer: str
    opsets: Mapping[str, int]
    graph: Graph
    functions: Mapping[tuple[str, str], Function]
    metadata: Mapping[str, str]
    missing_data: Mapping[str, int]
    weights: Weights = field(repr=False, compare=False)
    evaluator: Evaluator = field(repr=False, compare=False)
    notes: tuple[str, ...] = ()
    data_files: tuple[str, ...] = ()

    @property
    def opset(self) -> int:
        """Version of the standard domain; 1 where the file imports none, as ONNX rules."""
        return self.opsets.get("", 1)

    def values(self, tensor: Tensor) -> NDArray[Any] | None:
        """Values of a tensor, see `Weights.load`; None where its data file is missing."""
        return None if tensor.external in self.missing_data else self.weights.load(tensor)

    def function(self, node: Node) -> Function | None:
        """The function that `node` calls, if it is such a call."""
        return self.functions.get((node.domain, function_name(node.op_type, node.overload)))


def function_name(name: str, overload: str) -> str:
    """One name for a function and its overload, as keys of `Model.functions` carry it."""
    return f"{name}:{overload}" if overload else name
