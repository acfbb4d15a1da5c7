"""Graphs of opsets before 7, rewritten for opset 8, which runtimes still run.

onnx's version converter does not serve here (onnx 1.23): it takes no file of IR version 1 or 2
and none whose initializers are not inputs, knows no step for recurrent layers, drops `is_test` of
a BatchNormalization that trains, and lets `axis` of a broadcast pass where it does not know the
rank. So each operator that changed is rewritten by a rule of its own, and one without a rule is an
error; docs: https://github.com/onnx/onnx/blob/main/docs/Changelog.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from inspector.read.convert import opsets
from inspector.read.copies import SMALL
from inspector.write.modern_norms import per_activation, training

OLDEST = 7
"""The first opset for which ONNX Runtime has kernels."""

TARGET = 8
"""The last opset in which what 7 began is as it was: every rule here is of one step."""

_IR = 4
"""The first IR version in which initializers need not be inputs."""

_BROADCAST = frozenset("Add Sub Mul Div And Or Xor Equal Greater Less Pow".split())

_SAME = frozenset(
    "Abs AveragePool Ceil Clip Elu Exp Floor GRU Gemm HardSigmoid InstanceNormalization LSTM "
    "LeakyRelu Log Max MaxPool Mean Min Neg RNN Reciprocal Relu Selu Sigmoid Sqrt Sum Tanh".split()
)
"""Operators that changed in what `_LEFT_OUT` names alone, or in what they took before."""

_LEFT_OUT = frozenset({"consumed_inputs", "broadcast", "output_sequence"})
"""Attributes that say nothing about numbers: memory that may be reused, what shapes tell, and an
output that is there if it is asked for."""

_Rule: TypeAlias = "Callable[[Writer, NodeProto], None]"


class CannotRewriteError(Exception):
    """An operator has no counterpart that is sure to compute the same."""


def is_old(proto: onnx.ModelProto) -> bool:
    """Whether a model is of an opset that no runtime runs, or a draft of a training operator."""
    return _version(proto) < OLDEST or any(_is_draft(node) for node in proto.graph.node)


def modern(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """A copy that ONNX Runtime takes, and what was done, in words.

    Raises
    ------
    CannotRewriteError
        An operator has no counterpart; the message names it.
    """
    if proto.functions:
        raise CannotRewriteError("it has functions")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    version = _version(proto)
    target = TARGET if version < OLDEST else version
    Writer(copy, version, target).write()
    if copy.ir_version < _IR:
        # From then on, what is stored and an input can be fed.
        stored = {each.name for each in copy.graph.initializer}
        fed = [each for each in copy.graph.input if each.name not in stored]
        del copy.graph.input[:]
        copy.graph.input.extend(fed)
    copy.ir_version = max(copy.ir_version, _IR)
    known = opsets(proto.opset_import)
    named = known.keys() | {_domain(node) for node in copy.graph.node}
    del copy.opset_import[:]
    copy.opset_import.add(domain="", version=target)
    for domain in sorted(named - {""}):
        # A file without imports speaks of the first version of each domain.
        copy.opset_import.add(domain=domain, version=known.get(domain, 1))
    if version < OLDEST:
        return copy, f"rewritten from opset {version} to {target}"
    return copy, "its draft of a training BatchNormalization written out"


def _version(proto: onnx.ModelProto) -> int:
    return opsets(proto.opset_import).get("", 1)


def _domain(node: NodeProto) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def _is_draft(node: NodeProto) -> bool:
    """The BatchNormalization that opsets 12 to 14 had on the way: 6 inputs, or 5 outputs."""
    return (
        node.op_type == "BatchNormalization"
        and not _domain(node)
        and (len(node.input) > 5 or (len(node.output) > 3 and "training_mode" in _read(node)))
    )


def _read(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _check_inputs(node: NodeProto, version: int) -> None:
    """Refuse a node with fewer or more inputs than its operator takes, or none where it needs one.

    Raises
    ------
    CannotRewriteError
        It is such a node, or without an output.
    """
    schema = _schema(node.op_type, version)
    if schema is None:  # a draft, whose rules look for themselves
        return
    needed = node.input[: schema.min_input]
    sound = schema.min_input <= len(node.input) <= schema.max_input and all(needed)
    if not sound or not any(node.output):
        raise CannotRewriteError(f"{node.op_type} has {len(node.input)} inputs")


class Writer:
    """Writes the nodes of one graph anew, in order."""

    def __init__(self, model: onnx.ModelProto, version: int, target: int) -> None:
        self._model = model
        self._graph = model.graph
        self.target = target
        self._version = version
        self._old = version < OLDEST
        self._nodes: list[NodeProto] = []
        self._ranks: tuple[int, dict[str, int]] = -1, {}
        taken = {name for node in self._graph.node for name in node.output}
        taken |= {each.name for each in (*self._graph.input, *self._graph.initializer)}
        self._free = (name for n in count(1) if (name := f"bninspect_modern_{n}") not in taken)
        self._stored = {each.name: each for each in self._graph.initializer}

    def write(self) -> None:
        for node in self._graph.node:
            self._node(node)
        nodes = [NodeProto.FromString(each.SerializeToString()) for each in self._nodes]
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _node(self, node: NodeProto) -> None:
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise CannotRewriteError(f"{node.op_type} has a subgraph")
        changed = _changed(node, self._version, self.target) if self._old else _is_draft(node)
        rule = _RULES.get(node.op_type) if changed and not _domain(node) else None
        if rule is not None:
            _check_inputs(node, self._version)
            rule(self, node)
        elif changed and node.op_type not in _SAME:
            raise CannotRewriteError(
                f"{node.op_type} of opset {self._version} has no sure counterpart in {self.target}"
            )
        else:
            self.keep(node)

    def keep(self, node: NodeProto, *, without: Sequence[str] = (), **others: Any) -> None:
        """The same node, with its old defaults written out and `others` as attributes."""
        given = {**_defaults(node, self._version), **_read(node), **others}
        made = NodeProto()
        made.CopyFrom(node)
        made.domain = _domain(node)
        if not made.domain and self._old:
            del made.attribute[:]
            for name, value in given.items():
                if name not in _LEFT_OUT and name not in without and value != []:
                    made.attribute.append(helper.make_attribute(name, value))
        self._nodes.append(made)

    def add(self, op_type: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """One more node; the name of what it gives."""
        output = output or next(self._free)
        self._nodes.append(helper.make_node(op_type, list(inputs), [output], **attributes))
        return output

    def store(self, values: Any) -> str:
        name = next(self._free)
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def stored(self, name: str) -> Any:
        """The values of a small initializer; None for anything else."""
        tensor = self._stored.get(name)
        if tensor is None or tensor.data_location:
            return None
        return numpy_helper.to_array(tensor)

    def rank(self, name: str) -> int:
        """How many axes a value has, from what is declared and what onnx infers of it."""
        if self._ranks[0] != len(self._nodes):
            self._ranks = len(self._nodes), self._inferred()
        found = self._ranks[1].get(name)
        if found is None:
            raise CannotRewriteError(f"the rank of {name!r} is not known")
        return found

    def _inferred(self) -> dict[str, int]:
        graph = onnx.GraphProto(name="so far")
        graph.node.extend(self._nodes)
        declared = {each.name: each for each in self._graph.input}
        graph.input.extend(each for each in declared.values() if each.name not in self._stored)
        for tensor in self._graph.initializer:
            if not tensor.data_location and tensor.ByteSize() <= SMALL:
                graph.initializer.append(tensor)
            else:
                graph.input.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.target)], ir_version=_IR
        )
        try:
            found = onnx.shape_inference.infer_shapes(model).graph
        except Exception as error:  # onnx raises several kinds on graphs that are not sound
            raise CannotRewriteError(f"no shapes can be inferred ({error})") from error
        values = (*found.input, *found.value_info, *self._graph.value_info, *self._graph.output)
        ranks = {each.name: len(each.dims) for each in self._graph.initializer}
        for each in values:
            if each.type.tensor_type.HasField("shape"):
                ranks.setdefault(each.name, len(each.type.tensor_type.shape.dim))
        return ranks


def _changed(node: NodeProto, version: int, target: int) -> bool:
    """Whether an operator is another in the target opset; what onnx never knew stays as it is."""
    if _domain(node):
        return False
    known = [_schema(node.op_type, each) for each in (version, target)]
    if known[0] is None:
        return known[1] is not None
    return known[1] is None or known[0].since_version != known[1].since_version


def _schema(op_type: str, version: int) -> Any:
    try:
        return onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def _defaults(node: NodeProto, version: int) -> dict[str, Any]:
    """Attributes that the file leaves to defaults which are others now: Selu's two numbers."""
    schema = None if _domain(node) else _schema(node.op_type, version)
    if schema is None:
        return {}
    return {
        name: helper.get_attribute_value(each.default_value)
        for name, each in schema.attributes.items()
        if each.default_value.type == onnx.AttributeProto.FLOAT
    }


def _broadcast(writer: Writer, node: NodeProto) -> None:
    """B's axes lie at `axis` of A's, or at their end; now they lie at their end alone."""
    given = _read(node)
    axis = given.get("axis")
    if given.get("broadcast") and axis is not None:
        here, there = writer.rank(node.input[0]), writer.rank(node.input[1])
        behind = here - (axis % here) - there if here else 0
        if behind < 0:
            raise CannotRewriteError(f"{node.op_type} broadcasts beyond its input's axes")
        node = _second_with_axes(writer, node, range(there, there + behind))
    writer.keep(node, without=["axis"])


def _prelu(writer: Writer, node: NodeProto) -> None:
    """A slope for each channel, which is axis 1 whatever the rank; now it broadcasts."""
    rank = writer.rank(node.input[0])
    stored = writer.stored(node.input[1])
    single = stored is not None and stored.size == 1
    if rank > 2 and not single:
        if writer.rank(node.input[1]) != 1:
            raise CannotRewriteError("PRelu's slope is no vector")
        node = _second_with_axes(writer, node, range(1, rank - 1))
    writer.keep(node)


def _second_with_axes(writer: Writer, node: NodeProto, axes: Sequence[int]) -> NodeProto:
    """The same node, its second input with more axes of length 1."""
    moved = NodeProto()
    moved.CopyFrom(node)
    if axes:
        moved.input[1] = writer.add("Unsqueeze", [node.input[1]], axes=list(axes))
    return moved


def _reshape(writer: Writer, node: NodeProto) -> None:
    shape = np.asarray(_read(node).get("shape", []), np.int64)
    moved = NodeProto()
    moved.CopyFrom(node)
    del moved.input[1:]
    moved.input.append(writer.store(shape))
    writer.keep(moved, without=["shape"])


def _pad(writer: Writer, node: NodeProto) -> None:
    pads = _read(node).get("paddings")
    if pads is None:
        raise CannotRewriteError("Pad has no paddings")
    writer.keep(node, without=["paddings"], pads=pads)


def _concat(writer: Writer, node: NodeProto) -> None:
    writer.keep(node, axis=_read(node).get("axis", 1))


def _split(writer: Writer, node: NodeProto) -> None:
    if len(node.input) > 1:
        raise CannotRewriteError("Split takes its lengths as an input")
    if "axis" not in _read(node):
        raise CannotRewriteError("Split says no axis")
    writer.keep(node)


def _cast(writer: Writer, node: NodeProto) -> None:
    to = _read(node).get("to")
    name = to.decode() if isinstance(to, bytes) else ""
    if name not in TensorProto.DataType.keys():  # noqa: SIM118  # an enum of protobuf, no dict
        raise CannotRewriteError(f"Cast to {to!r}")
    writer.keep(node, to=int(TensorProto.DataType.Value(name)))


def _upsample(writer: Writer, node: NodeProto) -> None:
    given = _read(node)
    if not {"height_scale", "width_scale"} <= given.keys():
        raise CannotRewriteError("Upsample says no scales")
    scales = [1.0, 1.0, given["height_scale"], given["width_scale"]]
    writer.keep(node, without=["height_scale", "width_scale"], scales=scales)


def _dropout(writer: Writer, node: NodeProto) -> None:
    if not _read(node).get("is_test"):
        raise CannotRewriteError("Dropout is in training mode: it draws at random")
    if len([each for each in node.output if each]) > 1:
        raise CannotRewriteError("Dropout's mask is asked for")
    writer.add("Identity", [node.input[0]], node.output[0], name=node.name or None)


def _batchnorm(writer: Writer, node: NodeProto) -> None:
    """Inference with a parameter for each channel stays; the rest is written out."""
    given = _read(node)
    if len(node.input) > 5:
        raise CannotRewriteError("BatchNormalization is told by an input whether it trains")
    # Before opset 7 is_test is 0 where it is absent; the drafts have training_mode in its place.
    trains = given.get("training_mode", not given.get("is_test", 0))
    spatial = given.get("spatial", 1)
    shown = [each for each in node.output[1:] if each]
    if not trains and spatial and not shown:
        writer.keep(node, without=["is_test", "training_mode", "spatial"])
        return
    if not trains and shown:
        raise CannotRewriteError("BatchNormalization gives statistics without training")
    if not trains:
        per_activation(writer, node, given)
        return
    if not spatial:
        raise CannotRewriteError("BatchNormalization trains with a parameter for each activation")
    training(writer, node, given)


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_BROADCAST, _broadcast),
    "BatchNormalization": _batchnorm,
    "Cast": _cast,
    "Concat": _concat,
    "Dropout": _dropout,
    "PRelu": _prelu,
    "Pad": _pad,
    "Reshape": _reshape,
    "Split": _split,
    "Upsample": _upsample,
}
