"""One place along an axis, which a Slice takes as well as a Gather does.

The last step of a sequence is a Gather at -1 in one export, and a Slice from -1 on with a Squeeze
behind it in another.
"""

from __future__ import annotations

from inspector.compare.graphs.moves import axis_behind, way
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.pairing.defaults import overridable
from inspector.compare.runtime.run import Array

_NO_END = 2**31 - 1
"""From here on the end of a Slice is that of the axis: exporters write the largest integer."""


def picks_alike(a: Layer, b: Layer, left: Network, right: Network) -> bool:
    """Whether a Slice and a Gather, on either side, take one and the same place along an axis."""
    if {a.op, b.op} != {"Slice", "Gather"} or a.domain or b.domain:
        return False
    one, other = _pick(a, left), _pick(b, right)
    return one is not None and one == other


def _pick(layer: Layer, network: Network) -> tuple[int, int] | None:
    """The axis, as `_where` tells it, and the place; None of what takes more than one."""
    node = layer.node_fact
    known = network.model.graph.values.get(node.input(0))
    if known is None or known.dims is None:
        return None
    rank = len(known.dims)
    if layer.op == "Gather":
        place = _number(layer, network, 1)
        axis: int | None = node.int_attribute("axis", 0)
    else:
        start, end, axis, step = (_number(layer, network, at) for at in (1, 2, 3, 4))
        if node.input(4) and step != 1:
            return None
        if not node.input(3):
            axis = 0
        place = start
        if start is None or end is None or (start == -1 and end < _NO_END):
            return None
        if start != -1 and end != start + 1:
            return None
    if place is None or axis is None or not -rank <= axis < rank:
        return None
    axis %= rank
    dim = known.dims[axis]
    if isinstance(dim, int):
        if not -dim <= place < dim:
            return None
        place %= dim
        place = -1 if place == dim - 1 else place
    told = _where(node.input(0), axis, network)
    return None if told is None else (told, place)


def _where(value: str, axis: int, network: Network) -> int | None:
    """An axis as that of what the value was moved from, channels first where that is told."""
    graph = network.model.graph
    source = network.sources.get(value, value)
    producer = {name: each for each in graph.nodes for name in each.outputs if name}
    nodes = way(producer, source, value)
    known = graph.values.get(source)
    if nodes is None or known is None or known.dims is None:
        return None
    before = [at for at in range(len(known.dims)) if axis_behind(graph, nodes, at) == axis]
    axes = network.layouts.axes.get(source)
    if len(before) != 1:
        return None
    return before[0] if axes is None else axes[before[0]]


def _number(layer: Layer, network: Network, position: int) -> int | None:
    """The only number that is stored at an input, and may not be fed over."""
    tensor = layer.constants.get(position)
    if layer.node_fact.input(position) in overridable(network.model):
        return None
    if tensor is None or tensor.elements != 1 or tensor.dtype not in ("int32", "int64"):
        return None
    values: Array = network.model.weights.load(tensor)
    return int(values.reshape(-1)[0])
