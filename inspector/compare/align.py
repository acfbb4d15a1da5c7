"""Which layer of one network is which layer of the other.

A global alignment of the two canonical lists (Needleman & Wunsch 1970,
https://doi.org/10.1016/0022-2836(70)90057-4): only layers of one operator may pair, and layers
whose parameters or sizes agree are worth more, so that an operator that one side lacks leaves a
gap where it is missing and shifts nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inspector.compare.structure import Layer, Network

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
class _Token:
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
    a = [_token(layer, left) for layer in left.layers]
    b = [_token(layer, right) for layer in right.layers]
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
    lefts, rights = {i for i, _ in matched}, {j for _, j in matched}
    return Alignment(
        pairs=tuple((left.layers[i], right.layers[j]) for i, j in matched),
        left_only=tuple(each for i, each in enumerate(left.layers) if i not in lefts),
        right_only=tuple(each for j, each in enumerate(right.layers) if j not in rights),
    )


def _token(layer: Layer, network: Network) -> _Token:
    # Vectors alone: no layout changes them.
    vectors = [
        network.model.weights.load(each.tensor).tobytes()
        for each in layer.stored
        if len(each.tensor.dims) == 1
    ]
    return _Token(
        op=(layer.domain, layer.op),
        sizes=tuple(sorted(each.tensor.elements for each in layer.stored)),
        values=hashlib.blake2b(b"".join(vectors)).hexdigest() if vectors else "",
        attributes=repr(sorted(layer.attributes.items())),
    )


def _worth(a: _Token, b: _Token) -> int:
    if a.op != b.op:
        return 0
    worth = _SAME_OPERATOR
    if a.sizes == b.sizes:
        worth += _SAME_SIZES
        worth += _SAME_VALUES if a.values and a.values == b.values else 0
    return worth + (_SAME_ATTRIBUTES if a.attributes == b.attributes else 0)


def _best(a: Sequence[_Token], b: Sequence[_Token]) -> list[tuple[int, int]]:
    """Index pairs of the alignment worth most; of several, the one with the earliest pairs."""
    # best[i, j]: what the rest from i and j on is worth.
    best = np.zeros((len(a) + 1, len(b) + 1), dtype=np.int32)
    worth = np.array([[_worth(x, y) for y in b] for x in a], dtype=np.int32).reshape(len(a), len(b))
    for i in range(len(a) - 1, -1, -1):
        for j in range(len(b) - 1, -1, -1):
            paired = best[i + 1, j + 1] + worth[i, j] if worth[i, j] else 0
            best[i, j] = max(paired, best[i + 1, j], best[i, j + 1])
    pairs = []
    i = j = 0
    while i < len(a) and j < len(b):
        if worth[i, j] and best[i, j] == best[i + 1, j + 1] + worth[i, j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return pairs
