"""What a program of torch.export (.pt2) holds: its BatchNorms are told from its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspector.errors import InspectorError, UnreadableError
from inspector.export.quiet import quiet
from inspector.export.source import described
from inspector.export.torch_held import Held, Norm, layer_of
from inspector.export.torch_safety import check_program

if TYPE_CHECKING:
    import torch

_TRAINING_AT = {
    "aten::batch_norm": (5, 6, 7),
    "aten::_native_batch_norm_legit": (5, 6, 7),
    "aten::native_batch_norm": (5, 6, 7),
    "aten::_native_batch_norm_legit_no_training": (None, 5, 6),
    "aten::instance_norm": (5, 6, 7),
}
"""Where each operator that normalises by statistics has training, momentum and epsilon."""


def load_program(path: Path, *, unsafe: bool) -> torch.export.ExportedProgram:
    """Open a file of `torch.export.save`.

    Raises
    ------
    inspector.errors.UnreadableError
        It is no such file, or of a version that this PyTorch does not read.
    inspector.errors.UsageError
        Opening it could run code that it brings along, and that was not allowed.
    """
    import torch

    if not unsafe:
        check_program(path)
    try:
        with quiet():
            program = torch.export.load(path)
    except Exception as error:  # schemas, archives and graphs each fail in their own way
        raise UnreadableError(
            f"PyTorch does not read it: {described(error)}",
            where=str(path),
            hint="write it with torch.export.save(program, path) under this version of PyTorch",
        ) from error
    # They are Python code, evaluated at every call; nothing here needs them.
    program._guards_code = []
    return program


def of_program(program: torch.export.ExportedProgram, name: str) -> Held:
    """What a program holds, under the names of the module that it was exported from.

    Raises
    ------
    inspector.errors.UnreadableError
        It was exported in training mode.
    """
    tensors = {**program.state_dict, **program.constants}
    signature = program.graph_signature
    bound = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    calls: Counter[str] = Counter()
    norms: dict[str, Norm] = {}
    remarks: list[str] = []
    for node, operands in _norm_calls(program.graph_module, bound):
        weight, bias, mean, var = (None if e is None else tensors[e] for e in operands[1:])
        named = operands[3]
        if named is None:
            remarks.append(
                f"a normalisation of {name} keeps no running statistics "
                "(track_running_stats=False): its mean and variance are computed"
            )
            continue
        at, momentum_at, epsilon_at = _TRAINING_AT[_schema(node)]
        if at is not None and _argument(node, at):
            raise _in_training(named, name)
        calls[named] += 1
        norms[named] = Norm(
            path=layer_of(named),
            kind="BatchNorm",
            weight=weight,
            bias=bias,
            mean=mean,
            var=var,
            epsilon=float(_argument(node, epsilon_at)),
            momentum=float(_argument(node, momentum_at)),
            calls=calls[named],
            is_instance=_schema(node) == "aten::instance_norm",
        )
    return Held(
        parameters=tuple((e, tensors[e]) for e in signature.parameters if e in tensors),
        buffers=tuple((e, tensors[e]) for e in signature.buffers if e in tensors),
        norms=tuple(norms.values()),
        remarks=tuple(dict.fromkeys(remarks)),
        by_address=True,
    )


def store_epsilons(graph_module: Any) -> int:
    """Give float64 normalisations the epsilon that ONNX can store; says how many were changed.

    ONNX has it as float32, and in float64 the difference stands far above any rounding.
    """
    import numpy as np
    import torch

    changed = 0
    for node in graph_module.graph.nodes:
        inner = getattr(graph_module, str(node.target), None) if node.op == "get_attr" else None
        if isinstance(inner, torch.fx.GraphModule):
            changed += store_epsilons(inner)
        if node.op != "call_function" or _schema(node) not in _TRAINING_AT:
            continue
        at = _TRAINING_AT[_schema(node)][2]
        value = node.meta.get("val")
        first = value[0] if isinstance(value, (tuple, list)) else value
        epsilon = _argument(node, at)
        rounded = float(np.float32(epsilon))
        if first is None or first.dtype != torch.float64 or rounded == epsilon:
            continue
        if at < len(node.args):
            node.update_arg(at, rounded)
        else:
            node.update_kwarg(node.target._schema.arguments[at].name, rounded)
        changed += 1
    if changed:
        graph_module.recompile()
    return changed


def _in_training(mean: str, name: str) -> InspectorError:
    return UnreadableError(
        f"it was exported in training mode: BatchNorm {layer_of(mean)!r} normalises by "
        "the batch and changes its statistics",
        where=name,
        hint="call eval() on the module before torch.export.export",
    )


def _schema(node: Any) -> str:
    return str(getattr(getattr(node.target, "_schema", None), "name", ""))


def _argument(node: Any, at: int) -> Any:
    if at < len(node.args):
        return node.args[at]
    return node.kwargs.get(node.target._schema.arguments[at].name)


def _norm_calls(
    graph_module: Any, bound: Mapping[str, str]
) -> Iterator[tuple[Any, tuple[str | None, ...]]]:
    """Every call of a BatchNorm with the names of its tensors, branches included.

    `bound` are the names of the tensors that the graph's placeholders stand for.
    """
    for node in graph_module.graph.nodes:
        if node.op != "call_function":
            continue
        if _schema(node) in _TRAINING_AT:
            given = [_argument(node, at) for at in range(5)]
            yield node, tuple(bound.get(getattr(each, "name", "")) for each in given)
            continue
        inner = [
            getattr(graph_module, each.target)
            for each in node.args
            if getattr(each, "op", "") == "get_attr"
        ]
        operands = [e for each in node.args if isinstance(each, (tuple, list)) for e in each]
        for branch in inner:
            if not hasattr(branch, "graph"):
                continue
            places = [each for each in branch.graph.nodes if each.op == "placeholder"]
            passed = {
                place.name: bound[operand.name]
                for place, operand in zip(places, operands, strict=False)
                if getattr(operand, "name", "") in bound
            }
            yield from _norm_calls(branch, passed)
