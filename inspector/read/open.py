"""Open a model: the graph and where its tensors lie, with no tensor loaded."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType

import onnx
from google.protobuf.message import DecodeError

from inspector.errors import UnreadableError
from inspector.facts.model import Model, function_name
from inspector.read.convert import Converter, opsets
from inspector.read.external import missing_files
from inspector.read.formats import read_bytes
from inspector.read.strings import text
from inspector.read.weights import ProtoWeights


def open_model(path: str | os.PathLike[str]) -> Model:
    """Open an ONNX model file.

    External data files are checked (contained in the model's folder, long enough) and not read.

    Raises
    ------
    inspector.errors.UnreadableError
        It is not a readable ONNX model; the message says what it is instead.
    """
    where = os.fspath(path)
    data = read_bytes(Path(where))
    proto = _parse(data, where)
    weights = ProtoWeights(proto, where)
    missing = missing_files(weights.tensors_of_proto(), where)
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
        size=len(data),
        ir_version=proto.ir_version,
        producer=f"{text(proto.producer_name)} {text(proto.producer_version)}".strip(),
        opsets=opsets(proto.opset_import),
        graph=graph,
        functions=MappingProxyType(functions),
        metadata=MappingProxyType(
            {text(each.key): text(each.value) for each in proto.metadata_props}
        ),
        missing_data=MappingProxyType(missing),
        weights=weights,
    )


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError:
        raise UnreadableError(
            f"not an ONNX model, or cut off or damaged: {len(data):,} bytes do not parse",
            where=where,
            hint="compare its size with the original, and copy or export it again",
        ) from None
    # Protobuf takes almost any bytes for a message of unknown fields.
    if not proto.HasField("graph"):
        raise UnreadableError(
            "not an ONNX model: it holds no graph",
            where=where,
            hint="check that it is the model you meant",
        )
    return proto
