"""Harmful changes of BatchNorms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from .edit import Array, Graph, attribute, pick, set_attribute
from .harmless_norms import norms, of, rank
from .kinds import Change, Fault, fault, harmful

SCALE, SHIFT, MEAN, VAR = 1, 2, 3, 4


def _norm_fault(g: Graph, node: NodeProto, *causes: str) -> Fault:
    return fault(g, node, *causes)


def _other_epsilon(node: NodeProto) -> float:
    return 1e-5 if attribute(node, "epsilon", 1e-5) > 1e-4 else 1e-3


@harmful
def epsilon_one(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, norms(g))
    if node is None:
        return None
    set_attribute(node, "epsilon", _other_epsilon(node))
    wrong = _norm_fault(g, node, "epsilon")
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def epsilon_all(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = norms(g)
    if len(nodes) < 2:
        return None
    for node in nodes:
        set_attribute(node, "epsilon", _other_epsilon(node))
    where = frozenset().union(*(g.names(node) for node in nodes))
    wrong = Fault(causes=frozenset({"epsilon"}), where=where, first=g.names(nodes[0]))
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def epsilon_slight(g: Graph, rng: np.random.Generator) -> Change | None:
    """1.001e-5 in place of 1e-5 is no difference, but half as much again of 1e-3 is."""
    node = pick(rng, norms(g))
    if node is None:
        return None
    set_attribute(node, "epsilon", 1.5 * attribute(node, "epsilon", 1e-5))
    return Change(model=g.finished(), faults=(_norm_fault(g, node, "epsilon"),))


def _parameter(
    name: str, at: int, moved: Callable[[Array, np.random.Generator], Array], *causes: str
) -> None:
    def make(g: Graph, rng: np.random.Generator) -> Change | None:
        node = pick(rng, norms(g))
        if node is None:
            return None
        values = of(g, node)[0][at - 1]
        g.put(node, at, moved(values, rng))
        return Change(model=g.finished(), faults=(_norm_fault(g, node, "parameter", *causes),))

    make.__name__ = name
    harmful(make)


def _one(values: Array, rng: np.random.Generator, by: float) -> Array:
    found = values.copy()
    at = int(rng.integers(len(found)))
    found[at] += by * (1 + abs(found[at]))
    return found


for _name, _place in (("scale", SCALE), ("bias", SHIFT), ("mean", MEAN), ("variance", VAR)):
    _parameter(
        f"{_name}_all", _place, lambda v, rng: (v * 1.3 + 0.1 * rng.random(v.shape)).astype(v.dtype)
    )
    _parameter(f"{_name}_one_channel", _place, lambda v, rng: _one(v, rng, 0.2))
    _parameter(f"{_name}_one_slight", _place, lambda v, rng: _one(v, rng, 2e-3))
_parameter("norm_channels_permuted", SHIFT, lambda v, rng: np.roll(v, 1), "permutation")
_parameter("variance_as_deviation", VAR, lambda v, rng: np.sqrt(v))


def _swapped(name: str, one: int, other: int) -> None:
    def make(g: Graph, rng: np.random.Generator) -> Change | None:
        node = pick(rng, norms(g))
        if node is None:
            return None
        parameters = of(g, node)[0]
        g.put(node, one, np.abs(parameters[other - 1]) if one == VAR else parameters[other - 1])
        g.put(node, other, np.abs(parameters[one - 1]) if other == VAR else parameters[one - 1])
        causes = ("parameter", "inputs order", "permutation")
        return Change(model=g.finished(), faults=(_norm_fault(g, node, *causes),))

    make.__name__ = name
    harmful(make)


_swapped("mean_and_bias_swapped", MEAN, SHIFT)
_swapped("mean_and_variance_swapped", MEAN, VAR)
_swapped("scale_and_variance_swapped", SCALE, VAR)
_swapped("scale_and_bias_swapped", SCALE, SHIFT)


@harmful
def training_mode(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, norms(g))
    if node is None:
        return None
    set_attribute(node, "training_mode", 1)
    node.output.extend([g.fresh("running"), g.fresh("running")])
    wrong = fault(g, node, "training mode")
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def statistics_of_another(g: Graph, rng: np.random.Generator) -> Change | None:
    """Two BatchNorms of one size have each other's mean and variance."""
    nodes = norms(g)
    for one in nodes:
        for other in nodes:
            a, b = of(g, one)[0], of(g, other)[0]
            if one is other or a[0].shape != b[0].shape or rng.random() < 0.3:
                continue
            for at in (MEAN, VAR):
                g.put(one, at, b[at - 1])
                g.put(other, at, a[at - 1])
            where = g.names(one, other)
            wrong = Fault(
                causes=frozenset({"parameter", "permutation", "inputs order"}),
                where=where,
                first=where,
            )
            return Change(model=g.finished(), faults=(wrong,))
    return None


@harmful
def norm_missing(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, norms(g))
    if node is None:
        return None
    wrong = fault(g, node, "missing operator", "structure", near=True)
    g.remove(node)
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def norm_twice(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, norms(g))
    if node is None:
        return None
    wrong = fault(g, node, "missing operator", "structure", near=True)
    again = g.make("BatchNormalization", node.output[0], *node.input[1:])
    again.attribute.extend(node.attribute)
    (made,) = g.after(node.output[0], again)
    wrong = _joined(wrong, fault(g, made, near=True))
    return Change(model=g.finished(), faults=(wrong,))


def _joined(one: Fault, other: Fault) -> Fault:
    return Fault(
        causes=one.causes | other.causes,
        where=one.where | other.where,
        first=one.first | other.first,
        later=one.later | other.later,
    )


@harmful
def norm_and_relu_swapped(g: Graph, rng: np.random.Generator) -> Change | None:
    """BatchNorm before the Relu where it was behind it, or the other way round."""
    pairs = []
    for norm in norms(g):
        reader, maker = g.only_reader(norm.output[0]), g.producer(norm.input[0])
        if reader is not None and reader.op_type == "Relu":
            pairs.append((norm, reader))
        if maker is not None and maker.op_type == "Relu" and g.only_reader(norm.input[0]):
            pairs.append((maker, norm))
    chosen = pick(rng, pairs)
    if chosen is None:
        return None
    first, second = chosen
    causes = ("missing operator", "structure", "operator", "inputs order")
    wrong = _joined(fault(g, first, *causes, near=True), fault(g, second, *causes, near=True))
    copies = [NodeProto(), NodeProto()]
    for copy, node in zip(copies, (second, first), strict=True):
        copy.CopyFrom(node)
    start, middle, end = first.input[0], first.output[0], second.output[0]
    copies[0].input[0], copies[0].output[0] = start, middle
    copies[1].input[0], copies[1].output[0] = middle, end
    g.before(first, *copies)
    g.graph.node.remove(first)
    g.graph.node.remove(second)
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def norm_over_wrong_axis(g: Graph, rng: np.random.Generator) -> Change | None:
    """BatchNorm over another axis that happens to have as many channels."""
    for node in norms(g):
        shape = g.shape(node.input[0]) or ()
        channels = len(of(g, node)[0][0])
        axes = [at for at in range(2, rank(g, node)) if shape[at] == channels]
        if not axes:
            continue
        perm = list(range(len(shape)))
        perm[1], perm[axes[0]] = perm[axes[0]], 1
        causes = ("structure", "layout", "missing operator", "attribute")
        wrong = fault(g, node, *causes, near=True)
        (there,) = g.before(node, g.make("Transpose", node.input[0], perm=perm))
        node.input[0] = there.output[0]
        g.after(node.output[0], g.make("Transpose", node.output[0], perm=perm))
        return Change(model=g.finished(), faults=(wrong,))
    return None


@harmful
def two_faults(g: Graph, rng: np.random.Generator) -> Change | None:
    """An epsilon, and one element of another layer's kernel."""
    node = pick(rng, norms(g))
    layer = pick(rng, [n for n in g.nodes("Conv", "Gemm") if g.stored(n, 1)])
    if node is None or layer is None:
        return None
    first = fault(g, node, "epsilon")
    second = fault(g, layer, "parameter")
    values = (g.stored(layer, 1) or [])[0].copy()
    values.flat[int(rng.integers(values.size))] += 0.3
    alone = Graph(g.model), Graph(g.model)
    for each, faults in ((alone[0], (1,)), (alone[1], (2,)), (g, (1, 2))):
        if 1 in faults:
            set_attribute(each.graph.node[g.place(node)], "epsilon", _other_epsilon(node))
        if 2 in faults:
            each.put(each.graph.node[g.place(layer)], 1, values)
    earlier = first if g.place(node) < g.place(layer) else second
    either = frozenset(first.first | second.first) if _parallel(g, node, layer) else earlier.first
    faults = tuple(
        Fault(causes=f.causes, where=f.where, first=either, later=earlier.later)
        for f in (first, second)
    )
    parts = tuple(each.finished() for each in alone)
    return Change(model=g.finished(), faults=faults, parts=parts)


def _parallel(g: Graph, one: NodeProto, other: NodeProto) -> bool:
    """Whether neither of two nodes reads what the other gives, however far on."""

    def reaches(start: NodeProto, end: NodeProto) -> bool:
        waiting, seen = [start], set()
        while waiting:
            node = waiting.pop()
            for name in node.output:
                for each in g.consumers(name):
                    if each is end:
                        return True
                    if each.name not in seen:
                        seen.add(each.name)
                        waiting.append(each)
        return False

    return not (reaches(one, other) or reaches(other, one))
