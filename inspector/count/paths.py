"""Which nodes data flows through on its way from the inputs to the outputs.

All others compute shapes, or what follows from constants: no framework shows them as a layer.
"""

from __future__ import annotations

from collections.abc import Mapping

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


def is_argument(node: Node, position: int) -> bool:
    """Whether an input says how the operator works, and is no data."""
    return node.is_standard and position in _ARGUMENTS.get(node.op_type, ())


def on_path(graph: Graph) -> list[Node]:
    """The nodes that data flows through, in the file's order."""
    wiring = graph.wiring
    fed = _fed(graph, wiring)
    wanted: set[int] = set()
    pending = [value.name for value in graph.outputs]
    seen = set(pending)
    while pending:
        node = wiring.producers.get(pending.pop())
        if node is None or id(node) in wanted or id(node) not in fed:
            continue
        wanted.add(id(node))
        for position, name in enumerate(node.inputs):
            if name and name not in seen and not is_argument(node, position):
                seen.add(name)
                pending.append(name)
    return [node for node in graph.nodes if id(node) in wanted]


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
