"""An alignment put right by the wires: which layer reads what is stronger than where it stands.

Two branches that look alike, read in the other order by what joins them, stand crosswise in the
two lists. Layers with parameters are told apart by those; the others follow what they read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from inspector.compare.graphs.align import Alignment, Token, tokens_of
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.graphs.view import COMMUTATIVE


def rewired(
    alignment: Alignment, left: Network, right: Network, inputs: Mapping[str, str]
) -> Alignment:
    """The alignment with layers paired by equal parameters, and then by what they read.

    Parameters
    ----------
    inputs
        Right input names by left ones, as paired.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    tokens = tokens_of(left), tokens_of(right)
    partner = {a.node: b for a, b in alignment.pairs}
    as_they_stand = dict(partner)
    _anchor(partner, (left, right), tokens)
    _follow(partner, (left, right), inputs)
    found = _as_alignment(partner, left, right)
    # Where one side folds what the other keeps, what is read says less than what is stored.
    if found.left_only or found.right_only or (crossed := _crossed(found, inputs)) == 0:
        return found
    # Layers that hold each other's weights are no branches that changed places: the wires tell.
    _follow(as_they_stand, (left, right), inputs)
    plain = _as_alignment(as_they_stand, left, right)
    alone = plain.left_only or plain.right_only
    return plain if not alone and _crossed(plain, inputs) < crossed else found


def _crossed(alignment: Alignment, inputs: Mapping[str, str]) -> int:
    """How many layers read what does not correspond."""
    values = dict(inputs)
    for a, b in alignment.pairs:
        # Not strict: one side may leave optional outputs out.
        values.update(zip(a.node_fact.outputs, b.node_fact.outputs, strict=False))
        values[a.value] = b.value
    found = 0
    for a, b in alignment.pairs:
        expected = [values.get(name, "") for name in a.inputs]
        found += _key(b, expected) != _key(b, b.inputs)
    return found


def _anchor(
    partner: dict[str, Layer],
    networks: tuple[Network, Network],
    tokens: tuple[Sequence[Token], Sequence[Token]],
) -> None:
    """Pair layers whose parameters are alone on either side."""
    places: list[dict[Token, list[Layer]]] = [defaultdict(list), defaultdict(list)]
    for side, network in enumerate(networks):
        for layer, token in zip(network.layers, tokens[side], strict=True):
            if token.values:
                places[side][token].append(layer)
    for token, lefts in places[0].items():
        rights = places[1].get(token, [])
        if len(lefts) == len(rights) == 1 and partner.get(lefts[0].node) is not rights[0]:
            _pair(partner, lefts[0], rights[0])


def _follow(
    partner: dict[str, Layer], networks: tuple[Network, Network], inputs: Mapping[str, str]
) -> None:
    """Pair each layer with the one of its operator that reads what corresponds to what it reads."""
    left, right = networks
    readers: dict[tuple[str, ...], list[Layer]] = defaultdict(list)
    for layer in right.layers:
        readers[_key(layer, layer.inputs)].append(layer)
    values = dict(inputs)
    for layer in left.layers:
        expected = [values.get(name, "") for name in layer.inputs]
        current = partner.get(layer.node)
        if expected and all(expected):
            key = _key(layer, expected)
            # Two branches may begin with one operator, seldom with weights of one size.
            fitting = [each for each in readers.get(key, ()) if _size(each) == _size(layer)]
            settled = current is not None and current in fitting
            if not settled and len(fitting) == 1:
                _pair(partner, layer, fitting[0])
        found = partner.get(layer.node)
        if found is not None:
            values[layer.value] = found.value
            # Not strict: one side may leave optional outputs out.
            values.update(zip(layer.node_fact.outputs, found.node_fact.outputs, strict=False))


def _size(layer: Layer) -> int:
    """Elements of the largest tensor: a bias may be folded in on one side alone."""
    return max((each.tensor.elements for each in layer.stored), default=0)


def _pair(partner: dict[str, Layer], a: Layer, b: Layer) -> None:
    """Pair two layers, and leave those they were paired with alone."""
    for node, other in list(partner.items()):
        if other is b:
            del partner[node]
    partner[a.node] = b


def _key(layer: Layer, read: Sequence[str]) -> tuple[str, ...]:
    names = sorted(read) if layer.op in COMMUTATIVE else list(read)
    return (layer.domain, layer.op, *names)


def _as_alignment(partner: Mapping[str, Layer], left: Network, right: Network) -> Alignment:
    pairs = tuple((a, partner[a.node]) for a in left.layers if a.node in partner)
    taken = {b.node for _, b in pairs}
    return Alignment(
        pairs=pairs,
        left_only=tuple(each for each in left.layers if each.node not in partner),
        right_only=tuple(each for each in right.layers if each.node not in taken),
    )
