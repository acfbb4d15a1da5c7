"""What PyTorch and its exporters raise, in one line that says the cause and the next step."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inspector.errors import InspectorError, UnreadableError
from inspector.export.source import described

if TYPE_CHECKING:
    import torch

RUNNING = "the module fails on its example input"
CONVERTING = "the export fails"

_HINTS = {
    RUNNING: "call the module on the same input yourself to see the whole traceback; inputs that "
    "are not floating-point images need an --example",
    CONVERTING: "another form of the failing part may help; nothing was written",
}

_KNOWN = (
    (
        re.compile(r"data-dependent|Dynamic control flow is not supported|GuardOnDataDependent"),
        "forward() decides by the values of its input (data-dependent control flow), which no "
        "graph can hold",
        "use torch.cond or torch.where, or give the module as TorchScript (torch.jit.script)",
    ),
    (
        re.compile(r"Constraints violated|ConstraintViolation"),
        "an axis that was to be free is fixed by what forward() computes",
        "leave it out of --dynamic; nothing was written",
    ),
    (
        re.compile(r"No ONNX function found for <OpOverload\(op='(?P<operator>[^']+)'"),
        "PyTorch's exporter has no ONNX form of the operator {operator}",
        "write that part of forward() with other operators; nothing was written",
    ),
)


@contextmanager
def explained(name: str, failing: str) -> Iterator[None]:
    """Turn whatever a module's code or an exporter raises into one line that says what it was."""
    try:
        yield
    except InspectorError as error:
        error.where = error.where or name
        raise
    except Exception as error:  # forward() and torch.export keep to no base
        raise _line(error, name, failing) from error


def _line(error: Exception, name: str, failing: str) -> UnreadableError:
    cause = _cause(error)
    if failing == CONVERTING:
        if known := _known_by_place(cause):
            return UnreadableError(known[0], where=name, hint=known[1])
        text = f"{type(cause).__name__}: {cause}"
        for pattern, what, hint in _KNOWN:
            if found := pattern.search(text):
                return UnreadableError(what.format(**found.groupdict()), where=name, hint=hint)
    return UnreadableError(f"{failing}: {described(cause)}", where=name, hint=_HINTS[failing])


_PLACES = (
    (
        "torch/distributions/",
        "torch.distributions checks the values of its parameters, and a trace has none",
        "build the distribution with validate_args=False; nothing was written",
    ),
    (
        "torch/nn/utils/rnn.py",
        "packed sequences (pack_padded_sequence) have lengths that only the data tell, which "
        "torch.export cannot trace",
        "run the recurrent layer on the padded tensor, and pick each row's last step by its length "
        "with gather() (the same for a layer that reads forwards alone); nothing was written",
    ),
)
"""Parts of PyTorch that cannot be traced, whatever they happen to say of it."""


def _known_by_place(error: BaseException) -> tuple[str, str] | None:
    """What is known of the part of PyTorch in which an export fails, and what to do."""
    from torch.nn.utils.rnn import PackedSequence

    for frame, _ in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename.replace("\\", "/")
        if any(isinstance(each, PackedSequence) for each in frame.f_locals.values()):
            file = "torch/nn/utils/rnn.py"
        for place, what, hint in _PLACES:
            if place in file:
                return what, hint
    return None


def _cause(error: BaseException) -> BaseException:
    """The exporter's own errors are pages of advice around the exception that started them."""
    import torch

    while isinstance(error, torch.onnx.OnnxExporterError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def refuse_unexportable(module: torch.nn.Module, name: str) -> None:
    """Refuse what no setting of the exporter can export, before it says so in pages.

    Raises
    ------
    inspector.errors.UnreadableError
        The module is prepared for quantization, or quantized, or partly TorchScript.
    """
    import torch

    for path, each in module.named_modules():
        if isinstance(each, torch.jit.ScriptModule):
            raise UnreadableError(
                f"layer {path!r} is TorchScript, which torch.export cannot read",
                where=name,
                hint="give the layer as an nn.Module, or the whole as TorchScript: "
                "torch.jit.trace(module, example)",
            )
        kind = _quantized(each)
        if kind:
            raise UnreadableError(
                f"layer {path!r} is {kind} ({type(each).__name__}), whose BatchNorm and weights "
                "are computed anew in every pass",
                where=name,
                hint="export the float module from before prepare_qat() or convert()",
            )


def _quantized(layer: Any) -> str:
    homes = [each.__module__ for each in type(layer).__mro__]
    if any(".qat." in e or e.endswith((".qat", ".fake_quantize")) for e in homes if _is_ao(e)):
        return "made for quantization-aware training"
    if any(".quantized" in each for each in homes if _is_ao(each)):
        return "quantized"
    return ""


def _is_ao(home: str) -> bool:
    return home.startswith(("torch.ao.", "torch.nn.quantized", "torch.nn.intrinsic", "torchao."))


def refuse_bfloat16(tensors: dict[str, Any], name: str) -> None:
    """Refuse what ONNX Runtime cannot run.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor is bfloat16.
    """
    import torch

    for each, tensor in tensors.items():
        if tensor.dtype == torch.bfloat16:
            raise UnreadableError(
                f"{each!r} is bfloat16, which ONNX Runtime cannot run on a CPU, so that nothing "
                "could be verified",
                where=name,
                hint="call .float() on the module and its example, or export it unverified with "
                "--no-verify",
            )
