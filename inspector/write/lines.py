"""Operators over a line that are written over a plane which is one high.

TensorFlow has no kernels for lines: Keras's Conv1D and MaxPooling1D become an Unsqueeze, an
operator over a plane, and a Squeeze, where PyTorch's exports have the operator over a line. They
compute the same, and as lines they are held against each other axis by axis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx

from inspector.errors import UnreadableError
from inspector.facts.graphs import captured
from inspector.facts.model import Model, Node
from inspector.read.weights import ProtoWeights
from inspector.write.upgrade import opened

_WINDOWS = frozenset({"Conv", "MaxPool", "AveragePool"})
_LISTS = ("kernel_shape", "strides", "dilations", "pads")
_BY_ELEMENT = frozenset(
    "Identity Relu LeakyRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Softplus Softsign Tanh "
    "Erf Gelu Exp Log Sqrt Abs Neg".split()
)
_SPATIAL = 2
"""The first axis of a plane that is no batch and no channel."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """Nodes from an Unsqueeze to the Squeeze that takes its axis away, with where that axis is.

    `axes` are those in what each node reads, for the nodes in between.
    """

    nodes: tuple[Node, ...]
    axes: tuple[int, ...]


def with_lines(model: Model) -> Model | None:
    """The same function over lines; None where nothing is written so.

    Parameters
    ----------
    model
        With inferred shapes.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    if not isinstance(model.weights, ProtoWeights) or model.missing_data:
        return None
    if not any(each.op_type == "Unsqueeze" for each in model.graph.nodes):
        return None  # most models: nothing is copied for them
    found = list(_Finding(model).chains())
    if not found:
        return None
    proto = onnx.ModelProto()
    proto.CopyFrom(model.weights.proto)
    rewriting = _Rewriting(proto.graph)
    for each in found:
        rewriting.apply(each)
    rewriting.finish()
    return opened(model, proto)


class _Finding:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._readers: dict[str, list[Node]] = defaultdict(list)
        self._shown = {each.name for each in model.graph.outputs}
        # What is an input as well may be fed, in the dims that it is declared with.
        self._fed = {each.name for each in model.graph.inputs}
        for node in model.graph.nodes:
            for name in node.inputs:
                self._readers[name].append(node)
            # What a subgraph reads has its rank.
            self._shown.update(captured(node))

    def chains(self) -> Iterator[_Chain]:
        for node in self._model.graph.nodes:
            if self._is_plain(node) and node.op_type == "Unsqueeze":
                found = self._from(node)
                if found is not None:
                    yield found

    def _from(self, first: Node) -> _Chain | None:
        axis = self._only_axis(first, self._rank(first.input(0)), more=1)
        if axis is None:
            return None
        nodes, axes, windows = [first], [axis], 0
        node = self._next(first)
        while node is not None and node.op_type != "Squeeze":
            behind = self._behind(node, axis)
            if behind is None:
                return None
            windows += node.op_type in _WINDOWS
            nodes.append(node)
            axes.append(axis)
            axis = behind
            node = self._next(node)
        if node is None or not windows:
            return None
        if self._only_axis(node, self._rank(node.input(0)), more=0) != axis:
            return None
        return _Chain(nodes=(*nodes, node), axes=tuple(axes[1:]))

    def _next(self, node: Node) -> Node | None:
        """What alone reads the first input of, where nothing else needs, what a node gives."""
        value = node.outputs[0]
        readers = self._readers[value]
        if len(readers) != 1 or value in self._shown or not self._is_plain(readers[0]):
            return None
        return readers[0] if readers[0].input(0) == value else None

    def _behind(self, node: Node, axis: int) -> int | None:
        """Where the axis is in what a node gives; None where the node does not let go of it."""
        if node.op_type == "Transpose":
            perm = node.ints_attribute("perm")
            rank = self._rank(node.input(0))
            if perm is None or rank is None or sorted(perm) != list(range(rank)):
                return None
            return perm.index(axis)
        if node.op_type in _BY_ELEMENT and len(node.inputs) == 1:
            return axis
        if node.op_type in _WINDOWS:
            return axis if self._is_one_high(node, axis - _SPATIAL) else None
        return None

    def _is_one_high(self, node: Node, at: int) -> bool:
        """Whether a window is one wide along a spatial axis, and moves nothing there."""
        rank = (self._rank(node.input(0)) or 0) - _SPATIAL
        if not 0 <= at < rank or rank < _SPATIAL:
            return False
        kernel = node.ints_attribute("kernel_shape")
        if node.op_type == "Conv":
            stored = self._model.graph.initializers.get(node.input(1))
            if stored is None or stored.name in self._fed or len(stored.dims) != rank + _SPATIAL:
                return False
            kernel = stored.dims[_SPATIAL:]
        if kernel is None or len(kernel) != rank or kernel[at] != 1:
            return False
        for name in _LISTS:
            given = node.ints_attribute(name)
            if given is not None and len(given) != rank * (1 + (name == "pads")):
                return False
        strides = node.ints_attribute("strides") or (1,) * rank
        pads = node.ints_attribute("pads") or (0,) * 2 * rank
        return strides[at] == 1 and pads[at] == pads[rank + at] == 0

    def _only_axis(self, node: Node, rank: int | None, *, more: int) -> int | None:
        """The one axis that is put in or taken away, counted from the front."""
        axes: Sequence[int] | None = node.ints_attribute("axes")
        if node.input(1):
            stored = self._model.graph.initializers.get(node.input(1))
            if stored is None or stored.elements != 1:
                return None
            try:
                axes = [int(each) for each in self._model.weights.load(stored).reshape(-1)]
            except UnreadableError:  # whoever reads it says what is wrong with it
                return None
        if axes is None or len(axes) != 1 or rank is None:
            return None
        whole = rank + more
        return axes[0] % whole if -whole <= axes[0] < whole else None

    def _rank(self, value: str) -> int | None:
        known = self._model.graph.values.get(value)
        return None if known is None or known.dims is None else len(known.dims)

    def _is_plain(self, node: Node) -> bool:
        alone = len([name for name in node.outputs if name]) == 1 and bool(node.outputs[0])
        return node.is_standard and alone and self._model.function(node) is None


class _Rewriting:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._node = {name: node for node in graph.node for name in node.output if name}
        self._stored = {each.name: each for each in graph.initializer}
        self._names = {*self._node, *self._stored, *(each.name for each in graph.input)}
        self._made: dict[tuple[str, int], str] = {}
        self._gone: set[str] = set()
        self._of_planes: set[str] = set()

    def apply(self, chain: _Chain) -> None:
        """Write a chain without its axis: what it reads and gives keeps its name."""
        first, *between, last = chain.nodes
        value = first.inputs[0]
        for each, axis in zip(between, chain.axes, strict=True):
            node = self._node[each.outputs[0]]
            node.input[0] = value
            value = each.outputs[0]
            self._of_planes.add(value)
            self._without(node, axis)
        self._node[value].output[0] = last.outputs[0]
        self._gone |= {first.outputs[0], last.outputs[0]}

    def _without(self, node: onnx.NodeProto, axis: int) -> None:
        for attribute in node.attribute:
            if node.op_type == "Transpose" and attribute.name == "perm":
                kept = [each - (each > axis) for each in attribute.ints if each != axis]
                del attribute.ints[:]
                attribute.ints.extend(kept)
            elif node.op_type in _WINDOWS and attribute.name in _LISTS:
                at, count = axis - _SPATIAL, len(attribute.ints)
                there = {at, at + count // 2} if attribute.name == "pads" else {at}
                kept = [each for place, each in enumerate(attribute.ints) if place not in there]
                del attribute.ints[:]
                attribute.ints.extend(kept)
        if node.op_type == "Conv":
            node.input[1] = self._kernel(node.input[1], axis)

    def _kernel(self, name: str, axis: int) -> str:
        """The same numbers with one axis less; the file's own stay for others that read them."""
        if (name, axis) not in self._made:
            copy = self._graph.initializer.add()
            copy.CopyFrom(self._stored[name])
            copy.name = f"{name}/line"
            while copy.name in self._names:
                copy.name += "_"
            del copy.dims[axis]
            self._names.add(copy.name)
            self._made[name, axis] = copy.name
        return self._made[name, axis]

    def finish(self) -> None:
        kept = [
            onnx.NodeProto.FromString(each.SerializeToString())
            for each in self._graph.node
            if not (each.op_type in ("Unsqueeze", "Squeeze") and each.output[0] in self._gone)
        ]
        del self._graph.node[:]
        self._graph.node.extend(kept)
        declared = [
            onnx.ValueInfoProto.FromString(each.SerializeToString())
            for each in self._graph.value_info
            if each.name not in self._of_planes
        ]
        del self._graph.value_info[:]
        self._graph.value_info.extend(declared)
