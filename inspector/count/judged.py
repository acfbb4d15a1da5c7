"""What a layer is, by the nodes that it is made of."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from inspector.count.kinds import kind_of
from inspector.count.layers import MOVES, Layer
from inspector.facts.model import Dim, Graph, Node

_NORMS = frozenset(
    "InstanceNormalization LayerNormalization GroupNormalization RMSNormalization "
    "SimplifiedLayerNormalization SkipLayerNormalization GroupNorm".split()
)
_BIASES = frozenset({"Add", "Sub"})


class Kinds:
    """Tells the kind of each layer of one graph.

    Parameters
    ----------
    dims
        Of values, as far as they are known.
    using
        Ids of the nodes that use learned tensors or statistics.
    norms
        Outputs of BatchNorms that are arithmetic.
    """

    def __init__(
        self,
        graph: Graph,
        dims: Mapping[str, tuple[Dim, ...] | None],
        using: Container[int],
        norms: Container[str],
    ) -> None:
        self._graph, self._dims = graph, dims
        self._using, self._norms = using, norms

    def weighs(self, node: Node) -> bool:
        """Whether a node has weights by which its layer is known; a bias says nothing."""
        return node.op_type not in _BIASES and id(node) in self._using

    def of(self, layer: Layer) -> str | None:
        """What a layer computes, by the node that makes it what it is."""
        if any(name in self._norms for node in layer.nodes for name in node.outputs):
            return "BatchNormalization"
        norm = next((n.op_type for n in layer.nodes if n.op_type in _NORMS), None)
        if norm is not None:
            # GroupNorm is written as an InstanceNormalization of groups, and a scale and shift.
            grouped = norm == "InstanceNormalization" and len(layer.nodes) > 1
            return "GroupNormalization" if grouped else kind_of(norm)
        weighing = [node for node in layer.nodes if self.weighs(node)]
        doing = weighing or [node for node in layer.nodes if node.op_type not in MOVES]
        if not doing:
            return self._kind_of_moves(layer)
        node = doing[0] if weighing else doing[-1]
        return self._kind_of(node, layer)

    def _kind_of(self, node: Node, layer: Layer) -> str:
        kind = kind_of(node.op_type)
        ops = {each.op_type for each in layer.nodes}
        if kind == "Linear" and not self.weighs(node):
            return "MatMul"
        if kind in ("MatMul", "Einsum") and self.weighs(node):
            return "Linear"
        if kind == "Gather" and self.weighs(node):
            return "Embedding"
        if kind == "Conv" and self._is_depthwise(node):
            convs = [e for e in layer.nodes if kind_of(e.op_type) == "Conv" and self.weighs(e)]
            return "SeparableConv" if len(convs) > 1 else "DepthwiseConv"
        if kind == "Mul" and "Sigmoid" in ops:
            return "Silu"
        if kind == "Mul" and "HardSigmoid" in ops:
            return "HardSwish"
        if kind == "Clip" and len(node.inputs) > 1:
            return "Relu6"
        if kind == "ReduceMean" and len(self._dims.get(node.input(0)) or ()) > 2:
            return "GlobalAveragePool" if self._reduces_space(node) else kind
        return kind

    def _reduces_space(self, node: Node) -> bool:
        """Whether a reduction leaves the batch and the channels."""
        before, after = self._dims.get(node.input(0)), self._dims.get(node.outputs[0])
        if before is None or after is None:
            return False
        left = [each for each in after if each != 1]
        return len(left) == 2 and after[0] == before[0]

    def _is_depthwise(self, node: Node) -> bool:
        groups = node.int_attribute("group", 1)
        weight = self._graph.initializers.get(node.input(1))
        return groups > 1 and weight is not None and len(weight.dims) > 1 and weight.dims[1] == 1

    def _kind_of_moves(self, layer: Layer) -> str | None:
        """What a layer is that only moves values; None where it only changes the layout."""
        before = self._dims.get(layer.nodes[0].input(0))
        after = self._dims.get(self.output(layer))
        ops = {node.op_type for node in layer.nodes}
        if not ops & {"Reshape", "Flatten"}:
            return "Transpose" if layer.owner is not None and "Transpose" in ops else None
        if before is None or after is None:
            return "Flatten" if "Flatten" in ops else "Reshape"
        if _without_ones(before) == _without_ones(after) and len(before) == len(after):
            return None
        return "Flatten" if len(after) == 2 and len(before) > 2 else "Reshape"

    def spatial(self, layer: Layer) -> int | None:
        """Axes of the data that a layer takes, beside batch and channels."""
        node = next((each for each in layer.nodes if self.weighs(each)), layer.nodes[0])
        dims = self._dims.get(node.input(0)) or self._dims.get(self.output(layer))
        return None if dims is None else max(len(dims) - 2, 0)

    def output(self, layer: Layer) -> str:
        """The value that a layer gives: of several, the last that is read elsewhere."""
        inside = {id(node) for node in layer.nodes}
        given = {value.name for value in self._graph.outputs}
        for node in reversed(layer.nodes):
            for name in node.outputs:
                readers = self._graph.wiring.users.get(name, ())
                if name in given or any(id(user) not in inside for user, _ in readers):
                    return name
        return layer.nodes[-1].outputs[0] if layer.nodes[-1].outputs else ""


def _without_ones(dims: Sequence[Dim]) -> list[Dim]:
    return [each for each in dims if each != 1]
