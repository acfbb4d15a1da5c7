"""Open a model: the graph and where its tensors lie, with no large tensor loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType

from google.protobuf.message import DecodeError

from inspector.errors import UnreadableError
from inspector.facts.model import Model, function_name
from inspector.read.convert import Converter, opsets
from inspector.read.data import MESSAGE_LIMIT, TensorData
from inspector.read.evaluate import ReferenceEvaluation
from inspector.read.external import Folders
from inspector.read.formats import HEAD, check_head
from inspector.read.protos import ModelProto
from inspector.read.source import Reader, Source
from inspector.read.strings import text
from inspector.read.texts import TEXT_LIMIT, parse_text, text_kind
from inspector.read.weights import ProtoWeights
from inspector.read.wire import KEPT_WHOLE, Skeleton, skeleton

WHOLE = 2**23
"""Bytes up to which a file is read whole: the parser alone is faster there than any walk."""


def open_model(
    path: str | os.PathLike[str], *, external_dirs: Iterable[str | os.PathLike[str]] = ()
) -> Model:
    """Open an ONNX model file, at the cost of its graph and not of its weights.

    A file of more than `WHOLE` bytes is walked past its tensors' data; the official parser gets
    the rest. External data files are checked (contained, long enough) and not read.

    Parameters
    ----------
    path
        A binary model of any size, or one in ONNX's text forms under an extension of theirs.
    external_dirs
        Folders in which data files may lie beside the model's own.

    Raises
    ------
    inspector.errors.UnreadableError
        It is not a readable ONNX model; the message says what it is instead.
    """
    where, file = os.fspath(path), Path(path)
    source = Source.of(file)
    folders = Folders.of(file, external_dirs)
    kind = text_kind(file)
    if kind is None:
        weights = _parsed(source, where, folders)
    else:
        with source.reading() as reader:
            proto = parse_text(reader.read(0, min(source.size, TEXT_LIMIT + 1)), kind, where)
        weights = ProtoWeights(proto, TensorData(where, folders))
    return _model(weights, where, source.size)


def _parsed(source: Source, where: str, folders: Folders) -> ProtoWeights:
    """The weights of a binary model, which carry its messages."""
    with source.reading() as reader:
        check_head(reader.read(0, min(HEAD, source.size)), where, source.size)
        try:
            bare, proto = _messages(reader, source.size, where)
        except UnreadableError as damage:
            raise _named(reader, source.size, where) or damage from None
    data = TensorData(where, folders, source=source, token=bare.token, embedded=bare.embedded)
    return ProtoWeights(proto, data)


def _messages(reader: Reader, size: int, where: str) -> tuple[Skeleton, ModelProto]:
    """The model as the official parser reads it, and what its stubs stand for."""
    if size <= WHOLE:
        bare = Skeleton(data=reader.read(0, size), token="", embedded=())
    else:
        bare = skeleton(reader, size, where, above=KEPT_WHOLE)
    if len(bare.data) > MESSAGE_LIMIT:
        raise UnreadableError(
            f"without its tensors it still takes {len(bare.data):,} bytes, more than one "
            "protobuf message can hold",
            where=where,
        )
    try:
        proto: ModelProto = ModelProto.FromString(bare.data)
    except DecodeError:
        raise _why_not(reader, size, where) from None
    # Protobuf takes almost any bytes for a message of unknown fields.
    if not proto.HasField("graph"):
        raise UnreadableError(
            "not an ONNX model: it holds no graph",
            where=where,
            hint="check that it is the model you meant",
        )
    return bare, proto


def _named(reader: Reader, size: int, where: str) -> UnreadableError | None:
    """What a file is that is another message than a model."""
    from inspector.read.messages import what_message

    known = what_message(reader.read(0, min(size, WHOLE)), where)
    return known and UnreadableError(f"this is {known[0]}", where=where, hint=known[1])


def _why_not(reader: Reader, size: int, where: str) -> UnreadableError:
    """The place at which a file that does not parse goes wrong, as far as a walk finds it."""
    try:
        skeleton(reader, size, where, above=1)
    except UnreadableError as found:
        return found
    return UnreadableError(
        f"not an ONNX model, or damaged: {size:,} bytes do not parse",
        where=where,
        hint="compare its size with the original, and copy or export it again",
    )


def _model(weights: ProtoWeights, where: str, size: int) -> Model:
    proto = weights.proto
    converter = Converter(weights, where)
    graph = converter.graph(proto.graph)
    functions = {
        (text(each.domain), function_name(text(each.name), text(each.overload))): (
            converter.function(each)
        )
        for each in proto.functions
    }
    return Model(
        path=where,
        size=size,
        ir_version=proto.ir_version,
        producer=f"{text(proto.producer_name)} {text(proto.producer_version)}".strip(),
        opsets=opsets(proto.opset_import),
        graph=graph,
        functions=MappingProxyType(functions),
        metadata=MappingProxyType(
            {text(each.key): text(each.value) for each in proto.metadata_props}
        ),
        missing_data=MappingProxyType(weights.data.missing),
        notes=tuple(converter.notes),
        data_files=weights.data.files,
        weights=weights,
        evaluator=ReferenceEvaluation(weights),
    )
