"""Harmful changes of operators and their attributes, and of what reads what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import NodeProto

from .edit import Graph, attribute, pick, set_attribute
from .kinds import Change, Fault, fault, harmful


def _removed(name: str, op_types: Sequence[str]) -> None:
    def make(g: Graph, rng: np.random.Generator) -> Change | None:
        node = pick(rng, [n for n in g.nodes(*op_types) if g.producer(n.input[0])])
        if node is None:
            return None
        wrong = fault(g, node, "missing operator", "structure", near=True)
        g.remove(node)
        return Change(model=g.finished(), faults=(wrong,))

    make.__name__ = name
    harmful(make)


_removed("relu_missing", ("Relu",))
_removed("softmax_missing", ("Softmax",))
_removed(
    "activation_missing", ("Clip", "Sigmoid", "LeakyRelu", "PRelu", "Elu", "Tanh", "HardSwish")
)
_removed("layer_norm_missing", ("LayerNormalization",))


@harmful
def relu_extra(g: Graph, rng: np.random.Generator) -> Change | None:
    layers = g.nodes("Conv", "Gemm", "BatchNormalization", "ConvTranspose", "Add", "MatMul")
    fit = []
    for node in layers:
        readers = g.consumers(node.output[0])
        if not any(each.op_type == "Relu" for each in readers):
            fit.append(node)
    node = pick(rng, fit)
    if node is None:
        return None
    (made,) = g.after(node.output[0], g.make("Relu", node.output[0]))
    wrong = fault(g, made, "missing operator", "structure", near=True)
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def softmax_twice(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, g.nodes("Softmax"))
    if node is None:
        return None
    again = g.make("Softmax", node.output[0], axis=attribute(node, "axis", -1))
    (made,) = g.after(node.output[0], again)
    wrong = fault(g, made, "missing operator", "structure", near=True)
    return Change(model=g.finished(), faults=(wrong,))


def _exchanged(
    name: str, op_types: Sequence[str], made: Callable[[Graph, NodeProto], NodeProto], *extra: str
) -> None:
    """Another operator in the place of one."""

    def make(g: Graph, rng: np.random.Generator) -> Change | None:
        node = pick(rng, g.nodes(*op_types))
        if node is None:
            return None
        wrong = fault(g, node, "operator", "missing operator", *extra)
        where = g.around(node)  # "before Add x" is as good a name for what has no counterpart
        (placed,) = g.replace(node, made(g, node))
        wrong = Fault(
            causes=wrong.causes,
            where=where | g.names(placed),
            first=wrong.first | g.names(placed),
            later=wrong.later,
        )
        return Change(model=g.finished(), faults=(wrong,))

    make.__name__ = name
    harmful(make)


_exchanged("relu_as_leaky", ("Relu",), lambda g, n: g.make("LeakyRelu", n.input[0], alpha=0.05))
_exchanged(
    "relu_as_six",
    ("Relu",),
    lambda g, n: g.make("Clip", n.input[0], g.add(np.float32(0)), g.add(np.float32(6))),
)
_exchanged("sigmoid_as_hard", ("Sigmoid",), lambda g, n: g.make("HardSigmoid", n.input[0]))
_exchanged("sigmoid_as_tanh", ("Sigmoid",), lambda g, n: g.make("Tanh", n.input[0]))
_exchanged(
    "softmax_as_log",
    ("Softmax",),
    lambda g, n: g.make("LogSoftmax", n.input[0], axis=attribute(n, "axis", -1)),
)
_exchanged("elu_as_relu", ("Elu", "PRelu"), lambda g, n: g.make("Relu", n.input[0]))
_exchanged("hard_swish_as_relu", ("HardSwish",), lambda g, n: g.make("Relu", n.input[0]))
_exchanged("mul_as_add", ("Mul",), lambda g, n: g.make("Add", *n.input))
# To take a stored bias away is to add another one.
_exchanged("add_as_sub", ("Add",), lambda g, n: g.make("Sub", *n.input), "parameter", "folding")


def _pooled(g: Graph, node: NodeProto) -> NodeProto:
    op = "AveragePool" if node.op_type == "MaxPool" else "MaxPool"
    made = g.make(op, node.input[0])
    kept = [each for each in node.attribute if each.name != "count_include_pad"]
    made.attribute.extend(kept)
    return made


_exchanged("pool_of_other_sort", ("MaxPool", "AveragePool"), _pooled)
_exchanged(
    "global_pool_of_other_sort",
    ("GlobalAveragePool",),
    lambda g, n: g.make("GlobalMaxPool", n.input[0]),
)


def _attribute(
    name: str, op_types: Sequence[str], attribute_: str, new: Callable[[NodeProto], object]
) -> None:
    """Another attribute; `new` gives None for a node that this cannot be done to."""

    def make(g: Graph, rng: np.random.Generator) -> Change | None:
        fit = [node for node in g.nodes(*op_types) if new(node) is not None]
        node = pick(rng, fit)
        if node is None:
            return None
        set_attribute(node, attribute_, new(node))
        return Change(model=g.finished(), faults=(fault(g, node, "attribute"),))

    make.__name__ = name
    harmful(make)


def _shifted_pads(node: NodeProto) -> list[int] | None:
    """One row more at the start and one less at the end: the shape stays."""
    pads = list(attribute(node, "pads") or [])
    half = len(pads) // 2
    if not pads or not pads[half]:
        return None
    pads[0], pads[half] = pads[0] + 1, pads[half] - 1
    return pads


def _reset(node: NodeProto) -> int | None:
    return 1 - int(attribute(node, "linear_before_reset", 0))


_attribute("leaky_alpha", ("LeakyRelu",), "alpha", lambda n: attribute(n, "alpha", 0.01) / 2)
_attribute("elu_alpha", ("Elu",), "alpha", lambda n: 1.0)
_attribute("hard_sigmoid_alpha", ("HardSigmoid",), "alpha", lambda n: 1 / 6)
_attribute("pads_shifted", ("Conv", "AveragePool"), "pads", _shifted_pads)
_attribute(
    "pads_counted",
    ("AveragePool",),
    "count_include_pad",
    lambda n: 1 - attribute(n, "count_include_pad", 0) if any(attribute(n, "pads", [])) else None,
)
_attribute(
    "size_rounded_up",
    ("MaxPool", "AveragePool"),
    "ceil_mode",
    lambda n: 1 - attribute(n, "ceil_mode", 0),
)
for _mode in ("align_corners", "asymmetric"):
    _attribute(
        f"resize_{_mode}",
        ("Resize",),
        "coordinate_transformation_mode",
        lambda n, mode=_mode: mode,  # type: ignore[misc]  # a default binds the loop's variable
    )
_attribute("resize_nearest", ("Resize",), "mode", lambda n: "nearest")
_attribute("gru_reset", ("GRU",), "linear_before_reset", _reset)
_attribute(
    "lstm_reversed",
    ("LSTM", "GRU"),
    "direction",
    lambda n: "reverse" if attribute(n, "direction", b"forward") == b"forward" else None,
)
_attribute("layer_norm_epsilon", ("LayerNormalization",), "epsilon", lambda n: 1e-2)


@harmful
def dilation(g: Graph, rng: np.random.Generator) -> Change | None:
    """Twice the dilation, with the pads that keep the shape."""
    fit = []
    for node in g.nodes("Conv"):
        kernel, pads = attribute(node, "kernel_shape"), attribute(node, "pads")
        if kernel and pads and any(pads) and not attribute(node, "dilations"):
            fit.append((node, kernel))
    chosen = pick(rng, fit)
    if chosen is None:
        return None
    node, kernel = chosen
    set_attribute(node, "dilations", [2] * len(kernel))
    set_attribute(node, "pads", [k - 1 for k in kernel] * 2)
    return Change(model=g.finished(), faults=(fault(g, node, "attribute"),))


@harmful
def softmax_axis(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, g.nodes("Softmax"))
    if node is None:
        return None
    last = len(g.shape(node.input[0]) or ()) - 1
    set_attribute(node, "axis", 0 if last == 1 else last - 1)
    return Change(model=g.finished(), faults=(fault(g, node, "attribute"),))


@harmful
def reduced_axes(g: Graph, rng: np.random.Generator) -> Change | None:
    """Another axis of the same size, or with a Transpose where sizes differ."""
    for node in g.nodes("ReduceMean"):
        axes, shape = attribute(node, "axes"), g.shape(node.input[0]) or ()
        same = [at for at in range(1, len(shape)) if axes and shape[at] == shape[axes[0]]]
        other = [at for at in same if at not in axes]
        if axes and len(axes) == 1 and other:
            set_attribute(node, "axes", [other[0]])
            return Change(model=g.finished(), faults=(fault(g, node, "attribute"),))
    return None


@harmful
def mean_as_max(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, g.nodes("ReduceMean"))
    if node is None:
        return None
    node.op_type = "ReduceMax"
    wrong = fault(g, node, "operator", "missing operator")
    return Change(model=g.finished(), faults=(wrong,))


def _operands(name: str, op_type: str, causes: Sequence[str]) -> None:
    def make(g: Graph, rng: np.random.Generator) -> Change | None:
        fit = []
        for node in g.nodes(op_type):
            shapes = [g.shape(each) for each in node.input[:2]]
            if len(node.input) >= 2 and shapes[0] is not None and node.input[0] != node.input[1]:
                alike = shapes[0] == shapes[1] or g.shape(node.output[0]) is not None
                fit += [node] if alike else []
        node = pick(rng, fit)
        if node is None:
            return None
        node.input[:] = list(node.input)[::-1]
        return Change(model=g.finished(), faults=(fault(g, node, *causes),))

    make.__name__ = name
    harmful(make)


_ORDER = ("inputs order", "structure", "permutation", "attribute")
_operands("sub_swapped", "Sub", _ORDER)
_operands("div_swapped", "Div", _ORDER)
_operands("concat_swapped", "Concat", _ORDER)


@harmful
def clip_at_five(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, [n for n in g.nodes("Clip") if len(n.input) == 3 and g.stored(n, 2)])
    if node is None:
        return None
    g.put(node, 2, np.float32(5))
    return Change(model=g.finished(), faults=(fault(g, node, "attribute", "parameter"),))


@harmful
def residual_from_elsewhere(g: Graph, rng: np.random.Generator) -> Change | None:
    """One operand of an Add, a Mul or a Concat is another value of the same shape."""
    fit = []
    for node in g.nodes("Add", "Mul", "Concat"):
        for at, name in enumerate(node.input[:2]):
            shape, place = g.shape(name), g.place(node)
            if shape is None or g.values(name) is not None or len(shape) < 2:
                continue
            others = [
                each.output[0]
                for each in g.graph.node[:place]
                if g.shape(each.output[0]) == shape and each.output[0] not in node.input
            ]
            fit += [(node, at, other) for other in others if g.values(other) is None]
    chosen = pick(rng, fit)
    if chosen is None:
        return None
    node, at, other = chosen
    causes = ("structure", "inputs order", "missing operator", "operator")
    wrong = fault(g, node, *causes)
    where = g.around(node)
    node.input[at] = other
    wrong = Fault(
        causes=wrong.causes, where=where | g.around(node), first=wrong.first, later=wrong.later
    )
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def residual_missing(g: Graph, rng: np.random.Generator) -> Change | None:
    fit = []
    for node in g.nodes("Add"):
        if all(g.values(n) is None and g.shape(n) == g.shape(node.output[0]) for n in node.input):
            fit.append(node)
    node = pick(rng, fit)
    if node is None or g.producer(node.input[0]) is None:
        return None
    wrong = fault(g, node, "missing operator", "structure", near=True)
    g.remove(node)
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def attention_unscaled(g: Graph, rng: np.random.Generator) -> Change | None:
    """Another divisor of what goes into an inner Softmax."""
    for node in g.nodes("Div", "Mul"):
        reader = g.only_reader(node.output[0])
        if reader is not None and reader.op_type == "Softmax" and g.stored(node, 1):
            g.put(node, 1, (g.stored(node, 1) or [])[0] * np.float32(1.5))
            wrong = fault(g, node, "parameter", "attribute")
            return Change(model=g.finished(), faults=(wrong,))
    return None


@harmful
def gelu_by_tanh(g: Graph, rng: np.random.Generator) -> Change | None:
    """The approximation of gelu in place of erf; erf(x) ≈ tanh(1.1284 x + 0.1009 x³)."""
    node = pick(rng, g.nodes("Erf"))
    if node is None:
        return None
    where = g.around(node)
    x = node.input[0]
    square = g.make("Mul", x, x)
    cube = g.make("Mul", square.output[0], g.add(np.float32(0.100907)))
    factor = g.make("Add", cube.output[0], g.add(np.float32(1.128379)))
    product = g.make("Mul", factor.output[0], x)
    first = g.names(node)
    made = g.replace(node, square, cube, factor, product, g.make("Tanh", product.output[0]))
    found = g.names(*made)
    wrong = Fault(
        causes=frozenset({"missing operator", "operator", "structure"}),
        where=where | found,
        first=first | found,
        later=g.ahead(made[-1]),
    )
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def loop_turns(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, [n for n in g.nodes("Loop") if g.stored(n, 0)])
    if node is None:
        return None
    g.put(node, 0, np.array(4))
    causes = ("parameter", "attribute", "structure")
    return Change(model=g.finished(), faults=(fault(g, node, *causes),))


@harmful
def branches_swapped(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, g.nodes("If"))
    if node is None:
        return None
    for each in node.attribute:
        each.name = {"then_branch": "else_branch", "else_branch": "then_branch"}[each.name]
    causes = ("structure", "attribute", "parameter", "operator")
    return Change(model=g.finished(), faults=(fault(g, node, *causes),))
