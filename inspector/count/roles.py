"""What a stored tensor is to the operators that use it.

Roles follow use, not names: input 1 of a Conv is learned whatever it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from inspector.facts.count import Role
from inspector.facts.model import Node, Tensor

_LEARNED_INPUTS: Mapping[str, frozenset[int]] = {
    op: frozenset(positions)
    for op, positions in {
        "BatchNormalization": (1, 2),
        "Conv": (1, 2),
        "ConvInteger": (1,),
        "ConvTranspose": (1, 2),
        "DeformConv": (1, 3),
        "Einsum": (0, 1, 2, 3),
        "FC": (1, 2),
        "FusedConv": (1, 2),
        "FusedGemm": (0, 1, 2),
        "FusedMatMul": (0, 1),
        "GRU": (1, 2, 3),
        "Gather": (0,),
        "Gemm": (0, 1, 2),
        "GroupNormalization": (1, 2),
        "InstanceNormalization": (1, 2),
        "LSTM": (1, 2, 3, 7),
        "LayerNormalization": (1, 2),
        "MatMul": (0, 1),
        "MatMulInteger": (0, 1),
        "PRelu": (1,),
        "QLinearConv": (3, 8),
        "QLinearMatMul": (0, 3),
        "RMSNormalization": (1,),
        "RNN": (1, 2, 3),
    }.items()
}
_STATISTIC_INPUTS: Mapping[str, frozenset[int]] = {"BatchNormalization": frozenset({3, 4})}

_CONSTANT_INPUTS: Mapping[str, frozenset[int]] = {
    op: frozenset(positions)
    for op, positions in {
        "DequantizeLinear": (1, 2),
        "OneHot": (1, 2),
        "Pad": (1, 2, 3),
        "QLinearConv": (1, 2, 4, 5, 6, 7),
        "QLinearMatMul": (1, 2, 4, 5, 6, 7),
        "Quant": (1, 2, 3),  # of QONNX (https://github.com/fastmachinelearning/qonnx)
        "QuantizeLinear": (1, 2),
        "Resize": (1, 2, 3),
        "Shape": (0,),
        "Size": (0,),
        "Upsample": (1,),
    }.items()
}

_MOVES_VALUES = frozenset(
    "Identity Cast Transpose Reshape Flatten Squeeze Unsqueeze Expand Tile Slice Concat Split "
    "DequantizeLinear QuantizeLinear Quant".split()
)
_TAKES_INTEGERS = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
_NARROW = ("int8", "uint8", "int4", "uint4", "int2", "uint2", "float8", "float4")
"""Types in which quantised weights are stored, and shapes and axes never are."""

_LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
_SCALES_OR_SHIFTS = frozenset({"Add", "Sub", "Mul", "Div"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One way a tensor is used, and the role that gives it."""

    role: Role
    why: str


def passes_on(node: Node, position: int) -> bool:
    """Whether `node` only moves or converts its input at `position`."""
    return node.op_type in _MOVES_VALUES and (position == 0 or node.op_type == "Concat")


@cache
def fixed_use(op_type: str, position: int) -> Use | None:
    """What numbers are at this input of an operator, where that is always the same."""
    why = f"input {position} of {op_type}"
    for role, inputs in (
        (Role.STATISTIC, _STATISTIC_INPUTS),
        (Role.CONSTANT, _CONSTANT_INPUTS),
        (Role.LEARNED, _LEARNED_INPUTS),
    ):
        if position in inputs.get(op_type, ()):
            return Use(role=role, why=why)
    return None


def use_of(
    node: Node, position: int, tensor: Tensor, *, behind: Node | None, as_numbers: bool
) -> Use:
    """What a tensor is to an operator that takes it at `position`.

    Parameters
    ----------
    behind
        What computes the operator's other input.
    as_numbers
        Whether the values arrive as numbers to calculate with, whatever type they are stored in.
    """
    use = fixed_use(node.op_type, position)
    if use is not None and use.role is not Role.LEARNED:
        return use
    why = f"input {position} of {node.op_type}"
    if not as_numbers and node.op_type not in _TAKES_INTEGERS:
        return Use(role=Role.CONSTANT, why=why)
    if use is not None:
        return use
    if node.op_type in _SCALES_OR_SHIFTS:
        return _scale_or_shift(node, behind, tensor, why)
    if node.is_standard and tensor.elements <= 1:
        return Use(role=Role.CONSTANT, why=f"a single number, {why}")
    return Use(role=Role.UNKNOWN, why=f"{why}, which tells nothing of its role")


def _scale_or_shift(node: Node, behind: Node | None, tensor: Tensor, why: str) -> Use:
    if node.op_type == "Add" and behind is not None and behind.op_type in _LINEAR and tensor.dims:
        return Use(role=Role.LEARNED, why=f"the bias added to {behind.op_type}")
    if tensor.elements <= 1:
        return Use(role=Role.CONSTANT, why=f"a single number, {why}")
    return Use(
        role=Role.UNKNOWN,
        why=f"{why}: a bias, a constant, or what is left of a normalisation",
    )


def arrives_as_numbers(node: Node, tensor: Tensor) -> bool:
    """Whether integers that pass through `node` are quantised weights rather than shapes."""
    return node.op_type == "DequantizeLinear" or tensor.dtype.startswith(_NARROW)


def role_of(uses: tuple[Use, ...]) -> Use:
    """One role from all uses: what is learned anywhere is learned."""
    if len(uses) == 1:
        return uses[0]
    for role in (Role.LEARNED, Role.STATISTIC, Role.UNKNOWN, Role.CONSTANT):
        for use in uses:
            if use.role is role:
                return use
    return Use(role=Role.UNKNOWN, why="no operator uses it")
