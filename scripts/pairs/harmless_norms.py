"""Harmless changes of BatchNorms: the other forms that one may be written in."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from .edit import Array, Graph, along, attribute, pick, set_attribute, slopes
from .kinds import Change, harmless

FOUR = (1, 2, 3, 4)


def norms(g: Graph) -> list[NodeProto]:
    """BatchNorms whose four parameters are stored, and that are no training ones."""
    return [
        node
        for node in g.nodes("BatchNormalization")
        if g.stored(node, *FOUR) is not None and not attribute(node, "training_mode", 0)
    ]


def of(g: Graph, node: NodeProto) -> tuple[list[Array], float]:
    parameters = g.stored(node, *FOUR)
    assert parameters is not None, "chosen by `norms`"
    return parameters, float(attribute(node, "epsilon", 1e-5))


def rank(g: Graph, node: NodeProto) -> int:
    shape = g.shape(node.input[0])
    return len(shape) if shape else 0


def fold(g: Graph, node: NodeProto) -> bool:
    """Fold a BatchNorm into the layer before it, if there is one that it alone reads."""
    layer = g.producer(node.input[0])
    if layer is None or g.only_reader(node.input[0]) is None:
        return False
    kernel = g.stored(layer, 1) if len(layer.input) > 1 else None
    if layer.op_type not in ("Conv", "ConvTranspose", "Gemm") or kernel is None:
        return False
    if layer.op_type == "ConvTranspose" and attribute(layer, "group", 1) != 1:
        return False
    if layer.op_type == "Gemm" and not attribute(layer, "transB", 0):
        return False
    slope, intercept = slopes(*of(g, node))
    weight = kernel[0].astype(np.float64)
    axis = 1 if layer.op_type == "ConvTranspose" else 0
    bias = g.values(layer.input[2]) if len(layer.input) > 2 else np.zeros_like(slope)
    if bias is None or bias.shape != slope.shape:
        return False
    g.put(layer, 1, weight * along(slope, weight.ndim, axis))
    folded = np.asarray(bias * slope + intercept, np.float32)
    if len(layer.input) > 2:
        g.put(layer, 2, folded)
    else:
        layer.input.append(g.add(folded, "bias"))
    g.remove(node)
    return True


@harmless
def bn_folded(g: Graph, rng: np.random.Generator) -> Change | None:
    done = [fold(g, node) for node in norms(g)]
    return Change(model=g.finished()) if any(done) else None


@harmless
def bn_folded_one(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = norms(g)
    rng.shuffle(nodes)  # type: ignore[arg-type]  # a list is shuffled in place, as documented
    return Change(model=g.finished()) if any(fold(g, node) for node in nodes) else None


@harmless
def bn_as_mul_add(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = norms(g)
    for node in nodes:
        slope, intercept = (
            along(each, rank(g, node)).astype(np.float32) for each in slopes(*of(g, node))
        )
        product = g.make("Mul", node.input[0], g.add(slope, "slope"))
        g.replace(node, product, g.make("Add", product.output[0], g.add(intercept, "intercept")))
    return Change(model=g.finished()) if nodes else None


@harmless
def bn_as_arithmetic(g: Graph, rng: np.random.Generator) -> Change | None:
    """(x − mean) / sqrt(var + epsilon) · scale + bias, written out."""
    nodes = norms(g)
    for node in nodes:
        parameters, epsilon = of(g, node)
        scale, shift, mean, var = (g.add(along(each, rank(g, node))) for each in parameters)
        centred = g.make("Sub", node.input[0], mean)
        summed = g.make("Add", var, g.add(np.float32(epsilon), "epsilon"))
        root = g.make("Sqrt", summed.output[0])
        share = g.make("Div", centred.output[0], root.output[0])
        product = g.make("Mul", share.output[0], scale)
        last = g.make("Add", product.output[0], shift)
        g.replace(node, centred, summed, root, share, product, last)
    return Change(model=g.finished()) if nodes else None


@harmless
def bn_as_tensorflow(g: Graph, rng: np.random.Generator) -> Change | None:
    """x · inv + (bias − mean · inv), as TensorFlow decomposes it."""
    nodes = norms(g)
    for node in nodes:
        parameters, epsilon = of(g, node)
        scale, shift, mean, var = (g.add(along(each, rank(g, node))) for each in parameters)
        summed = g.make("Add", var, g.add(np.float32(epsilon), "epsilon"))
        root = g.make("Sqrt", summed.output[0])
        turned = g.make("Reciprocal", root.output[0])
        inv = g.make("Mul", turned.output[0], scale)
        moved = g.make("Mul", mean, inv.output[0])
        rest = g.make("Sub", shift, moved.output[0])
        product = g.make("Mul", node.input[0], inv.output[0])
        last = g.make("Add", product.output[0], rest.output[0])
        g.replace(node, summed, root, turned, inv, moved, rest, product, last)
    return Change(model=g.finished()) if nodes else None


@harmless
def bn_split(g: Graph, rng: np.random.Generator) -> Change | None:
    """One BatchNorm as two: the first normalises, the second scales and shifts."""
    node = pick(rng, norms(g))
    if node is None:
        return None
    (scale, shift, mean, var), epsilon = of(g, node)
    one, zero = np.ones_like(scale), np.zeros_like(scale)
    first = g.make("BatchNormalization", node.input[0], *map(g.add, (one, zero, mean, var)))
    set_attribute(first, "epsilon", epsilon)
    second = g.make("BatchNormalization", first.output[0], *map(g.add, (scale, shift, zero, one)))
    set_attribute(second, "epsilon", 0.0)
    g.replace(node, first, second)
    return Change(model=g.finished())


@harmless
def bn_epsilon_in_variance(g: Graph, rng: np.random.Generator) -> Change | None:
    """The variance takes up what another epsilon leaves out."""
    nodes = norms(g)
    for node in nodes:
        epsilon = float(attribute(node, "epsilon", 1e-5))
        (var,) = g.stored(node, 4) or ()
        g.put(node, 4, var.astype(np.float64) + epsilon - 1e-6)
        set_attribute(node, "epsilon", 1e-6)
    return Change(model=g.finished()) if nodes else None


@harmless
def bn_mean_in_bias(g: Graph, rng: np.random.Generator) -> Change | None:
    """The bias takes up the mean, as converters that know no statistics write it."""
    nodes = norms(g)
    for node in nodes:
        parameters, epsilon = of(g, node)
        slope, intercept = slopes(parameters, epsilon)
        values = (slope, intercept, np.zeros_like(slope), np.ones_like(slope))
        for at, each in zip(FOUR, values, strict=True):
            g.put(node, at, each)
        set_attribute(node, "epsilon", 0.0)
    return Change(model=g.finished()) if nodes else None


@harmless
def bn_in_double(g: Graph, rng: np.random.Generator) -> Change | None:
    """The arithmetic of one BatchNorm in float64, between two Casts."""
    node = pick(rng, norms(g))
    if node is None:
        return None
    slope, intercept = (along(each, rank(g, node)) for each in slopes(*of(g, node)))
    widened = g.make("Cast", node.input[0], to=TensorProto.DOUBLE)
    product = g.make("Mul", widened.output[0], g.add(slope))
    summed = g.make("Add", product.output[0], g.add(intercept))
    g.replace(node, widened, product, summed, g.make("Cast", summed.output[0], to=1))
    return Change(model=g.finished())


@harmless
def momentum(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = norms(g)
    for node in nodes:
        set_attribute(node, "momentum", float(rng.uniform(0.05, 0.8)))
    return Change(model=g.finished()) if nodes else None


@harmless
def dead_channels(g: Graph, rng: np.random.Generator) -> Change | None:
    """Another mean of channels that no Relu ever lets through."""
    for node in norms(g):
        parameters, _ = of(g, node)
        never = parameters[1] <= -1000.0
        reader = g.only_reader(node.output[0])
        if never.any() and reader is not None and reader.op_type == "Relu":
            g.put(node, 3, np.where(never, parameters[2] + 0.5, parameters[2]))
            return Change(model=g.finished())
    return None
