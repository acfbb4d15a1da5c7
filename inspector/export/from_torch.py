"""Export a PyTorch module with every BatchNorm kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inspector.errors import (
    ExportDisagreesError,
    InspectorError,
    RunError,
    UsageError,
)
from inspector.export import protos, source, torch_files, torch_trace
from inspector.export import torch_inputs as inputs
from inspector.export import torch_outputs as outputs
from inspector.export.extras import require
from inspector.export.manifests import finish
from inspector.export.quiet import quiet, quiet_tensorflow
from inspector.export.torch_errors import CONVERTING, RUNNING, explained, refuse_bfloat16
from inspector.export.torch_names import describe
from inspector.export.torch_reference import cannot_be_free, check_lengths, seeded
from inspector.export.torch_subject import ModuleSubject, Subject, subject, unwrapped
from inspector.export.torch_weights import load_weights
from inspector.facts.export import Export
from inspector.write.save import check_destination

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

OPSETS = range(18, 25)
DEFAULT_OPSET = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What was asked for, besides the model."""

    destination: Path
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None
    example: inputs.Given | None
    dynamic: tuple[str, ...] | None
    opset: int
    verify: bool
    say: Callable[[str], None]


def export_torch(  # noqa: PLR0913  # each is an option of its own
    module: str | Path | torch.nn.Module | torch.export.ExportedProgram,
    output: str | Path,
    *,
    weights: str | Path | None = None,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    example: inputs.Given | None = None,
    dynamic: Sequence[str] | None = None,
    opset: int | None = None,
    unsafe: bool = False,
    verify: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Export a PyTorch model to ONNX and verify it.

    It is exported in eval mode and left exactly as it was found.

    Parameters
    ----------
    module
        A module, TorchScript or not, or a program of `torch.export`; or a source of one:
        `package.module:callable`, `path/to/file.py:callable`, or a file (.pt2 of `torch.export`,
        .pt of TorchScript).
    output
        The file to write; nothing is written unless everything holds.
    weights
        A file with the state dict to load first: .pt, .pth, .bin or .ckpt of `torch.save`, or
        .safetensors.
    input_shape
        Shape of the one input, batch included, or one shape for each input. Without it and
        `example` the module's `example_input_array` serves, as PyTorch Lightning has it: a tensor,
        or a tuple of them.
    example
        The inputs to trace with: a .npz file by the names that `forward` has for them or in its
        order, a .npy file for one input, tensors or arrays in `forward`'s order, or a mapping of
        them by name.
    dynamic
        The axes that are to be free; see `inspector.export.axes.free_axes`. None: the batch where
        the module allows it. Nothing at all: none.
    opset
        Version of the standard operators, 18 to 24 (the exporter's range); 18 unless given.
    unsafe
        Whether files may be opened that can run code of their own.
    verify
        Whether the result is run and compared with PyTorch. BatchNorms are compared anyway.
    progress
        Called with a line before each long step.

    Raises
    ------
    inspector.errors.UsageError
        The output's folder does not exist, the opset, the source or an axis cannot be, no input
        is known, or a file needs `unsafe`.
    inspector.errors.MissingExtraError
        PyTorch or onnxscript is not installed.
    inspector.errors.UnreadableError
        There is no such module or file, weights do not fit, or the exporter fails on it.
    inspector.errors.ExportDisagreesError
        The exported model does not give what the module gives, or a BatchNorm was changed.
    inspector.errors.RunError
        ONNX Runtime cannot run the exported model.
    """
    if opset is not None and opset not in OPSETS:
        raise UsageError(
            f"opset {opset} is not one that PyTorch's exporter writes", hint="choose 18 to 24"
        )
    request = _Request(
        destination=check_destination(output),
        input_shape=input_shape,
        example=example,
        dynamic=None if dynamic is None else tuple(dynamic),
        opset=opset or DEFAULT_OPSET,
        verify=verify,
        say=progress or _silence,
    )
    named = isinstance(module, (str, Path)) and not torch_files.is_file(module)
    spec = source.parse(str(module)) if named else None
    require("torch")
    request.say("loading PyTorch and the module")
    _import_frameworks()
    # A source may well load the weights of a Keras model: TensorFlow is to be quiet here too.
    with quiet_tensorflow(), _opened(module, spec, unsafe=unsafe) as built:
        if weights is not None:
            made = _with_weights(built, weights, live=built is module, unsafe=unsafe)
        else:
            made = subject(built)
        return _export(made, request)


def _silence(_: str) -> None:
    """Without `progress` nothing is said."""


def _import_frameworks() -> None:
    with quiet():
        try:
            import onnxscript  # noqa: F401  # only whether it imports
            import torch  # noqa: F401  # as above
        except ImportError as error:
            raise UsageError(
                f"PyTorch is installed and does not import: {source.described(error)}",
                hint='pip install --upgrade "bninspect[torch]"',
            ) from error


@contextmanager
def _opened(module: object, spec: source.Source | None, *, unsafe: bool) -> Iterator[object]:
    import torch

    kinds = (torch.nn.Module, torch.export.ExportedProgram)
    if spec is not None:
        with source.opened(spec, lambda e: isinstance(e, kinds), "a torch.nn.Module") as found:
            yield found
    elif isinstance(module, (str, Path)):
        with quiet():
            opened = torch_files.load(Path(module), unsafe=unsafe)
        yield opened
    elif isinstance(module, kinds):
        yield module
    else:
        kind = type(module)
        raise UsageError(f"a {kind.__module__}.{kind.__qualname__} is not a torch.nn.Module")


def _with_weights(built: object, weights: str | Path, *, live: bool, unsafe: bool) -> Subject:
    """The subject with weights of a file; a module that the caller holds keeps its own."""
    import torch

    if not isinstance(built, torch.nn.Module) or isinstance(built, torch.jit.ScriptModule):
        raise UsageError(
            "a TorchScript module or a saved program has its weights already",
            where=str(weights),
            hint="leave the weights out, or give the module's Python source",
        )
    inner, notes = unwrapped(built)
    if live:
        inner = copy.deepcopy(inner)
    with quiet():
        notes += load_weights(inner, weights, unsafe=unsafe)
    return ModuleSubject(inner, notes)


def _export(made: Subject, request: _Request) -> Export:
    if request.opset not in made.opsets:
        raise UsageError(
            f"opset {request.opset} is not one that PyTorch writes for TorchScript",
            where=made.name,
            hint=f"choose {made.opsets[0]} to {made.opsets[-1]}",
        )
    _refuse_without_values(made)
    if request.verify:
        refuse_bfloat16(made.tensors(), made.name)
    with quiet(), made.ready():
        example = _example(made, request)
        if request.verify:
            refuse_bfloat16(example.labelled(), made.name)
        axes = _axes(made, example, request)
        made.notes.extend(example.notes)
        request.say("running the module in PyTorch")
        # Once before all else: lazy layers learn their shapes, a failing forward() shows here.
        with explained(made.name, RUNNING), _counting(made):
            own = example.copied()
            given = made.call(*own.args, **own.kwargs)
        with explained(made.name, RUNNING):
            state = made.state(example)
        if state:
            made.notes.append(_STATE.format(_some(state)))
        with made.giving(given) as plain:
            outputs.refuse_what_is_no_tensor(plain, made.name)
            made.output_names = outputs.output_names(plain)
            return _attempts(made, example, axes, request)


_STATE = (
    "forward() changes {}: PyTorch takes that into the next call, and each run of the file begins "
    "with what was stored"
)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _attempts(
    made: Subject, example: inputs.Example, axes: inputs.Axes, request: _Request
) -> Export:
    if request.dynamic is not None or made.axes_are_given:
        return _attempt(made, example, axes, request)
    try:
        return _attempt(made, example, axes, request)
    # A module may be made for its own batch alone, also without any error before it is run.
    except InspectorError:
        batch = next((each.shape[0] for each in example.tensors() if each.ndim), 1)
        note = f"the batch is fixed at {batch}: the module does not export with another"
        return _attempt(made, example, tuple({} for _ in axes), request, [note])


def _refuse_without_values(made: Subject) -> None:
    for name, each in made.tensors().items():
        if each.is_meta:
            raise UsageError(
                f"{name!r} has no values (it lies on the meta device)",
                where=made.name,
                hint="give --weights, or fill the module before it is exported",
            )


def _counting(made: Subject) -> AbstractContextManager[None]:
    return made.counting() if isinstance(made, ModuleSubject) else nullcontext()


def _example(made: Subject, request: _Request) -> inputs.Example:
    taken = made.signature()
    if request.example is not None and request.input_shape is not None:
        raise UsageError("an input shape and an example were given", hint="give one of them")
    if request.example is not None:
        return inputs.from_example(request.example, made.like(), taken)
    if request.input_shape is not None:
        return inputs.from_shapes(request.input_shape, made.like(), taken)
    found = made.own_example()
    if isinstance(found, inputs.Example):
        return found
    return inputs.from_attribute(found, made.like(), taken, made.name)


def _axes(made: Subject, example: inputs.Example, request: _Request) -> inputs.Axes:
    if not made.axes_are_given:
        return example.free(request.dynamic)
    if request.dynamic is not None:
        raise UsageError(
            "the axes of a saved program were decided when it was exported",
            where=made.name,
            hint="leave --dynamic out, or give torch.export.export its dynamic_shapes",
        )
    return example.free(None)


def _attempt(
    made: Subject,
    example: inputs.Example,
    axes: inputs.Axes,
    request: _Request,
    notes: Sequence[str] = (),
) -> Export:
    request.say("converting to ONNX")
    with explained(made.name, CONVERTING):
        proto = made.convert(example.copied(), request.opset, axes)
        _check_axes(made, proto, example, axes)
        torch_trace.name_axes(proto, example, axes)
        outputs.name_outputs(proto, made.output_names)
        if request.verify:
            wanted, more = seeded(made.call, proto, example, made.name)
        else:
            wanted, more = None, []
            check_lengths(made.call, proto, example, made.name)
    description, norms = describe(made.held(), proto, [*made.notes, *notes, *more], made.exporter())
    if request.verify:
        request.say("verifying with ONNX Runtime")
    try:
        return finish(proto, request.destination, wanted, norms, description, opset=request.opset)
    except (RunError, ExportDisagreesError) as error:
        raise _of_dtypes(error, made, proto) from error


def _check_axes(
    made: Subject, proto: ModelProto, example: inputs.Example, axes: inputs.Axes
) -> None:
    if made.axes_are_given:
        return
    if found := torch_trace.fixed_axis(proto, example, axes):
        raise cannot_be_free(*found, made.name)


def _of_dtypes(error: InspectorError, made: Subject, proto: ModelProto) -> InspectorError:
    """The error with what the model's dtypes have to do with it."""
    import torch

    dtypes = {each.dtype for each in made.tensors().values()}
    if isinstance(error, RunError) and protos.casts_to_bfloat16(proto):
        why = "forward() computes in bfloat16 (autocast), which ONNX Runtime cannot run on a CPU"
        hint = "export it without autocast"
    elif torch.float64 in dtypes and isinstance(error, RunError):
        why, hint = "ONNX Runtime has no float64 form of some operators", "export module.float()"
    elif torch.float64 in dtypes:
        why = "ONNX has epsilon as float32, which float64 outputs may show"
        hint = "export module.float()"
    else:
        return error
    return type(error)(
        error.what,
        where=error.where,
        hint=f"{why}: {hint}, or without verification (--no-verify); nothing was written",
    )
