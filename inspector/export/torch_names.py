"""What the tensors and BatchNorms of an exported module are called in PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.run import Array
from inspector.errors import UnreadableError
from inspector.export import protos
from inspector.export.manifests import Description
from inspector.export.torch_trace import drop_traces
from inspector.export.verify import ExpectedNorm
from inspector.facts.count import Role
from inspector.facts.manifest import FrameworkTotals, NotExported, SourceBatchNorm, SourceTensor

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto, NodeProto

_STATISTICS = ("running_mean", "running_var")


def _norm_layers(module: torch.nn.Module, *, every_path: bool = False) -> list[tuple[str, Any]]:
    """BatchNorm and InstanceNorm layers by path: PyTorch gives them one base."""
    import torch

    base = torch.nn.modules.batchnorm._NormBase
    paths = module.named_modules(remove_duplicate=not every_path)
    return [(path, each) for path, each in paths if isinstance(each, base)]


def _is_instance(layer: Any) -> bool:
    import torch

    return isinstance(layer, torch.nn.modules.instancenorm._InstanceNorm)


@contextmanager
def counted(module: torch.nn.Module) -> Iterator[Counter[str]]:
    """Count the calls of each normalisation layer.

    Raises
    ------
    inspector.errors.UnreadableError
        A BatchNorm with running statistics is in training mode when it is called: the module's
        own code put it there, and a forward pass changes what would be exported.
    """
    import torch

    calls: Counter[str] = Counter()

    def counter(path: str) -> Any:
        def count(layer: Any, *_: Any) -> None:
            # torch.cond compiles its branches, and a branch must not have side effects.
            if torch.compiler.is_compiling():
                return
            calls[path] += 1
            if layer.training and layer.running_mean is not None:
                raise UnreadableError(
                    f"forward() puts BatchNorm {path!r} into training mode, so that it normalises "
                    "by the batch and changes its statistics",
                    where=type(module).__qualname__,
                    hint="export a module that stays in eval mode",
                )

        return count

    hooks = [layer.register_forward_pre_hook(counter(path)) for path, layer in _norm_layers(module)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def describe(
    module: torch.nn.Module, proto: ModelProto, calls: Counter[str], notes: Sequence[str]
) -> tuple[Description, tuple[ExpectedNorm, ...]]:
    """Name what was exported after the module, and say what it should hold.

    `proto` is changed: BatchNormalization nodes get their layer's path and momentum, the batch
    axis its name, and what the exporter added on its own goes.
    """
    import torch

    drop_traces(proto)
    _rename_shared(module, proto)
    _drop_synthetic_biases(proto, {name for name, _ in _named(module)})
    _name_axes(proto)
    norms, sources = _norms(module, proto, calls)
    description = Description(
        framework="torch",
        version=str(torch.__version__),
        exporter=_exporter(),
        tensors=_tensors(module, proto),
        batchnorms=sources,
        not_exported=_not_exported(module, proto),
        totals=FrameworkTotals(
            trainable=sum(each.numel() for each in module.parameters()),
            other=sum(
                each.numel() for name, each in module.named_buffers() if not _counts_steps(name)
            ),
            frozen=sum(each.numel() for each in module.parameters() if not each.requires_grad),
        ),
        notes=(*notes, *_remarks(module, _used(module, proto, calls))),
    )
    return description, norms


def _exporter() -> str:
    import onnxscript
    import torch

    return f"torch.onnx {torch.__version__}, onnxscript {onnxscript.__version__}"


def _named(module: torch.nn.Module) -> list[tuple[str, Any]]:
    """Every parameter and buffer under each of its names."""
    return [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]


def _rename_shared(module: torch.nn.Module, proto: ModelProto) -> None:
    """Call a tensor with several names (shared layers, tied weights) by its first.

    That is the name under which `parameters()` counts it; the exporter takes any.
    """
    first: dict[int, str] = {}
    for name, each in _named(module):
        first.setdefault(id(each), name)
    protos.rename_values(proto, {name: first[id(each)] for name, each in _named(module)})


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
    used.update(each.name for each in proto.graph.output)
    for graph in protos.graphs(proto):
        kept = [each for each in graph.initializer if each.name in used or each.name in own]
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _name_axes(proto: ModelProto) -> None:
    """Call the batch axis "batch" wherever its symbol occurs; other free axes keep theirs."""
    symbols = {
        each.type.tensor_type.shape.dim[0].dim_param
        for each in proto.graph.input
        if each.type.tensor_type.shape.dim
    } - {""}
    if len(symbols) != 1:
        return
    symbol = symbols.pop()
    for graph in protos.graphs(proto):
        for each in (*graph.input, *graph.output, *graph.value_info):
            for dim in each.type.tensor_type.shape.dim:
                if dim.dim_param == symbol:
                    dim.dim_param = "batch"


def _norms(
    module: torch.nn.Module, proto: ModelProto, calls: Counter[str]
) -> tuple[tuple[ExpectedNorm, ...], tuple[SourceBatchNorm, ...]]:
    taken = {node.name for node in protos.nodes(proto)}
    used = _used(module, proto, calls)
    norms: list[ExpectedNorm] = []
    sources: list[SourceBatchNorm] = []
    for path, layer in _norm_layers(module):
        if layer.running_mean is None or _is_instance(layer) or not used[path]:
            continue
        source = path or type(layer).__name__
        found = _nodes_of(layer, module, proto)
        for node in found:
            node.name = protos.unique(source, taken)
            protos.set_float(node, "momentum", 1.0 - (layer.momentum or 0.0))
            sources.append(_source(node.name, source, layer))
        # A layer without its node: verification says so.
        names = [node.name for node in found] + [""] * (used[path] - len(found))
        norms += [
            ExpectedNorm(node=name, source=source, values=_values(layer), epsilon=float(layer.eps))
            for name in names
        ]
    return tuple(norms), tuple(sources)


def _used(module: torch.nn.Module, proto: ModelProto, calls: Counter[str]) -> Counter[str]:
    """How many nodes each layer has at least.

    No hook counts calls in the branches of `torch.cond`; a running mean that was stored tells of
    those.
    """
    held = protos.initializers(proto)
    stored = {id(each) for name, each in _named(module) if name in held}
    return Counter(
        {
            path: max(calls[path], int(id(layer.running_mean) in stored))
            for path, layer in _norm_layers(module)
        }
    )


def _nodes_of(layer: Any, module: torch.nn.Module, proto: ModelProto) -> list[NodeProto]:
    # A shared layer has several paths, and the exporter may use any of them.
    means = {name for name, each in _named(module) if each is layer.running_mean}
    return [node for node in protos.batchnorms(proto) if node.input[3] in means]


def _source(node: str, path: str, layer: Any) -> SourceBatchNorm:
    momentum = None if layer.momentum is None else float(layer.momentum)
    return SourceBatchNorm(node=node, source=path, epsilon=float(layer.eps), momentum=momentum)


def _values(layer: Any) -> tuple[Array, Array, Array, Array]:
    mean = _array(layer.running_mean)
    scale = np.ones_like(mean) if layer.weight is None else _array(layer.weight)
    bias = np.zeros_like(mean) if layer.bias is None else _array(layer.bias)
    return scale, bias, mean, _array(layer.running_var)


def _array(tensor: Any) -> Array:
    return np.asarray(tensor.detach().cpu().numpy())


def _remarks(module: torch.nn.Module, used: Counter[str]) -> list[str]:
    remarks = []
    for path, layer in _norm_layers(module):
        if _is_instance(layer):
            if layer.running_mean is not None and used[path]:
                remarks.append(
                    f"InstanceNorm {path!r} keeps running statistics: it becomes a "
                    "BatchNormalization node over repeated statistics that is no BatchNorm"
                )
        elif not used[path]:
            remarks.append(f"BatchNorm {path!r} is not used by the forward pass")
        elif layer.running_mean is None:
            remarks.append(
                f"BatchNorm {path!r} keeps no running statistics (track_running_stats=False): "
                "it normalises by the batch, so its mean and variance are computed"
            )
    return remarks


def _tensors(module: torch.nn.Module, proto: ModelProto) -> tuple[SourceTensor, ...]:
    parameters = dict(module.named_parameters(remove_duplicate=False))
    own = dict(_named(module))
    held = protos.initializers(proto)
    tensors = [
        SourceTensor(
            name=name,
            source=name,
            # PyTorch counts no buffer, whether it is a statistic or a table.
            role=Role.LEARNED if name in parameters else Role.STATISTIC,
        )
        for name in held
        if name in own
    ]
    invented = dict.fromkeys(
        name
        for node in protos.batchnorms(proto)
        for name in node.input[1:3]
        if name in held and name not in own
    )
    tensors += [
        SourceTensor(name=name, source="", role=Role.CONSTANT, synthetic=True) for name in invented
    ]
    return tuple(tensors)


def _counts_steps(name: str) -> bool:
    """Whether a buffer is a BatchNorm's count of training steps."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def _not_exported(module: torch.nn.Module, proto: ModelProto) -> tuple[NotExported, ...]:
    held = protos.initializers(proto)
    stored = {id(each) for name, each in _named(module) if name in held}
    once: dict[int, tuple[str, Any]] = {}
    for name, each in _named(module):
        once.setdefault(id(each), (name, each))
    return tuple(
        NotExported(
            source=name,
            elements=each.numel(),
            why="counts training steps; ONNX has no place for it"
            if _counts_steps(name)
            else "inference does not use it",
        )
        for key, (name, each) in once.items()
        if key not in stored
    )
