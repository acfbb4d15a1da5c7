"""Protobuf messages that are not a model of ONNX, told apart by their fields.

Protobuf does not write down which message it holds, and takes any message for any other with
unknown fields. A kind is only named where the fields that are there, and those inside them, are
of that kind alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

from inspector.read.elements import (
    DTYPES,
    ELEMENTS_FIELD,
    FIELD_NUMBERS,
    MOST_AXES,
    stored_bytes,
    stored_elements,
)
from inspector.read.fields import FIXED32, FIXED64, LEN, VARINT, NotAMessage, fields
from inspector.read.protos import TensorProto
from inspector.read.signatures import HEAD, for_file, name_head

_LOOKED_AT = 2000
_CHILDREN = 20
_IDENTIFIER = re.compile(rb"[A-Za-z_][\w>./:-]*")
_REPLACED = b"\xef\xbf\xbd"

Fields = dict[tuple[int, int], list[int | bytes]]


def what_message(data: bytes, where: str = "") -> tuple[str, str] | None:
    """What a file is that protobuf may take, and that is no model with a graph.

    For a file that passed `inspector.read.formats.check_head` and then did not parse, or parsed
    without a graph.

    Parameters
    ----------
    data
        The file, or its first few MB.
    where
        The file, for the commands in hints.
    """
    if named := name_head(data[:HEAD], where, len(data)):
        return named
    found = _read(data)
    for is_kind, what, hint in _KINDS:
        if found and is_kind(found):
            return what, for_file(hint, where)
    if _rewritten_as_text(data):
        return (
            "a binary file that was rewritten as text: bytes that are no UTF-8 were lost",
            "get the original again, and mark *.onnx as binary (`*.onnx binary` in .gitattributes)",
        )
    return None


def _read(data: int | bytes) -> Fields:
    """The first fields by number and wire type; none where it is no message."""
    found: Fields = {}
    if isinstance(data, int):
        return found
    try:
        for number, wire, value in itertools.islice(fields(data), _LOOKED_AT):
            found.setdefault((number, wire), []).append(value)
    except NotAMessage:
        return {}
    return found


def _strings(*numbers: int) -> set[tuple[int, int]]:
    return {(number, LEN) for number in numbers}


def _identifiers(values: Sequence[int | bytes]) -> bool:
    return all(isinstance(value, bytes) and _IDENTIFIER.fullmatch(value) for value in values)


def _texts(values: Sequence[int | bytes]) -> bool:
    try:
        return all(isinstance(value, bytes) and value.decode().isprintable() for value in values)
    except UnicodeDecodeError:
        return False


def _all(values: Sequence[int | bytes], is_kind: Callable[[Fields], bool]) -> bool:
    """Whether the first of these fields all are messages of a kind, and there are any."""
    # The last one may be cut off, where only the beginning of the file is here.
    first = values[:_CHILDREN] if len(values) == 1 else values[:-1][:_CHILDREN]
    return bool(first) and all(is_kind(_read(value)) for value in first)


def _is_node(found: Fields) -> bool:
    """NodeProto: input 1, output 2, name 3, op_type 4, attribute 5, domain 7."""
    op_type = found.get((4, LEN), [])
    return (
        found.keys() <= _strings(*range(1, 11))
        and len(op_type) == 1
        and _identifiers(op_type)
        and _texts(found.get((1, LEN), []) + found.get((2, LEN), []))
        and all(_is_attribute(_read(each)) for each in found.get((5, LEN), []))
    )


_ATTRIBUTE = _strings(1, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 21, 22, 23) | {
    *((2, FIXED32), (7, FIXED32)),
    *((3, VARINT), (8, VARINT), (20, VARINT)),
}


def _is_attribute(found: Fields) -> bool:
    """AttributeProto: name 1, a float 2; TensorFlow's attributes have their value in 2."""
    names = found.get((1, LEN), [])
    return found.keys() <= _ATTRIBUTE and len(names) == 1 and _texts(names)


def _is_lone_node(found: Fields) -> bool:
    return _is_node(found) and bool(found.keys() & _strings(1, 2))


def _is_value_info(found: Fields) -> bool:
    """ValueInfoProto: name 1, type 2, doc_string 3, metadata_props 4."""
    return found.keys() <= _strings(1, 2, 3, 4) and len(found.get((1, LEN), [])) == 1


_STRINGS, _RAW, _OUTSIDE = 6, 9, 13
_TENSOR_DATA: dict[int, set[int]] = {
    **{4: {LEN, FIXED32}, 5: {LEN, VARINT}, _STRINGS: {LEN}, 7: {LEN, VARINT}},
    **{_RAW: {LEN}, 10: {LEN, FIXED64}, 11: {LEN, VARINT}, _OUTSIDE: {LEN}},
}
_TENSOR = {(number, wire) for number, wires in _TENSOR_DATA.items() for wire in wires} | {
    *_strings(1, 8, 12, 16),
    *((1, VARINT), (2, VARINT), (14, VARINT)),
}
_SIZES = {4: 4, _RAW: 1, 10: 8}
_CUT_OFF = 1000
"""Elements or bytes of data from which on the rest may lie behind what was read of the file."""


def _is_tensor(found: Fields) -> bool:
    """TensorProto: dims 1, data_type 2, data in one of 4 to 7, 9 to 11 or 13, name 8.

    A model with one damaged byte has the same few fields; so type, dims and data have to agree.
    """
    data_type = found.get((2, VARINT), [])
    names = found.get((8, LEN), [])
    kinds = {number for number, _ in found} & _TENSOR_DATA.keys()
    return (
        found.keys() <= _TENSOR
        and len(data_type) == 1
        and data_type[0] in DTYPES
        and len(names) <= 1
        and _texts(names)
        and len(kinds) == 1
        and _fits(found, kinds.pop(), int(data_type[0]), _dims(found))
        # A model has its graph there.
        and not any(
            _all(_read(each).get((1, LEN), []), _is_node) for each in found.get((7, LEN), [])
        )
    )


def _joined(pieces: Sequence[int | bytes]) -> bytes:
    return b"".join(each for each in pieces if isinstance(each, bytes))


def _dims(found: Fields) -> list[int]:
    dims, value, shift = [int(each) for each in found.get((1, VARINT), [])], 0, 0
    for byte in _joined(found.get((1, LEN), []))[: 10 * MOST_AXES]:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            dims.append(value)
            value = shift = 0
    return dims


def _fits(found: Fields, field: int, data_type: int, dims: Sequence[int]) -> bool:
    """Whether a tensor of this type and these dims has its data in this field, and as much."""
    if len(dims) > MOST_AXES or max(dims, default=0) >= 1 << 63:
        return False
    stub = TensorProto(dims=dims, data_type=data_type)
    if field == _OUTSIDE:
        entries = [_read(each) for each in found[field, LEN]]
        return [b"location"] in [entry.get((1, LEN)) for entry in entries]
    if field == _RAW:
        needed = stored_bytes(stub)
    elif field == FIELD_NUMBERS.get(ELEMENTS_FIELD.get(data_type, "")):
        needed = stored_elements(stub)
    else:
        return False
    held = _held(found, field)
    return held == needed or (needed is not None and _CUT_OFF <= held < needed)


def _held(found: Fields, field: int) -> int:
    """Elements in a field of typed data; bytes of raw data."""
    pieces = [each for wire in _TENSOR_DATA[field] for each in found.get((field, wire), [])]
    if field == _STRINGS:
        return len(pieces)
    packed = _joined(pieces)
    if field in _SIZES:
        return len(packed) // _SIZES[field]
    # Each number ends with a byte below 128.
    ends = packed.translate(None, bytes(range(128, 256)))
    return len(ends) + sum(isinstance(each, int) for each in pieces)


def _is_sequence(found: Fields) -> bool:
    """SequenceProto and OptionalProto: name 1, elem_type 2, tensors 3."""
    return (
        found.keys() <= {(2, VARINT)} | _strings(1, 3)
        and (2, VARINT) in found
        and _all(found.get((3, LEN), []), _is_tensor)
    )


def _is_graph(found: Fields) -> bool:
    """GraphProto: node 1, name 2, initializer 5, input 11, output 12, value_info 13."""
    values = found.get((11, LEN), []) + found.get((12, LEN), [])
    nodes, tensors = found.get((1, LEN), []), found.get((5, LEN), [])
    names = found.get((2, LEN), [])
    return (
        found.keys() <= _strings(1, 2, 5, 10, 11, 12, 13, 14, 15, 16)
        and bool(values or (nodes and (names or tensors)))
        and len(names) <= 1
        and _texts(names)
        and (not values or _all(values, _is_value_info))
        and (not nodes or _all(nodes, _is_node))
        and (not tensors or _all(tensors, _is_tensor))
    )


def _is_function(found: Fields) -> bool:
    """FunctionProto: name 1, input 4, output 5, node 7, opset_import 9, domain 10."""
    return (
        found.keys() <= _strings(1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
        and len(found.get((1, LEN), [])) == 1
        and _texts(found.get((4, LEN), []) + found.get((5, LEN), []) + found[1, LEN])
        and bool(found.keys() & _strings(4, 5))
        and _all(found.get((7, LEN), []), _is_node)
    )


def _is_node_def(found: Fields) -> bool:
    """TensorFlow's NodeDef: name 1, op 2, input 3, device 4, attr 5."""
    name, op, device = (found.get((number, LEN), []) for number in (1, 2, 4))
    return (
        found.keys() <= _strings(*range(1, 8))
        and len(name) == len(op) == 1
        and _texts(name)
        and _identifiers(op)
        # Where a device is named it is as in /device:CPU:0; ONNX has the operator there.
        and all(isinstance(each, bytes) and (not each or b":" in each) for each in device)
    )


def _is_graph_def(found: Fields) -> bool:
    """TensorFlow's GraphDef: node 1, library 2, version 3, versions 4."""
    return found.keys() <= {(3, VARINT)} | _strings(1, 2, 4) and _all(
        found.get((1, LEN), []), _is_node_def
    )


def _is_saved_model(found: Fields) -> bool:
    """TensorFlow's SavedModel: schema version 1, meta graphs 2, in which 2 is a GraphDef."""
    if found.keys() != {(1, VARINT), (2, LEN)}:
        return False
    meta = _read(found[2, LEN][0])
    graph = meta.get((2, LEN), [])
    return (
        meta.keys() <= _strings(*range(1, 8)) and len(graph) == 1 and _is_graph_def(_read(graph[0]))
    )


def _is_caffe(found: Fields) -> bool:
    """Caffe's NetParameter: name 1, layers 2 (old) or layer 100, in which 1 and 2 are strings."""
    return (
        _all(found.get((100, LEN), []), _is_caffe_layer)
        # 3 to 8 are the inputs, their sizes, and switches of training.
        or (
            found.keys() <= _strings(1, 2, 3, 4, 6, 8) | {(4, VARINT), (5, VARINT), (7, VARINT)}
            and _all(found.get((2, LEN), []), _is_old_caffe_layer)
        )
    )


def _is_caffe_layer(found: Fields) -> bool:
    kinds = found.get((2, LEN), [])
    return len(kinds) == 1 and _identifiers(kinds) and len(found.get((1, LEN), [])) == 1


def _is_old_caffe_layer(found: Fields) -> bool:
    return (
        len(found.get((4, LEN), [])) == 1
        and len(found.get((5, VARINT), [])) == 1
        and bool(found.keys() & _strings(3))
    )


# https://apple.github.io/coremltools/mlmodel/Format/Model.html: the model is of one kind.
_COREML_KINDS = _strings(
    *(200, 201, 202, 300, 301, 302, 303, 304, 400, 401, 402, 403, 404, 500, 501, 502, 555, 556),
    *(600, 601, 602, 603, 604, 606, 607, 609, 610, 900, 2000, 2001, 2002, 2003, 2004, 2005, 2006),
)


def _is_coreml(found: Fields) -> bool:
    """Core ML's Model: specificationVersion 1, description 2, one of `_COREML_KINDS`."""
    return (
        found.keys() <= {(1, VARINT), (10, VARINT)} | _strings(2) | _COREML_KINDS
        and (1, VARINT) in found
        and len(found.keys() & _COREML_KINDS) == 1
    )


_KINDS: tuple[tuple[Callable[[Fields], bool], str, str], ...] = (
    (
        _is_saved_model,
        "a TensorFlow saved_model.pb",
        "convert the folder it is in: "
        "`python -m tf2onnx.convert --saved-model FOLDER --output model.onnx`",
    ),
    (_is_coreml, "a Core ML model (.mlmodel)", "name the ONNX file it was made from"),
    (
        _is_sequence,
        "an ONNX sequence of tensors (SequenceProto), not a model",
        "name the model that it is an input or output of",
    ),
    (
        _is_tensor,
        "an ONNX tensor (TensorProto), not a model",
        "name the model that it is an input, output or weight of",
    ),
    (
        _is_graph,
        "a bare ONNX graph (GraphProto) without the model around it",
        "wrap it with onnx.helper.make_model, and save that",
    ),
    (
        _is_function,
        "an ONNX function (FunctionProto), not a model",
        "name the model that it is a part of",
    ),
    (
        _is_lone_node,
        "an ONNX node (NodeProto), not a model",
        "name the model that it is a part of",
    ),
    (
        _is_graph_def,
        "a TensorFlow graph (GraphDef)",
        "convert it: `python -m tf2onnx.convert --graphdef {file} --inputs X:0 --outputs Y:0 "
        "--output model.onnx`",
    ),
    (
        _is_caffe,
        "a Caffe model (.caffemodel)",
        "convert it to ONNX, together with its .prototxt",
    ),
)


def _rewritten_as_text(data: bytes) -> bool:
    """Whether bytes that were no UTF-8 have been replaced, as editors and text-mode copies do."""
    if data.count(_REPLACED) < 3:
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return len(data) - error.start < 4
    return True
