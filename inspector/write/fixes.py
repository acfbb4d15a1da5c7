"""Make the changes of ``--fix`` in a model's own messages: what they do not touch stays as it is.

Data files are never looked at: tensors that lie in them stay there, under the same locations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from inspector.errors import UndecidedError, UnreadableError
from inspector.facts.fix import Change, Fold, SetInference, SetNumber, Unlist, WriteNative
from inspector.facts.manifest import KEY
from inspector.read.strings import text
from inspector.read.tensors import tensors_of
from inspector.write.fix_bodies import Bodies, Body, CannotFixError, forget, keep, producer
from inspector.write.fix_fold import fold
from inspector.write.fix_native import write_native

LIMIT = 2**31 - 1
"""Bytes that one protobuf message can have (https://protobuf.dev/programming-guides/encoding/)."""


def read_whole(path: str | Path) -> onnx.ModelProto:
    """All of a model file, for it to be written again.

    Raises
    ------
    inspector.errors.UnreadableError
        It cannot be read.
    inspector.errors.UndecidedError
        It is larger than one message, or in one of ONNX's text forms.
    """
    file = Path(path)
    try:
        if file.stat().st_size > LIMIT:
            raise UndecidedError(
                "it is larger than one protobuf message, and such files are not fixed",
                where=str(path),
                hint="save it with external data",
            )
        data = file.read_bytes()
    except OSError as error:
        raise UnreadableError(
            f"cannot be read ({(error.strerror or str(error)).lower()})", where=str(path)
        ) from error
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise UndecidedError(
            "it is in a text form, and binary models alone are fixed",
            where=str(path),
            hint="save it as .onnx",
        ) from error
    return proto


def with_changes(
    proto: onnx.ModelProto, changes: Sequence[Change]
) -> tuple[onnx.ModelProto, dict[int, str]]:
    """A copy of a model with `changes`, and why some of them were not made, by their position."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    why_not = {}
    for at, change in enumerate(changes):
        try:
            # Scopes are called after nodes, which changes may have renamed or taken out.
            _apply(copy, change, Bodies(copy))
        except CannotFixError as error:  # each of them looks before it changes anything
            why_not[at] = str(error)
    if len(why_not) < len(changes) and any(map(_ends_manifest, changes)):
        keep(copy.metadata_props, lambda each: each.key != KEY)
    return copy, why_not


def serialised(proto: onnx.ModelProto, where: str) -> bytes:
    """A model's bytes.

    Raises
    ------
    inspector.errors.UndecidedError
        It does not fit one message.
    """
    try:
        data: bytes = proto.SerializeToString(deterministic=True)
    except ValueError as error:  # what protobuf raises on more than 2 GiB
        raise UndecidedError("it would not fit one file any more", where=where) from error
    return data


def is_valid(proto: onnx.ModelProto) -> bool | None:
    """What ONNX's own checker says; None where it would have to see data files."""
    if any(each.data_location == onnx.TensorProto.EXTERNAL for each in tensors_of(proto)):
        return None
    try:
        onnx.checker.check_model(proto)
    # It raises ValueError on messages of more than 2 GiB.
    except (onnx.checker.ValidationError, ValueError):
        return False
    return True


def has_manifest(proto: onnx.ModelProto) -> bool:
    """Whether the export's manifest is in the file."""
    return any(each.key == KEY for each in proto.metadata_props)


def _ends_manifest(change: Change) -> bool:
    """Whether an export's manifest would no longer tell of the file what is in it.

    It names tensors and layers, and how far the outputs were from the framework's.
    """
    return not isinstance(change, Unlist)


def _apply(proto: onnx.ModelProto, change: Change, bodies: Bodies) -> None:
    match change:
        case SetInference():
            _set_inference(change, bodies.at(change.scope), proto)
        case SetNumber():
            node = _batchnorm(bodies.at(change.scope), change.output)
            _set(node, change.name, change.value)
        case Unlist():
            # Before 4 the format asks for every initializer among the inputs.
            proto.ir_version = max(proto.ir_version, 4)
            names = set(change.names)
            keep(proto.graph.input, lambda each: text(each.name) not in names)
        case WriteNative():
            _refuse_training(proto)
            write_native(change, bodies.graph(change.scope), proto)
        case Fold():
            _refuse_training(proto)
            fold(change, bodies.graph(change.scope), proto)


def _refuse_training(proto: onnx.ModelProto) -> None:
    """Refuse to take tensors out of a file that says how they are trained on."""
    if proto.training_info:
        raise CannotFixError("the file's training information may name tensors that would go")


def opset_of(body: Body, proto: onnx.ModelProto) -> int:
    """The version of the standard domain that a body is of; 1 where none is imported."""
    own = body.opset_import if isinstance(body, onnx.FunctionProto) else ()
    imports = list(own) or list(proto.opset_import)
    found = [each.version for each in imports if each.domain in ("", "ai.onnx")]
    return int(found[-1]) if found else 1


def _set_inference(change: SetInference, body: Body, proto: onnx.ModelProto) -> None:
    node = _batchnorm(body, change.output)
    further = {name for name in node.output[1:] if name}
    updated = [each for info in proto.training_info for each in info.update_binding]
    if any(each.value in further for each in updated):
        raise CannotFixError("the file's training information reads its further outputs")
    opset = opset_of(body, proto)
    if opset >= 14:
        _set(node, "training_mode", 0)
    elif opset < 7:
        _set(node, "is_test", 1)
    del node.output[1:]
    forget(body, further)


def _batchnorm(body: Body, output: str) -> onnx.NodeProto:
    node = producer(body, output)
    if node.op_type != "BatchNormalization" or node.output[0] != output:
        raise CannotFixError("it is no BatchNormalization node")
    return node


def _set(node: onnx.NodeProto, name: str, value: float) -> None:
    """Give a node an attribute, in the place of the one that it has."""
    made = helper.make_attribute(name, value)
    for each in node.attribute:
        if each.name == name:
            if each.ref_attr_name:
                raise CannotFixError(f"the calls of its function say which {name} it has")
            each.CopyFrom(made)
            return
    node.attribute.append(made)
