"""ONNX's official protobuf messages, without the rest of the onnx package.

``import onnx`` brings its checker, composer and three serialisers along: twice the time of the
messages alone, paid by every call. Where nobody has imported onnx yet, its generated module is
run by itself. Both ways give the very same classes, whichever comes first: protobuf keeps one
class for each descriptor of its default pool, and the two register the same descriptors.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        FunctionProto,
        GraphProto,
        ModelProto,
        NodeProto,
        OperatorSetIdProto,
        SparseTensorProto,
        TensorProto,
        ValueInfoProto,
    )

__all__ = [
    "AttributeProto",
    "FunctionProto",
    "GraphProto",
    "ModelProto",
    "NodeProto",
    "OperatorSetIdProto",
    "SparseTensorProto",
    "TensorProto",
    "ValueInfoProto",
]

_GENERATED = "onnx_ml_pb2"


def _messages() -> Any:
    """The module that holds the message classes."""
    package = None if "onnx" in sys.modules else importlib.util.find_spec("onnx")
    folders = (package.submodule_search_locations if package else None) or ()
    for folder in folders:
        generated = Path(folder) / f"{_GENERATED}.py"
        if generated.is_file():
            spec = importlib.util.spec_from_file_location(f"onnx.{_GENERATED}", generated)
            if spec is not None and spec.loader is not None:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    import onnx

    return onnx


if not TYPE_CHECKING:
    _found = _messages()
    for _name in __all__:
        globals()[_name] = getattr(_found, _name)
