"""Serialised copies of a model with small changes, for experiments; the file stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from inspector.errors import UndecidedError, UnreadableError
from inspector.facts.model import Attribute, Model
from inspector.facts.patch import Bypass, InsertAfter, Patch, SetAttribute, SetInput
from inspector.read.weights import ProtoWeights

LIMIT = 2**31 - 2**20
"""Bytes above which a patched copy no longer fits one protobuf message."""

_PREFIX = "bninspect_patch_"


def patched(model: Model, patches: Sequence[Patch]) -> bytes:
    """`model` with `patches` applied (insertions last), serialised with its data inside.

    Raises
    ------
    inspector.errors.UndecidedError
        The copy would be too large, or a patch addresses what is not there.
    """
    if not isinstance(model.weights, ProtoWeights):
        raise UndecidedError("only a model opened from a file can be patched", where=model.path)
    if model.missing_data:
        raise UnreadableError("data files are missing", where=model.path)
    proto = _copy(model)
    editor = _Editor(proto.graph, model.path)
    # Insertions last: they move a value's name to a new node, and patches address nodes by it.
    for patch in sorted(patches, key=lambda each: isinstance(each, InsertAfter)):
        editor.apply(patch)
    return bytes(proto.SerializeToString())


def _copy(model: Model) -> onnx.ModelProto:
    """A copy with external data taken in."""
    source = model.weights.proto  # type: ignore[attr-defined]  # checked by the caller
    size = source.ByteSize() + sum(
        each.elements * 8 for each in model.graph.initializers.values() if each.external
    )
    if size > LIMIT:
        raise UndecidedError("the model is too large to patch a copy of it", where=model.path)
    proto = onnx.ModelProto()
    proto.CopyFrom(source)
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            values = model.weights.load(model.graph.initializers[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return proto


class _Editor:
    def __init__(self, graph: onnx.GraphProto, where: str) -> None:
        self._graph = graph
        self._where = where
        self._made = 0

    def apply(self, patch: Patch) -> None:
        match patch:
            case SetAttribute():
                self._set_attribute(patch)
            case SetInput():
                self._set_input(self._node(patch.node), patch.position, patch.values)
            case InsertAfter():
                self._insert(patch)
            case Bypass():
                self._bypass(patch)

    def _set_attribute(self, patch: SetAttribute) -> None:
        node = self._node(patch.node)
        kept = [each for each in node.attribute if each.name != patch.name]
        del node.attribute[:]
        node.attribute.extend(kept)
        if patch.value is not None:
            node.attribute.append(helper.make_attribute(patch.name, _plain(patch.value)))

    def _set_input(self, node: onnx.NodeProto, position: int, values: Any) -> None:
        name = self._fresh()
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = name

    def _insert(self, patch: InsertAfter) -> None:
        made = helper.make_node(
            patch.op_type, [], [], name=self._fresh(), domain=patch.domain or None
        )
        for name, value in patch.attributes.items():
            if value is not None:
                made.attribute.append(helper.make_attribute(name, _plain(value)))
        at = self._cut(patch.value, made)
        for position, values in sorted(patch.constants.items()):
            self._set_input(made, position, values)
        self._place(made, at)

    def _cut(self, value: str, made: onnx.NodeProto) -> int:
        """Let `made` read what `value` was, and its readers read `made`; where it belongs."""
        fresh = self._fresh()
        for at, node in enumerate(self._graph.node):
            if value in node.output:
                # The producer takes the new name, so that readers and outputs keep theirs.
                node.output[list(node.output).index(value)] = fresh
                made.input.append(fresh)
                made.output.append(value)
                return at + 1
        if value not in {each.name for each in self._graph.input}:
            raise UndecidedError(f"nothing computes {value!r}", where=self._where)
        for node in self._graph.node:
            for position, name in enumerate(node.input):
                if name == value:
                    node.input[position] = fresh
        made.input.append(value)
        made.output.append(fresh)
        return 0

    def _place(self, made: onnx.NodeProto, at: int) -> None:
        nodes = list(self._graph.node)
        nodes.insert(at, made)
        copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _bypass(self, patch: Bypass) -> None:
        node = self._node(patch.node)
        kept, output = node.input[patch.keep], node.output[0]
        node.Clear()
        node.op_type = "Identity"
        node.input.append(kept)
        node.output.append(output)

    def _node(self, output: str) -> Any:
        for node in self._graph.node:
            if node.output and output in node.output:
                return node
        raise UndecidedError(f"no node computes {output!r}", where=self._where)

    def _fresh(self) -> str:
        self._made += 1
        return f"{_PREFIX}{self._made}"


def _plain(value: Attribute) -> Any:
    """An attribute's value as the official helper takes it."""
    return list(value) if isinstance(value, tuple) else value
