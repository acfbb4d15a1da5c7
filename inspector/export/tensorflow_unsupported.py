"""Say which operator of TensorFlow cannot be written in ONNX, and whose it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from inspector.errors import UnreadableError
from inspector.export import protos
from inspector.export.source import described

if TYPE_CHECKING:
    from onnx import ModelProto

Whose = Callable[[str], str]
"""From an operator's name to what it belongs to, as messages call it."""


class ConversionError(UnreadableError):
    """tf2onnx gives up on a graph; at another opset it may not."""


class UnsupportedError(UnreadableError):
    """An operator that tf2onnx knows at no opset."""


def operator(name: str) -> str:
    """What messages call an operator whose layer is not known."""
    return f"operator {name!r}"


def refuse_unknown(proto: ModelProto, opset: int, title: str, whose: Whose) -> None:
    """Refuse what tf2onnx has left as it was: operators of TensorFlow's own.

    Raises
    ------
    UnsupportedError
        There is one that it knows at no opset.
    ConversionError
        There is one that it knows at another.
    """
    import onnx

    for node in protos.nodes(proto):
        if node.domain not in ("", "ai.onnx") or onnx.defs.has(node.op_type):
            continue
        owner = f"{whose(node.name)} computes {node.op_type}"
        if _is_known(node.op_type):
            what = f"{owner}, which tf2onnx does not write at opset {opset}"
            raise ConversionError(what, where=title, hint="choose a newer --opset")
        raise UnsupportedError(
            f"{owner}, for which ONNX has no operator and tf2onnx no other way",
            where=title,
            hint=_advice(node.op_type),
        )


def _is_known(op: str) -> bool:
    from tf2onnx.handler import tf_op

    # Beside ONNX's own operators it writes some that need ONNX Runtime's extensions.
    return any(op in each for each in tf_op.get_opsets().get("", ()))


def failed(error: Exception, opset: int, title: str, whose: Whose) -> ConversionError:
    """What tf2onnx raised, with the operator that it was about where its handler tells."""
    said = described(error).replace("make_sure failure: ", "")
    node = _node_of(error)
    if node is None:
        return ConversionError(
            f"tf2onnx does not convert it to opset {opset}: {said}",
            where=title,
            hint="--debug shows what it says; another form of the failing layer may help",
        )
    return ConversionError(
        f"{whose(str(node.name))} computes {node.type}, which tf2onnx does not convert to opset "
        f"{opset}: {said}",
        where=title,
        hint=_advice(str(node.type)),
    )


def _node_of(error: Exception) -> Any:
    """The node that a handler of tf2onnx was called for: the loop around it goes on to the end."""
    trace, found = error.__traceback__, None
    while trace is not None:
        inner = trace.tb_next
        if trace.tb_frame.f_code.co_name == "tensorflow_onnx_mapping" and inner is not None:
            found = inner.tb_frame.f_locals.get("node")
        trace = inner
    return found if hasattr(found, "name") and hasattr(found, "type") else None


def _advice(op: str) -> str:
    if "Random" in op or op == "Multinomial":
        return (
            "take what draws random numbers out of the exported model: augmentation is for "
            "training alone, and samples can be drawn from what the model then gives"
        )
    return (
        "export the model without this layer, on what the layer gives: "
        "keras.Model(layer.output, model.output); or write it with other operators"
    )
