"""Operators that jump: what lies within rounding of a bound may fall on either side of it.

An ArgMax, a Greater, a Cast to integers give another value on each side of a bound. Elements that
rounding moves over it differ by a whole step, and no two models are alike in which do. What can be
held together is what these operators read, which agrees within rounding or does not; the operators
themselves, which give the same for the same values; and what lies behind them, once the left side's
values are put in there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.locating.localise import by_value
from inspector.compare.locating.places import Place, is_tensor
from inspector.compare.measuring.measured import Measured
from inspector.facts.comparison import PairedOutput

_JUMPING = frozenset(
    "ArgMax ArgMin TopK Hardmax Round Floor Ceil Sign Mod Cast Greater GreaterOrEqual Less "
    "LessOrEqual Equal ThresholdedRelu Shrink GridSample MaxPool".split()
)
"""Of the standard domain; a MaxPool where it gives the places of its maxima."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """One operator that jumps, of both sides: the places that it reads, and those that it gives."""

    left: Layer
    right: Layer
    reads: tuple[Place, ...]
    gives: tuple[Place, ...]

    @property
    def values(self) -> frozenset[str]:
        """What the right one gives."""
        return frozenset(each.right for each in self.gives)


def find_jumps(found: Correspondence) -> tuple[Jump, ...]:
    """Those that correspond and read floats, in the order of the right network."""
    number = {layer.node: at for at, layer in enumerate(found.right.layers)}
    pairs = sorted(found.alignment.pairs, key=lambda pair: number[pair[1].node])
    jumps = (_jump(a, b, found, number[b.node]) for a, b in pairs if _may_jump(a, b, found))
    return tuple(each for each in jumps if each is not None)


def _may_jump(a: Layer, b: Layer, found: Correspondence) -> bool:
    return a.node_fact.op_type == b.node_fact.op_type and _jumps(b, found.right)


def _jumps(layer: Layer, network: Network) -> bool:
    node = layer.node_fact
    if not node.is_standard or node.op_type not in _JUMPING:
        return False
    if node.op_type == "MaxPool" and len(node.outputs) == 1:
        return False
    if node.op_type == "Cast" and all(_is_float(name, network) for name in node.outputs):
        return False  # that is rounding
    return any(_is_float(name, network) for name in node.inputs)


def _is_float(value: str, network: Network) -> bool:
    known = network.model.graph.values.get(value)
    return known is not None and (known.dtype or "").startswith(("float", "double"))


def _jump(a: Layer, b: Layer, found: Correspondence, at: int) -> Jump | None:
    """None where what it reads or gives cannot be looked at."""
    lefts, rights = (
        [
            (position, name)
            for position, name in enumerate(each.node_fact.inputs)
            if name and position not in each.constants
        ]
        for each in (a, b)
    )
    given = list(zip(a.node_fact.outputs, b.node_fact.outputs, strict=False))
    if [position for position, _ in lefts] != [position for position, _ in rights]:
        return None
    names = [(left, right) for (_, left), (_, right) in zip(lefts, rights, strict=True)]
    shown = [(left, right) for left, right in given if left and right]
    if not all(_are_tensors(*each, found) for each in (*names, *shown)):
        return None

    def place(left: str, right: str, node: str = "", position: int = 0) -> Place:
        nodes = frozenset({f"l{a.node}", f"r{b.node}"})
        return Place(
            left=left,
            right=right,
            left_where=a.shown,
            right_where=b.shown,
            layer=at,
            nodes=nodes,
            node=node,
            position=position,
            left_node=a.node if node else "",
        )

    return Jump(
        left=a,
        right=b,
        reads=tuple(
            place(left, right, b.node, position)
            for (left, right), (position, _) in zip(names, rights, strict=True)
        ),
        gives=tuple(place(left, right) for left, right in shown),
    )


def _are_tensors(left: str, right: str, found: Correspondence) -> bool:
    return is_tensor(left, found.left) and is_tensor(right, found.right)


def in_front(value: str, jumps: Iterable[Jump], network: Network) -> list[Jump]:
    """Those that an output is computed from."""
    own = {name: jump for jump in jumps for name in jump.values}
    found = {id(own[name]): own[name] for name, _ in _in_layers(value, network) if name in own}
    return list(found.values())


def _in_layers(value: str, network: Network) -> Iterator[tuple[str, Layer]]:
    """What an output is computed from: each value, and its layer."""
    layers = by_value(network)
    pending, seen = [network.sources.get(value, value)], set[str]()
    while pending:
        name = pending.pop()
        if name not in seen and name in layers:
            seen.add(name)
            yield name, layers[name]
            pending.extend(layers[name].inputs)


def jumps_alone(output: PairedOutput, jumps: Iterable[Jump], found: Correspondence) -> bool:
    """Whether an operator that jumps, none of `jumps`, stands in front of an output on a side.

    The floor of what lies behind it may be a step.
    """
    known = {f"l{each.left.node}" for each in jumps} | {f"r{each.right.node}" for each in jumps}
    ends = ("l", output.left, found.left), ("r", output.right, found.right)
    return any(
        _jumps(layer, network) and f"{side}{layer.node}" not in known
        for side, name, network in ends
        for _, layer in _in_layers(name, network)
    )


def stepping(measured: Measured, found: Correspondence) -> frozenset[str]:
    """Right-hand values that move by steps, if at all: their floor is no measure of rounding."""
    jumps = find_jumps(found)
    ends = (each.right for each in measured.outputs if in_front(each.right, jumps, found.right))
    return frozenset((*(name for jump in jumps for name in jump.values), *ends))
