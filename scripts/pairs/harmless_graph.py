"""Harmless changes of how a graph is written: names, order, storage, layout, opset, wrapping."""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .edit import Graph, attribute, order, pick, set_attribute, subgraphs
from .kinds import Change, harmless


@harmless
def renamed(g: Graph, rng: np.random.Generator) -> Change | None:
    """Every node, value and stored tensor has another name."""
    new: dict[str, str] = {}

    def named(old: str) -> str:
        return new.setdefault(old, f"v{len(new) * 7 + 1}") if old else ""

    def walk(graph: onnx.GraphProto) -> None:
        for each in (*graph.input, *graph.output, *graph.initializer):
            each.name = named(each.name)
        for at, node in enumerate(graph.node):
            node.name = f"{node.op_type}/{at}"
            node.input[:] = [named(each) for each in node.input]
            node.output[:] = [named(each) for each in node.output]
            for body in subgraphs(node):
                walk(body)

    walk(g.graph)
    return Change(model=g.finished())


@harmless
def unnamed_nodes(g: Graph, rng: np.random.Generator) -> Change | None:
    for node in g.graph.node:
        node.name = ""
    return Change(model=g.finished())


@harmless
def reordered(g: Graph, rng: np.random.Generator) -> Change | None:
    """Nodes in another order that is as good, stored tensors in any."""
    before = [node.name for node in g.graph.node]
    order(g.graph, rng)
    tensors = list(g.graph.initializer)
    shuffled = [tensors[at] for at in rng.permutation(len(tensors))]
    kept = [copy.deepcopy(each) for each in shuffled]
    del g.graph.initializer[:]
    g.graph.initializer.extend(kept)
    if before == [node.name for node in g.graph.node] and len(tensors) < 2:
        return None
    onnx.checker.check_model(g.model)
    return Change(model=g.model)


@harmless
def constants_as_nodes(g: Graph, rng: np.random.Generator) -> Change | None:
    """Stored tensors as Constant nodes."""
    tensors = list(g.graph.initializer)
    for at, tensor in enumerate(tensors):
        node = helper.make_node("Constant", [], [tensor.name], name=f"held_{at}", value=tensor)
        g.graph.node.insert(0, node)
    del g.graph.initializer[:]
    return Change(model=g.finished()) if tensors else None


@harmless
def nodes_as_constants(g: Graph, rng: np.random.Generator) -> Change | None:
    """Constant nodes as stored tensors."""
    nodes = [each for each in g.nodes("Constant") if g.values(each.output[0]) is not None]
    for node in nodes:
        values = g.values(node.output[0])
        g.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        g.graph.node.remove(node)
    return Change(model=g.finished()) if nodes else None


@harmless
def chains_to_stored(g: Graph, rng: np.random.Generator) -> Change | None:
    """Stored floats come through Identity, or through float64 and back."""
    if any(True for node in g.graph.node for _ in subgraphs(node)):
        return None  # ONNX Runtime fails on a body that reads such a chain from outside
    for at, tensor in enumerate(list(g.graph.initializer)):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        last, tensor.name = tensor.name, f"{tensor.name}_kept"
        if at % 2:
            made = [helper.make_node("Identity", [tensor.name], [last], name=f"held_{at}")]
        else:
            wide = f"{last}_wide"
            made = [
                helper.make_node("Cast", [tensor.name], [wide], name=f"wide_{at}", to=11),
                helper.make_node("Cast", [wide], [last], name=f"held_{at}", to=1),
            ]
        for each in reversed(made):
            g.graph.node.insert(0, each)
    return Change(model=g.finished())


@harmless
def stored_as_inputs(g: Graph, rng: np.random.Generator) -> Change | None:
    """Stored tensors are listed among the inputs too, as old exporters did."""
    for tensor in g.graph.initializer:
        made = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        g.graph.input.append(made)
    return Change(model=g.finished()) if g.graph.initializer else None


@harmless
def stored_once(g: Graph, rng: np.random.Generator) -> Change | None:
    """Equal stored tensors become one, as exporters that deduplicate leave it."""
    seen: dict[bytes, str] = {}
    merged = 0
    for tensor in list(g.graph.initializer):
        key = repr((tensor.data_type, tuple(tensor.dims))).encode()
        key += numpy_helper.to_array(tensor).tobytes()
        first = seen.setdefault(key, tensor.name)
        if first != tensor.name:
            merged += 1
            for node in g.graph.node:
                for at, name in enumerate(node.input):
                    if name == tensor.name:
                        node.input[at] = first
    return Change(model=g.finished()) if merged else None


def _transposed_input(g: Graph, perm: tuple[int, ...], at: int) -> None:
    """Input `at` is fed with its axes in the order `perm`; a Transpose puts them back."""
    given = g.inputs()[at]
    dims = [given.type.tensor_type.shape.dim[each] for each in perm]
    kept = [copy.deepcopy(each) for each in dims]
    del given.type.tensor_type.shape.dim[:]
    given.type.tensor_type.shape.dim.extend(kept)
    back = [perm.index(axis) for axis in range(len(perm))]
    g.after(given.name, g.make("Transpose", given.name, perm=back))


@harmless
def nhwc_input(g: Graph, rng: np.random.Generator) -> Change | None:
    """Images and signals are fed with channels last."""
    perms = {}
    for at, given in enumerate(g.inputs()):
        rank = len(given.type.tensor_type.shape.dim)
        feeds_layer = any(
            each.op_type in ("Conv", "BatchNormalization") for each in g.consumers(given.name)
        )
        if rank >= 3 and feeds_layer:
            perms[at] = (0, *range(2, rank), 1)
            _transposed_input(g, perms[at], at)
    return Change(model=g.finished(), inputs=perms) if perms else None


@harmless
def nhwc_output(g: Graph, rng: np.random.Generator) -> Change | None:
    perms = {}
    for at, given in enumerate(g.graph.output):
        shape = given.type.tensor_type.shape
        rank = len(shape.dim)
        if rank >= 4:
            perms[at] = (0, *range(2, rank), 1)
            kept = [copy.deepcopy(shape.dim[each]) for each in perms[at]]
            del shape.dim[:]
            shape.dim.extend(kept)
            g.after(given.name, g.make("Transpose", given.name, perm=list(perms[at])))
    return Change(model=g.finished(), outputs=perms) if perms else None


@harmless
def transposes_inserted(g: Graph, rng: np.random.Generator) -> Change | None:
    """A whole operator by element runs in another layout, between two Transposes."""
    around = g.nodes("Relu", "Sigmoid", "Clip", "LeakyRelu", "Elu", "Tanh", "Softplus")
    ranked = [n for n in around if len(g.shape(n.input[0]) or ()) >= 3]
    node = pick(rng, ranked)
    if node is None:
        return None
    rank = len(g.shape(node.input[0]) or ())
    perm = [0, *range(2, rank), 1]
    there = g.make("Transpose", node.input[0], perm=perm)
    (there,) = g.before(node, there)
    node.input[0] = there.output[0]
    back = [perm.index(axis) for axis in range(rank)]
    g.after(node.output[0], g.make("Transpose", node.output[0], perm=back))
    return Change(model=g.finished())


def _converted(g: Graph, version: int) -> Change | None:
    if g.opset() == version or any(True for n in g.graph.node for _ in subgraphs(n)):
        return None
    try:
        made = onnx.version_converter.convert_version(g.model, version)
        onnx.checker.check_model(made, full_check=True)
    except Exception:  # noqa: BLE001  # whatever the converter cannot do is no pair
        return None
    return Change(model=made)


@harmless
def opset_up(g: Graph, rng: np.random.Generator) -> Change | None:
    return _converted(g, 21)


@harmless
def opset_down(g: Graph, rng: np.random.Generator) -> Change | None:
    return _converted(g, 15)


@harmless
def dead_code(g: Graph, rng: np.random.Generator) -> Change | None:
    """Nodes that no output hangs on, a BatchNorm among them."""
    nodes = [each for each in g.graph.node if g.shape(each.output[0])]
    node = pick(rng, nodes)
    if node is None:
        return None
    made = g.make("Exp", node.output[0])
    size = (g.shape(node.output[0]) or ())[1:2]
    g.graph.node.append(made)
    if size and size[0]:
        four = [g.add(rng.uniform(0.5, 2, size[0]).astype(np.float32)) for _ in range(4)]
        g.graph.node.append(g.make("BatchNormalization", made.output[0], *four))
    return Change(model=g.finished())


@harmless
def identities(g: Graph, rng: np.random.Generator) -> Change | None:
    """Identity and Dropout, which do nothing outside of training."""
    nodes = [each for each in g.graph.node if each.op_type not in ("If", "Loop", "Constant")]
    chosen = rng.permutation(len(nodes))[: max(2, len(nodes) // 3)]
    for at in chosen:
        name = nodes[at].output[0]
        op = "Dropout" if at % 2 and (g.shape(name) or ()) else "Identity"
        g.after(name, g.make(op, name))
    return Change(model=g.finished())


@harmless
def external_data(g: Graph, rng: np.random.Generator) -> Change | None:
    return Change(model=g.finished(), external=True) if g.graph.initializer else None


@harmless
def fixed_batch(g: Graph, rng: np.random.Generator) -> Change | None:
    """The batch dimension is written as a number."""
    changed = False
    for each in (*g.inputs(), *g.graph.output):
        dims = each.type.tensor_type.shape.dim
        if dims and dims[0].dim_param:
            dims[0].Clear()
            dims[0].dim_value = 4
            changed = True
    return Change(model=g.finished()) if changed else None


@harmless
def shapes_written(g: Graph, rng: np.random.Generator) -> Change | None:
    """Shapes of all values are stored in the file."""
    made = onnx.shape_inference.infer_shapes(g.finished())
    return Change(model=made) if made.graph.value_info else None


def _chain(g: Graph, rng: np.random.Generator) -> list[NodeProto]:
    """A few nodes that only follow each other."""
    nodes = [n for n in g.graph.node if not list(subgraphs(n)) and n.op_type != "Constant"]
    chain = [pick(rng, nodes)] if nodes else []
    while chain and len(chain) < 3:
        reader = g.only_reader(chain[-1].output[0])
        if reader is None or reader.input[0] != chain[-1].output[0] or list(subgraphs(reader)):
            break
        chain.append(reader)
    return [each for each in chain if all(not name for name in each.output[1:])]


@harmless
def in_function(g: Graph, rng: np.random.Generator) -> Change | None:
    """A few nodes as a call of a function of the model."""
    chain = _chain(g, rng)
    if not chain:
        return None
    inner = {chain_node.output[0] for chain_node in chain}
    taken = list(dict.fromkeys(n for each in chain for n in each.input if n and n not in inner))
    made = helper.make_function(
        "local", "Part", taken, [chain[-1].output[0]], chain, list(g.model.opset_import)
    )
    call = helper.make_node("Part", taken, [chain[-1].output[0]], name="call", domain="local")
    g.before(chain[0], call)
    for each in chain:
        g.graph.node.remove(each)
    g.model.functions.append(made)
    g.model.opset_import.append(helper.make_opsetid("local", 1))
    order(g.graph)
    onnx.checker.check_model(g.model)
    return Change(model=g.model)


@harmless
def in_if(g: Graph, rng: np.random.Generator) -> Change | None:
    """A few nodes in the branch of an If that is always taken."""
    chain = _chain(g, rng)
    if not chain:
        return None
    shape = g.shape(chain[-1].output[0])
    if not shape or chain[-1].op_type in ("Shape", "Cast", "Gather", "Concat"):
        return None
    moved, last = [copy.deepcopy(each) for each in chain], chain[-1].output[0]
    dims = [each if each is not None else f"d{at}" for at, each in enumerate(shape)]

    def body(name: str, nodes: list[NodeProto], given: str) -> onnx.GraphProto:
        info = helper.make_tensor_value_info(given, TensorProto.FLOAT, dims)
        return helper.make_graph(nodes, name, [], [info])

    moved[-1].output[0] = "inside"
    zero = g.add(np.zeros([each or 1 for each in shape], np.float32))
    other = body("never", [helper.make_node("Identity", [zero], ["outside"])], "outside")
    made = helper.make_node("If", [g.add(np.array(True))], [last], name="if_true")
    made.attribute.append(helper.make_attribute("then_branch", body("always", moved, "inside")))
    made.attribute.append(helper.make_attribute("else_branch", other))
    g.before(chain[0], made)
    for each in chain:
        g.graph.node.remove(each)
    return Change(model=g.finished())


@harmless
def auto_pad(g: Graph, rng: np.random.Generator) -> Change | None:
    """Pads as numbers where they were SAME, or the other way round."""
    changed = False
    for node in g.nodes("Conv", "MaxPool", "AveragePool"):
        kernel = attribute(node, "kernel_shape")
        strides = attribute(node, "strides") or [1]
        if set(attribute(node, "dilations") or [1]) != {1}:
            continue  # ONNX Runtime has no SAME of those
        dilations = attribute(node, "dilations") or [1] * len(kernel or [])
        if not kernel or set(strides) != {1} or attribute(node, "ceil_mode", 0):
            continue
        same = [d * (k - 1) // 2 for k, d in zip(kernel, dilations, strict=True)] * 2
        if attribute(node, "auto_pad") == b"SAME_UPPER":
            set_attribute(node, "auto_pad", None)
            set_attribute(node, "pads", same)
            changed = True
        elif attribute(node, "pads") == same and all(k % 2 for k in kernel) and any(same):
            set_attribute(node, "pads", None)
            set_attribute(node, "auto_pad", "SAME_UPPER")
            changed = True
    return Change(model=g.finished()) if changed else None


@harmless
def other_exporter(g: Graph, rng: np.random.Generator) -> Change | None:
    """The same function from another exporter, or from another framework with its weights."""
    others = g.base.others if g.base else {}
    way = pick(rng, sorted(others))
    if way is None:
        return None
    mine, theirs = (name.endswith("nhwc") for name in (g.base.name if g.base else "", way))
    rank = len(g.inputs()[0].type.tensor_type.shape.dim)
    first, last = (0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)
    perms = {} if mine == theirs else {0: first if mine else last}
    return Change(model=others[way], inputs=perms)
