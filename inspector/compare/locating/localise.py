"""Where the difference between two models arises: the first place, and how it grows from there.

A place that differs proves nothing by itself: a convolution with its BatchNorm folded in gives
other values than one without, and the models are one all the same. What counts are places from
which an output that differs can be reached without passing one that agrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.locating.sweep import Held
from inspector.facts.comparison import Localisation, Point


def first_fault(held: Sequence[Held], right: Network, outputs: Iterable[str]) -> Held | None:
    """The first place on the way to an output that differs, with all before it in agreement.

    Parameters
    ----------
    held
        Places in the order of the right network, its outputs included.
    outputs
        The right side's outputs.
    """
    suspects = suspected(held, right, outputs)
    return suspects[0] if suspects else None


def suspected(held: Sequence[Held], right: Network, outputs: Iterable[str]) -> list[Held]:
    """Places that differ, and from which a differing output is reached past none that agrees."""
    values: dict[str, list[Held]] = {}
    for each in held:
        if not each.place.is_read:
            values.setdefault(each.place.right, []).append(each)
    reads = {(each.place.node, _source(each, right)): each for each in held if each.place.is_read}
    layers = by_value(right)
    found: list[Held] = []
    pending = []
    for name in outputs:
        here = values.get(name, ())
        if any(not each.within for each in here):
            found += [each for each in here if not each.within and not each.place.inner]
            pending.append((right.sources.get(name, name), True))
    seen: set[str] = set()
    while pending:
        value, differs = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        own = values.get(value, ())
        # A run of operators that ends here is judged by its end, not by what lies inside of it.
        judging = [each for each in own if not each.place.inner] or own
        # What agrees in another order of axes than the plain one, and is read by what differs, may
        # be what is wrong: the scores of keys by queries are those of queries by keys, transposed.
        agrees = all(each.within and not each.form.guessed for each in judging)
        if judging and agrees and not differs:
            continue
        found += [each for each in judging if not each.within and not each.place.inner]
        layer = layers.get(value)
        if layer is None:
            continue
        for name in layer.inputs:
            read = reads.get((layer.node, name))
            if read is not None and read.within:
                continue
            if read is not None:
                found.append(read)
            pending.append((name, False))
    return sorted(dict.fromkeys(found), key=lambda each: (each.place.layer, not each.place.is_read))


def out_of_sight(fault: Held, held: Sequence[Held], found: Correspondence) -> frozenset[str]:
    """Layers in front of a place whose values could not be held together, up to those that were.

    What was held together in an order of axes that nothing tells is none of those.

    First outputs of their nodes, with ``l`` or ``r`` in front for the side.
    """
    seen = {e.place.right for e in held if not e.place.is_read and not e.form.guessed}
    layers, partner = by_value(found.right), {b.node: a for a, b in found.alignment.pairs}
    place, nodes = fault.place, set[str]()
    source = found.right.sources.get(place.right, place.right)
    own = layers.get(source)
    is_own = own is not None and not place.is_read and source in seen
    pending = list(own.inputs) if is_own and own is not None else [source]
    while pending:
        value = pending.pop()
        layer = layers.get(value)
        if layer is None or value in seen or f"r{layer.node}" in nodes:
            continue
        nodes.add(f"r{layer.node}")
        if (other := partner.get(layer.node)) is not None:
            nodes.add(f"l{other.node}")
        pending.extend(layer.inputs)
    return frozenset(nodes)


def by_value(network: Network) -> dict[str, Layer]:
    """Layers by each of the values that they compute."""
    found = {name: each for each in network.layers for name in each.node_fact.outputs if name}
    return found | {each.value: each for each in network.layers}


def _source(held: Held, right: Network) -> str:
    return right.sources.get(held.place.right, held.place.right)


def localisation(
    held: Sequence[Held], suspects: Sequence[Held], *, reason: str = "", all_points: bool = False
) -> Localisation:
    """What a sweep found, as a fact.

    Parameters
    ----------
    held
        All places that were compared.
    suspects
        Those on the way to an output that differs; the first is where the difference arises.
    all_points
        Whether to list places that agree, too.
    """
    shown = held if all_points else suspects
    return Localisation(
        points=tuple(point(each) for each in shown),
        first=point(suspects[0]) if suspects else None,
        compared=len(held),
        reason=reason,
    )


def point(held: Held) -> Point:
    """One place as a fact."""
    place = held.place
    return Point(
        left=place.left,
        right=place.right,
        left_where=place.left_where,
        right_where=place.right_where,
        max_abs=held.max_abs,
        relative=held.relative,
        tolerance=held.tolerance,
        within=held.within,
    )
