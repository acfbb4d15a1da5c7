"""What differs between two BatchNorms beside their parameters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.structure import Layer, Network
from inspector.facts.batchnorm import DEFAULT_EPSILON, DEFAULT_MOMENTUM, is_training
from inspector.facts.comparison import CauseKind
from inspector.facts.graphs import captured
from inspector.facts.patch import Patch, SetAttribute, SetOutputCount


def is_batchnorm(layer: Layer) -> bool:
    """Whether a layer is a BatchNormalization of the standard domain."""
    return layer.op == "BatchNormalization" and not layer.domain


def norm_differences(a: Layer, b: Layer, found: Correspondence) -> Iterator[Candidate]:
    """Epsilon, training mode, and momentum where it counts, of two BatchNorms."""
    left, right = (
        np.float32(n.node_fact.float_attribute("epsilon", DEFAULT_EPSILON)) for n in (a, b)
    )
    if left != right:
        yield Candidate(
            kind=CauseKind.EPSILON,
            what="epsilon",
            left_where=a.label,
            right_where=b.label,
            left_node=a.node,
            right_node=b.node,
            left=str(left),
            right=str(right),
            patches=(SetAttribute(node=b.node, name="epsilon", value=float(left)),),
        )
    trains = (
        is_training(a.node_fact, found.left.model.opset),
        is_training(b.node_fact, found.right.model.opset),
    )
    if trains[0] != trains[1]:
        words = {True: "normalises by the batch (training)", False: "uses stored statistics"}
        patches = _mode_patches(b, found, train=trains[0])
        yield Candidate(
            kind=CauseKind.MODE,
            what="training mode:",
            left_where=a.label,
            right_where=b.label,
            left_node=a.node,
            right_node=b.node,
            left=words[trains[0]],
            right=words[trains[1]],
            patches=patches,
            reason="" if patches else "its running statistics are used, or its opset has no mode",
        )
    momenta = _momenta(a, b)
    if momenta[0] != momenta[1] and _momentum_counts(a, b, found):
        yield Candidate(
            kind=CauseKind.ATTRIBUTE,
            what="momentum",
            left_where=a.label,
            right_where=b.label,
            left_node=a.node,
            right_node=b.node,
            left=str(momenta[0]),
            right=str(momenta[1]),
            patches=(SetAttribute(node=b.node, name="momentum", value=float(momenta[0])),),
        )


def _mode_patches(b: Layer, found: Correspondence, *, train: bool) -> tuple[Patch, ...]:
    """Turn a BatchNorm of the right side to training or inference, by its opset's own rules."""
    opset = found.right.model.opset
    if _updates_are_used(b, found.right):
        return ()
    mode = SetAttribute(node=b.node, name="training_mode", value=int(train))
    if opset >= 14:
        return (mode, SetOutputCount(node=b.node, count=3 if train else 1))
    return () if train or opset < 7 else (SetOutputCount(node=b.node, count=1),)


def _momenta(a: Layer, b: Layer) -> tuple[np.float32, np.float32]:
    left, right = (n.node_fact.float_attribute("momentum", DEFAULT_MOMENTUM) for n in (a, b))
    return np.float32(left), np.float32(right)


def _momentum_counts(a: Layer, b: Layer, found: Correspondence) -> bool:
    return _updates_are_used(a, found.left) or _updates_are_used(b, found.right)


def _updates_are_used(layer: Layer, network: Network) -> bool:
    """Whether anything reads the running statistics that a BatchNorm updates."""
    graph = network.model.graph
    updated = {name for name in layer.node_fact.outputs[1:] if name}
    if not updated:
        return False
    read = {name for node in graph.nodes for name in (*node.inputs, *captured(node))}
    return bool(updated & (read | {value.name for value in graph.outputs}))


def momentum_note(a: Layer, b: Layer, found: Correspondence) -> str | None:
    """A sentence where the momentum of two BatchNorms differs and nothing hangs on it."""
    left, right = _momenta(a, b)
    if left == right or _momentum_counts(a, b, found):
        return None
    torch = [f"{1.0 - float(each):.4g}" for each in (left, right)]
    where = repr(a.label) if a.label == b.label else f"{a.label!r} / {b.label!r}"
    return (
        f"momentum {left!s} against {right!s} in {where} "
        f"(PyTorch writes {torch[0]} and {torch[1]}): used in training alone"
    )
