"""A model that is edited in place: what reads and writes each value, inserting, removing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from .build import Base

Array = NDArray[Any]

MOVES = ("Identity", "Dropout", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Cast")
"""Operators that move values about and change none."""


class Graph:
    """A copy of a model; changes are made to its outermost graph. `base` is what it was of."""

    def __init__(self, model: onnx.ModelProto, base: Base | None = None) -> None:
        self.base = base
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self._made = 0
        self._shapes: dict[str, tuple[int | None, ...]] | None = None

    # --- what there is

    def nodes(self, *op_types: str) -> list[NodeProto]:
        return [node for node in self.graph.node if not op_types or node.op_type in op_types]

    def values(self, name: str) -> Array | None:
        """What a stored tensor holds; None for what is computed."""
        for tensor in self.graph.initializer:
            if tensor.name == name:
                return numpy_helper.to_array(tensor)
        maker = self.producer(name)
        if maker is not None and maker.op_type == "Constant":
            for attribute in maker.attribute:
                if attribute.name == "value":
                    return numpy_helper.to_array(attribute.t)
        return None

    def stored(self, node: NodeProto, *places: int) -> list[Array] | None:
        """The tensors that a node reads at some places; None where one is not stored."""
        found = [self.values(node.input[at]) if at < len(node.input) else None for at in places]
        return None if any(each is None for each in found) else [e for e in found if e is not None]

    def producer(self, name: str) -> NodeProto | None:
        return next((node for node in self.graph.node if name and name in node.output), None)

    def consumers(self, name: str) -> list[NodeProto]:
        """Nodes of the outermost graph that read a value, bodies included."""
        return [node for node in self.graph.node if name in reads(node)]

    def only_reader(self, name: str) -> NodeProto | None:
        found = self.consumers(name)
        return found[0] if len(found) == 1 and not self.is_output(name) else None

    def is_output(self, name: str) -> bool:
        return any(each.name == name for each in self.graph.output)

    def is_input(self, name: str) -> bool:
        return any(each.name == name for each in self.inputs())

    def inputs(self) -> list[onnx.ValueInfoProto]:
        stored = {tensor.name for tensor in self.graph.initializer}
        return [each for each in self.graph.input if each.name not in stored]

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Dimensions of a value, None for each that is free."""
        if self._shapes is None:
            inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True).graph
            self._shapes = {
                each.name: tuple(
                    dim.dim_value if dim.HasField("dim_value") else None
                    for dim in each.type.tensor_type.shape.dim
                )
                for each in (*inferred.value_info, *inferred.input, *inferred.output)
                if each.type.tensor_type.HasField("shape")
            }
        values = self.values(name)
        return self._shapes.get(name) if values is None else values.shape

    def opset(self) -> int:
        return next(each.version for each in self.model.opset_import if each.domain == "")

    # --- changes

    def fresh(self, role: str) -> str:
        self._made += 1
        return f"new_{role}_{self._made:03}"

    def add(self, values: Any, role: str = "stored") -> str:
        """Store a tensor under a new name."""
        name = self.fresh(role)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def put(self, node: NodeProto, at: int, values: Array, *, dtype: Any = None) -> None:
        """Let a node read other stored values at a place; who else read the old keeps them."""
        old = self.values(node.input[at])
        kind = dtype or (old.dtype if old is not None else np.float32)
        name = node.input[at]
        if len(self.consumers(name)) > 1 or not any(
            tensor.name == name for tensor in self.graph.initializer
        ):
            node.input[at] = self.add(np.asarray(values, kind, order="C"))
            return
        tensor = next(each for each in self.graph.initializer if each.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, kind, order="C"), name))

    def make(self, op_type: str, *inputs: str, **attributes: Any) -> NodeProto:
        name = self.fresh(op_type.lower())
        return helper.make_node(op_type, inputs, [f"{name}_out"], name=name, **attributes)

    def before(self, node: NodeProto, *added: NodeProto) -> list[NodeProto]:
        """Put nodes in front of one; gives them as they are in the graph."""
        place = self.place(node)
        for offset, each in enumerate(added):
            self.graph.node.insert(place + offset, each)
        return [self.graph.node[place + offset] for offset in range(len(added))]

    def place(self, node: NodeProto) -> int:
        return next(at for at, each in enumerate(self.graph.node) if each is node)

    def replace(self, node: NodeProto, *made: NodeProto) -> list[NodeProto]:
        """Put nodes in a node's place; the last takes over the name of its output."""
        made[-1].output[0] = node.output[0]
        placed = self.before(node, *made)
        self.graph.node.remove(node)
        return placed

    def after(self, name: str, *made: NodeProto) -> list[NodeProto]:
        """Put a chain behind a value: the first reads it, its readers read the last.

        `made[0]` reads `name` already. The value keeps its name, unless it is an output.
        """
        old, last = name, made[-1].output[0]
        if self.is_output(name):
            old = self.fresh("value")
            maker = self.producer(name)
            assert maker is not None, "an output that is an input"
            maker.output[list(maker.output).index(name)] = old
            for node in self.graph.node:
                rename_reads(node, name, old)
            rename_reads(made[0], name, old)
            made[-1].output[0] = last = name
        for node in self.graph.node:
            rename_reads(node, old, last)
        maker = self.producer(old)
        place = 0 if maker is None else self.place(maker) + 1
        for offset, each in enumerate(made):
            self.graph.node.insert(place + offset, each)
        return [self.graph.node[place + offset] for offset in range(len(made))]

    def remove(self, node: NodeProto, keep: int = 0) -> None:
        """Take a node out; its readers read what it read at `keep`."""
        source, gone = node.input[keep], node.output[0]
        maker = self.producer(source)
        self.graph.node.remove(node)
        if self.is_output(gone):
            if maker is None:
                self.graph.node.append(helper.make_node("Identity", [source], [gone], name="out"))
                return
            maker.output[list(maker.output).index(source)] = gone
            source, gone = gone, source
        for each in self.graph.node:
            rename_reads(each, gone, source)

    def finished(self) -> onnx.ModelProto:
        """The model, sorted and checked, without what is stored and unread."""
        order(self.graph)
        read = {name for node in self.graph.node for name in reads(node)}
        read |= {each.name for each in self.graph.output}
        for tensor in [each for each in self.graph.initializer if each.name not in read]:
            self.graph.initializer.remove(tensor)
        del self.graph.value_info[:]
        onnx.checker.check_model(self.model, full_check=True)
        return self.model

    # --- names of places

    def names(self, *nodes: NodeProto | None) -> frozenset[str]:
        """Names of nodes and of what they give."""
        found = (each for node in nodes if node is not None for each in (node.name, *node.output))
        return frozenset(each for each in found if each)

    def around(self, node: NodeProto) -> frozenset[str]:
        """A node's names with those of what it reads from and of what reads it."""
        behind = [self.producer(each) for each in node.input]
        ahead = [each for name in node.output for each in self.consumers(name)]
        plain = {each for each in node.input if each and self.values(each) is None}
        return self.names(node, *behind, *ahead) | plain

    def ahead(self, node: NodeProto) -> frozenset[str]:
        """Names of the nodes that read a node's output, beyond what only moves it."""
        found: list[NodeProto] = []
        waiting = [each for name in node.output for each in self.consumers(name)]
        while waiting:
            each = waiting.pop()
            found.append(each)
            if each.op_type in MOVES:
                waiting += [e for name in each.output for e in self.consumers(name)]
        return self.names(*found)


def subgraphs(node: NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def reads(node: NodeProto) -> set[str]:
    """Every value a node reads, those that its bodies take from outside included."""
    found = {each for each in node.input if each}
    for body in subgraphs(node):
        inner = {name for each in body.node for name in reads(each)}
        inner |= {each.name for each in body.output}
        own = {each.name for each in (*body.input, *body.initializer)}
        own |= {name for each in body.node for name in each.output}
        found |= inner - own
    return found


def rename_reads(node: NodeProto, old: str, new: str) -> None:
    for at, name in enumerate(node.input):
        if name == old:
            node.input[at] = new
    for body in subgraphs(node):
        for each in body.node:
            rename_reads(each, old, new)


def order(graph: onnx.GraphProto, rng: np.random.Generator | None = None) -> None:
    """Sort nodes so that each comes behind what it reads; drawn among all orders with `rng`."""
    made = {name for node in graph.node for name in node.output if name}
    waiting = list(graph.node)
    done: list[NodeProto] = []
    ready: set[str] = set()
    while waiting:
        free = [at for at, node in enumerate(waiting) if not (reads(node) & made) - ready]
        if not free:
            raise ValueError("a circle")
        node = waiting.pop(free[0] if rng is None else int(rng.choice(free)))
        ready |= set(node.output)
        done.append(node)
    copies = []
    for node in done:
        copy = NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    found = next((each for each in node.attribute if each.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Set an attribute, or take it away with None."""
    kept = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))


def slopes(parameters: Sequence[Array], epsilon: float) -> tuple[Array, Array]:
    """Slope and intercept of scale, B, mean and var, in float64."""
    scale, shift, mean, var = (np.asarray(each, np.float64) for each in parameters)
    slope = scale / np.sqrt(var + np.float32(epsilon))
    return slope, shift - mean * slope


def along(values: Array, rank: int, axis: int = 1) -> Array:
    """Values per channel in the shape that lines up with a channel axis."""
    return np.reshape(values, [-1 if at == axis else 1 for at in range(rank)])


def pick(rng: np.random.Generator, choices: Iterable[Any]) -> Any:
    """One of some things, None of none."""
    choices = list(choices)
    return choices[int(rng.integers(len(choices)))] if choices else None
