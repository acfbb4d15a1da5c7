"""Which nodes data flows through on its way from the inputs to the outputs.

All others compute shapes, or what follows from constants: no framework shows them as a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from inspector.facts.graphs import captured
from inspector.facts.model import Graph, Node, Wiring

_ARGUMENTS: Mapping[str, range] = {
    **dict.fromkeys(
        "Reshape Expand Tile Squeeze Unsqueeze Split TopK CumSum Trilu Upsample CenterCropPad "
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum "
        "ReduceLogSumExp ReduceSumSquare".split(),
        range(1, 2),
    ),
    **dict.fromkeys("Clip OneHot Dropout QuantizeLinear DequantizeLinear".split(), range(1, 3)),
    **dict.fromkeys(("Pad", "Resize"), range(1, 4)),
    **dict.fromkeys("Shape Size ConstantOfShape Range".split(), range(3)),
    "Slice": range(1, 5),
    "NonMaxSuppression": range(2, 5),
}
"""Inputs that say how an operator works, by position, and that no data flows in by."""


_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN"})
"""Operators that are a layer also where what they take is a constant of the model."""


def is_argument(node: Node, position: int) -> bool:
    """Whether an input says how the operator works, and is no data."""
    return node.is_standard and position in _ARGUMENTS.get(node.op_type, ())


def on_path(graph: Graph) -> list[Node]:
    """The nodes that data flows through, each behind those that it reads."""
    producers = graph.wiring.producers
    fed = _fed(graph, graph.wiring)

    def read(node: Node) -> Iterator[Node]:
        names = [each for at, each in enumerate(node.inputs) if not is_argument(node, at)]
        for name in (*names, *captured(node)):
            found = producers.get(name)
            if found is not None and (id(found) in fed or found.op_type in _LAYERS):
                yield found

    ordered: list[Node] = []
    done: set[int] = set()
    for value in graph.outputs:
        last = producers.get(value.name)
        if last is None or (id(last) not in fed and last.op_type not in _LAYERS):
            continue
        pending = [last]
        entered: set[int] = set()
        while pending:
            node = pending[-1]
            if id(node) in done or id(node) in entered:
                pending.pop()
                if id(node) not in done:
                    done.add(id(node))
                    ordered.append(node)
                continue
            entered.add(id(node))
            waiting = [each for each in read(node) if id(each) not in done]
            pending += [each for each in reversed(waiting) if id(each) not in entered]
    return ordered


def _fed(graph: Graph, wiring: Wiring) -> set[int]:
    """Nodes whose outputs depend on what is fed, by their ids.

    What a subgraph reads from around it is not looked at: a node with one counts as fed.
    """
    pending = [value.name for value in graph.inputs if value.name not in graph.initializers]
    found = {id(node) for node in wiring.nesting}
    pending += [name for node in wiring.nesting for name in node.outputs]
    seen = set(pending)
    while pending:
        for node, _ in wiring.users.get(pending.pop(), ()):
            found.add(id(node))
            fresh = [each for each in node.outputs if each and each not in seen]
            seen.update(fresh)
            pending += fresh
    # A network without inputs computes all that it gives from constants.
    return found if found else {id(node) for node in graph.nodes}
