"""How ONNX stores the elements of each type (https://onnx.ai/onnx/repo-docs/IR.html)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from inspector.errors import UnreadableError
from inspector.read.protos import TensorProto

# Older releases of onnx lack the newest types: whatever has no number there is left out.
_NUMBERS: Mapping[str, int] = dict(TensorProto.DataType.items())

_NUMPY_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}

DTYPES: Mapping[int, str] = {
    number: _NUMPY_NAMES.get(name, name.lower()) for name, number in _NUMBERS.items()
}
"""ONNX's element types as numpy writes them."""

BITS: Mapping[int, int] = {
    _NUMBERS[name]: bits
    for bits, names in {
        2: "UINT2 INT2",
        4: "UINT4 INT4 FLOAT4E2M1",
        6: "FLOAT6E2M3 FLOAT6E3M2",
        8: "UINT8 INT8 BOOL FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT8E8M0",
        16: "UINT16 INT16 FLOAT16 BFLOAT16",
        32: "UINT32 INT32 FLOAT",
        64: "UINT64 INT64 DOUBLE COMPLEX64",
        128: "COMPLEX128",
    }.items()
    for name in names.split()
    if name in _NUMBERS
}
"""Bits of one element; strings have no size."""

PLAIN: Mapping[int, str] = {
    _NUMBERS[name]: dtype
    for name, dtype in {
        "FLOAT": "<f4",
        "DOUBLE": "<f8",
        "FLOAT16": "<f2",
        "INT8": "|i1",
        "INT16": "<i2",
        "INT32": "<i4",
        "INT64": "<i8",
        "UINT8": "|u1",
        "UINT16": "<u2",
        "UINT32": "<u4",
        "UINT64": "<u8",
        "BOOL": "|b1",
        "COMPLEX64": "<c8",
        "COMPLEX128": "<c16",
    }.items()
}
"""Types that numpy has of itself, as ``raw_data`` holds them: little-endian."""

ELEMENTS_FIELD: Mapping[int, str] = {
    _NUMBERS[name]: field
    for field, names in {
        "float_data": "FLOAT COMPLEX64",
        "double_data": "DOUBLE COMPLEX128",
        "int64_data": "INT64",
        "uint64_data": "UINT32 UINT64",
        "string_data": "STRING",
        "int32_data": "INT32 INT16 INT8 UINT16 UINT8 BOOL FLOAT16 BFLOAT16 FLOAT8E4M3FN "
        "FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT8E8M0 FLOAT6E2M3 FLOAT6E3M2 "
        "UINT4 INT4 FLOAT4E2M1 UINT2 INT2",
    }.items()
    for name in names.split()
    if name in _NUMBERS
}
"""The field that holds the elements of a type where ``raw_data`` does not."""

FIELD_NUMBERS: Mapping[str, int] = {
    each.name: each.number for each in TensorProto.DESCRIPTOR.fields
}
RAW_DATA = FIELD_NUMBERS["raw_data"]

MOST_AXES = 64
"""NumPy's own limit; a tensor with more is damage or malice."""

_COMPLEX = frozenset(_NUMBERS[name] for name in ("COMPLEX64", "COMPLEX128"))


def dtype_name(number: int) -> str:
    """ONNX's element type as numpy writes it; a number ONNX does not know as `type N`."""
    return DTYPES.get(number) or f"type {number}"


def check_dims(name: str, dims: tuple[int, ...], where: str) -> None:
    """Refuse dims that no tensor can have.

    Raises
    ------
    inspector.errors.UnreadableError
        One is negative, or there are more than `MOST_AXES`.
    """
    if not dims or (min(dims) >= 0 and len(dims) <= MOST_AXES):
        return
    what = f"{len(dims):,} dimensions, more than {MOST_AXES}"
    if len(dims) <= MOST_AXES:
        what = f"a negative dimension: {list(dims)}"
    raise UnreadableError(f"tensor {name!r} has {what}", where=where, hint="export the model again")


def stored_bytes(tensor: TensorProto) -> int | None:
    """Bytes that a tensor of this type and these dims takes; None where the type has no size."""
    bits = BITS.get(tensor.data_type)
    return None if bits is None else (prod(tensor.dims) * bits + 7) // 8


def stored_elements(tensor: TensorProto) -> int:
    """Entries that its typed field has for a tensor of this type and these dims.

    A complex number takes two of them; an entry takes as many numbers of 2 or 4 bits as fill a
    byte, and one number of 6.
    """
    elements: int = prod(tensor.dims)
    if tensor.data_type in _COMPLEX:
        return 2 * elements
    bits = BITS.get(tensor.data_type, 8)
    return (elements * bits + 7) // 8 if bits in (2, 4) else elements
