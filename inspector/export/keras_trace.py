"""Keras model → TensorFlow graph → ONNX, with every BatchNorm marked by the layer it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inspector.export import keras_patches as patches
from inspector.export.keras_library import Library, flattened_layers
from inspector.export.tensorflow_convert import Written, function_of, write
from inspector.export.tensorflow_fused import MARK
from inspector.export.tensorflow_signatures import Signature
from inspector.export.tensorflow_subject import Subject
from inspector.export.tensorflow_unsupported import Whose, operator

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A converted model, not yet renamed.

    `captured` maps the name of a frozen constant to the variable it holds; `calls` are the calls
    of BatchNorm layers by their number, `expected` the numbers that the outputs depend on, and
    `read` the constants. `scopes` are those that each layer's nodes are named under, by the layer's
    id.
    """

    proto: ModelProto
    captured: Mapping[str, Any]
    calls: Sequence[patches.Call]
    expected: frozenset[int]
    read: frozenset[str]
    arithmetic: Sequence[tuple[Any, str]]
    scopes: Mapping[int, Sequence[str]]


def convert(subject: Subject, library: Library, how: Signature, opset: int) -> Converted:
    """Trace the model and convert it, under the patches that keep BatchNorm.

    Raises
    ------
    inspector.export.tensorflow_unsupported.ConversionError
        tf2onnx fails.
    Exception
        Whatever Keras or TensorFlow raises.
    """
    with (
        patches.native_batchnorm(library) as calls,
        patches.scopes_noted(library) as scopes,
        patches.inlined_functions(),
    ):
        concrete = function_of(subject, how)
    whose = _whose(subject, library, scopes)
    written: Written = write(subject, how, concrete, opset, whose=whose)
    return Converted(
        proto=written.proto,
        captured=written.captured,
        calls=tuple(calls.met),
        expected=reachable(written.frozen, written.outputs),
        read=depended(written.frozen, written.outputs) & written.captured.keys(),
        arithmetic=tuple(calls.unsupported),
        scopes=scopes,
    )


def _whose(subject: Subject, library: Library, scopes: Mapping[int, Sequence[str]]) -> Whose:
    """Names the innermost layer under whose scopes an operator was traced."""
    model = subject.owner
    layers = {id(each): each for each in (*library.listed(model), *flattened_layers(model))}
    owners = [(scope, layers[key]) for key, own in scopes.items() if key in layers for scope in own]

    def whose(name: str) -> str:
        around = [each for each in owners if name.startswith(f"{each[0]}/")]
        if not around:
            return operator(name)
        _, layer = max(around, key=lambda each: len(each[0]))
        own = "the model" if layer is model else f"layer {layer.name!r}"
        return f"{own} ({type(layer).__name__})"

    return whose


_MARKED = re.compile(rf"{MARK}(\d+)(?:_\d+)?/")


def number_of(name: str) -> int | None:
    """The number of the BatchNorm call that a node or value name carries."""
    found = _MARKED.search(name)
    return int(found.group(1)) if found else None


def reachable(frozen: Any, outputs: Sequence[str]) -> frozenset[int]:
    """Numbers of the calls that the outputs depend on; all of those inside of functions."""
    seen = depended(frozen, outputs)
    reached = [node for node in frozen.node if node.name in seen]
    reached += [node for function in frozen.library.function for node in function.node_def]
    return frozenset(
        number
        for node in reached
        if node.op == "FusedBatchNormV3" and (number := number_of(node.name)) is not None
    )


def depended(frozen: Any, outputs: Sequence[str]) -> frozenset[str]:
    """Names of the operators that the outputs depend on, constants among them."""
    by_name = {node.name: node for node in frozen.node}
    waiting = [name.partition(":")[0] for name in outputs]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen and name in by_name:
            seen.add(name)
            waiting.extend(each.lstrip("^").partition(":")[0] for each in by_name[name].input)
    return frozenset(seen)
