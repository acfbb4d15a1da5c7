"""Export a PyTorch module with every BatchNorm kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inspector.errors import InspectorError, UnreadableError, UsageError
from inspector.export import protos, source
from inspector.export import torch_names as naming
from inspector.export import torch_trace as tracing
from inspector.export.extras import require
from inspector.export.feeds import Input
from inspector.export.manifests import finish
from inspector.export.quiet import environment, quiet
from inspector.export.verify import Reference, reference
from inspector.facts.export import Export
from inspector.write.save import check_destination

if TYPE_CHECKING:
    import torch

OPSETS = range(18, 25)
DEFAULT_OPSET = 18


def export_torch(
    module: str | torch.nn.Module,
    output: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    opset: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Export a PyTorch module to one ONNX file and verify it.

    The module is exported in eval mode and left exactly as it was found.

    Parameters
    ----------
    module
        A module, or a source: `package.module:callable`, `path/to/file.py:callable`.
    output
        The file to write; nothing is written unless everything holds.
    input_shape
        Shape of the one input, batch included. Without it the module's `example_input_array`
        serves, as PyTorch Lightning has it: a tensor, or a tuple of them.
    opset
        Version of the standard operators, 18 to 24 (the exporter's range); 18 unless given.
    progress
        Called with a line before each long step.

    Raises
    ------
    inspector.errors.UsageError
        The output's folder does not exist, the opset or the source cannot be, or no input shape
        is known.
    inspector.errors.MissingExtraError
        PyTorch or onnxscript is not installed.
    inspector.errors.UnreadableError
        There is no such module, or the exporter fails on it.
    inspector.errors.ExportDisagreesError
        The exported model does not give what the module gives, or a BatchNorm was changed.
    """
    destination = check_destination(output)
    if opset is not None and opset not in OPSETS:
        raise UsageError(
            f"opset {opset} is not one that PyTorch's exporter writes", hint="choose 18 to 24"
        )
    spec = source.parse(module) if isinstance(module, str) else None
    require("torch")
    say = progress or _silence
    say("loading PyTorch and the module")
    _import_frameworks()
    # A source may well load the weights of a Keras model: TensorFlow is to be quiet here too.
    with environment(TF_CPP_MIN_LOG_LEVEL="3"), _opened(module, spec) as built:
        return _export(built, destination, input_shape, opset or DEFAULT_OPSET, say)


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
def _opened(module: object, spec: source.Source | None) -> Iterator[torch.nn.Module]:
    import torch

    def wanted(each: object) -> bool:
        return isinstance(each, torch.nn.Module)

    if spec is not None:
        with source.opened(spec, wanted, "a torch.nn.Module") as found:
            yield cast("torch.nn.Module", found)
    elif isinstance(module, torch.nn.Module):
        yield module
    else:
        kind = type(module)
        raise UsageError(f"a {kind.__module__}.{kind.__qualname__} is not a torch.nn.Module")


def _export(
    outer: torch.nn.Module,
    destination: Path,
    input_shape: Sequence[int] | None,
    opset: int,
    say: Callable[[str], None],
) -> Export:
    module, notes = _unwrapped(outer)
    name = type(module).__qualname__
    examples = tracing.example(module, input_shape)
    with tracing.evaluating(module), quiet():
        say("running the module in PyTorch")
        # Once before all else: lazy layers learn their shapes, a failing forward() shows here.
        with _explained(name, "the module fails on its example input"), naming.counted(module):
            module(*examples)
        protos.refuse_too_large(
            sum(each.numel() * each.element_size() for each in module.state_dict().values()), name
        )
        try:
            return _attempt(module, examples, destination, opset, say, notes, free_batch=True)
        # A module may be made for its own batch alone, also without any error before it is run.
        except InspectorError:
            return _attempt(module, examples, destination, opset, say, notes, free_batch=False)


def _attempt(
    module: torch.nn.Module,
    examples: Sequence[Any],
    destination: Path,
    opset: int,
    say: Callable[[str], None],
    notes: Sequence[str],
    *,
    free_batch: bool,
) -> Export:
    name = type(module).__qualname__
    say("converting to ONNX")
    with _explained(name, "the export fails"):
        proto = tracing.convert(module, examples, opset, free_batch=free_batch)
        if free_batch and not tracing.is_batch_free(proto):
            raise UnreadableError("the batch is part of what the module computes", where=name)
        inputs = tracing.inputs_of(proto, examples, free_batch=free_batch)
        calls, wanted = _reference(module, inputs, examples)
    fixed = f"the batch is fixed at {inputs[0].dims[0]}: the module does not export with another"
    description, norms = naming.describe(
        module, proto, calls, [*notes, *([] if free_batch else [fixed])]
    )
    say("verifying with ONNX Runtime")
    return finish(proto, destination, wanted, norms, description, opset=opset)


def _unwrapped(module: torch.nn.Module) -> tuple[torch.nn.Module, list[str]]:
    """The module inside of torch.compile's and DataParallel's wrappers, which rename weights."""
    import torch

    notes = []
    if isinstance(module, torch.jit.ScriptModule):
        raise UnreadableError(
            "it is a TorchScript module, whose structure the exporter cannot read",
            where=module.original_name,
            hint="give the nn.Module it was scripted or traced from",
        )
    inner = getattr(module, "_orig_mod", module)
    if inner is not module:
        notes.append("exported without torch.compile's wrapper")
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    if isinstance(inner, parallel):
        notes.append(f"exported without {type(inner).__name__}'s wrapper")
        inner = inner.module
    return cast("torch.nn.Module", inner), notes


@contextmanager
def _explained(name: str, failing: str) -> Iterator[None]:
    """Turn whatever a module's code or an exporter raises into one line that says what it was."""
    try:
        yield
    except InspectorError:
        raise
    except Exception as error:  # forward() and torch.export keep to no base
        raise UnreadableError(
            f"{failing}: {source.described(_cause(error))}",
            where=name,
            hint="call the module on the same input yourself to see the whole traceback"
            if failing.startswith("the module")
            else "another form of the failing part may help; nothing was written",
        ) from error


def _cause(error: BaseException) -> BaseException:
    """The exporter's own errors are pages of advice around the exception that started them."""
    import torch

    while isinstance(error, torch.onnx.OnnxExporterError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _reference(
    module: torch.nn.Module, inputs: Sequence[Input], examples: Sequence[Any]
) -> tuple[Counter[str], Reference]:
    """What the module gives, and how often each normalisation layer is called in one pass."""
    run = tracing.runner(module, inputs, examples)
    with naming.counted(module) as calls:
        wanted = reference(run, inputs)
        calls.clear()
        run(wanted.batches[0])
    return calls, wanted
