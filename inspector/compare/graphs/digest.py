"""Whether two graphs are the same function by structure and bitwise parameters.

Each value gets a digest of what computes it: operator, version, attributes, and the digests of
what it reads. Names, the order of nodes, and what an inference BatchNorm never uses (momentum)
leave no trace in it. Two models whose paired outputs have the same digests compute the same
function of their paired inputs.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

from inspector.compare.graphs.contents import content_digest, sample
from inspector.compare.pairing.defaults import overridable, paired_defaults
from inspector.compare.pairing.pair import Pair
from inspector.facts.model import (
    Attribute,
    AttributeReference,
    Dim,
    Function,
    Graph,
    Model,
    Node,
    Tensor,
    Value,
    Weights,
)

MOST_NESTED = 100
"""Functions that call each other in a row; what lies deeper equals nothing."""


def same_function(
    models: tuple[Model, Model], inputs: Sequence[Pair], outputs: Sequence[Pair]
) -> bool:
    """Whether two models are one by structure and bitwise parameters, paired as they are.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    if any(not _in_place(each) for each in (*inputs, *outputs)):
        return False
    left, right = models
    defaults = paired_defaults(
        overridable(left),
        overridable(right),
        (partial(content_digest, left.weights), partial(content_digest, right.weights)),
    )
    ends = (
        ([p.left.name for p in inputs], [p.left.name for p in outputs], [*defaults]),
        ([p.right.name for p in inputs], [p.right.name for p in outputs], [*defaults.values()]),
    )
    # What differs can mostly be seen without hashing all of it.
    if _Digester(left, sample).outputs(*ends[0]) != _Digester(right, sample).outputs(*ends[1]):
        return False
    # Hashing lets other threads go on.
    with ThreadPoolExecutor(max_workers=1) as aside:
        other = aside.submit(_Digester(right).outputs, *ends[1])
        return _Digester(left).outputs(*ends[0]) == other.result()


def _in_place(pair: Pair) -> bool:
    """Whether the axes are taken, or tried first, as they are."""
    return pair.permutations[0] == tuple(sorted(pair.permutations[0]))


def digest(
    model: Model, *, inputs: Sequence[str], outputs: Sequence[str], defaults: Sequence[str] = ()
) -> tuple[str, ...]:
    """One digest for each of `outputs`, in their order.

    Parameters
    ----------
    model
        With its nodes in order (`inspector.compare.graphs.order`).
    inputs, outputs
        Names as they are paired with the other model's: the n-th input here is fed what the n-th
        input there is.
    defaults
        The same of inputs that have a default.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    return _Digester(model).outputs(inputs, outputs, defaults)


def digest_of_tensor(model: Model, tensor: Tensor) -> str:
    """A digest of a tensor's type, dims and values."""
    return _Digester(model).tensor(tensor)


def digest_of_subgraph(model: Model, graph: Graph, outer: Mapping[str, str]) -> str:
    """A digest of what a subgraph computes, given digests of what it reads from outside."""
    return _Digester(model).graph(graph, outer, 1)


def digest_of_function(model: Model, function: Function) -> str:
    """A digest of what a function computes."""
    return _Digester(model).function(function)


class _Digester:
    def __init__(
        self, model: Model, content: Callable[[Weights, Tensor], str] = content_digest
    ) -> None:
        self._model = model
        self._content = content
        self._functions: dict[int, str] = {}
        self._unknown = count()
        self._nested = 0
        self._own_name = secrets.token_hex(8)

    def outputs(
        self, inputs: Sequence[str], outputs: Sequence[str], defaults: Sequence[str]
    ) -> tuple[str, ...]:
        graph = self._model.graph
        place = {name: at for at, name in enumerate(inputs)}
        known = {
            value.name: _hash("fed", place[value.name], value.dtype, _fixed(value))
            for value in graph.inputs
            if value.name in place
        }
        open_ = overridable(self._model)
        places = {name: at for at, name in enumerate(defaults)}
        for name, tensor in graph.initializers.items():
            own = self.tensor(tensor)
            # Two that hold the same are two as long as either can be fed.
            known[name] = _hash("default", places.get(name), own) if name in open_ else own
        self._nodes(graph, known, 0)
        return tuple(self._of(name, known) for name in outputs)

    def graph(self, graph: Graph, outer: Mapping[str, str], depth: int) -> str:
        known = dict(outer)
        for at, value in enumerate(graph.inputs):
            # The depth keeps a body's own input apart from one of the graphs around it.
            known[value.name] = _hash("input", depth, at, value.dtype)
        known |= {name: self.tensor(tensor) for name, tensor in graph.initializers.items()}
        self._nodes(graph, known, depth)
        return _hash(len(graph.inputs), *(self._of(value.name, known) for value in graph.outputs))

    def _nodes(self, graph: Graph, known: dict[str, str], depth: int) -> None:
        for node in graph.nodes:
            self._node(node, known, depth)

    def _of(self, name: str, known: Mapping[str, str]) -> str:
        """The digest of a value; of one that nothing computes, one that equals no other."""
        return known.get(name) or f"unknown {self._own_name} {next(self._unknown)}"

    def _node(self, node: Node, known: dict[str, str], depth: int) -> None:
        if node.is_standard and node.outputs and node.op_type in ("Identity", "Constant"):
            if node.op_type == "Identity":
                known[node.outputs[0]] = self._of(node.input(0), known)
                return
            value = node.attributes.get("value")
            if isinstance(value, Tensor):
                known[node.outputs[0]] = self.tensor(value)
                return
        own = self._own(node, known, depth)
        for at, name in enumerate(node.outputs):
            if name:
                known[name] = _hash(own, at)

    def _own(self, node: Node, known: Mapping[str, str], depth: int) -> str:
        domain = "" if node.is_standard else node.domain
        function = self._model.function(node)
        return _hash(
            domain,
            node.op_type,
            self._model.opsets.get(domain, 1),
            self.function(function) if function else "",
            # Which outputs are asked for can change what the others are: Split without lengths,
            # BatchNormalization before opset 14.
            [bool(name) for name in _trimmed(node.outputs)],
            *(
                f"{name}={self._attribute(value, known, depth)}"
                for name, value in sorted(node.attributes.items())
                if not _unused(node, name)
            ),
            "inputs",
            *(self._of(name, known) if name else "none" for name in _trimmed(node.inputs)),
        )

    def function(self, function: Function) -> str:
        key = id(function)
        if key not in self._functions and self._nested >= MOST_NESTED:
            return f"too deep {self._own_name} {next(self._unknown)}"
        if key not in self._functions:
            self._nested += 1
            # Set first: a function that calls itself is an error elsewhere, not a hang here.
            self._functions[key] = "itself"
            known = {name: _hash("argument", at) for at, name in enumerate(function.inputs)}
            for node in function.nodes:
                self._node(node, known, 0)
            self._functions[key] = _hash(
                sorted(function.opsets.items()),
                *(self._of(name, known) for name in function.outputs),
            )
            self._nested -= 1
        return self._functions[key]

    def _attribute(self, value: Attribute, known: Mapping[str, str], depth: int) -> str:
        match value:
            case Tensor():
                return self.tensor(value)
            case Graph():
                return self.graph(value, known, depth + 1)
            case tuple():
                return _hash(*(self._attribute(each, known, depth) for each in value))
            case AttributeReference():
                return f"reference {value.name}"
            case _:
                return repr(value)

    def tensor(self, tensor: Tensor) -> str:
        return _hash(tensor.dtype, tensor.dims, self._content(self._model.weights, tensor))


def _fixed(value: Value) -> tuple[Dim, ...] | None:
    """Lengths that a model insists on: one that takes any batch is more than one that does not."""
    if value.dims is None:
        return None
    return tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in value.dims)


def _trimmed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names without the empty ones at the end, which say no more than their absence."""
    end = len(names)
    while end and not names[end - 1]:
        end -= 1
    return names[:end]


def _unused(node: Node, name: str) -> bool:
    """Momentum moves the running statistics in training and does nothing to the output."""
    alone = len(_trimmed(node.outputs)) == 1
    return (
        alone and node.is_standard and node.op_type == "BatchNormalization" and name == "momentum"
    )


def _hash(*parts: object) -> str:
    # repr keeps parts apart: ("a", "bc") and ("ab", "c") give different text.
    return hashlib.blake2b(repr(parts).encode(), digest_size=20).hexdigest()
