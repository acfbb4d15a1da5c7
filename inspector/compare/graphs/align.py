"""Which layer of one network is which layer of the other.

A global alignment of the two canonical lists (Needleman & Wunsch 1970,
https://doi.org/10.1016/0022-2836(70)90057-4): only layers of one operator may pair, and layers
whose parameters or sizes agree are worth more, so that an operator that one side lacks leaves a
gap where it is missing and shifts nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.graphs.view import commutes
from inspector.compare.runtime.run import Array

MOST_CELLS = 2**24
"""Cells of one alignment table: beyond that it is cut in two."""

_SAME_OPERATOR = 4
_SAME_SIZES = 2
_SAME_VALUES = 4
_SAME_ATTRIBUTES = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Pairs of layers in canonical order, and what is left over on either side."""

    pairs: tuple[tuple[Layer, Layer], ...]
    left_only: tuple[Layer, ...]
    right_only: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a layer looks like, whatever it reads."""

    op: tuple[str, str]
    sizes: tuple[int, ...]
    values: str
    attributes: str


def align(left: Network, right: Network) -> Alignment:
    """Pair the layers of two networks.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    a, b = tokens_of(left), tokens_of(right)
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    middle = _best(a[start : len(a) - end], b[start : len(b) - end])
    matched = [(i, i) for i in range(start)]
    matched += [(start + i, start + j) for i, j in middle]
    matched += [(len(a) - end + i, len(b) - end + i) for i in range(end)]
    matched += _rescued(matched, a, b)
    lefts, rights = {i for i, _ in matched}, {j for _, j in matched}
    return Alignment(
        pairs=tuple((left.layers[i], right.layers[j]) for i, j in matched),
        left_only=tuple(each for i, each in enumerate(left.layers) if i not in lefts),
        right_only=tuple(each for j, each in enumerate(right.layers) if j not in rights),
    )


def tokens_of(network: Network) -> list[Token]:
    """What each layer looks like, in the network's order.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    return [_token(layer, network) for layer in network.layers]


def _rescued(
    matched: Sequence[tuple[int, int]], a: Sequence[Token], b: Sequence[Token]
) -> list[tuple[int, int]]:
    """Layers left over that look the same and are alone in that on each side.

    A branch that is read first on one side and second on the other stands elsewhere in the order.
    """
    free: tuple[dict[Token, list[int]], dict[Token, list[int]]] = ({}, {})
    for side, tokens, used in (
        (free[0], a, {i for i, _ in matched}),
        (free[1], b, {j for _, j in matched}),
    ):
        for at, token in enumerate(tokens):
            if at not in used:
                side.setdefault(token, []).append(at)
    return [
        (free[0][token][0], free[1][token][0])
        for token in free[0]
        if len(free[0][token]) == len(free[1].get(token, ())) == 1
    ]


def _token(layer: Layer, network: Network) -> Token:
    # Vectors and single numbers alone: no layout changes them.
    vectors = [
        network.model.weights.load(each.tensor).tobytes()
        for each in layer.stored
        if each.tensor.elements == max(each.tensor.dims, default=1)
    ]
    if commutes(layer.node_fact):
        vectors.sort()
    return Token(
        op=(layer.domain, layer.op),
        sizes=tuple(sorted(each.tensor.elements for each in layer.stored)),
        values=hashlib.blake2b(b"".join(vectors)).hexdigest() if vectors else "",
        attributes=repr(sorted(layer.attributes.items())),
    )


def _best(a: Sequence[Token], b: Sequence[Token]) -> list[tuple[int, int]]:
    """Index pairs of the alignment worth most; of several, the one with the earliest pairs."""
    if len(a) * len(b) <= MOST_CELLS:
        return _Table(a, b).pairs()
    # Hirschberg 1975 (https://doi.org/10.1145/360825.360861): the same answer in two halves,
    # so that the whole table is never held at once.
    middle = len(a) // 2
    front = _Table(a[:middle][::-1], b[::-1]).first_row()[::-1]
    back = _Table(a[middle:], b).first_row()
    cut = int(np.argmax(front + back))
    rest = _best(a[middle:], b[cut:])
    return _best(a[:middle], b[:cut]) + [(i + middle, j + cut) for i, j in rest]


class _Table:
    """What pairing a row's token with each column's is worth, and the best sums of them."""

    def __init__(self, a: Sequence[Token], b: Sequence[Token]) -> None:
        self._rows = len(a)
        self._columns = len(b)
        fields = [tuple(_numbered(a, b, name)) for name in ("op", "sizes", "values", "attributes")]
        self._of_a = [of_a for of_a, _ in fields]
        self._of_b = [of_b for _, of_b in fields]
        self._valued = np.array([bool(each.values) for each in a], dtype=bool)

    def _worth(self, i: int) -> Array:
        """What pairing row i with each column is worth; 0 where the operators differ."""
        op, sizes, values, attributes = (
            of_a[i] == of_b for of_a, of_b in zip(self._of_a, self._of_b, strict=True)
        )
        worth = _SAME_OPERATOR + _SAME_SIZES * sizes + _SAME_ATTRIBUTES * attributes
        worth = worth + _SAME_VALUES * (sizes & values & self._valued[i])
        return np.asarray(np.where(op, worth, 0), dtype=np.int32)

    def _row(self, i: int, below: Array) -> Array:
        """What the rest from row i on is worth, by column, given the same from i + 1 on."""
        worth = self._worth(i)
        best = below.copy()
        paired = np.where(worth > 0, below[1:] + worth, 0)
        best[:-1] = np.maximum(best[:-1], paired)
        # A column can also be left out: the best of all further on.
        return np.asarray(np.maximum.accumulate(best[::-1])[::-1])

    def first_row(self) -> Array:
        best = np.zeros(self._columns + 1, dtype=np.int32)
        for i in range(self._rows - 1, -1, -1):
            best = self._row(i, best)
        return best

    def pairs(self) -> list[tuple[int, int]]:
        best = np.zeros((self._rows + 1, self._columns + 1), dtype=np.int32)
        for i in range(self._rows - 1, -1, -1):
            best[i] = self._row(i, best[i + 1])
        found = []
        i = j = 0
        while i < self._rows and j < self._columns:
            worth = int(self._worth(i)[j])
            if worth and best[i, j] == best[i + 1, j + 1] + worth:
                found.append((i, j))
                i, j = i + 1, j + 1
            elif best[i, j] == best[i + 1, j]:
                i += 1
            else:
                j += 1
        return found


def _numbered(a: Sequence[Token], b: Sequence[Token], name: str) -> Iterator[Array]:
    """One field of both sides' tokens as numbers: equal where the field is."""
    numbers: dict[object, int] = {}
    for side in (a, b):
        fields = [getattr(each, name) for each in side]
        yield np.array([numbers.setdefault(each, len(numbers)) for each in fields], dtype=np.int32)
