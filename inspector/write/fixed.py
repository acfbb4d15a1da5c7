"""Write a patched model to a file of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx
import onnx.shape_inference
from onnx import external_data_helper

from inspector.errors import UndecidedError, UsageError
from inspector.facts.model import Model
from inspector.facts.patch import Patch
from inspector.write.large import prepared
from inspector.write.patch import patched
from inspector.write.save import save

LARGE = 1_500_000_000
"""Bytes from which on weights go to a file beside the model: protobuf ends at 2 GiB."""


def check_apart(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse to write over what is read, whatever it is called there: a link, another spelling.

    Raises
    ------
    inspector.errors.UsageError
        `path` is one of `inputs`.
    """
    for each in inputs:
        try:
            same = os.path.samefile(path, each)
        except (OSError, ValueError):  # one is not there: opening the other says what is wrong
            continue
        if same:
            raise UsageError(
                "the patched model would be written over a file that is compared",
                where=os.fspath(path),
                hint="name another file for --patch-out",
            )


def write_fixed(model: Model, patches: Sequence[Patch], path: str | Path) -> None:
    """Write `model` with `patches` applied, whole or not at all.

    Raises
    ------
    inspector.errors.UsageError
        `path` cannot be written to.
    inspector.errors.UnreadableError
        The file system refuses, or a data file of `model` fails.
    inspector.errors.UndecidedError
        A patch addresses what is not there.
    """
    copy = patched(model, patches)
    proto = onnx.load_model_from_string(copy.data)
    # What it refers to was checked when the model was opened.
    external_data_helper.load_external_data_for_model(proto, copy.folder)
    _declare(proto)
    if any(_is_open(each) for each in proto.graph.output):
        _declare_outputs(proto)
    if sum(len(each.raw_data) for each in proto.graph.initializer) > LARGE:
        with prepared(proto, path) as made:
            made.place()
        return
    try:
        save(proto.SerializeToString(deterministic=True), path)
    except ValueError as error:  # what protobuf raises on more than 2 GiB
        raise UndecidedError(f"it is too large for one file ({error})", where=str(path)) from error


def _declare(proto: onnx.ModelProto) -> None:
    """Give outputs a shape again that have none since a patch changed it: the standard asks for it.

    Of a rank that nothing tells, none is written.
    """
    bare = [each for each in proto.graph.output if not each.type.tensor_type.HasField("shape")]
    if not bare or sum(len(each.raw_data) for each in proto.graph.initializer) > LARGE:
        return
    inferred = {e.name: e for e in onnx.shape_inference.infer_shapes(proto).graph.output}
    for each in bare:
        each.CopyFrom(inferred[each.name])


def _is_open(output: onnx.ValueInfoProto) -> bool:
    """Whether an output is declared with a number of axes and with none of their lengths."""
    dims = output.type.tensor_type.shape.dim
    return bool(dims) and all(each.WhichOneof("value") is None for each in dims)


def _declare_outputs(proto: onnx.ModelProto) -> None:
    """Give outputs that may have other shapes than they had those that follow from the graph."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for each in bare.graph.output:
        if _is_open(each):
            each.type.tensor_type.ClearField("shape")
    try:
        known = onnx.shape_inference.infer_shapes(bare).graph.output
    except (onnx.shape_inference.InferenceError, ValueError):  # too large, or it cannot be told
        return
    for output, found in zip(proto.graph.output, known, strict=True):
        if _is_open(output) and found.type.tensor_type.HasField("shape"):
            output.type.CopyFrom(found.type)
