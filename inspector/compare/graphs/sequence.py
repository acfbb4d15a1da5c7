"""The layers of a graph in an order that does not depend on names or on the file."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from inspector.compare.graphs.broadcast import spreads
from inspector.compare.graphs.reduction import is_reduction, operator
from inspector.compare.graphs.view import View, commutes, first_output
from inspector.facts.graphs import captured
from inspector.facts.model import Node, Tensor

_EACH_ELEMENT = frozenset(
    "Relu Clip LeakyRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Swish Mish Softplus Softsign "
    "Tanh Erf Gelu Exp Log Sqrt Reciprocal Abs Neg Ceil Floor Round Sign ThresholdedRelu Cast "
    "BatchNormalization".split()
)


def in_sequence(view: View, *, inputs: Sequence[str], outputs: Sequence[str]) -> list[Node]:
    """Nodes that are layers and that `outputs` depend on, each behind what it reads.

    Where an operator does not mind the order of what it reads, a digest of what computes it
    decides.
    """
    return _Sequence(view, inputs, outputs).nodes()


def names_read(view: View, nodes: Sequence[Node]) -> dict[str, set[str]]:
    """Under which names each layer's value is read, by the layers that mind its shape.

    Parameters
    ----------
    nodes
        Those of the layers, each behind what it reads.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for node in reversed(nodes):
        for name in (*node.inputs, *captured(node)):
            if not name or view.stored(name) is not None:
                continue
            source = view.source(name)
            if _hands_on_shape(view, node, name):
                bias = view.bias_of.get(id(node))
                found[source] |= found[bias.outputs[0] if bias else first_output(node)]
            else:
                found[source].add(name)
    return found


def _hands_on_shape(view: View, node: Node, name: str) -> bool:
    """Whether a layer does the same whatever axes of length 1 `name` has, and keeps them."""
    if not node.is_standard or len(view.dynamic_inputs(node)) != 1:
        return False
    if spreads(node, 0):
        # Where its constant lies is compared with the constant.
        return node.op_type != "Concat" and _keeps_lengths(view, node)
    # Of a dense layer the last axis alone counts, which its kernel's dims tell.
    return name == node.input(0) and (node.op_type in _EACH_ELEMENT or view.is_dense(node))


def _keeps_lengths(view: View, node: Node) -> bool:
    """Whether no constant makes the one value that a node reads any longer."""
    (read,) = (name for name in node.inputs if name and view.stored(name) is None)
    before, after = (view.graph.values.get(name) for name in (read, first_output(node)))
    if before is None or after is None or before.dims is None or after.dims is None:
        return False
    lengths = [
        [dim if isinstance(dim, int) else None for dim in each.dims or ()]
        for each in (before, after)
    ]
    return lengths[0] == lengths[1]


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
            stored = (self._view.stored(name) for name in node.inputs)
            # Axes and shapes are written as inputs by one exporter, as attributes by another.
            tensors = [each for each in stored if each is not None and each.is_float]
            sizes = max((each.elements for each in tensors), default=0)
            ends = [self._ends(each) for each in tensors] if contents else []
            if commutes(node):
                inputs.sort()
                ends.sort()
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
