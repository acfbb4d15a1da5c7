"""The layers of a graph in an order that does not depend on names or on the file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from inspector.compare.graphs.reduction import is_reduction, operator
from inspector.compare.graphs.view import View, commutes, first_output
from inspector.facts.model import Node, Tensor


def in_sequence(view: View, *, inputs: Sequence[str], outputs: Sequence[str]) -> list[Node]:
    """Nodes that are layers and that `outputs` depend on, each behind what it reads.

    Where an operator does not mind the order of what it reads, a digest of what computes it
    decides.
    """
    return _Sequence(view, inputs, outputs).nodes()


class _Sequence:
    def __init__(self, view: View, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._view = view
        self._inputs = inputs
        self._outputs = outputs

    def nodes(self) -> list[Node]:
        rank = self._digests(contents=False)
        if self._has_ties(rank):
            rank = self._digests(contents=True)
        seen: set[int] = set()
        order: list[Node] = []
        for output in self._outputs:
            stack = [(self._view.source(output), False)]
            while stack:
                value, ready = stack.pop()
                node = self._view.layer_node(value)
                if node is None:
                    continue
                if ready:
                    order.append(node)
                    continue
                if id(node) in seen:
                    continue
                seen.add(id(node))
                stack.append((value, True))
                inputs = self._view.dynamic_inputs(node)
                if commutes(node):
                    inputs = sorted(inputs, key=lambda name: rank.get(name, ""))
                stack.extend((name, False) for name in reversed(inputs))
        return order

    def _has_ties(self, rank: Mapping[str, str]) -> bool:
        """Whether an operator that commutes reads two values that look the same."""
        for node in self._view.graph.nodes:
            if commutes(node):
                inputs = dict.fromkeys(self._view.dynamic_inputs(node))
                if len({rank.get(name, "") for name in inputs}) < len(inputs):
                    return True
        return False

    def _digests(self, *, contents: bool) -> dict[str, str]:
        """What each layer's value is computed by, as a digest of operators and sizes.

        With `contents` also of the smallest and largest stored values, which no layout changes.
        """
        digests = {name: f"input {at}" for at, name in enumerate(self._inputs)}
        for node in self._view.graph.nodes:
            owner = self._view.absorbed.get(first_output(node))
            if owner is not None:
                digests[first_output(node)] = digests.get(first_output(owner), "")
                continue
            inputs = [digests.get(name, "") for name in self._view.dynamic_inputs(node)]
            if commutes(node):
                inputs.sort()
            stored = (self._view.stored(name) for name in node.inputs)
            # Axes and shapes are written as inputs by one exporter, as attributes by another.
            tensors = [each for each in stored if each is not None and each.is_float]
            sizes = max((each.elements for each in tensors), default=0)
            ends = [self._ends(each) for each in tensors] if contents else []
            text = repr((_op(node), sizes, ends, inputs))
            digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            for at, name in enumerate(node.outputs):
                digests[name] = f"{digest} {at}"
        return digests

    def _ends(self, tensor: Tensor) -> tuple[str, ...]:
        values = self._view.model.weights.load(tensor)
        if not values.size or values.dtype.kind not in "fiu":
            return ()
        return (str(values.min()), str(values.max()))


def _op(node: Node) -> str:
    """The operator as the digest sees it: a Gemm and a MatMul are one."""
    if is_reduction(node):
        return f":{operator(node)}"
    if node.is_standard and node.op_type in ("Relu", "Clip"):
        return ":Clip"
    return "Dense" if node.op_type in ("Gemm", "MatMul") else f"{node.domain}:{node.op_type}"
