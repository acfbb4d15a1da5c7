"""What the tensors and BatchNorms of an exported PyTorch model are called in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from inspector.export import protos
from inspector.export.manifests import Description
from inspector.export.torch_held import Held, Norm, array
from inspector.export.torch_trace import drop_traces
from inspector.export.verify import ExpectedNorm
from inspector.facts.count import Role
from inspector.facts.manifest import FrameworkTotals, NotExported, SourceBatchNorm, SourceTensor

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def describe(
    held: Held, proto: ModelProto, notes: Sequence[str], exporter: str
) -> tuple[Description, tuple[ExpectedNorm, ...]]:
    """Name what was exported after its source, and say what it should hold.

    `proto` is changed: BatchNormalization nodes get their layer's path and momentum, and what the
    exporter added on its own goes.
    """
    import torch

    drop_traces(proto)
    _rename_shared(held, proto)
    _drop_synthetic_biases(proto, {name for name, _ in held.named()})
    index = _Index(held, proto)
    used = {norm.path: _used(norm, index) for norm in held.norms}
    dead = _dead(held, proto, used, index)
    norms, sources = _norms(held, proto, {**used, **dead}, index)
    parameters = dict(held.once(held.parameters)).values()
    buffers = dict(held.once(held.buffers))
    description = Description(
        framework="torch",
        version=str(torch.__version__),
        exporter=exporter,
        tensors=_tensors(held, proto),
        batchnorms=sources,
        not_exported=_not_exported(held, proto),
        totals=FrameworkTotals(
            trainable=sum(each.numel() for each in parameters),
            other=sum(e.numel() for name, e in buffers.items() if not _counts_steps(name)),
            frozen=sum(each.numel() for each in parameters if not each.requires_grad),
        ),
        notes=(*notes, *held.remarks, *_remarks(held, used), *_remarks_on_dead(dead)),
    )
    return description, norms


def _rename_shared(held: Held, proto: ModelProto) -> None:
    """Call a tensor with several names (shared layers, tied weights) by its first, stored once.

    That is the name under which `parameters()` counts it; the exporters take any.
    """
    firsts = held.firsts()
    protos.rename_values(proto, firsts)
    stored: set[str] = set()
    for graph in protos.graphs(proto):
        again = []
        for position, each in enumerate(graph.initializer):
            if each.name in stored and each.name in firsts:
                again.append(position)
            stored.add(each.name)
        _remove(graph, again)


def _remove(graph: GraphProto, positions: Sequence[int]) -> None:
    """Remove initializers by their positions: by value would compare gigabytes."""
    for position in sorted(positions, reverse=True):
        del graph.initializer[position]


def _drop_synthetic_biases(proto: ModelProto, own: set[str]) -> None:
    """Take away zero biases that the exporter invented for layers that have none.

    A bias of the module stays, also where it is zero.
    """
    held = protos.initializers(proto)
    for node in protos.nodes(proto):
        if node.op_type not in ("Conv", "ConvTranspose") or len(node.input) != 3:
            continue
        name = node.input[2]
        if name in held and name not in own and not protos.array(held[name]).any():
            del node.input[2]
    used = {name for node in protos.nodes(proto) for name in node.input}
    # A branch may give a constant as it is: its output is then no node's.
    used.update(each.name for graph in protos.graphs(proto) for each in graph.output)
    for graph in protos.graphs(proto):
        given = enumerate(graph.initializer)
        _remove(graph, [i for i, e in given if e.name not in used and e.name not in own])


class _Index:
    """Names and nodes by what they are looked up by: there may be a thousand BatchNorms.

    `names` are those of each tensor by its key, `batchnorms` the nodes by the name of their mean.
    """

    def __init__(self, held: Held, proto: ModelProto) -> None:
        self._key = held.key
        self.stored = protos.initializers(proto)
        self.names: dict[object, list[str]] = {}
        for name, each in held.named():
            self.names.setdefault(held.key(each), []).append(name)
        self.own = {name for names in self.names.values() for name in names}
        self.batchnorms: dict[str, list[NodeProto]] = {}
        for node in protos.batchnorms(proto):
            self.batchnorms.setdefault(node.input[3], []).append(node)

    def names_of(self, tensor: Any) -> list[str]:
        """Every name that the source has for a tensor: a shared layer has several paths."""
        return self.names.get(self._key(tensor), [])

    def nodes_of(self, norm: Norm) -> list[NodeProto]:
        """The nodes of a layer; the exporter may use any of its names."""
        if means := self.names_of(norm.mean):
            return [node for name in means for node in self.batchnorms.get(name, ())]
        # A frozen module has its tensors in its code, where they have no name.
        wanted = [values.tobytes() for values in norm.values()]
        return [
            node
            for mean, nodes in self.batchnorms.items()
            for node in nodes
            if mean not in self.own
            and all(name in self.stored for name in node.input[1:5])
            and [protos.array(self.stored[each]).tobytes() for each in node.input[1:5]] == wanted
        ]


def _norms(
    held: Held, proto: ModelProto, used: dict[str, int], index: _Index
) -> tuple[tuple[ExpectedNorm, ...], tuple[SourceBatchNorm, ...]]:
    taken = {node.name for node in protos.nodes(proto)}
    norms: list[ExpectedNorm] = []
    sources: list[SourceBatchNorm] = []
    for norm in held.norms:
        if norm.mean is None or norm.is_instance or not used[norm.path]:
            continue
        found = index.nodes_of(norm)
        epsilons = [_epsilon(norm, node) for node in found]
        for node, epsilon in zip(found, epsilons, strict=True):
            node.name = protos.unique(norm.name, taken)
            protos.set_float(node, "momentum", 1.0 - (norm.momentum or 0.0))
            sources.append(
                SourceBatchNorm(
                    node=node.name, source=norm.name, epsilon=epsilon, momentum=norm.momentum
                )
            )
        # A layer without its node: verification says so.
        missing = used[norm.path] - len(found)
        names = [node.name for node in found] + [""] * missing
        epsilons += [norm.epsilon] * missing
        values = norm.values()
        norms += [
            ExpectedNorm(node=name, source=norm.name, values=values, epsilon=epsilon)
            for name, epsilon in zip(names, epsilons, strict=True)
        ]
    return tuple(norms), tuple(sources)


def _epsilon(norm: Norm, node: NodeProto) -> float:
    """The layer's own; the code's where that takes the layer's tensors and never calls it."""
    return norm.epsilon if norm.calls else protos.get_float(node, "epsilon", norm.epsilon)


def _used(norm: Norm, index: _Index) -> int:
    """How many nodes a layer has at least.

    Nothing counts calls in the branches of `torch.cond`; a mean that was stored tells of those.
    """
    if norm.mean is None:
        return norm.calls
    return max(norm.calls, int(any(name in index.stored for name in index.names_of(norm.mean))))


def _dead(held: Held, proto: ModelProto, used: dict[str, int], index: _Index) -> dict[str, int]:
    """Nodes that are left of layers which are called more often than they reach an output.

    An exporter takes away what no output depends on. That it is so, and not that a layer was folded
    into another, is told by the tensors: nothing else reads the layer's, and all that are stored
    have the module's own values.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in protos.nodes(proto):
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for norm in held.norms:
        if norm.mean is None or norm.is_instance or not used[norm.path]:
            continue
        nodes = index.nodes_of(norm)
        own = [e for e in (norm.weight, norm.bias, norm.mean, norm.var) if e is not None]
        names = {name for each in own for name in index.names_of(each)}
        reading = [node for name in names for node in readers.get(name, ())]
        if len(nodes) < used[norm.path] and all(any(n is e for e in nodes) for n in reading):
            found[norm.path] = len(nodes)
    return found if found and _as_stored(held, proto) else {}


def _as_stored(held: Held, proto: ModelProto) -> bool:
    """Whether every tensor of the source that the file holds has its values, bit for bit."""
    stored = protos.initializers(proto)
    return all(
        protos.array(stored[name]).tobytes() == array(each).tobytes()
        for name, each in held.once(held.named())
        if name in stored
    )


def _remarks_on_dead(dead: dict[str, int]) -> list[str]:
    return [
        f"BatchNorm {path!r} is called more often than it reaches an output: {left} in the file"
        if left
        else f"BatchNorm {path!r} is computed and reaches no output: it is not in the file"
        for path, left in dead.items()
    ]


def _remarks(held: Held, used: dict[str, int]) -> list[str]:
    remarks = []
    for norm in held.norms:
        if norm.is_instance:
            if norm.mean is not None and used[norm.path]:
                remarks.append(
                    f"InstanceNorm {norm.path!r} keeps running statistics: it becomes a "
                    "BatchNormalization node over repeated statistics that is no BatchNorm"
                )
        elif not used[norm.path]:
            remarks.append(f"BatchNorm {norm.path!r} is not used by the forward pass")
        elif norm.mean is None:
            remarks.append(
                f"BatchNorm {norm.path!r} keeps no running statistics "
                "(track_running_stats=False): it normalises by the batch, so its mean and "
                "variance are computed"
            )
    return remarks


def _tensors(held: Held, proto: ModelProto) -> tuple[SourceTensor, ...]:
    parameters, own = dict(held.parameters), dict(held.named())
    stored = protos.initializers(proto)
    tensors = [
        SourceTensor(
            name=name,
            source=name,
            # PyTorch counts no buffer, whether it is a statistic or a table.
            role=Role.LEARNED if name in parameters else Role.STATISTIC,
        )
        for name in stored
        if name in own
    ]
    invented = dict.fromkeys(
        name
        for node in protos.batchnorms(proto)
        for name in node.input[1:3]
        if name in stored and name not in own
    )
    tensors += [
        SourceTensor(name=name, source="", role=Role.CONSTANT, synthetic=True) for name in invented
    ]
    return tuple(tensors)


def _counts_steps(name: str) -> bool:
    """Whether a buffer is a BatchNorm's count of training steps."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def _not_exported(held: Held, proto: ModelProto) -> tuple[NotExported, ...]:
    stored = protos.initializers(proto)
    return tuple(
        NotExported(
            source=name,
            elements=each.numel(),
            why="counts training steps; ONNX has no place for it"
            if _counts_steps(name)
            else "inference does not use it",
        )
        for name, each in held.once(held.named())
        if name not in stored
    )
