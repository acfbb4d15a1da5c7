"""Harmful changes of what is done to the data: preprocessing, batches, single samples."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper

from .edit import Graph, pick
from .kinds import Change, Fault, harmful


def _fed(g: Graph) -> list[str]:
    """Inputs of floats."""
    return [
        each.name
        for each in g.inputs()
        if each.type.tensor_type.elem_type == TensorProto.FLOAT
        and len(each.type.tensor_type.shape.dim) >= 2
    ]


def _at_input(g: Graph, name: str, made: list[NodeProto], *causes: str) -> Change:
    placed = g.after(name, *made)
    readers = g.ahead(placed[-1])
    where = g.names(*placed) | readers | {name}
    wrong = Fault(causes=frozenset(causes), where=where, first=where, later=readers)
    return Change(model=g.finished(), faults=(wrong,))


CAUSES = ("preprocessing", "missing operator", "structure")


@harmful
def input_scaled(g: Graph, rng: np.random.Generator) -> Change | None:
    """One side divides its images by 255."""
    name = pick(rng, _fed(g))
    if name is None:
        return None
    return _at_input(g, name, [g.make("Div", name, g.add(np.float32(255)))], *CAUSES)


@harmful
def input_normalised(g: Graph, rng: np.random.Generator) -> Change | None:
    """One side takes a mean away and divides by a deviation."""
    name = pick(rng, _fed(g))
    if name is None:
        return None
    apart = g.make("Sub", name, g.add(np.float32(0.45)))
    return _at_input(
        g, name, [apart, g.make("Div", apart.output[0], g.add(np.float32(0.22)))], *CAUSES
    )


@harmful
def colours_turned_in_graph(g: Graph, rng: np.random.Generator) -> Change | None:
    """One side turns RGB into BGR itself, by a Gather."""
    for given in g.inputs():
        dims = [each.dim_value for each in given.type.tensor_type.shape.dim]
        axis = next((at for at in (1, len(dims) - 1) if len(dims) == 4 and dims[at] == 3), None)
        if axis is not None:
            made = g.make("Gather", given.name, g.add(np.array([2, 1, 0])), axis=axis)
            causes = (*CAUSES, "permutation", "inputs order", "layout")
            return _at_input(g, given.name, [made], *causes)
    return None


@harmful
def images_transposed(g: Graph, rng: np.random.Generator) -> Change | None:
    """One side exchanges height and width, which no shape tells."""
    for given in g.inputs():
        dims = [each.dim_value for each in given.type.tensor_type.shape.dim]
        if len(dims) == 4 and dims[2] == dims[3]:
            made = g.make("Transpose", given.name, perm=[0, 1, 3, 2])
            causes = (*CAUSES, "permutation", "layout")
            return _at_input(g, given.name, [made], *causes)
    return None


def _values(g: Graph) -> list[tuple[NodeProto, tuple[int | None, ...]]]:
    """Nodes that give floats of a known rank, with a free first dimension."""
    wanted = ("Relu", "BatchNormalization", "Conv", "Gemm", "Sigmoid", "Clip", "Tanh", "Add")
    found = []
    for node in g.nodes(*wanted):
        shape = g.shape(node.output[0])
        if shape and len(shape) >= 2 and shape[0] is None:
            found.append((node, shape))
    return found


def _behind(g: Graph, node: NodeProto, made: list[NodeProto]) -> Change:
    """Nodes put behind one, that change its value."""
    placed = g.after(node.output[0], *made)
    names = g.names(node, *placed)
    ahead = g.ahead(placed[-1])
    wrong = Fault(
        causes=frozenset({"missing operator", "structure", "operator"}),
        where=names | ahead,
        first=names | ahead,  # what was put in has no counterpart: the next that has shows it
    )
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def batch_dependent(g: Graph, rng: np.random.Generator) -> Change | None:
    """A tenth of the batch's mean goes into each sample: batches of 1 only see a factor."""
    chosen = pick(rng, _values(g))
    if chosen is None or g.opset() >= 18:
        return None
    node, _ = chosen
    mean = g.make("ReduceMean", node.output[0], axes=[0], keepdims=1)
    apart = g.make("Sub", node.output[0], mean.output[0])
    part = g.make("Mul", apart.output[0], g.add(np.float32(0.1)))
    total = g.make("Add", part.output[0], node.output[0])
    placed = _spread(g, node, [mean, apart, part, total])
    return placed


def _spread(g: Graph, node: NodeProto, made: list[NodeProto]) -> Change:
    """As `_behind`, where more nodes than the first read the value itself."""
    name = node.output[0]
    if g.is_output(name):
        keep = g.fresh("value")
        node.output[0] = keep
        for each in (*g.graph.node, *made):
            each.input[:] = [keep if other == name else other for other in each.input]
        made[-1].output[0] = name
    else:
        for reader in g.consumers(name):
            reader.input[:] = [
                made[-1].output[0] if other == name else other for other in reader.input
            ]
    for each in made:
        g.graph.node.append(each)
    ours = list(g.graph.node)[-len(made) :]
    names, ahead = g.names(node, *ours), g.ahead(ours[-1])
    wrong = Fault(
        causes=frozenset({"missing operator", "structure", "operator"}),
        where=names | ahead,
        first=names | ahead,  # what was put in has no counterpart: the next that has shows it
    )
    return Change(model=g.finished(), faults=(wrong,))


@harmful
def sample_dependent(g: Graph, rng: np.random.Generator) -> Change | None:
    """Samples whose largest element passes a bound are scaled, the others are not."""
    chosen = pick(rng, _values(g))
    if chosen is None or g.opset() >= 18:
        return None
    node, shape = chosen
    axes = list(range(1, len(shape)))
    most = g.make("ReduceMax", node.output[0], axes=axes, keepdims=1)
    passed = g.make("Greater", most.output[0], g.add(np.float32(2.0)))
    factor = g.make("Where", passed.output[0], g.add(np.float32(1.1)), g.add(np.float32(1.0)))
    return _spread(g, node, [most, passed, factor, g.make("Mul", node.output[0], factor.output[0])])


@harmful
def branch_on_input(g: Graph, rng: np.random.Generator) -> Change | None:
    """An If on the input's sum takes another way for some batches."""
    chosen, fed = pick(rng, _values(g)), _fed(g)
    if chosen is None or not fed or g.opset() >= 18:
        return None
    node, shape = chosen
    name = node.output[0]
    if g.is_output(name):
        return None
    total = g.make("ReduceSum", fed[0], keepdims=0)
    asked = g.make("Greater", total.output[0], g.add(np.float32(1.0)))
    bodies = []
    dims = [each if each is not None else f"d{at}" for at, each in enumerate(shape)]
    for side, op in (("then", "Identity"), ("else", "Neg")):
        out = helper.make_tensor_value_info(f"{side}_out", TensorProto.FLOAT, dims)
        inner = [helper.make_node(op, [name], [f"{side}_out"], name=f"{side}_node")]
        bodies.append(helper.make_graph(inner, side, [], [out]))
    made = g.make("If", asked.output[0])
    made.attribute.append(helper.make_attribute("then_branch", bodies[0]))
    made.attribute.append(helper.make_attribute("else_branch", bodies[1]))
    return _spread(g, node, [total, asked, made])


@harmful
def offset_of_far_values(g: Graph, rng: np.random.Generator) -> Change | None:
    """What lies above 4 is cut off: ordinary inputs may never show it."""
    chosen = pick(rng, _values(g))
    if chosen is None:
        return None
    node, _ = chosen
    return _behind(g, node, [g.make("Min", node.output[0], g.add(np.float32(4.0)))])
