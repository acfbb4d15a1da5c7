"""Harmless changes of operators: others that compute the same, and sums in another order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from .edit import Graph, along, attribute, pick, set_attribute
from .kinds import Change, harmless


def _done(g: Graph, changed: Iterable[object]) -> Change | None:
    return Change(model=g.finished()) if list(changed) else None


@harmless
def gemm_as_matmul(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = [n for n in g.nodes("Gemm") if g.stored(n, 1) and attribute(n, "alpha", 1.0) == 1.0]
    for node in nodes:
        weight = g.values(node.input[1])
        assert weight is not None, "chosen above"
        made = [g.make("MatMul", node.input[0], "")]
        made[0].input[1] = g.add(weight.T if attribute(node, "transB", 0) else weight, "weight")
        if len(node.input) > 2:
            made.append(g.make("Add", made[0].output[0], node.input[2]))
        g.replace(node, *made)
    return _done(g, nodes)


@harmless
def matmul_as_gemm(g: Graph, rng: np.random.Generator) -> Change | None:
    changed = []
    for node in g.nodes("MatMul"):
        weight, shape = g.values(node.input[1]), g.shape(node.input[0])
        reader = g.only_reader(node.output[0])
        if weight is None or shape is None or len(shape) != 2 or reader is None:
            continue
        if reader.op_type != "Add" or reader.input[0] != node.output[0]:
            continue
        if (g.values(reader.input[1]) is None) or g.shape(reader.input[1]) != weight.shape[1:]:
            continue
        made = g.make("Gemm", node.input[0], g.add(weight.T), reader.input[1], transB=1)
        g.replace(reader, made)
        g.graph.node.remove(node)
        changed.append(node)
    return _done(g, changed)


@harmless
def weights_transposed(g: Graph, rng: np.random.Generator) -> Change | None:
    """A dense kernel is stored the other way round, and a Transpose puts it right."""
    nodes = [n for n in g.nodes("Gemm", "MatMul") if g.stored(n, 1)]
    for node in nodes:
        weight = g.values(node.input[1])
        assert weight is not None, "chosen above"
        if node.op_type == "Gemm":
            set_attribute(node, "transB", 1 - attribute(node, "transB", 0))
            node.input[1] = g.add(weight.T)
            continue
        (turned,) = g.before(node, g.make("Transpose", g.add(weight.T), perm=[1, 0]))
        node.input[1] = turned.output[0]
    return _done(g, nodes)


@harmless
def dense_as_conv(g: Graph, rng: np.random.Generator) -> Change | None:
    """A dense layer as a convolution of 1×1."""
    nodes = [n for n in g.nodes("Gemm") if g.stored(n, 1) and attribute(n, "transB", 0)]
    node = pick(rng, nodes)
    if node is None:
        return None
    weight = g.values(node.input[1])
    assert weight is not None, "chosen above"
    out, into = weight.shape
    there = g.make("Reshape", node.input[0], g.add(np.array([-1, into, 1, 1])))
    conv = g.make("Conv", there.output[0], g.add(weight[:, :, None, None]), *node.input[2:])
    g.replace(node, there, conv, g.make("Reshape", conv.output[0], g.add(np.array([-1, out]))))
    return Change(model=g.finished())


@harmless
def conv_bias_as_add(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = [n for n in g.nodes("Conv", "ConvTranspose") if len(n.input) > 2 and g.stored(n, 2)]
    for node in nodes:
        bias, weight = g.values(node.input[2]), g.values(node.input[1])
        if bias is None or weight is None:
            return None
        del node.input[2:]
        g.after(
            node.output[0],
            g.make("Add", node.output[0], g.add(along(bias, weight.ndim))),
        )
    return _done(g, nodes)


@harmless
def scaled_and_back(g: Graph, rng: np.random.Generator) -> Change | None:
    """Kernel and bias thrice as large, and a Mul by a third behind."""
    node = pick(rng, [n for n in g.nodes("Conv", "Gemm", "ConvTranspose") if g.stored(n, 1)])
    if node is None or (len(node.input) > 2 and g.stored(node, 2) is None):
        return None
    for at in range(1, len(node.input)):
        g.put(node, at, (g.stored(node, at) or [])[0] * np.float32(3))
    g.after(node.output[0], g.make("Mul", node.output[0], g.add(np.float32(1 / 3))))
    return Change(model=g.finished())


@harmless
def summed_in_halves(g: Graph, rng: np.random.Generator) -> Change | None:
    """A convolution or dense layer as the sum of two over half of the channels each."""
    nodes = [n for n in g.nodes("Conv", "Gemm") if g.stored(n, 1)]
    fit = [n for n in nodes if attribute(n, "group", 1) == 1 and attribute(n, "transB", 1)]
    fit = [n for n in fit if (g.stored(n, 1) or [])[0].shape[1] >= 2]
    node = pick(rng, fit)
    if node is None:
        return None
    weight = (g.stored(node, 1) or [])[0]
    half = weight.shape[1] // 2
    sizes = g.add(np.array([half, weight.shape[1] - half]))
    split = g.make("Split", node.input[0], sizes, axis=1)
    split.output.append(g.fresh("value"))
    parts = []
    for at, kernel in enumerate((weight[:, :half], weight[:, half:])):
        given = [split.output[at], g.add(kernel), *(node.input[2:] if at == 0 else [])]
        part = g.make(node.op_type, *given)
        part.attribute.extend(node.attribute)
        parts.append(part)
    total = g.make("Sum", *(each.output[0] for each in reversed(parts)))
    g.replace(node, split, *parts, total)
    return Change(model=g.finished())


@harmless
def rescaled_across_relu(g: Graph, rng: np.random.Generator) -> Change | None:
    """Channels scaled before a Relu, and the next layer's kernel by the inverse."""
    for node in g.nodes("Relu"):
        before, after = g.producer(node.input[0]), g.only_reader(node.output[0])
        if before is None or after is None or g.only_reader(node.input[0]) is None:
            continue
        layers = ("Conv", "Gemm")
        if before.op_type not in layers or after.op_type != before.op_type:
            continue
        if attribute(after, "group", 1) != 1 or not attribute(after, "transB", 1):
            continue
        if not attribute(before, "transB", 1) or not g.stored(before, *range(1, len(before.input))):
            continue
        kernels = g.stored(before, 1), g.stored(after, 1)
        if kernels[0] is None or kernels[1] is None:
            continue
        factor = rng.uniform(0.5, 2, kernels[0][0].shape[0])
        for at in range(1, len(before.input)):
            values = (g.stored(before, at) or [])[0]
            g.put(before, at, values * along(factor, values.ndim, 0))
        g.put(after, 1, kernels[1][0] / along(factor, kernels[1][0].ndim, 1))
        return Change(model=g.finished())
    return None


BY_CHANNEL = ("Relu", "Clip", "LeakyRelu", "Elu", "Sigmoid", "MaxPool", "AveragePool", "HardSwish")


@harmless
def channels_permuted(g: Graph, rng: np.random.Generator) -> Change | None:
    """Channels of one layer in another order, and what reads them follows."""
    firsts = [n for n in g.nodes("Conv", "Gemm") if g.stored(n, *range(1, len(n.input)))]
    rng.shuffle(firsts)  # type: ignore[arg-type]  # a list is shuffled in place, as documented
    for first in firsts:
        if attribute(first, "group", 1) != 1 or not attribute(first, "transB", 1):
            continue
        chain, value = [], first.output[0]
        while (reader := g.only_reader(value)) is not None:
            chain.append(reader)
            value = reader.output[0]
            if reader.op_type not in (*BY_CHANNEL, "BatchNormalization"):
                break
        if not chain or chain[-1].op_type not in ("Conv", "Gemm") or not g.stored(chain[-1], 1):
            continue
        last = chain[-1]
        if attribute(last, "group", 1) != 1 or not attribute(last, "transB", 1):
            continue
        size = (g.stored(first, 1) or [])[0].shape[0]
        perm = rng.permutation(size)
        for node, places in [
            (first, range(1, len(first.input))),
            *((n, range(1, 5)) for n in chain if n.op_type == "BatchNormalization"),
        ]:
            for at in places:
                g.put(node, at, (g.stored(node, at) or [])[0][perm])
        g.put(last, 1, (g.stored(last, 1) or [])[0][:, perm])
        return Change(model=g.finished())
    return None


@harmless
def flatten_as_reshape(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = [n for n in g.nodes("Flatten") if attribute(n, "axis", 1) == 1]
    for node in nodes:
        g.replace(node, g.make("Reshape", node.input[0], g.add(np.array([0, -1]))))
    others = []
    for node in g.nodes("Reshape") if not nodes else []:
        target, shape = g.values(node.input[1]), g.shape(node.input[0])
        if target is not None and target.shape == (2,) and target[0] == -1 and shape:
            g.replace(node, g.make("Flatten", node.input[0], axis=1))
            others.append(node)
    return _done(g, [*nodes, *others])


@harmless
def pool_as_mean(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = g.nodes("GlobalAveragePool") if g.opset() < 18 else []
    for node in nodes:
        axes = list(range(2, len(g.shape(node.input[0]) or ())))
        g.replace(node, g.make("ReduceMean", node.input[0], axes=axes, keepdims=1))
    return _done(g, [each for each in nodes if each is not None])


@harmless
def relu_as_clip(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = g.nodes("Relu")
    zero = g.add(np.float32(0)) if nodes else ""
    for at, node in enumerate(nodes):
        g.replace(node, g.make("Clip" if at % 2 else "Max", node.input[0], zero))
    return _done(g, nodes)


@harmless
def clip_as_min_max(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = [n for n in g.nodes("Clip") if len(n.input) == 3 and all(n.input)]
    for node in nodes:
        low = g.make("Max", node.input[0], node.input[1])
        g.replace(node, low, g.make("Min", low.output[0], node.input[2]))
    return _done(g, nodes)


@harmless
def leaky_as_prelu(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = g.nodes("LeakyRelu")
    for node in nodes:
        alpha = np.array([attribute(node, "alpha", 0.01)], np.float32)
        g.replace(node, g.make("PRelu", node.input[0], g.add(alpha)))
    return _done(g, nodes)


@harmless
def commuted(g: Graph, rng: np.random.Generator) -> Change | None:
    """Operands of Add and Mul change places."""
    nodes = g.nodes("Add", "Mul", "Sum", "Max", "Min")
    for node in nodes:
        node.input[:] = list(node.input)[::-1]
    return _done(g, nodes)


@harmless
def sub_as_add(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = g.nodes("Sub")
    for node in nodes:
        turned = g.make("Neg", node.input[1])
        g.replace(node, turned, g.make("Add", node.input[0], turned.output[0]))
    return _done(g, nodes)


@harmless
def div_as_mul(g: Graph, rng: np.random.Generator) -> Change | None:
    """Division by what is stored as a product with its inverse."""
    nodes = [n for n in g.nodes("Div") if g.stored(n, 1)]
    for node in nodes:
        values = (g.stored(node, 1) or [])[0]
        g.replace(node, g.make("Mul", node.input[0], g.add(1 / values)))
    return _done(g, nodes)


@harmless
def softmax_by_log(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = g.nodes("Softmax")
    for node in nodes:
        log = g.make("LogSoftmax", node.input[0], axis=attribute(node, "axis", -1))
        g.replace(node, log, g.make("Exp", log.output[0]))
    return _done(g, nodes)


@harmless
def sigmoid_by_tanh(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = g.nodes("Sigmoid")
    for node in nodes:
        half = g.add(np.float32(0.5))
        first = g.make("Mul", node.input[0], half)
        bent = g.make("Tanh", first.output[0])
        second = g.make("Mul", bent.output[0], half)
        g.replace(node, first, bent, second, g.make("Add", second.output[0], half))
    return _done(g, nodes)


@harmless
def hard_ones_written_out(g: Graph, rng: np.random.Generator) -> Change | None:
    """HardSigmoid and HardSwish by Mul, Add and Clip."""
    nodes = g.nodes("HardSigmoid", "HardSwish")
    for node in nodes:
        swish = node.op_type == "HardSwish"
        alpha = 1 / 6 if swish else attribute(node, "alpha", 0.2)
        shift = 0.5 if swish else attribute(node, "beta", 0.5)
        made = [g.make("Mul", node.input[0], g.add(np.float32(alpha)))]
        made.append(g.make("Add", made[-1].output[0], g.add(np.float32(shift))))
        ends = g.add(np.float32(0)), g.add(np.float32(1))
        made.append(g.make("Clip", made[-1].output[0], *ends))
        if swish:
            made.append(g.make("Mul", made[-1].output[0], node.input[0]))
        g.replace(node, *made)
    return _done(g, nodes)


@harmless
def layer_norm_written_out(g: Graph, rng: np.random.Generator) -> Change | None:
    nodes = [n for n in g.nodes("LayerNormalization") if attribute(n, "axis", -1) == -1]
    nodes = nodes if g.opset() < 18 else []
    for node in nodes:
        x = node.input[0]
        mean = g.make("ReduceMean", x, axes=[-1])
        apart = g.make("Sub", x, mean.output[0])
        square = g.make("Mul", apart.output[0], apart.output[0])
        var = g.make("ReduceMean", square.output[0], axes=[-1])
        epsilon = g.add(np.float32(attribute(node, "epsilon", 1e-5)))
        summed = g.make("Add", var.output[0], epsilon)
        root = g.make("Sqrt", summed.output[0])
        share = g.make("Div", apart.output[0], root.output[0])
        made = [mean, apart, square, var, summed, root, share]
        made.append(g.make("Mul", share.output[0], node.input[1]))
        if len(node.input) > 2:
            made.append(g.make("Add", made[-1].output[0], node.input[2]))
        g.replace(node, *made)
    return _done(g, nodes)


def _optimised(g: Graph, level: str) -> Change | None:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(g.model.SerializeToString(), options, ["CPUExecutionProvider"])
        return Change(model=onnx.load(path))


@harmless
def ort_basic(g: Graph, rng: np.random.Generator) -> Change | None:
    """What ONNX Runtime's basic optimisation leaves: BatchNorms folded, constants computed."""
    return _optimised(g, "ORT_ENABLE_BASIC")


@harmless
def ort_extended(g: Graph, rng: np.random.Generator) -> Change | None:
    """The same with fused operators of ONNX Runtime's own."""
    return _optimised(g, "ORT_ENABLE_EXTENDED")


@harmless
def onnxscript_optimised(g: Graph, rng: np.random.Generator) -> Change | None:
    try:
        from onnxscript import optimizer
    except ImportError:
        return None
    try:
        return Change(model=optimizer.optimize(g.model))
    except Exception:  # noqa: BLE001  # what it cannot optimise is no pair
        return None
