"""PyTorch module → ONNX, with every BatchNorm kept and no tensor merged or folded."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.run import Array
from inspector.errors import UnreadableError, UsageError
from inspector.export.feeds import Feeds, Input
from inspector.facts.notes import KIND

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto


def example(module: torch.nn.Module, input_shape: Sequence[int] | None) -> tuple[Any, ...]:
    """The inputs to trace the module with.

    Raises
    ------
    inspector.errors.UsageError
        Neither a shape nor an `example_input_array` is there, or it cannot serve.
    """
    import torch

    if input_shape is not None:
        shape = tuple(int(each) for each in input_shape)
        if not shape or min(shape) < 1:
            raise UsageError(
                f"the input shape {list(shape)} has an axis without elements",
                hint="give all axes, the batch first, for example 1,3,224,224",
            )
        return (torch.zeros(shape, dtype=_dtype(module), device=_device(module)),)
    found = getattr(module, "example_input_array", None)
    given = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    if found is None or not all(isinstance(each, torch.Tensor) for each in given):
        what = "no example input" if found is None else "an example_input_array that is no tensor"
        raise UsageError(
            f"the module has {what}",
            where=type(module).__qualname__,
            hint="give --input-shape, or set the module's example_input_array to a tensor or a "
            "tuple of tensors",
        )
    return tuple(each.detach().to(_device(module)) for each in given)


def _first(module: torch.nn.Module) -> Any:
    from itertools import chain

    return next(
        (each for each in chain(module.parameters(), module.buffers()) if each.is_floating_point()),
        None,
    )


def _dtype(module: torch.nn.Module) -> Any:
    import torch

    first = _first(module)
    return torch.float32 if first is None else first.dtype


def _device(module: torch.nn.Module) -> Any:
    import torch

    first = _first(module)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """The module in eval mode, without gradients, and then exactly as it was found.

    Training flags of every submodule, buffers that a forward pass may change, and the random
    generator's state are put back.
    """
    import torch

    flags = [(each, each.training) for each in module.modules()]
    kept = [
        (each, each.detach().clone())
        for each in module.buffers()
        if not torch.nn.parameter.is_lazy(each)
    ]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            module.eval()
            yield
        finally:
            for each, flag in flags:
                each.training = flag
            for buffer, values in kept:
                buffer.copy_(values)


def runner(
    module: torch.nn.Module, inputs: Sequence[Input], examples: Sequence[Any]
) -> Callable[[Feeds], list[Array]]:
    """The module's forward pass as a function of arrays by input name."""
    import torch
    from torch.utils import _pytree as pytree

    def run(feeds: Feeds) -> list[Array]:
        args = [
            torch.from_numpy(np.ascontiguousarray(feeds[each.name])).to(like.device)
            for each, like in zip(inputs, examples, strict=True)
        ]
        leaves = pytree.tree_leaves(module(*args))
        return [
            np.asarray(each.detach().cpu().numpy())
            for each in leaves
            if isinstance(each, torch.Tensor)
        ]

    return run


def inputs_of(proto: ModelProto, examples: Sequence[Any], *, free_batch: bool) -> tuple[Input, ...]:
    """The exported model's inputs, in the order of the module's.

    Raises
    ------
    inspector.errors.UnreadableError
        numpy, and so ONNX Runtime's interface, has no such dtype (bfloat16).
    """
    import torch

    made = []
    for given, each in zip(proto.graph.input, examples, strict=True):
        if each.dtype == torch.bfloat16:
            raise UnreadableError(
                f"input {given.name!r} is bfloat16, which ONNX Runtime cannot be fed from Python",
                hint="call .float() on the module and its example; nothing was written",
            )
        values = each.cpu().numpy()
        free = free_batch and values.ndim > 0
        made.append(
            Input(
                name=given.name,
                dtype=values.dtype,
                dims=((None, *values.shape[1:]) if free else values.shape),
                pool=None if values.dtype.kind == "f" else values,
            )
        )
    return tuple(made)


def convert(
    module: torch.nn.Module, examples: Sequence[Any], opset: int, *, free_batch: bool
) -> ModelProto:
    """Export through torch.export, folding only what is not a parameter or buffer.

    Raises
    ------
    Exception
        Whatever torch.export or its ONNX exporter raises.
    """
    import onnx_ir
    import torch
    from onnx_ir.passes.common import LiftConstantsToInitializersPass
    from onnxscript import optimizer

    auto = torch.export.Dim.AUTO
    axes = tuple({0: auto} if free_batch and each.ndim else None for each in examples)
    # The exporter prints its progress and its tracebacks to standard output.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        program = torch.onnx.export(
            module,
            tuple(doubled(examples) if free_batch else examples),
            dynamo=True,
            optimize=False,
            opset_version=opset,
            dynamic_shapes=axes,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model = program.model
    own = {name for name, value in model.graph.initializers.items() if _is_own(value)}
    optimizer.fold_constants(
        model,
        should_fold=lambda node: (
            False if any(each is not None and each.name in own for each in node.inputs) else None
        ),
    )
    optimizer.remove_unused_nodes(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    proto: ModelProto = onnx_ir.serde.serialize_model(model)
    return proto


_DROPPED = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")


def _is_own(value: Any) -> bool:
    """Whether an initializer is a parameter or a buffer of the module."""
    return value.metadata_props.get(KIND) in ("PARAMETER", "BUFFER")


def doubled(examples: Sequence[Any]) -> list[Any]:
    """Examples with a batch of two at least: torch.export takes a size of 1 for a constant."""
    import torch

    return [
        torch.cat([each, each]) if each.ndim and each.shape[0] == 1 else each for each in examples
    ]


def drop_traces(proto: ModelProto) -> None:
    """Take out what the exporter writes about the machine it ran on (paths in stack traces)."""
    from inspector.export import protos

    for node in protos.nodes(proto):
        kept = [each for each in node.metadata_props if each.key not in _DROPPED]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)


def is_batch_free(proto: ModelProto) -> bool:
    """Whether the first axis of every input stayed free."""
    return all(
        not each.type.tensor_type.shape.dim
        or not each.type.tensor_type.shape.dim[0].HasField("dim_value")
        for each in proto.graph.input
    )
