"""What could be taken for a BatchNorm and is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.facts.batchnorm import Lookalike, Origin
from inspector.facts.model import Node, Tensor
from inspector.recognise.around import dims_of
from inspector.recognise.names import other_norm
from inspector.recognise.operators import INTEGER_TYPES, ROOTS
from inspector.recognise.place import Place
from inspector.recognise.runs import Link

_NORMS = {
    "InstanceNormalization": "InstanceNorm or GroupNorm",
    "LayerNormalization": "LayerNorm",
    "SimplifiedLayerNormalization": "RMSNorm",
    "SkipLayerNormalization": "LayerNorm",
    "SkipSimplifiedLayerNormalization": "RMSNorm",
    "RMSNormalization": "RMSNorm",
    "GroupNormalization": "GroupNorm",
    "GroupNorm": "GroupNorm",
    "SkipGroupNorm": "GroupNorm",
    "MeanVarianceNormalization": "mean-variance normalisation",
    "LpNormalization": "Lp normalisation",
    "Normalizer": "Lp normalisation",
    "LRN": "local response normalisation",
}
_ELEMENTWISE = frozenset(
    "Add Sub Mul Div Sum Sqrt Pow Reciprocal Neg Abs Cast Identity Transpose Reshape Flatten "
    "Squeeze Unsqueeze Expand Max Clip Dropout".split()
)
_MEANS = frozenset({"ReduceMean", "GlobalAveragePool"})
_REDUCTIONS = _MEANS | {"ReduceSum", "ReduceSumSquare", "ReduceL2"}
_TELLING = _REDUCTIONS | _NORMS.keys() | {"BatchNormalization"}

_MOST_MOVES = 8
_MOST = 32
"""Operators that a normalisation takes, at most, from its last one back to its reductions."""

_INTEGER_PRODUCTS = frozenset(
    "ConvInteger MatMulInteger QLinearConv QLinearMatMul QuantizeLinear "
    "DynamicQuantizeLinear".split()
)
_ROUNDS = frozenset({"Round", "Floor", "Ceil", "Trunc"})


def may_normalise(place: Place) -> bool:
    """Whether there is an operator without which nothing is normalised at run time."""
    return not place.operators.isdisjoint(_TELLING)


def normalised(value: str, place: Place, layer: str = "") -> tuple[str, str] | None:
    """The normalisation that `value` comes out of, and by what that is known.

    It is one by its operator, or by what it computes: a mean over the data, and a root of one.

    Parameters
    ----------
    layer
        Only of this layer, by the names of what takes the root.
    """
    if not may_normalise(place):
        return None
    reductions: list[Node] = []
    centred = rooted = False
    named = ""
    for node in _behind(value, place):
        if node.op_type in _NORMS and not reductions and not rooted:
            kind = other_norm(node) or _NORMS[node.op_type]
            return None if layer else (kind, f"it is the tail of {node.op_type} {node.label!r}")
        if node.op_type == "BatchNormalization" and own_statistics(node, place):
            return other_norm(node) or _BY_ITSELF, f"it is the tail of {node.label!r}"
        named = named or other_norm(node)
        if node.op_type in _REDUCTIONS:
            reductions.append(node)
        if node.op_type in ROOTS and node.name.startswith(f"{layer}/" if layer else ""):
            rooted = rooted or not place.source(node.outputs[0]).is_constant
        centred = centred or _takes_mean_off(node, place)
    if not reductions or not (rooted or any(e.op_type == "ReduceL2" for e in reductions)):
        return None
    kind = named or _kind(reductions, centred, place)
    if kind == BY_THE_BATCH:
        return kind, "as a BatchNorm in training mode does; the file has no statistics of it"
    names = ", ".join(dict.fromkeys(each.op_type for each in reductions))
    return kind, f"what it scales was normalised at run time ({names} of the data, and its root)"


def _behind(value: str, place: Place) -> Iterator[Node]:
    """What `value` comes from, the nearest first, as far as arithmetic and reductions reach."""
    pending, seen = [value], {value}
    while pending and len(seen) <= _MOST:
        node = place.producer(pending.pop(0))
        if node is None:
            continue
        through = node.op_type in _ELEMENTWISE and not _joins(node, place)
        if not through and node.op_type not in _REDUCTIONS:
            if node.op_type in _NORMS or node.op_type == "BatchNormalization":
                yield node
            continue
        yield node
        fresh = [each for each in node.inputs if each and each not in seen]
        seen.update(fresh)
        pending += fresh


def _joins(node: Node, place: Place) -> bool:
    """Whether an addition brings another stream of data in, as a residual does."""
    return node.op_type in ("Add", "Sum") and not any(map(place.is_constant, node.inputs))


def _takes_mean_off(node: Node, place: Place) -> bool:
    """Whether a mean of the data is subtracted here."""
    mean = place.producer(node.input(1)) if node.op_type == "Sub" else None
    return mean is not None and mean.op_type in _MEANS


def _kind(reductions: Sequence[Node], centred: bool, place: Place) -> str:
    """Which normalisation it is, by the axes that it reduces."""
    axes, rank = _axes(reductions[0], place)
    if axes is not None and 0 in axes:
        return BY_THE_BATCH
    if any(each.op_type == "ReduceL2" for each in reductions):
        return "L2 normalisation"
    if not centred:
        return "RMSNorm"
    if axes == (-1,) or (rank is not None and axes == (rank - 1,)):
        return "LayerNorm"
    if rank == 4 and axes in ((2, 3), (1, 2)):
        return "InstanceNorm or GroupNorm"
    return "LayerNorm or InstanceNorm"


BY_THE_BATCH = "normalisation by the batch's own statistics"


def _axes(node: Node, place: Place) -> tuple[tuple[int, ...] | None, int | None]:
    """The axes of a reduction, and the rank of what it reduces; from the first where it is known.

    They are an attribute up to opset 17, and an input since.
    """
    dims = dims_of(node.input(0), place)
    rank = None if dims is None else len(dims)
    if node.op_type == "GlobalAveragePool":
        return (2, 3) if rank in (None, 4) else tuple(range(2, rank or 3)), rank or 4
    axes = node.ints_attribute("axes")
    if axes is None and node.input(1):
        tensor = place.binding(node.input(1)).tensor
        values = None if tensor is None else place.chains.load(tensor)
        axes = None if values is None else tuple(int(each) for each in values.reshape(-1))
    if axes is not None and rank is not None:
        axes = tuple(sorted(each % rank for each in axes)) if rank else ()
    return axes, rank


_BY_ITSELF = "a normalisation by its input's own statistics"


def own_statistics(node: Node, place: Place) -> bool:
    """Whether a BatchNormalization takes a mean that is computed from data."""
    return place.source(node.input(3)).origin is Origin.COMPUTED


def disguised(node: Node, place: Place) -> tuple[str, str] | None:
    """What a BatchNormalization node really is, where it is no layer of that name, and why.

    TensorFlow computes LayerNormalization by a BatchNormalization over reshaped data, and torch
    writes an InstanceNorm with running statistics so: the batch becomes part of the channels, and
    the statistics are repeated for each of it.
    """
    named = other_norm(node)
    front = place.producer(node.input(0))
    reshaped = front is not None and front.op_type == "Reshape"
    if named == "InstanceNorm" and node.metadata and reshaped:
        return named, "torch's exporter notes it for this node"
    if named and own_statistics(node, place):
        return named, "its statistics are computed from its own input, and it is named so"
    if front is None or not reshaped:
        return None
    behind = place.readers(node.outputs[0]) if node.outputs else []
    if not behind or any(each.op_type != "Reshape" for each in behind):
        return None
    statistics, others = (node.input(3), node.input(4)), (node.input(1), node.input(2))
    if all(_is_tiled(each, place) for each in statistics) and all(
        _is_tiled(each, place) or _is_uniform(each, place) for each in others
    ):
        return "InstanceNorm", "its running statistics are tiled over the batch"
    times = _repeats(node, front, place)
    if times:
        return "InstanceNorm", f"the batch is reshaped into its channels, {times} times the same"
    return None


def _is_tiled(value: str, place: Place) -> bool:
    producer = place.producer(value)
    return producer is not None and producer.op_type == "Tile"


def _is_uniform(value: str, place: Place) -> bool:
    """Whether a parameter is the same for all channels, as ones for a scale that is absent."""
    tensor = place.binding(value).tensor
    values = None if tensor is None else place.chains.load(tensor)
    return values is not None and values.size > 0 and bool((values == values.reshape(-1)[0]).all())


def _repeats(node: Node, front: Node, place: Place) -> int:
    """How often the same statistics are repeated for data of which the batch became channels."""
    dims = dims_of(front.input(0), place)
    target = place.binding(front.input(1)).tensor
    shape = None if target is None else place.chains.load(target)
    if dims is None or len(dims) < 3 or shape is None or shape.size != len(dims) or shape[0] != 1:
        return 0
    batch, channels = dims[0], dims[1]
    if not isinstance(batch, int) or not isinstance(channels, int) or batch < 2:
        return 0
    tensors = [place.binding(node.input(at)).tensor for at in (1, 2, 3, 4)]
    found = [place.chains.load(each) for each in tensors if each is not None]
    values = [each.reshape(-1) for each in found if each is not None]
    if len(values) < 4 or any(each.size != batch * channels for each in values):
        return 0
    same = all((each.reshape(batch, channels) == each[:channels]).all() for each in values)
    return batch if same else 0


def quantised(links: Sequence[Link], place: Place) -> str:
    """By what scaling is known to be that of a quantisation; empty if it is not."""
    front = place.producer(links[0].data)
    for _ in range(_MOST_MOVES):
        if front is None or front.op_type != "Identity":
            break
        front = place.producer(front.input(0))
    if front is not None and front.op_type == "Cast":
        inner = place.producer(front.input(0))
        if inner is not None and inner.op_type in _INTEGER_PRODUCTS:
            return f"it scales the integers of {inner.op_type} {inner.label!r}"
        if inner is not None and inner.op_type == "Cast" and _to_integer(inner):
            return f"it scales integers (Cast {inner.label!r})"
    if front is not None and front.op_type in _INTEGER_PRODUCTS:
        return f"it scales the integers of {front.op_type} {front.label!r}"
    output = links[-1].node.outputs[0]
    behind = place.readers(output)
    if len(behind) == 1:
        (reader,) = behind
        if reader.op_type in _ROUNDS or (reader.op_type == "Cast" and _to_integer(reader)):
            return f"{reader.op_type} {reader.label!r} rounds what it gives"
    return ""


def _to_integer(node: Node) -> bool:
    return node.int_attribute("to", 1) in INTEGER_TYPES


def lookalike(
    links: Sequence[Link], place: Place, kind: str, why: str, tensors: tuple[Tensor, ...] = ()
) -> Lookalike:
    """A run of arithmetic that is the end of something else."""
    name = links[-1].node.label
    return Lookalike(name=name, scope=place.scope, kind=kind, why=why, tensors=tensors)
