"""What a stored tensor is to the operators that use it.

Roles follow use, not names: input 1 of a Conv is learned whatever it is called. What each operator
does with its inputs is written down in `inspector.count.operators`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from inspector.count.operators import DOMAINS, letter
from inspector.facts.count import Role
from inspector.facts.fact import fact
from inspector.facts.model import Node, Tensor

_FIXED: Mapping[str, tuple[Role, str]] = {
    "w": (Role.LEARNED, ""),
    "i": (Role.LEARNED, ""),
    "p": (Role.LEARNED, ", packed: an element may hold several weights"),
    "k": (Role.LEARNED, ", in blocks of channels that may be filled up with zeros"),
    "s": (Role.STATISTIC, ""),
    "c": (Role.CONSTANT, ""),
    "h": (Role.CONSTANT, ", the state it begins with"),
}
"""Inputs that give numbers their role, whatever else is known of them."""

_OPEN: Mapping[str, str] = {
    "a": ": an attention mask, or a bias by relative positions",
    "b": ", which goes into a subgraph and is followed no further",
    "d": ", where data flows: a parameter that is fed in, or what folding left of a constant",
    "t": ": numbers looked up one by one, and an embedding has rows",
}
"""Why inputs leave a role open."""

_NARROW = ("int8", "uint8", "int4", "uint4", "int2", "uint2", "float8", "float4")
"""Types in which quantised weights are stored, and shapes and axes never are."""

_NEVER_WEIGHTS = frozenset({"bool", "int64", "string", "uint64"})
"""Types that no operator packs weights into, known or not."""

_LINEAR: Mapping[str, frozenset[str]] = {
    domain: frozenset(ops.split())
    for domain, ops in {
        "": "Conv ConvInteger ConvTranspose CausalConvWithState DeformConv Einsum Gemm MatMul "
        "MatMulInteger QLinearConv QLinearMatMul",
        "com.microsoft": "CausalConvWithState ConvTransposeWithDynamicPads DynamicQuantizeMatMul "
        "FusedMatMul GemmFloat8 MatMulBnb4 MatMulFpQ4 MatMulBlockQuantizedFp4Weight "
        "MatMulBlockQuantizedFp8Weight MatMulIntegerToFloat MatMulNBits NhwcConv QGemm "
        "QLinearConv SparseToDenseMatMul TransposeMatMul VarlenCausalConvWithState",
        "com.microsoft.nchwc": "Conv",
        "com.ms.internal.nhwc": "Conv ConvTranspose QLinearConv QLinearConvTranspose",
        "qonnx.custom_op.channels_last": "Conv",
        "qonnx.custom_op.general": "XnorPopcountMatMul",
    }.items()
}
"""Operators whose bias may be an Add behind them. Those with an activation inside have none."""

_PRODUCTS = frozenset({"Gemm", "MatMul"})

INTEGER_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger"})
"""Linear operators on quantised numbers, whose results are scaled by a Mul behind them."""


@fact(frozen=True, slots=True, kw_only=True)
class Use:
    """One way a tensor is used, and the role that gives it."""

    role: Role
    why: str


def passes_on(node: Node, position: int) -> bool:
    """Whether `node` only moves or converts its input at `position`."""
    return letter(node.domain, node.op_type, position) == "m"


@cache
def fixed_use(op_type: str, position: int, domain: str | None = None) -> Use | None:
    """What numbers are at this input of an operator, where that is always the same.

    Parameters
    ----------
    domain
        The operator's. Without it nothing is fixed: a name alone says nothing of what it does.
    """
    if domain is None:
        return None
    role, how = _FIXED.get(letter(domain, op_type, position), (None, ""))
    return Use(role=role, why=f"input {position} of {op_type}{how}") if role else None


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
    kind = letter(node.domain, node.op_type, position)
    why = f"input {position} of {node.op_type}"
    if not kind:
        return _foreign(node, tensor, why)
    use = fixed_use(node.op_type, position, node.domain)
    if use is not None and (kind == "i" or use.role is not Role.LEARNED):
        return use
    if not as_numbers and not tensor.dtype.startswith(_NARROW):
        return Use(role=Role.CONSTANT, why=why)
    if use is not None:
        return use
    if kind == "o":
        return _scale_or_shift(node, behind, tensor, why)
    if tensor.elements <= 1:
        return Use(role=Role.CONSTANT, why=f"a single number, {why}")
    if kind == "t" and len(tensor.dims) > 1:
        return Use(role=Role.LEARNED, why=f"rows looked up, {why}")
    return Use(role=Role.UNKNOWN, why=f"{why}{_OPEN[kind]}")


def _foreign(node: Node, tensor: Tensor, why: str) -> Use:
    """At an operator, or an input of it, that is written down nowhere."""
    if tensor.dtype in _NEVER_WEIGHTS:
        return Use(role=Role.CONSTANT, why=f"{tensor.dtype}, {why}")
    if node.op_type in DOMAINS.get(node.domain, {}):
        return Use(role=Role.UNKNOWN, why=f"{why}, which has no such input")
    where = "" if node.is_standard else f" of domain {node.domain!r}"
    return Use(role=Role.UNKNOWN, why=f"{why}{where}, an operator that is not known")


def _scale_or_shift(node: Node, behind: Node | None, tensor: Tensor, why: str) -> Use:
    adds = node.op_type == "Add"
    if adds and behind is not None and _is_bias(tensor, behind, node):
        return Use(role=Role.LEARNED, why=f"the bias added to {behind.op_type}")
    if tensor.elements <= 1:
        return Use(role=Role.CONSTANT, why=f"a single number, {why}")
    if adds and _axes(tensor) > 1:
        return Use(
            role=Role.UNKNOWN,
            why=f"{why}, of several axes: positions (learned or computed), a mask, or the bias "
            "of a normalisation",
        )
    return Use(
        role=Role.UNKNOWN,
        why=f"{why}: a bias, a constant, or what is left of a normalisation",
    )


def _axes(tensor: Tensor) -> int:
    """Axes along which the values can differ."""
    return sum(length != 1 for length in tensor.dims)


def _is_bias(tensor: Tensor, behind: Node, adds: Node) -> bool:
    """Whether a tensor added to what `behind` gives is its bias: one number for each channel.

    What differs along further axes is a table of positions, or a mask on the scores of attention,
    which are the MatMul of queries and keys.
    """
    domain = "" if behind.is_standard else behind.domain
    if not tensor.dims or behind.op_type not in _LINEAR.get(domain, ()):
        return False
    if _axes(tensor) <= 1:
        return True
    if behind.op_type == "Einsum":
        return _follows_one_operand(tensor, behind)
    # Written as a MatMul, such an Einsum has its channels split by a Reshape in front of the Add.
    # A square one would be as well a mask, and positions mostly have a leading axis for the batch.
    split = behind.op_type in _PRODUCTS and not set(behind.outputs) & set(adds.inputs)
    return split and len(tensor.dims) == 2 and tensor.dims[0] != tensor.dims[1]


def _follows_one_operand(tensor: Tensor, einsum: Node) -> bool:
    """Whether a tensor differs only along axes that an Einsum has from one operand alone.

    The channels of Keras' attention are two axes, heads and their width, and so are those of its
    biases: 'abc,cde->abde' takes both from the weights.
    """
    equation = einsum.attributes.get("equation")
    if not isinstance(equation, bytes):
        return False
    left, _, right = equation.decode(errors="replace").replace(" ", "").partition("->")
    letters = right[-len(tensor.dims) :]
    if len(letters) < len(tensor.dims) or "." in letters:
        return False
    own = {each for each, length in zip(letters, tensor.dims, strict=True) if length != 1}
    return [own & set(each) for each in left.split(",") if own & set(each)] == [own]


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
