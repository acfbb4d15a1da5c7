"""Serialised copies of a model with small changes, for experiments; the file stays as it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import onnx
from onnx import helper, numpy_helper

from inspector.errors import UndecidedError
from inspector.facts.model import Attribute, Model
from inspector.facts.patch import (
    Bypass,
    Expose,
    Feed,
    InsertAfter,
    Patch,
    Reorder,
    Runnable,
    SetAttribute,
    SetInput,
    SetOperator,
    SetOutputCount,
)
from inspector.write.runnable import copy_of

_INPUTS = 0
"""Key of what stands behind graph inputs; no node has this id."""

_PREFIX = "bninspect_patch_"


def patched(model: Model, patches: Sequence[Patch]) -> Runnable:
    """`model` with `patches` applied, insertions last; large initializers stay in its files.

    Raises
    ------
    inspector.errors.UndecidedError
        The copy would be too large, or a patch addresses what is not there.
    """
    proto, folder = copy_of(model)
    patch_graph(proto.graph, patches, model.path)
    return Runnable(data=bytes(proto.SerializeToString()), folder=folder)


def patch_graph(graph: onnx.GraphProto, patches: Sequence[Patch], where: str) -> None:
    """Apply `patches` to a graph in place, insertions last.

    Raises
    ------
    inspector.errors.UndecidedError
        A patch addresses what is not there.
    """
    editor = _Editor(graph, where)
    for patch in sorted(patches, key=_turn):
        try:
            editor.apply(patch)
        # What onnx.helper raises on values that are no attribute or tensor of ONNX.
        except (TypeError, ValueError) as error:
            raise UndecidedError(f"a patch cannot be written: {error}", where=where) from error
    editor.finish()


def _turn(patch: Patch) -> int:
    """Insertions move a value's name to a new node, and patches address nodes by it.

    What is fed and given out are the values as all that leaves them.
    """
    match patch:
        case InsertAfter():
            return 1
        case Feed():
            return 2
        case Expose():
            return 3
        case _:
            return 0


_OF_ONE_NODE = (SetAttribute, SetInput, Bypass, SetOperator, Reorder)
"""Patches that change a node alone."""


class _Editor:
    """Edits a graph's nodes in a list of their own, which `finish` writes back."""

    def __init__(self, graph: onnx.GraphProto, where: str) -> None:
        self._graph = graph
        self._where = where
        self._made = 0
        self._passed: set[str] = set()
        self._nodes = [_copied(node) for node in graph.node]
        self._producer = {name: node for node in self._nodes for name in node.output if name}
        self._behind_input: dict[str, str] = {}
        self._behind: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._reshaped: set[str] = set()

    def apply(self, patch: Patch) -> None:
        if isinstance(patch, _OF_ONE_NODE) and patch.node in self._passed:
            return  # two differences may ask for one node: what is passed by computes nothing
        if _may_reshape(patch):
            self._reshaped.update(self._node(patch.node).output)
        match patch:
            case SetAttribute():
                self._set_attribute(patch)
            case SetInput():
                self._set_input(self._node(patch.node), patch.position, patch.values)
            case InsertAfter():
                self._insert(patch)
            case Bypass():
                self._bypass(patch)
            case SetOperator():
                self._set_operator(patch)
            case Reorder():
                inputs = self._node(patch.node).input
                new = [inputs[at] for at in patch.order]
                del inputs[:]
                inputs.extend(new)
            case Expose():
                if patch.value not in {each.name for each in self._graph.output}:
                    self._graph.output.append(onnx.ValueInfoProto(name=patch.value))
            case Feed():
                self._feed(patch)
            case SetOutputCount():
                outputs = self._node(patch.node).output
                del outputs[patch.count :]
                outputs.extend(self._fresh() for _ in range(patch.count - len(outputs)))

    def finish(self) -> None:
        """Write the nodes back, each insertion behind what it reads."""
        nodes: list[onnx.NodeProto] = []
        pending = [*reversed(self._nodes), *reversed(self._behind[_INPUTS])]
        while pending:
            node = pending.pop()
            nodes.append(node)
            pending.extend(reversed(self._behind[id(node)]))
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        self._forget_shapes(nodes)

    def _forget_shapes(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Let go of shapes that are declared for what lies behind another Reshape, say."""
        if not self._reshaped:
            return
        for node in nodes:
            if not self._reshaped.isdisjoint(node.input):
                self._reshaped.update(node.output)
        for value in self._graph.value_info:
            if value.name in self._reshaped and value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        for value in self._graph.output:
            # An output is declared with a shape: of as many lengths, each of which may be any.
            if value.name in self._reshaped:
                for dim in value.type.tensor_type.shape.dim:
                    dim.Clear()

    def _set_attribute(self, patch: SetAttribute) -> None:
        node = self._node(patch.node)
        kept = [each for each in node.attribute if each.name != patch.name]
        del node.attribute[:]
        node.attribute.extend(kept)
        # An empty list says nothing that its absence does not, and has no type to write.
        if isinstance(patch.value, np.ndarray):
            tensor = numpy_helper.from_array(patch.value)
            node.attribute.append(helper.make_attribute(patch.name, tensor))
        elif patch.value is not None and patch.value != ():
            node.attribute.append(helper.make_attribute(patch.name, _plain(patch.value)))

    def _set_input(self, node: onnx.NodeProto, position: int, values: Any) -> None:
        name = self._fresh()
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = name

    def _set_operator(self, patch: SetOperator) -> None:
        node = self._node(patch.node)
        kept, outputs, name = [node.input[at] for at in patch.keep], list(node.output), node.name
        node.Clear()
        node.op_type, node.domain, node.name = patch.op_type, patch.domain, name
        node.input.extend(kept)
        node.output.extend(outputs[:1])
        for key, value in patch.attributes.items():
            if value is not None and value != ():
                node.attribute.append(helper.make_attribute(key, _plain(value)))
        for position, values in sorted(patch.constants.items()):
            self._set_input(node, position, values)

    def _insert(self, patch: InsertAfter) -> None:
        made = helper.make_node(
            patch.op_type, [], [], name=self._fresh(), domain=patch.domain or None
        )
        for name, value in patch.attributes.items():
            if value is not None and value != ():
                made.attribute.append(helper.make_attribute(name, _plain(value)))
        if patch.readers:
            self._branch(patch, made)
        else:
            self._cut(patch.value, made)
        for position, values in sorted(patch.constants.items()):
            self._set_input(made, position, values)

    def _branch(self, patch: InsertAfter, made: onnx.NodeProto) -> None:
        """Let `made` read a value, and the readers that the patch names read `made`."""
        fresh = self._fresh()
        made.input.append(patch.value)
        made.output.append(fresh)
        self._producer[fresh] = made
        for name in patch.readers:
            _rename_read(self._node(name), patch.value, fresh)
        producer = self._producer.get(patch.value)
        self._behind[_INPUTS if producer is None else id(producer)].append(made)

    def _cut(self, value: str, made: onnx.NodeProto) -> None:
        """Let `made` read what `value` was, and its readers read `made`."""
        fresh = self._fresh()
        producer = self._producer.get(value)
        if producer is not None:
            # The producer takes the new name, so that readers and outputs keep theirs.
            producer.output[list(producer.output).index(value)] = fresh
            made.input.append(fresh)
            made.output.append(value)
            self._producer[value], self._producer[fresh] = made, producer
            self._behind[id(producer)].insert(0, made)
            return
        if value not in {each.name for each in self._graph.input}:
            raise UndecidedError(f"nothing computes {value!r}", where=self._where)
        # An input keeps its name and its readers take the new one; a second operator goes
        # behind the first.
        source = self._behind_input.get(value, value)
        for node in (*self._nodes, *(node for some in self._behind.values() for node in some)):
            _rename_read(node, source, fresh)
        self._behind_input[value] = fresh
        made.input.append(source)
        made.output.append(fresh)
        self._producer[fresh] = made
        self._behind[_INPUTS].append(made)

    def _feed(self, patch: Feed) -> None:
        if patch.name not in {each.name for each in self._graph.input}:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(patch.dtype))
            self._graph.input.append(helper.make_tensor_value_info(patch.name, kind, None))
        if patch.node:
            self._node(patch.node).input[patch.position] = patch.name
            return
        for node in (*self._nodes, *(node for some in self._behind.values() for node in some)):
            _rename_read(node, patch.value, patch.name)

    def _bypass(self, patch: Bypass) -> None:
        node = self._node(patch.node)
        kept, output = node.input[patch.keep], node.output[0]
        node.Clear()
        node.op_type = "Identity"
        node.input.append(kept)
        node.output.append(output)
        self._passed.add(patch.node)

    def _node(self, output: str) -> Any:
        node = self._producer.get(output)
        if node is None:
            raise UndecidedError(f"no node computes {output!r}", where=self._where)
        return node

    def _fresh(self) -> str:
        self._made += 1
        return f"{_PREFIX}{self._made}"


def _may_reshape(patch: Patch) -> TypeGuard[SetInput | SetOperator | Bypass]:
    """Whether a value may have another shape with a patch; numbers of a layer's own give none."""
    match patch:
        case SetInput():
            return patch.values.dtype.kind != "f"
        case SetOperator() | Bypass():
            return True
        case _:
            return False


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _rename_read(node: onnx.NodeProto, old: str, new: str) -> None:
    """Let a node that reads `old` read `new`, in its subgraphs too: names are unique there."""
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                _rename_read(inner, old, new)


def _plain(value: Attribute) -> Any:
    """An attribute's value as the official helper takes it."""
    return list(value) if isinstance(value, tuple) else value
