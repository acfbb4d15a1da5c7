"""Mutations of models as ONNX's messages: each writes a well-formed file that makes little sense.

`mutated` is what either engine calls. It picks between these, those of `wire.py`, and bytes
changed with no thought at all, so that some inputs get deep and some do not get in.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError

from . import wire

Plain = Callable[[bytes, int], bytes]
"""Changes bytes, given the most that there may be of them: libFuzzer's own mutations, or ours."""

NAMES = (
    *("", "x", "s", "v", "y", "a\nb", "\x1b[31mred\x1b[0m", "\u202egnp", "\0", "é", "\ufeff"),
    *("[bold]", "{0}", "%s", "long" * 200, "a/b.c", "(x)", "#2", "BatchNormalization", "Constant"),
    *("ai.onnx", "bninspect.manifest", "f", "local", "then_branch", "value", "training_mode"),
)
LOCATIONS = (
    *("data.bin", "data.bin", "short.bin", "folder", "link.bin", "pipe", "model.onnx", ""),
    *("missing.bin", "../outside.bin", "/etc/hostname", "folder/../data.bin", "./data.bin"),
    *("no\0ne", "x" * 300, "x/" * 3000, "/dev/zero", "data.bin/x", "é", "\x1b[2J", "a\nb"),
)
EXTENTS = ("0", "4", "8", "16", "-1", "4096", "4095", str(2**40), "9" * 5000, "1e3", "", "é", "٣")
SIZES = (0, 1, 2, 3, 4, 5, 8, -1, 64, 2**16, 2**27, 2**28, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, 1.0, -1.0, 1e-5, 1e30, 1e-45, float("inf"), float("-inf"), float("nan"))

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
MOST_MESSAGES = 3000


def mutated(data: bytes, most: int, seed: int, plain: Plain | None = None) -> bytes:
    """`data` changed in some way, at most `most` bytes; the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311  # nothing is kept secret with it
    plain = plain or _blind(dice)
    draw = dice.random()
    if draw < 0.45:
        changed = _as_model(data, dice)
    elif draw < 0.8:
        changed = wire.mutated(data, dice)
    else:
        changed = plain(data, most)
    if changed == data or len(changed) > most:
        changed = plain(data, most)
    return changed[:most]


def crossed(data: bytes, other: bytes, most: int, seed: int) -> bytes:
    """A part of `other` inside `data`."""
    return wire.crossed(data, other, random.Random(seed))[:most]  # noqa: S311  # as above


def _blind(dice: random.Random) -> Plain:
    """Changed bytes where there is no libFuzzer to change them."""

    def change(data: bytes, most: int) -> bytes:
        changed = bytearray(data)
        for _ in range(dice.choice((1, 1, 2, 8))):
            at = dice.randrange(len(changed) + 1)
            match dice.randrange(4):
                case 0:
                    changed[at : at + 1] = dice.randbytes(1)
                case 1:
                    changed[at:at] = dice.randbytes(dice.randrange(1, 9))
                case 2:
                    del changed[at : at + dice.choice((1, 4, 100))]
                case _ if at < len(changed):
                    changed[at] ^= 1 << dice.randrange(8)
        return bytes(changed[:most])

    return change


# --- changes of messages


def _as_model(data: bytes, dice: random.Random) -> bytes:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        for _ in range(dice.choice((1, 1, 2, 4))):
            dice.choice(_CHANGES)(model, dice)
        return model.SerializeToString()
    # Some messages parse and do not serialise: too deep, or strings that are no UTF-8.
    except (DecodeError, EncodeError, ValueError, UnicodeError):
        return data


def _messages(root: Any, name: str = "") -> list[Any]:
    """Messages inside `root` and itself, of one type where it is named."""
    found, pending = [], [root]
    while pending and len(found) < MOST_MESSAGES:
        message = pending.pop()
        found.append(message)
        for field, value in message.ListFields():
            if field.message_type is not None:
                pending += value if field.is_repeated else [value]
    return [each for each in found if name in ("", each.DESCRIPTOR.name)]


def _set_any(model: onnx.ModelProto, dice: random.Random) -> None:
    """Any field of any message."""
    message = dice.choice(_messages(model))
    field = dice.choice(message.DESCRIPTOR.fields)
    if dice.random() < 0.2:
        message.ClearField(field.name)
    elif field.message_type is not None:
        alike = _messages(model, field.message_type.name)
        value = type(alike[0])() if alike and dice.random() < 0.2 else None
        value = value or (dice.choice(alike) if alike else None)
        if value is not None:
            # Serialised first: a message may be copied into itself.
            content = value.SerializeToString()
            target = getattr(message, field.name)
            (target.add() if field.is_repeated else target).ParseFromString(content)
    elif field.is_repeated:
        values = [_scalar(field, model, dice) for _ in range(dice.choice((1, 1, 2, 5, 70)))]
        getattr(message, field.name).extend(values)
    else:
        setattr(message, field.name, _scalar(field, model, dice))


def _scalar(field: FieldDescriptor, model: onnx.ModelProto, dice: random.Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return dice.choice((b"", b"\xff", b"x", bytes(8), dice.randbytes(dice.randrange(40))))
        case FieldDescriptor.CPPTYPE_STRING:
            return _name(model, dice)
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return dice.choice(FLOATS)
        case FieldDescriptor.CPPTYPE_ENUM:
            return dice.choice(field.enum_type.values).number
        case FieldDescriptor.CPPTYPE_BOOL:
            return dice.random() < 0.5
        case kind:
            low, high = _RANGES[kind]
            return min(max(dice.choice((*SIZES, *range(17))), low), high)


def _name(model: onnx.ModelProto, dice: random.Random) -> str:
    """A name that the model uses somewhere, or one that is hard to print."""
    if dice.random() < 0.4:
        return dice.choice(NAMES)
    nodes = [name for node in _messages(model, "NodeProto") for name in (*node.input, *node.output)]
    known = [name for name in nodes if isinstance(name, str)]
    return dice.choice(known or NAMES)


def _repeat_any(model: onnx.ModelProto, dice: random.Random) -> None:
    """Elements of a repeated field, twice, dropped or in another order."""
    found = [
        getattr(message, field.name)
        for message in _messages(model)
        for field, _ in message.ListFields()
        if field.is_repeated
    ]
    if not found:
        return
    elements = dice.choice(found)
    values = list(elements)
    match dice.randrange(3):
        case 0:
            values += values[: dice.choice((1, 2, 30))]
        case 1:
            dice.shuffle(values)
        case _:
            del values[dice.randrange(len(values))]
    copies = [each.__deepcopy__() if hasattr(each, "DESCRIPTOR") else each for each in values]
    del elements[:]
    elements.extend(copies)


def _resize(model: onnx.ModelProto, dice: random.Random) -> None:
    """Dims that do not fit the values."""
    tensors = [*_messages(model, "TensorProto"), *_messages(model, "SparseTensorProto")]
    if not tensors:
        return
    dims = dice.choice(tensors).dims
    match dice.randrange(4):
        case 0 if dims:
            dims[dice.randrange(len(dims))] = dice.choice(SIZES)
        case 1 if dims:
            del dims[-1]
        case 2:
            dims.extend([dice.choice(SIZES)] * dice.choice((1, 2, 65, 500)))
        case _:
            dims.append(dice.choice(SIZES))


def _retype(model: onnx.ModelProto, dice: random.Random) -> None:
    tensors = _messages(model, "TensorProto")
    if tensors:
        dice.choice(tensors).data_type = dice.choice((*range(30), -1, 2**31 - 1))


def _store_elsewhere(model: onnx.ModelProto, dice: random.Random) -> None:
    """A tensor's values in a data file: one that is there, one that is not, one out of reach."""
    tensors = _messages(model, "TensorProto")
    if not tensors:
        return
    tensor = dice.choice(tensors)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    if dice.random() < 0.5:
        tensor.ClearField("external_data")
        tensor.external_data.add(key="location", value=dice.choice(LOCATIONS))
    else:
        key = dice.choice(("location", "offset", "length", "checksum", "basepath"))
        value = dice.choice(LOCATIONS if key == "location" else EXTENTS)
        tensor.external_data.add(key=key, value=value)


def _store_sparsely(model: onnx.ModelProto, dice: random.Random) -> None:
    """An initializer's values as a sparse tensor, indices and all."""
    graphs = [each for each in _messages(model, "GraphProto") if each.initializer]
    if not graphs:
        return
    graph = dice.choice(graphs)
    dense = dice.choice(graph.initializer)
    sparse = graph.sparse_initializer.add(dims=[dice.choice(SIZES) for _ in range(2)])
    sparse.values.CopyFrom(dense)
    sparse.indices.data_type = onnx.TensorProto.INT64
    sparse.indices.int64_data.extend([dice.choice(SIZES) for _ in range(4)])
    sparse.indices.dims.extend(dice.choice(([4], [2, 2], [1, 4], [4, 1], [0])))


def _rename(model: onnx.ModelProto, dice: random.Random) -> None:
    nodes = _messages(model, "NodeProto")
    if nodes:
        node = dice.choice(nodes)
        field = dice.choice(("name", "op_type", "domain", "overload", "input", "output"))
        if field in ("input", "output"):
            names = getattr(node, field)
            names.insert(dice.randrange(len(names) + 1), _name(model, dice))
        else:
            setattr(node, field, _name(model, dice))


def _nest(model: onnx.ModelProto, dice: random.Random) -> None:
    """The graph inside an If of itself, a few times."""
    if len(model.graph.SerializeToString()) > 50_000:
        return
    for _ in range(dice.choice((1, 1, 3, 14))):
        inner = model.graph.SerializeToString()
        outer = onnx.GraphProto(name="outer")
        node = outer.node.add(op_type="If", output=["y"], name=_name(model, dice))
        attribute = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        attribute.g.ParseFromString(inner)
        if dice.random() < 0.5:
            outer.input.extend(model.graph.input)
            outer.output.extend(model.graph.output)
        model.graph.CopyFrom(outer)


def _call(model: onnx.ModelProto, dice: random.Random) -> None:
    """A function that calls others, maybe itself; the graph calls it."""
    at = len(model.functions)
    if at > 40:
        return
    function = model.functions.add(name=f"f{at}", domain="local", input=["x"], output=["y"])
    function.opset_import.add(domain="", version=17)
    for _ in range(dice.choice((1, 2, 3))):
        callee = f"f{dice.randrange(max(1, at + dice.randrange(2)))}"
        function.node.add(op_type=callee, domain="local", input=["x"], output=["y"])
    for node in list(model.graph.node)[: dice.randrange(4)]:
        function.node.append(node)
    model.graph.node.add(op_type=f"f{at}", domain="local", input=["x"], output=[f"called{at}"])


_CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    *(_set_any, _set_any, _set_any, _repeat_any, _resize, _resize, _retype),
    *(_store_elsewhere, _store_elsewhere, _store_sparsely, _rename, _nest, _call),
)
