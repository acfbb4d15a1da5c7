"""Harmful changes of stored weights: one element, a row, their order, their precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from .edit import Array, Graph, attribute, pick
from .kinds import Change, Fault, coarse, fault, harmful


def layers(g: Graph, *op_types: str) -> list[NodeProto]:
    """Layers with a stored kernel."""
    wanted = op_types or ("Conv", "Gemm", "MatMul", "ConvTranspose")
    return [n for n in g.nodes(*wanted) if len(n.input) > 1 and g.stored(n, 1)]


def kernel(g: Graph, node: NodeProto) -> Array:
    found = g.stored(node, 1)
    assert found is not None, "chosen by `layers`"
    return found[0].copy()


def _put(g: Graph, node: NodeProto, values: Array, *causes: str) -> Change:
    g.put(node, 1, values)
    return Change(model=g.finished(), faults=(fault(g, node, *(causes or ("parameter",))),))


ORDER = ("parameter", "permutation", "layout")


@harmful
def weight_element(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, layers(g))
    if node is None:
        return None
    values = kernel(g, node)
    values.flat[int(rng.integers(values.size))] += 0.1
    return _put(g, node, values)


@harmful
def weight_element_slight(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, layers(g))
    if node is None:
        return None
    values = kernel(g, node)
    values.flat[int(rng.integers(values.size))] += 1e-3
    return _put(g, node, values)


@harmful
def weights_noisy(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, layers(g))
    if node is None:
        return None
    values = kernel(g, node)
    return _put(g, node, values * (1 + 1e-3 * rng.standard_normal(values.shape)))


@harmful
def square_transposed(g: Graph, rng: np.random.Generator) -> Change | None:
    """A square dense kernel the wrong way round, which no shape tells."""
    fit = [n for n in layers(g, "Gemm", "MatMul") if len(set(kernel(g, n).shape)) == 1]
    node = pick(rng, fit)
    return None if node is None else _put(g, node, kernel(g, node).T, *ORDER)


@harmful
def kernel_flipped(g: Graph, rng: np.random.Generator) -> Change | None:
    """A convolution's kernel turned, as where correlation is taken for convolution."""
    fit = [n for n in layers(g, "Conv", "ConvTranspose") if max(kernel(g, n).shape[2:]) > 1]
    node = pick(rng, fit)
    if node is None:
        return None
    values = kernel(g, node)
    return _put(g, node, np.flip(values, tuple(range(2, values.ndim))), *ORDER)


@harmful
def kernel_height_width(g: Graph, rng: np.random.Generator) -> Change | None:
    fit = [n for n in layers(g, "Conv") if kernel(g, n).ndim == 4 and kernel(g, n).shape[2] > 1]
    node = pick(rng, fit)
    return None if node is None else _put(g, node, kernel(g, node).swapaxes(2, 3), *ORDER)


@harmful
def kernel_rows(g: Graph, rng: np.random.Generator) -> Change | None:
    """Two rows of a kernel change places."""
    node = pick(rng, [n for n in layers(g) if kernel(g, n).shape[0] > 1])
    if node is None:
        return None
    values = kernel(g, node)
    one, other = rng.choice(values.shape[0], 2, replace=False)
    values[[one, other]] = values[[other, one]]
    return _put(g, node, values, *ORDER)


@harmful
def outputs_permuted(g: Graph, rng: np.random.Generator) -> Change | None:
    """The last dense layer gives its classes in another order, bias and all."""
    fit = [n for n in layers(g, "Gemm") if attribute(n, "transB", 0) and g.stored(n, 2)]
    if not fit:
        return None
    node = fit[-1]
    values, bias = kernel(g, node), (g.stored(node, 2) or [])[0]
    perm = np.roll(np.arange(len(bias)), 1)
    g.put(node, 2, bias[perm])
    return _put(g, node, values[perm], *ORDER)


def _input_layer(g: Graph) -> NodeProto | None:
    """The convolution that reads an image, through Transposes at most."""
    for node in layers(g, "Conv"):
        name = node.input[0]
        maker = g.producer(name)
        if maker is not None and maker.op_type == "Transpose":
            name = maker.input[0]
        if g.is_input(name) and kernel(g, node).shape[1] == 3:
            return node
    return None


@harmful
def colours_turned(g: Graph, rng: np.random.Generator) -> Change | None:
    """The first convolution takes BGR for RGB."""
    node = _input_layer(g)
    if node is None:
        return None
    return _put(g, node, kernel(g, node)[:, ::-1], *ORDER, "preprocessing", "inputs order")


@harmful
def groups_turned(g: Graph, rng: np.random.Generator) -> Change | None:
    """The groups of a grouped convolution in another order."""
    node = pick(rng, [n for n in layers(g, "Conv") if attribute(n, "group", 1) > 1])
    if node is None:
        return None
    values, group = kernel(g, node), attribute(node, "group", 1)
    turned = np.roll(values.reshape(group, -1, *values.shape[1:]), 1, axis=0)
    return _put(g, node, turned.reshape(values.shape), *ORDER)


@harmful
def flatten_order(g: Graph, rng: np.random.Generator) -> Change | None:
    """A dense kernel in the order of the other layout's flatten."""
    for node in layers(g, "Gemm", "MatMul"):
        maker = g.producer(node.input[0])
        if maker is None or maker.op_type not in ("Flatten", "Reshape"):
            continue
        shape = (g.shape(maker.input[0]) or ())[1:]
        values = kernel(g, node)
        rows = values.T if node.op_type == "MatMul" else values
        if len(shape) != 3 or None in shape or np.prod(shape) != rows.shape[1]:
            continue
        if sum(each > 1 for each in shape if each) < 2:
            continue
        turned = rows.reshape(-1, *shape).transpose(0, 3, 1, 2).reshape(rows.shape)
        if maker.op_type == "Flatten":
            turned = rows.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(rows.shape)
        return _put(g, node, turned.T if node.op_type == "MatMul" else turned, *ORDER)
    return None


@harmful
def bias_dropped(g: Graph, rng: np.random.Generator) -> Change | None:
    fit = [n for n in g.nodes("Conv", "Gemm", "ConvTranspose") if len(n.input) > 2]
    node = pick(rng, fit)
    if node is None:
        return None
    del node.input[2:]
    causes = ("parameter", "missing operator", "structure", "attribute")
    return Change(model=g.finished(), faults=(fault(g, node, *causes),))


@harmful
def bias_of_dense_changed(g: Graph, rng: np.random.Generator) -> Change | None:
    node = pick(rng, [n for n in g.nodes("Conv", "Gemm") if len(n.input) > 2 and g.stored(n, 2)])
    if node is None:
        return None
    values = (g.stored(node, 2) or [])[0].copy()
    values[int(rng.integers(values.size))] += 0.05
    g.put(node, 2, values)
    return Change(model=g.finished(), faults=(fault(g, node, "parameter"),))


@harmful
def layers_swapped(g: Graph, rng: np.random.Generator) -> Change | None:
    """Two layers of one shape hold each other's kernels."""
    fit = layers(g)
    rng.shuffle(fit)  # type: ignore[arg-type]  # a list is shuffled in place, as documented
    for one in fit:
        for other in fit:
            a, b = kernel(g, one), kernel(g, other)
            if one is other or a.shape != b.shape or one.input[1] == other.input[1]:
                continue
            g.put(one, 1, b)
            g.put(other, 1, a)
            where = g.names(one, other)
            wrong = Fault(
                causes=frozenset({*ORDER, "inputs order", "structure"}), where=where, first=where
            )
            return Change(model=g.finished(), faults=(wrong,))
    return None


@harmful
def recurrent_gates(g: Graph, rng: np.random.Generator) -> Change | None:
    """The gates of an LSTM or GRU in another framework's order."""
    node = pick(rng, [n for n in g.nodes("LSTM", "GRU") if g.stored(n, 1, 2)])
    if node is None:
        return None
    gates = 4 if node.op_type == "LSTM" else 3
    perm = [0, 2, 1, 3][:gates] if gates == 4 else [1, 0, 2]
    for at in (1, 2):
        values = (g.stored(node, at) or [])[0]
        size = values.shape[1] // gates
        parts = values.reshape(values.shape[0], gates, size, -1)[:, perm]
        g.put(node, at, parts.reshape(values.shape))
    return Change(model=g.finished(), faults=(fault(g, node, *ORDER),))


@harmful
def embedding_row(g: Graph, rng: np.random.Generator) -> Change | None:
    """The rows of an embedding moved by one, as with another padding id."""
    for node in g.nodes("Gather"):
        values = g.values(node.input[0])
        if values is not None and values.ndim == 2 and values.dtype == np.float32:
            g.put(node, 0, np.roll(values, 1, axis=0))
            return Change(model=g.finished(), faults=(fault(g, node, *ORDER),))
    return None


@harmful
def slope_changed(g: Graph, rng: np.random.Generator) -> Change | None:
    """One channel of a PRelu, or of a BatchNorm that is Mul and Add."""
    fit = []
    for node in g.nodes("PRelu", "Mul", "Add"):
        values = g.values(node.input[1])
        if values is not None and values.size > 1 and values.dtype == np.float32:
            fit.append(node)
    node = pick(rng, fit)
    if node is None:
        return None
    values = kernel(g, node)
    values.flat[int(rng.integers(values.size))] += 0.1
    g.put(node, 1, values)
    wrong = fault(g, node, "parameter")
    maker = g.producer(node.input[0])
    if maker is not None and maker.op_type == "MatMul":  # it is that layer's bias
        more = g.names(maker)
        wrong = replace(wrong, where=wrong.where | more)
    return Change(model=g.finished(), faults=(wrong,))


@coarse
def weights_in_half(g: Graph, rng: np.random.Generator) -> Change | None:
    """Weights rounded to float16 and stored as float32 again."""
    nodes = layers(g)
    for node in nodes:
        g.put(node, 1, kernel(g, node).astype(np.float16).astype(np.float32))
    if not nodes:
        return None
    where = g.names(*nodes)
    wrong = Fault(
        causes=frozenset({"precision", "parameter", "quantisation"}), where=where, first=where
    )
    return Change(model=g.finished(), faults=(wrong,))


@coarse
def weights_in_eight_bits(g: Graph, rng: np.random.Generator) -> Change | None:
    """Kernels stored as int8 with a scale per channel, and dequantised when read."""
    nodes = layers(g, "Conv", "Gemm")
    if not nodes:
        return None
    for node in nodes:
        values = kernel(g, node)
        step = np.abs(values).reshape(len(values), -1).max(axis=1) / 127
        step = np.maximum(step, 1e-8).astype(np.float32)
        lined = step.reshape(-1, *[1] * (values.ndim - 1))
        held = np.clip(np.round(values / lined), -127, 127).astype(np.int8)
        zero = g.add(np.zeros(len(step), np.int8))
        made = g.make("DequantizeLinear", g.add(held), g.add(step), zero, axis=0)
        (placed,) = g.before(node, made)
        node.input[1] = placed.output[0]
    where = g.names(*nodes)
    makers = g.names(*(g.producer(node.input[1]) for node in nodes))
    causes = frozenset({"quantisation", "precision", "parameter"})
    wrong = Fault(causes=causes, where=where | makers, first=where | makers)
    return Change(model=g.finished(), faults=(wrong,))


@coarse
def all_in_half(g: Graph, rng: np.random.Generator) -> Change | None:
    """The network computes in float16; inputs and outputs stay float32."""
    if any(each.op_type in ("If", "Loop", "LSTM", "GRU") for each in g.graph.node):
        return None
    if any(each.type.tensor_type.elem_type != TensorProto.FLOAT for each in g.graph.input):
        return None
    if any(each.op_type in ("Cast", "Resize", "Constant") for each in g.graph.node):
        return None
    for tensor in g.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for given in g.inputs():
        g.after(given.name, g.make("Cast", given.name, to=TensorProto.FLOAT16))
    for given in g.graph.output:
        g.after(given.name, g.make("Cast", given.name, to=TensorProto.FLOAT))
    everywhere = g.names(*g.graph.node)
    wrong = Fault(causes=frozenset({"precision", "parameter"}), where=everywhere, first=everywhere)
    return Change(model=g.finished(), faults=(wrong,))
