"""TorchScript: its own exporter, and what its modules hold."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from inspector.errors import UnreadableError
from inspector.export.quiet import silent_stderr
from inspector.export.torch_held import Held, Norm, array, layer_of
from inspector.export.torch_inputs import Axes, Example, Signature

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

OPSETS = range(18, 24)


def signature_of(module: torch.jit.ScriptModule) -> Signature:
    """What its `forward` can be called with."""
    forward: Any = module.forward
    return Signature(names=tuple(each.name for each in forward.schema.arguments[1:]))


def convert(
    module: torch.jit.ScriptModule, example: Example, opset: int, axes: Axes, held: Held
) -> ModelProto:
    """Export through the TorchScript exporter, folding nothing and merging nothing.

    Raises
    ------
    Exception
        Whatever the exporter raises.
    """
    import onnx
    import onnx_ir
    import torch
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    # It takes what can be written to, whatever its types say.
    written: Any = io.BytesIO()
    names = list(example.names)
    with contextlib.redirect_stdout(io.StringIO()), _no_log():
        torch.onnx.export(
            module,
            example.args,
            written,
            kwargs=dict(example.kwargs) or None,
            dynamo=False,
            # With EVAL it folds BatchNorms into the convolutions before them.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=opset,
            input_names=names,
            dynamic_axes={name: dict(free) for name, free in zip(names, axes, strict=True) if free},
        )
    proto = onnx.load_from_string(written.getvalue())
    _undo_merging(proto, held)
    model = onnx_ir.serde.deserialize_model(proto)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    lifted: ModelProto = onnx_ir.serde.serialize_model(model)
    return lifted


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """Keep off the screen what the exporter logs from C++ where it fails: the whole graph.

    It switches its log on whatever it is told (`setup_onnx_logging` of torch 2.13 asks a function,
    not what the function says), and leaves it on.
    """
    import torch

    enabled = torch._C._jit_is_onnx_log_enabled()
    torch._C._jit_set_onnx_log_output_stream("stderr")
    try:
        with silent_stderr(), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        torch._C._jit_set_onnx_log_output_stream("stdout")
        torch._C._jit_set_onnx_log_enabled(enabled)


def _undo_merging(proto: ModelProto, held: Held) -> None:
    """Give every parameter and buffer its own initializer again.

    The exporter stores equal tensors once and writes the others as Identity of the first: in a
    fresh network the scale of one BatchNorm is the variance of all.
    """
    from onnx import numpy_helper

    own = dict(held.named())
    merged = [
        node
        for node in proto.graph.node
        if node.op_type == "Identity" and node.output[0] in own and not node.domain
    ]
    for node in merged:
        name = node.output[0]
        proto.graph.initializer.append(numpy_helper.from_array(array(own[name]), name))
        proto.graph.node.remove(node)


def store_again(proto: ModelProto, held: Held, changed: Iterable[str]) -> None:
    """Store buffers as they are: the exporter runs the module, which may change them, first."""
    from onnx import numpy_helper

    own = dict(held.named())
    stored = {each.name: each for each in proto.graph.initializer}
    for name in own.keys() & stored.keys() & set(changed):
        stored[name].CopyFrom(numpy_helper.from_array(array(own[name]), name))


def of_script(module: torch.jit.ScriptModule, name: str) -> Held:
    """What a module holds; its BatchNorms are told from the code of its `forward`.

    Raises
    ------
    inspector.errors.UnreadableError
        It was traced in training mode.
    """
    parameters = tuple(module.named_parameters(remove_duplicate=False))
    buffers = tuple(module.named_buffers(remove_duplicate=False))
    tensors = dict([*parameters, *buffers])
    layers = dict(module.named_modules(remove_duplicate=False))
    norms: dict[str, Norm] = {}
    calls: Counter[str] = Counter()
    # Its nodes live as long as it does.
    graph: Any = module.inlined_graph
    remarks = _instances(graph, layers)
    frozen = not parameters and _holds_tensors(graph)
    for number, (node, branch) in enumerate(_norm_calls(graph)):
        mean = [*node.inputs()][3]
        if _tensor(mean, tensors) is None:
            remarks.append(
                f"a BatchNorm of {name} keeps no running statistics (track_running_stats=False): "
                "it normalises by the batch, so its mean and variance are computed"
            )
            continue
        frozen = frozen or not _path(mean)
        path = layer_of(_path(mean)) if _path(mean) else f"batch_norm_{number}"
        calls[path] += int(not branch)
        norms[path] = _norm(node, path, calls[path], tensors, layers, name)
    if frozen:
        remarks.append(
            "this TorchScript module is frozen: its weights have lost their names, and BatchNorms "
            "behind convolutions and linear layers were folded into them before the export"
        )
    return Held(
        parameters=parameters,
        buffers=buffers,
        norms=tuple(norms.values()),
        remarks=tuple(dict.fromkeys(remarks)),
        by_address=True,
    )


def _norm(
    node: Any, path: str, calls: int, tensors: dict[str, Any], layers: dict[str, Any], name: str
) -> Norm:
    given = [*node.inputs()]
    if given[5].toIValue() is True:
        raise UnreadableError(
            f"it was traced in training mode: BatchNorm {path!r} normalises by the batch and "
            "changes its statistics",
            where=name,
            hint="call eval() on the module before torch.jit.trace",
        )
    weight, bias, mean, var = (_tensor(each, tensors) for each in given[1:5])
    return Norm(
        path=path,
        kind="BatchNorm",
        weight=weight,
        bias=bias,
        mean=mean,
        var=var,
        epsilon=float(given[7].toIValue()),
        momentum=_momentum(given[6], layers.get(path)),
        calls=calls,
    )


def _instances(graph: Any, layers: dict[str, Any]) -> list[str]:
    paths = (
        _path([*e.inputs()][3]).rpartition(".")[0] for e in _found(graph, "aten::instance_norm")
    )
    return [
        f"InstanceNorm {path!r} keeps running statistics: it becomes a BatchNormalization node "
        "over repeated statistics that is no BatchNorm"
        for path in dict.fromkeys(paths)
        if path in layers and getattr(layers[path], "running_mean", None) is not None
    ]


def _path(value: Any) -> str:
    """The attribute path of a value that is one of the module's; empty for any other."""
    parts: list[str] = []
    node = value.node()
    while node.kind() == "prim::GetAttr":
        parts.append(node.s("name"))
        node = next(iter(node.inputs())).node()
    return ".".join(reversed(parts))


def _tensor(value: Any, tensors: dict[str, Any]) -> Any:
    # A frozen module has its tensors in its code.
    return tensors.get(_path(value)) if _path(value) else value.toIValue()


def _momentum(value: Any, layer: Any) -> float | None:
    if value.node().kind() == "prim::Constant":
        return float(value.toIValue())
    # Scripted code computes it where a layer averages over all batches: momentum=None.
    found = getattr(layer, "momentum", None)
    return None if found is None else float(found)


def _norm_calls(block: Any, *, branch: bool = False) -> Iterator[tuple[Any, bool]]:
    """Every call of a BatchNorm, and whether it lies in a branch that may not be taken."""
    for node in block.nodes():
        if node.kind() == "aten::batch_norm":
            yield node, branch
        for inner in node.blocks():
            yield from _norm_calls(inner, branch=True)


def _holds_tensors(graph: Any) -> bool:
    import torch

    values = (next(iter(e.outputs())).toIValue() for e in _found(graph, "prim::Constant"))
    return any(isinstance(e, torch.Tensor) and e.is_floating_point() and e.ndim for e in values)


def _found(graph: Any, kind: str) -> list[Any]:
    return list(graph.findAllNodes(kind))
