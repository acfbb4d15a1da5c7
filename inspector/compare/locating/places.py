"""Where the two models can be held together on the way from inputs to outputs.

A place is a value of each side that should be the same: what two paired layers compute, and what
they read. The latter tells what is missing between two layers, or moved wrongly, from what a
layer itself does wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inspector.compare.causes.affine import Run, paired_runs
from inspector.compare.causes.moved import END
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.graphs.view import COMMUTATIVE
from inspector.compare.pairing.pair import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A value of each side that should be the same.

    `node` and `position` say where the right side reads it; empty for what layers compute.
    `left_node` reads it on the left, at the same position, where that has to be known.
    `layer` is its place among the right layers. `nodes` are those, with ``l`` or ``r`` in front,
    whose differences show here first. One that is `inner` may differ where all is well: the two
    sides write what lies around it in other layers.
    """

    left: str
    right: str
    left_where: str
    right_where: str
    layer: int
    nodes: frozenset[str]
    node: str = ""
    position: int = 0
    inner: bool = False
    left_node: str = ""

    @property
    def is_read(self) -> bool:
        return bool(self.node)


def find_places(found: Correspondence, outputs: Sequence[Pair]) -> tuple[Place, ...]:
    """All places of two aligned networks, in the order of the right one."""
    number = {layer.node: at for at, layer in enumerate(found.right.layers)}
    ends = {layer.value: at for at, layer in enumerate(found.right.layers)}
    runs = {pair[0].anchor.node: pair for pair in paired_runs(found) if pair[0].anchor is not None}
    alone = {f"l{each.node}" for each in found.alignment.left_only}
    alone |= {f"r{each.node}" for each in found.alignment.right_only}
    places: list[Place] = []
    for a, b in found.alignment.pairs:
        places += _reads(a, b, found, number[b.node])
        pair = runs.get(a.node)
        split = pair is not None and _is_split(*pair, alone)
        places += _computed(a, b, found, number[b.node], inner=split)
        if pair is not None and split:
            places += _end_of(*pair, found, ends.get(pair[1].value, number[b.node]))
    for a, b in found.replacements():
        # Two operators that are written otherwise may come to the same only further on.
        places += _computed(a, b, found, number[b.node], inner=False)
    places = sorted(places, key=lambda each: (each.layer, not each.is_read))
    return (*places, *output_places(found, outputs))


def output_places(found: Correspondence, outputs: Sequence[Pair]) -> tuple[Place, ...]:
    """Those of the outputs alone."""
    return tuple(_output(each, found) for each in outputs)


def _is_split(left: Run, right: Run, alone: set[str]) -> bool:
    """Whether two runs are written in other layers, some of which have no counterpart."""
    keys = [f"l{each.node}" for each in left.layers] + [f"r{each.node}" for each in right.layers]
    return left.operators != right.operators and not alone.isdisjoint(keys)


def _computed(
    a: Layer, b: Layer, found: Correspondence, at: int, *, inner: bool
) -> Iterator[Place]:
    if is_tensor(a.value, found.left) and is_tensor(b.value, found.right):
        nodes = {f"l{a.node}", f"r{b.node}"}
        for name in a.inputs:
            nodes |= _alone("l", name, found.left, found.alignment.left_only)
        for name in b.inputs:
            nodes |= _alone("r", name, found.right, found.alignment.right_only)
        yield Place(
            left=a.value,
            right=b.value,
            left_where=a.shown,
            right_where=b.shown,
            layer=at,
            nodes=frozenset(nodes),
            inner=inner,
        )


def _end_of(left: Run, right: Run, found: Correspondence, at: int) -> Iterator[Place]:
    """Where two runs of affine operators, written in other layers on each side, end."""
    if is_tensor(left.value, found.left) and is_tensor(right.value, found.right):
        nodes = {f"l{each}" for each in left.nodes} | {f"r{each}" for each in right.nodes}
        yield Place(
            left=left.value,
            right=right.value,
            left_where=left.shown,
            right_where=right.shown,
            layer=at,
            nodes=frozenset(nodes),
        )


def _output(pair: Pair, found: Correspondence) -> Place:
    left = found.left.sources.get(pair.left.name, pair.left.name)
    right = found.right.sources.get(pair.right.name, pair.right.name)
    return Place(
        left=pair.left.name,
        right=pair.right.name,
        left_where=f"output {pair.left.name!r}",
        right_where=f"output {pair.right.name!r}",
        layer=len(found.right.layers),
        nodes=frozenset(
            _alone("l", left, found.left, found.alignment.left_only)
            | _alone("r", right, found.right, found.alignment.right_only)
            | {f"l{END}{pair.left.name}", f"r{END}{pair.right.name}"}
        ),
    )


def _alone(side: str, value: str, network: Network, only: Sequence[Layer]) -> set[str]:
    """Layers of one side alone in front of `value`, up to those that are paired."""
    layers = {each.value: each for each in only}
    nodes: set[str] = set()
    pending = [network.sources.get(value, value)]
    while pending:
        layer = layers.get(pending.pop())
        if layer is not None and f"{side}{layer.node}" not in nodes:
            nodes.add(f"{side}{layer.node}")
            pending.extend(layer.inputs)
    return nodes


def _reads(a: Layer, b: Layer, found: Correspondence, at: int) -> list[Place]:
    """What two layers read of others, where something lies in between that may differ."""
    lefts, rights = _read_names(a), _read_names(b)
    if len(lefts) != len(rights):
        return []
    sources = list(zip(a.inputs, b.inputs, strict=False))
    if b.op in COMMUTATIVE and len(lefts) > 1:
        matched = _uncrossed(a, b, found)
        if matched is None:
            return []
        lefts = [lefts[i] for i in matched]
        sources = [(a.inputs[i], each) for i, each in zip(matched, b.inputs, strict=True)]
    places = []
    for (_, left), (position, right), (above, below) in zip(lefts, rights, sources, strict=False):
        # What is wired differently shows in what the layer computes.
        wired = found.right_of(found.past_left(above)) == found.past_right(below)
        direct = left == above and right == below and found.right_of(above) == below
        if (
            direct
            or not wired
            or not (is_tensor(left, found.left) and is_tensor(right, found.right))
        ):
            continue
        places.append(
            Place(
                left=left,
                right=right,
                left_where=f"before {a.shown}",
                right_where=f"before {b.shown}",
                layer=at,
                nodes=frozenset(
                    _alone("l", above, found.left, found.alignment.left_only)
                    | _alone("r", below, found.right, found.alignment.right_only)
                    | {f"l{a.node}", f"r{b.node}"}
                ),
                node=b.node,
                position=position,
            )
        )
    return places


def _uncrossed(a: Layer, b: Layer, found: Correspondence) -> list[int] | None:
    """For each right input of an operator that commutes the left one it corresponds to."""
    wanted = [found.past_right(name) for name in b.inputs]
    given = [found.right_of(found.past_left(name)) for name in a.inputs]
    free = list(range(len(given)))
    order = []
    for name in wanted:
        at = next((i for i in free if given[i] == name), None)
        if at is None:
            return None
        free.remove(at)
        order.append(at)
    return order


def _read_names(layer: Layer) -> list[tuple[int, str]]:
    """Positions and names of what a layer's main node reads of other layers, as it reads them."""
    names = [(at, name) for at, name in enumerate(layer.node_fact.inputs) if name]
    found = [(at, name) for at, name in names if at not in layer.constants]
    # A node with subgraphs reads more than its inputs: those places are not looked at.
    return found if len(found) == len(layer.inputs) else []


def is_tensor(value: str, network: Network) -> bool:
    """Whether a value is known to be a tensor of numbers, which ONNX Runtime can give out."""
    known = network.model.graph.values.get(value)
    dtype = known.dtype if known is not None else None
    return dtype is not None and dtype.startswith(("float", "double", "int", "uint", "bool"))
