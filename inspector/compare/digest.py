"""Whether two graphs are the same function by structure and bitwise parameters.

Each value gets a digest of what computes it: operator, version, attributes, and the digests of
what it reads. Names, the order of nodes, and what an inference BatchNorm never uses (momentum)
leave no trace in it. Two models whose outputs have the same digests compute the same function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from inspector.facts.model import (
    Attribute,
    AttributeReference,
    Function,
    Graph,
    Model,
    Node,
    Tensor,
)


def digest(model: Model) -> tuple[str, ...]:
    """One digest for each graph output, in order.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    return _Digester(model).graph(model.graph, {})


class _Digester:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._functions: dict[tuple[str, str], str] = {}

    def graph(self, graph: Graph, outer: Mapping[str, str]) -> tuple[str, ...]:
        known = dict(outer)
        for at, value in enumerate(graph.inputs):
            known[value.name] = _hash("input", at, value.dtype)
        for name, tensor in graph.initializers.items():
            known[name] = self._tensor(tensor)
        for node in graph.nodes:
            self._node(node, known)
        return tuple(known.get(value.name, "") for value in graph.outputs)

    def _node(self, node: Node, known: dict[str, str]) -> None:
        if node.op_type == "Identity" and node.is_standard and node.outputs:
            known[node.outputs[0]] = known.get(node.input(0), "")
            return
        if node.op_type == "Constant" and node.is_standard and node.outputs:
            value = node.attributes.get("value")
            if isinstance(value, Tensor):
                known[node.outputs[0]] = self._tensor(value)
                return
        domain = "" if node.is_standard else node.domain
        function = self._model.functions.get((node.domain, node.op_type))
        body = self._function(function) if function else ""
        own = _hash(
            domain,
            node.op_type,
            self._model.opsets.get(domain, 1),
            body,
            *(
                f"{name}={self._attribute(value, known)}"
                for name, value in sorted(node.attributes.items())
                if not _unused(node, name)
            ),
            "inputs",
            *(known.get(name, "") if name else "none" for name in node.inputs),
        )
        for at, name in enumerate(node.outputs):
            if name:
                known[name] = _hash(own, at)

    def _function(self, function: Function) -> str:
        key = (function.domain, function.name)
        if key not in self._functions:
            # Set first: a function that calls itself is an error elsewhere, not a hang here.
            self._functions[key] = "itself"
            known = {name: _hash("argument", at) for at, name in enumerate(function.inputs)}
            for node in function.nodes:
                self._node(node, known)
            self._functions[key] = _hash(
                sorted(function.opsets.items()),
                *(known.get(name, "") for name in function.outputs),
            )
        return self._functions[key]

    def _attribute(self, value: Attribute, known: Mapping[str, str]) -> str:
        match value:
            case Tensor():
                return self._tensor(value)
            case Graph():
                return _hash(*self.graph(value, known))
            case tuple():
                return _hash(*(self._attribute(each, known) for each in value))
            case AttributeReference():
                return f"reference {value.name}"
            case _:
                return repr(value)

    def _tensor(self, tensor: Tensor) -> str:
        values = np.ascontiguousarray(self._model.weights.load(tensor))
        if values.dtype.kind in "OUS":
            return _hash(tensor.dtype, tensor.dims, repr(values.tolist()))
        content = hashlib.blake2b(values.view(np.uint8).data if values.size else b"").hexdigest()
        return _hash(tensor.dtype, tensor.dims, content)


def _unused(node: Node, name: str) -> bool:
    """Momentum moves the running statistics in training and does nothing at inference."""
    inference = node.op_type == "BatchNormalization" and sum(map(bool, node.outputs)) == 1
    return inference and node.is_standard and name == "momentum"


def _hash(*parts: object) -> str:
    # repr keeps parts apart: ("a", "bc") and ("ab", "c") give different text.
    return hashlib.blake2b(repr(parts).encode(), digest_size=20).hexdigest()
