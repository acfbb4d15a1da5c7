"""PyTorch module or program → ONNX, with every BatchNorm kept and no tensor merged or folded."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.errors import UnreadableError
from inspector.export.feeds import Feeds, Input
from inspector.export.protos import make_outputs_distinct
from inspector.export.torch_held import array
from inspector.export.torch_inputs import Axes, Example
from inspector.facts.notes import KIND

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto, ValueInfoProto


def convert_module(module: torch.nn.Module, example: Example, opset: int, axes: Axes) -> ModelProto:
    """Export a module through torch.export, folding only what is not a parameter or buffer.

    Raises
    ------
    Exception
        Whatever torch.export or its ONNX exporter raises.
    """
    example = example.grown(axes)
    return _convert(
        module,
        opset,
        args=example.args,
        kwargs=dict(example.kwargs) or None,
        dynamic_shapes=example.dynamic_shapes(axes),
    )


def convert_program(program: torch.export.ExportedProgram, opset: int) -> ModelProto:
    """Export a program, whose free axes are decided already.

    Raises
    ------
    Exception
        Whatever PyTorch's ONNX exporter raises.
    """
    return _convert(program, opset)


def _convert(source: Any, opset: int, **given: Any) -> ModelProto:
    import onnx_ir
    import torch
    from onnx_ir.passes.common import LiftConstantsToInitializersPass
    from onnxscript import optimizer

    # The exporter prints its progress and its tracebacks to standard output.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        program = torch.onnx.export(
            source, dynamo=True, optimize=False, opset_version=opset, verbose=False, **given
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
    make_outputs_distinct(proto)
    return proto


_DROPPED = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")


def _is_own(value: Any) -> bool:
    """Whether an initializer is a parameter or a buffer of the module."""
    return value.metadata_props.get(KIND) in ("PARAMETER", "BUFFER")


def drop_traces(proto: ModelProto) -> None:
    """Take out what the exporters write about the machine they ran on (paths in stack traces)."""
    from inspector.export import protos

    for node in protos.nodes(proto):
        kept = [each for each in node.metadata_props if each.key not in _DROPPED]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        # TorchScript's, with the lines of the source.
        node.ClearField("doc_string")


def runner(
    call: Callable[..., Any], proto: ModelProto, example: Example
) -> Callable[[Feeds], list[Array]]:
    """A forward pass as a function of arrays by the exported model's input names."""
    import torch
    from torch.utils import _pytree as pytree

    slots = list(enumerate(positions(proto, example)))
    names = [each.name for each in proto.graph.input]

    def run(feeds: Feeds) -> list[Array]:
        tensors = example.tensors()
        for i, position in slots:
            # A copy: forward() may change its inputs in place, and ONNX Runtime is fed them next.
            values = np.array(feeds[names[i]], order="C")
            tensors[position] = torch.from_numpy(values).to(tensors[position].device)
        given = example.with_tensors(tensors)
        leaves = pytree.tree_leaves(call(*given.args, **given.kwargs))
        return [array(each) for each in leaves if isinstance(each, torch.Tensor)]

    return run


def inputs_of(proto: ModelProto, example: Example) -> tuple[Input, ...]:
    """The exported model's inputs in its own order; free where the model has them free."""
    tensors = example.tensors()
    made = []
    for given, position in zip(proto.graph.input, positions(proto, example), strict=True):
        values = array(tensors[position])
        dims = [
            length if axis < len(fixed) and fixed[axis] else None
            for fixed in [_fixed(given)]
            for axis, length in enumerate(values.shape)
        ]
        made.append(
            Input(
                name=given.name,
                dtype=values.dtype,
                dims=tuple(dims),
                pool=None if values.dtype.kind == "f" else values,
            )
        )
    return tuple(made)


def _fixed(given: ValueInfoProto) -> list[bool]:
    return [each.HasField("dim_value") for each in given.type.tensor_type.shape.dim]


def positions(proto: ModelProto, example: Example) -> list[int]:
    """Which of the example's tensors each input of the model is.

    Raises
    ------
    inspector.errors.UnreadableError
        The exporter made other inputs.
    """
    names = [each.name for each in proto.graph.input]
    if set(names) <= set(example.names):
        return [example.names.index(each) for each in names]
    if len(names) == len(example.names):
        return list(range(len(names)))
    raise UnreadableError(
        f"the exporter made the inputs {', '.join(names)} of forward()'s "
        f"{', '.join(example.names)}",
        hint="give an example for each of them",
    )


def fixed_axis(proto: ModelProto, example: Example, axes: Axes) -> tuple[str, int] | None:
    """The first axis that was to be free and is not: its name and its length."""
    for given, position in zip(proto.graph.input, positions(proto, example), strict=True):
        fixed = _fixed(given)
        for axis, name in axes[position].items():
            if fixed[axis]:
                return name, int(given.type.tensor_type.shape.dim[axis].dim_value)
    return None


def name_axes(proto: ModelProto, example: Example, axes: Axes) -> None:
    """Call the free axes by their names wherever their symbols occur.

    Sizes that are computed from them stay expressions, of the names.
    """
    import re

    from inspector.export import protos

    named: dict[str, str] = {}
    for given, position in zip(proto.graph.input, positions(proto, example), strict=True):
        dims = given.type.tensor_type.shape.dim
        for axis, name in axes[position].items():
            if dims[axis].dim_param:
                named.setdefault(dims[axis].dim_param, name)
            elif not dims[axis].HasField("dim_value"):
                dims[axis].dim_param = name
    if not named:
        return
    symbols = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, named))})(?!\w)")
    for graph in protos.graphs(proto):
        for each in (*graph.input, *graph.output, *graph.value_info):
            for dim in each.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_param = symbols.sub(lambda found: named[found[1]], dim.dim_param)


def first_tensor(tensors: Sequence[Any]) -> Any:
    """The first of floating point: what tells an example's dtype and device."""
    return next((each for each in tensors if each.is_floating_point()), None)
