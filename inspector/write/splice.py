"""Change the nodes of a model and keep its interface: values that others read keep their names.

A `Splice` holds a copy of a model with all of its data inside, and an `Editor` for each graph that
is changed. Nodes are addressed by an output, as `inspector.facts.patch` does. What nobody reads any
more because of the changes is taken out at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from inspector.errors import UndecidedError, UnreadableError
from inspector.facts.model import Attribute, Model, Scope
from inspector.read.tensors import tensors_of
from inspector.read.weights import ProtoWeights

LIMIT = 2**31 - 1
"""Bytes that one protobuf message can have (https://protobuf.dev/programming-guides/encoding/)."""

_FIRST_WITHOUT_INPUTS = 4
"""From this IR version on, initializers need not be listed as inputs of the graph."""


class Splice:
    """A copy of a model that is being changed.

    Raises
    ------
    inspector.errors.UndecidedError
        The model was not opened from a file, or does not fit one message.
    inspector.errors.UnreadableError
        A data file is missing or fails.
    """

    def __init__(self, model: Model) -> None:
        self._where = model.path
        self.proto = _inside(model)
        self._editors: dict[Scope, Editor] = {}
        self._graphs = dict(_scopes(self.proto.graph, ()))
        self._values = {name for graph in self._graphs.values() for name in _names(graph)}
        for function in self.proto.functions:
            for node in function.node:
                self._values.update(node.output)
        self._nodes = {node.name for graph in self._graphs.values() for node in graph.node}
        self._stored: dict[Hashable, str] = {}
        self._wanted: dict[str, tuple[str, NDArray[Any]]] = {}

    def editor(self, scope: Scope) -> Editor | None:
        """The editor of a graph; None where the scope is the body of a function."""
        graph = self._graphs.get(scope)
        if graph is None:
            return None
        return self._editors.setdefault(scope, Editor(graph))

    def value(self, wanted: str) -> str:
        """A name for a new value: `wanted`, or the first that is free."""
        return _unique(wanted, self._values)

    def node(self, wanted: str) -> str:
        """A name for a new node: `wanted`, or the first that is free."""
        return _unique(wanted, self._nodes)

    def tensor(self, key: Hashable, wanted: str, values: NDArray[Any]) -> str:
        """What a node's input is to be called that reads these values; one tensor for each `key`.

        It is an initializer of the main graph, and is called `wanted` in the end, where the model
        holds no other tensor of that name by then.
        """
        if key not in self._stored:
            # A name of its own until it is known which others the model no longer needs.
            name = self.value(f"restored::{wanted}")
            self._stored[key] = name
            self._wanted[name] = wanted, values
        return self._stored[key]

    def finish(self) -> bytes:
        """The changed model, checked by ONNX's own checker.

        Raises
        ------
        inspector.errors.UndecidedError
            It is not valid ONNX, or too large for one file.
        """
        main = self.editor(())
        assert main is not None  # every model has a main graph
        dropped = [name for each in self._editors.values() for name in each.dropped]
        _prune(self._graphs, dropped)
        self._name_tensors()
        for graph in self._graphs.values():
            _forget_values(graph)
        if self.proto.ByteSize() > LIMIT:
            raise UndecidedError("it takes more than one ONNX file holds", where=self._where)
        data: bytes = self.proto.SerializeToString(deterministic=True)
        try:
            onnx.checker.check_model(data)
        except onnx.checker.ValidationError as error:
            first = str(error).strip().splitlines()[0]
            raise UndecidedError(
                f"the restored model is not valid ONNX: {first}",
                where=self._where,
                hint="nothing was written; check the stock file with onnx.checker",
            ) from error
        return data

    def _name_tensors(self) -> None:
        """Store the new tensors under their names, or read those that are there already."""
        graph = self.proto.graph
        # Names of what was taken out are free again.
        taken = {name for each in self._graphs.values() for name in _names(each)}
        held = {each.name: each for each in graph.initializer}
        renamed = {}
        read = {name for each in self._graphs.values() for name in _read(each)}
        for placeholder, (wanted, values) in self._wanted.items():
            if placeholder not in read:
                continue
            tensor = numpy_helper.from_array(np.ascontiguousarray(values), wanted)
            if wanted in held and _same(held[wanted], tensor):
                renamed[placeholder] = wanted
                continue
            tensor.name = renamed[placeholder] = _unique(wanted, taken)
            graph.initializer.append(tensor)
            held[tensor.name] = tensor
            if self.proto.ir_version < _FIRST_WITHOUT_INPUTS:
                graph.input.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )
        for each in self._graphs.values():
            for node in each.node:
                for position, name in enumerate(node.input):
                    if name in renamed:
                        node.input[position] = renamed[name]


class Editor:
    """Changes the nodes of one graph; those of the graphs inside of it follow where they must.

    `dropped` are values that a changed node no longer reads.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self.dropped: list[str] = []

    def node(self, output: str) -> Any:
        """The node that computes a value; None where none of this graph does."""
        return self._producers.get(output)

    def set_input(self, output: str, position: int, name: str) -> None:
        """Let a node read another value; the empty name takes an input away."""
        node = self._producers[output]
        while len(node.input) <= position:
            node.input.append("")
        if node.input[position] != name:
            self.dropped.append(node.input[position])
            node.input[position] = name
        while len(node.input) and not node.input[-1]:
            del node.input[-1]

    def set_attribute(self, output: str, name: str, value: Attribute) -> None:
        """Give a node another attribute; None takes it away."""
        node = self._producers[output]
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, _plain(value)))

    def become(self, output: str, op_type: str) -> None:
        """Make a node an operator of the standard domain."""
        node = self._producers[output]
        node.op_type = op_type
        node.ClearField("domain")

    def describe(self, output: str, notes: Mapping[str, str]) -> None:
        """Let a node's metadata be these notes and nothing else."""
        node = self._producers[output]
        del node.metadata_props[:]
        for key, value in notes.items():
            node.metadata_props.add(key=key, value=value)

    def rename_output(self, old: str, new: str) -> None:
        """Let the node that computes `old` call it `new`; who read `old` waits for another."""
        node = self._producers.pop(old)
        node.output[list(node.output).index(old)] = new
        self._producers[new] = node

    def insert(
        self,
        beside: str,
        op_type: str,
        inputs: Sequence[str],
        output: str,
        *,
        name: str,
        attributes: Mapping[str, Attribute],
        before: bool = False,
    ) -> None:
        """Put a node of one output behind the one that computes `beside`, or in front of it."""
        node = helper.make_node(op_type, list(inputs), [output], name=name)
        for key, value in attributes.items():
            node.attribute.append(helper.make_attribute(key, _plain(value)))
        at = self._position(beside) + (not before)
        self._graph.node.insert(at, node)
        self._producers[output] = self._graph.node[at]

    def remove(self, output: str) -> None:
        """Take a node away; somebody else has to compute what others read of it."""
        at = self._position(output)
        self.dropped.extend(self._producers.pop(output).input)
        del self._graph.node[at]

    def bypass(self, output: str, data: str) -> None:
        """Take a node away that hands on its input `data`, which nobody else reads, as `output`."""
        self.remove(output)
        self.rename_output(data, output)
        # Others may still read its dims.
        _rename_reads(self._graph, data, output)

    def readers(self, value: str) -> list[Any] | None:
        """The nodes that read `value`; None where a graph inside or the outside does too."""
        if any(value == each.name for each in self._graph.output):
            return None
        found = []
        for node in self._graph.node:
            if value in node.input:
                found.append(node)
            if any(value in _read(graph) for graph in _all_inside(node)):
                return None
        return found

    def _position(self, output: str) -> int:
        return next(at for at, node in enumerate(self._graph.node) if output in node.output)


def _inside(model: Model) -> onnx.ModelProto:
    """A copy of the model with the data of all its tensors inside."""
    weights = model.weights
    if not isinstance(weights, ProtoWeights):
        raise UndecidedError("only a model opened from a file can be changed", where=model.path)
    if model.missing_data:
        raise UnreadableError("data files are missing", where=model.path)
    copy = onnx.ModelProto()
    copy.CopyFrom(weights.proto)
    outside = [each for each in tensors_of(copy) if each.data_location == onnx.TensorProto.EXTERNAL]
    size = copy.ByteSize() + sum(weights.data.length_outside(each) for each in outside)
    if size > LIMIT:
        raise UndecidedError(
            f"with its data inside it takes {size:,} bytes, more than one ONNX file holds",
            where=model.path,
            hint="models of this size cannot be restored yet",
        )
    for tensor in outside:
        tensor.CopyFrom(weights.data.filled(tensor))
    return copy


def _scopes(graph: onnx.GraphProto, scope: Scope) -> Iterator[tuple[Scope, onnx.GraphProto]]:
    """Every graph by its scope, called as `inspector.recognise.scopes` calls them; outer first."""
    yield scope, graph
    names = [
        node.name or next((each for each in node.output if each), "") or node.op_type
        for node in graph.node
    ]
    times = Counter(names)
    for position, (node, name) in enumerate(zip(graph.node, names, strict=True)):
        label = name if times[name] == 1 else f"{name}#{position}"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _scopes(attribute.g, (*scope, f"{label}.{attribute.name}"))
            for index, inner in enumerate(attribute.graphs):
                yield from _scopes(inner, (*scope, f"{label}.{attribute.name}[{index}]"))


def _all_inside(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside of a node, and those inside of them."""
    for attribute in node.attribute:
        for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            yield graph
            for inner in graph.node:
                yield from _all_inside(inner)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """The names that a graph gives to values."""
    yield from (each.name for each in graph.input)
    yield from (each.name for each in graph.initializer)
    yield from (each.values.name for each in graph.sparse_initializer)
    for node in graph.node:
        yield from (name for name in node.output if name)


def _read(graph: onnx.GraphProto) -> set[str]:
    """The values that a graph's own nodes read, or that it gives."""
    return {name for node in graph.node for name in node.input} | {o.name for o in graph.output}


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = new
        for inner in _all_inside(node):
            _rename_reads(inner, old, new)


def _prune(graphs: Mapping[Scope, onnx.GraphProto], dropped: Sequence[str]) -> None:
    """Take out what computes or stores values that nobody reads any more."""
    reads = Counter(
        name for graph in graphs.values() for node in graph.node for name in node.input if name
    )
    reads.update(each.name for graph in graphs.values() for each in graph.output)
    waiting = list(dict.fromkeys(dropped))
    producers = {
        name: (graph, node)
        for graph in graphs.values()
        for node in graph.node
        for name in node.output
        if name
    }
    unread: set[str] = set()
    gone: set[str] = set()
    while waiting:
        value = waiting.pop()
        if not value or reads[value]:
            continue
        _, node = producers.get(value, (None, None))
        if node is None:
            unread.add(value)
        elif not any(reads[name] for name in node.output) and not [*_all_inside(node)]:
            for name in node.output:
                producers.pop(name, None)
                gone.add(name)
            for name in node.input:
                reads[name] -= 1
                waiting.append(name)
    for graph in graphs.values():
        _keep(graph.node, [gone.isdisjoint(filter(None, node.output)) for node in graph.node])
        initializers = {each.name for each in graph.initializer} & unread
        _keep(graph.initializer, [each.name not in initializers for each in graph.initializer])
        # Before IR version 4 initializers were inputs too; what has lost its value is none.
        _keep(graph.input, [each.name not in initializers for each in graph.input])


def _keep(field: Any, wanted: Sequence[bool]) -> None:
    """Take out those elements of a repeated field that are not wanted."""
    for at in range(len(field) - 1, -1, -1):
        if not wanted[at]:
            del field[at]


def _forget_values(graph: onnx.GraphProto) -> None:
    """Take out what is declared of values that are no more."""
    there = set(_names(graph))
    _keep(graph.value_info, [each.name in there for each in graph.value_info])
    annotated = graph.quantization_annotation
    _keep(annotated, [each.tensor_name in there for each in annotated])


def _same(one: onnx.TensorProto, other: onnx.TensorProto) -> bool:
    if (one.data_type, list(one.dims)) != (other.data_type, list(other.dims)):
        return False
    left, right = numpy_helper.to_array(one), numpy_helper.to_array(other)
    return bool(left.tobytes() == right.tobytes())


def _unique(wanted: str, taken: set[str]) -> str:
    """`wanted`, or the first of `wanted_1`, `wanted_2`, … that is free; it is then taken."""
    name, number = wanted, 0
    while not name or name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def _plain(value: Attribute) -> Any:
    """An attribute's value as the official helper takes it."""
    return list(value) if isinstance(value, tuple) else value
