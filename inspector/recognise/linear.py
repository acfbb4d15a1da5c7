"""Operators that a BatchNorm can be folded into, and where their biases are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspector.facts.model import Node
from inspector.recognise.around import behind_moves
from inspector.recognise.operators import LINEAR, MOVES
from inspector.recognise.place import Place

if TYPE_CHECKING:
    from inspector.recognise.runs import Link

_LINEAR = frozenset(LINEAR)
_MOVES = MOVES | {"Cast"}
_MOST_MOVES = 8


def is_linear(node: Node) -> bool:
    """Whether a BatchNorm behind this operator could be folded into it."""
    return node.op_type in _LINEAR and (node.is_standard or node.domain == "com.microsoft")


def bias_adder(node: Node, place: Place) -> Node | None:
    """The Add of a constant behind an operator: its bias, where it takes none itself."""
    if not node.outputs:
        return None
    behind = _past_moves(node.outputs[0], place)
    if behind is None or behind.op_type != "Add":
        return None
    constant = [place.source(each).is_constant for each in behind.inputs]
    return behind if sum(constant) == 1 else None


def _past_moves(value: str, place: Place) -> Node | None:
    """The one node that reads `value`, seen through what only moves it."""
    for _ in range(_MOST_MOVES):
        behind = place.readers(value)
        if len(behind) != 1 or value in place.outputs:
            return None
        if behind[0].op_type not in _MOVES or not behind[0].outputs:
            return behind[0]
        value = behind[0].outputs[0]
    return None


def linear_before(value: str, place: Place) -> Node | None:
    """The operator that `value` comes from, seen through moves and the addition of its bias."""
    for _ in range(_MOST_MOVES):
        node = place.producer(value)
        if node is None:
            return None
        if is_linear(node):
            return node
        if node.op_type == "Add":
            data = [each for each in node.inputs if not place.source(each).is_constant]
            if len(data) != 1:
                return None
            value = data[0]
        elif node.op_type in _MOVES:
            value = node.input(0)
        else:
            return None
    return None


def channels_of(node: Node, dims: tuple[int, ...]) -> int | None:
    """Channels that an operator gives, by the dims of its weights."""
    if len(dims) < 2:
        return None
    match node.op_type:
        case "Conv" | "FusedConv":
            return dims[0]
        case "ConvTranspose":
            return dims[1] * node.int_attribute("group", 1)
        case "MatMul":
            return dims[-1]
        case _:
            return dims[0] if node.int_attribute("transB", 0) else dims[-1]


def lacks_bias(link: Link, place: Place) -> bool:
    """Whether an addition may be the bias of the operator in front of it."""
    producer = behind_moves(link.data, place)
    if producer is None or not is_linear(producer):
        return False
    return link.op_type == "Add" and not producer.input(2)
