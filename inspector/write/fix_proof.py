"""Prove from the messages alone that a file differs from another in nothing but what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from inspector.facts.fix import Change, Fold, SetInference, SetNumber, WriteNative
from inspector.facts.manifest import KEY
from inspector.write.fix_bodies import (
    Bodies,
    CannotFixError,
    forget,
    graphs_of,
    keep,
    producer,
    reads,
)

_MODES = ("training_mode", "is_test")


def only_these_differ(
    before: onnx.ModelProto, after: onnx.ModelProto, changes: Sequence[SetInference | SetNumber]
) -> str:
    """What else differs between two models; empty where nothing does.

    Every byte of every tensor, node and note is held against the other's. The nodes of `changes`
    may differ in the attributes and the further outputs that these are about, and in nothing else;
    an export's manifest may be gone.
    """
    left, right = _copy(before), _copy(after)
    one, other = Bodies(left), Bodies(right)
    try:
        for change in changes:
            body, changed_body = one.at(change.scope), other.at(change.scope)
            node = producer(body, change.output)
            changed = producer(changed_body, change.output)
            names = _MODES if isinstance(change, SetInference) else (change.name,)
            if _without(node, names, change) != _without(changed, names, change):
                return f"{change.output!r} is not computed by the same node"
            forget(body, set(node.output[1:]) - set(changed.output[1:]))
            node.CopyFrom(changed)
    except CannotFixError as error:
        return str(error)
    for each in (left, right):
        keep(each.metadata_props, lambda entry: entry.key != KEY)
    if left.SerializeToString(deterministic=True) != right.SerializeToString(deterministic=True):
        return "more than the nodes that were to be changed"
    return ""


def same_interface(before: onnx.ModelProto, after: onnx.ModelProto) -> bool:
    """Whether two models give the same outputs, and say the same of themselves."""
    left, right = _copy(before), _copy(after)
    for each in (left, right):
        kept = onnx.GraphProto()
        kept.output.extend(each.graph.output)
        each.graph.CopyFrom(kept)
        each.ClearField("functions")
        each.ClearField("ir_version")
        keep(each.metadata_props, lambda entry: entry.key != KEY)
    return bool(
        left.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True)
    )


def nothing_else(before: onnx.ModelProto, after: onnx.ModelProto, changes: Sequence[Change]) -> str:
    """What a model holds that neither the one before does nor the changes made; empty if nothing.

    What the changes took out is not looked at: that it was not needed is for running it to show.
    """
    made, stored = _made(changes, before)
    known = {_bare(each) for each in _nodes(before)}
    # Behind a Transpose of its own, a new BatchNormalization gives a value of a new name.
    written = sum(isinstance(each, WriteNative) for each in changes)
    for node in _nodes(after):
        follows = node.op_type in _FOLLOW or not made.isdisjoint(node.output)
        if follows or _bare(node) in known:
            continue
        written -= 1
        if node.op_type != "BatchNormalization" or written < 0:
            return f"the node that computes {', '.join(node.output)!r}"
    tensors = {each.name: each for graph in graphs_of(before.graph) for each in graph.initializer}
    for graph in graphs_of(after.graph):
        for tensor in graph.initializer:
            was = tensors.get(tensor.name)
            if was is not None and tensor.name not in stored and was != tensor:
                return f"the initializer {tensor.name!r}"
    return ""


_FOLLOW = frozenset({"Transpose", "Identity", "Shape", "Size"})
"""What a change may put around a node, or let read it by another name."""


def _made(changes: Sequence[Change], before: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """The values that the nodes of some changes give, and the tensors that they may write anew."""
    values: set[str] = set()
    folded: set[str] = set()
    for change in changes:
        if isinstance(change, WriteNative):
            values.update(name for name, _ in change.links)
        if isinstance(change, Fold):
            folded.add(change.into)
        if isinstance(change, WriteNative | Fold | SetInference | SetNumber):
            values.add(change.output)
    stored = {
        name
        for node in _nodes(before)
        if not folded.isdisjoint(node.output)
        for name in node.input[1:]
    }
    counts = reads(before.graph)
    # The output of a node may have been that of a Transpose behind it, which only undid another.
    behind = {
        node.output[0]
        for node in _nodes(before)
        if node.op_type == "Transpose" and values & set(node.input) and counts[node.input[0]] == 1
    }
    return values | behind, stored


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in graphs_of(proto.graph):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _bare(node: onnx.NodeProto) -> bytes:
    """A node's bytes without the graphs inside of it, whose nodes are looked at themselves."""
    if any(each.HasField("g") or each.graphs for each in node.attribute):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for each in copy.attribute:
            each.ClearField("g")
            each.ClearField("graphs")
        node = copy
    return bytes(node.SerializeToString(deterministic=True))


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _without(
    node: onnx.NodeProto, names: Sequence[str], change: SetInference | SetNumber
) -> onnx.NodeProto:
    """A node without what a change is about."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    keep(copy.attribute, lambda each: each.name not in names)
    if isinstance(change, SetInference):
        del copy.output[1:]
    return copy
