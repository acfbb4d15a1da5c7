"""What ONNX Runtime opens in place of a model: its file, or a copy of it."""

from __future__ import annotations

from pathlib import Path

from inspector.errors import UndecidedError, UnreadableError
from inspector.facts.model import Model
from inspector.facts.patch import Runnable
from inspector.read.copies import is_one_file, linked
from inspector.read.protos import ModelProto
from inspector.read.weights import ProtoWeights

LIMIT = 2**31 - 2**20
"""Bytes above which a patched copy no longer fits one protobuf message."""


def runnable(model: Model) -> Path | Runnable:
    """What ONNX Runtime opens in place of `model`.

    The file itself, where it is binary, in one piece and of a size that its parser takes. Else a
    copy that names each data file by the path that was checked: ONNX Runtime reads what we read.

    Raises
    ------
    inspector.errors.UndecidedError
        A copy would be too large.
    inspector.errors.UnreadableError
        A data file is missing or fails.
    """
    file = own_file(model)
    if file is not None:
        return file
    proto, folder = copy_of(model)
    return Runnable(data=bytes(proto.SerializeToString()), folder=folder)


def own_file(model: Model) -> Path | None:
    """The file of a model where ONNX Runtime opens it as it is; None where it takes a copy.

    Raises
    ------
    inspector.errors.UndecidedError
        The model was not opened from a file.
    inspector.errors.UnreadableError
        A data file is missing.
    """
    weights = _weights(model)
    if is_one_file(weights.proto, weights.data) and model.size <= LIMIT and _is_text(model.path):
        return Path(model.path)
    return None


def copy_of(model: Model) -> tuple[ModelProto, str]:
    """A copy of a model to be changed or run, and the folder that its data files lie in.

    Raises
    ------
    inspector.errors.UndecidedError
        It would be too large for one message.
    inspector.errors.UnreadableError
        A data file is missing.
    """
    weights = _weights(model)
    try:
        return linked(weights.proto, weights.data, LIMIT)
    except UnreadableError as error:
        raise UndecidedError(error.what, where=weights.data.where, hint=error.hint) from error


def _is_text(path: str) -> bool:
    """Whether a path is UTF-8, as ONNX Runtime's Python takes it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _weights(model: Model) -> ProtoWeights:
    if not isinstance(model.weights, ProtoWeights):
        raise UndecidedError("only a model opened from a file can be copied", where=model.path)
    if model.missing_data:
        raise UnreadableError("data files are missing", where=model.path)
    return model.weights
