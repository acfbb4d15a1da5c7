"""What goes wrong in recurrent layers alone: gates and directions in another framework's order.

PyTorch stacks an LSTM's gates as i, f, g, o and ONNX as i, o, f, c, a GRU's as r, z, n and as
z, r, h. Whoever forgets it moves three tensors in one way, which is one fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.parameters import Relation, StoredPair, as_stored, normal
from inspector.compare.graphs.structure import RECURRENT, Layer
from inspector.compare.runtime.run import Array
from inspector.facts.comparison import CauseKind
from inspector.facts.patch import SetInput

_GATES = {"LSTM": "iofc", "GRU": "zrh", "RNN": "h"}
"""In the order in which ONNX stacks them (onnx's docs/Operators.md)."""

_WEIGHTS, _RECURRENT, _BIASES = RECURRENT[1:4]
_MOVED = (_WEIGHTS, _RECURRENT, _BIASES)
_DIMS = {_WEIGHTS: 3, _RECURRENT: 3, _BIASES: 2}
_BOTH = 2
"""Directions of a layer that runs in both, and biases of a gate: the input's and the state's."""


def is_recurrent(layer: Layer) -> bool:
    return layer.op in _GATES and not layer.domain


def moved_gates(
    a: Layer, b: Layer, rest: Sequence[StoredPair], found: Correspondence
) -> tuple[tuple[StoredPair, ...], Candidate | None]:
    """Gates, or directions, that lie in another order on the right, as one difference.

    With the tensors that it explains.

    Parameters
    ----------
    rest
        What the two layers store that is not equal in bits.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    moved = [
        each
        for each in rest
        if each.role in _MOVED and each.relation is Relation.REORDERED and _is_whole(each)
    ]
    best: tuple[tuple[StoredPair, ...], str, bool] = ((), "", False)
    for order, turned in _orders(a.op, moved):
        fits = tuple(each for each in moved if _fits(each, order, turned, a.op))
        if len(fits) > len(best[0]):
            best = fits, order, turned
        if fits and len(fits) == len(moved):
            break
    fits, order, turned = best
    if not fits:
        return (), None
    plain = _GATES[a.op]
    what = " and ".join(
        [*(["directions"] if turned else []), *(["order of gates"] if order != plain else [])]
    )
    alone = _of_these_alone(a, fits, (order, turned), found)
    words = [
        [
            *([way] if turned else []),
            *([", ".join(gates)] if order != plain else []),
        ]
        for way, gates in (("forward, reverse", plain), ("reverse, forward", order))
    ]
    return fits, Candidate(
        kind=CauseKind.PERMUTATION,
        what=f"{what} in {' and '.join(each.role for each in fits)}" if alone else what,
        left_where=a.shown,
        right_where=b.shown,
        left_node=a.node,
        right_node=b.node,
        left=" and ".join(words[0]),
        right=" and ".join(words[1]),
        patches=tuple(_patch(each) for each in fits),
    )


def _is_whole(pair: StoredPair) -> bool:
    if pair.values is None:
        return False
    left, right = pair.values
    return left.shape == right.shape and left.ndim == _DIMS[pair.role]


def _orders(op: str, moved: Sequence[StoredPair]) -> Iterator[tuple[str, bool]]:
    """Every order of gates, and of directions where there are two, but the plain one."""
    turns = {pair.values[0].shape[0] == _BOTH for pair in moved if pair.values is not None}
    for turned in (False, True) if turns == {True} else (False,):
        for order in map("".join, permutations(_GATES[op])):
            if turned or order != _GATES[op]:
                yield order, turned


def _fits(pair: StoredPair, order: str, turned: bool, op: str) -> bool:
    if pair.values is None:
        return False
    moved = _moved(pair.values[0], pair.role, order, turned, op)
    return moved is not None and np.array_equal(moved, pair.values[1])


def _moved(values: Array, role: str, order: str, turned: bool, op: str) -> Array | None:
    """A layer's tensor with its gates, and its directions, moved; None where they do not go."""
    gates = _GATES[op]
    blocks = len(gates) * (_BOTH if role == _BIASES else 1)
    if values.ndim != _DIMS[role] or values.shape[1] % blocks:
        return None
    parts = values.reshape(
        values.shape[0], -1, len(gates), values.shape[1] // blocks, *values.shape[2:]
    )
    parts = parts[:, :, [gates.index(each) for each in order]]
    return np.asarray((parts[::-1] if turned else parts).reshape(values.shape))


def _of_these_alone(
    a: Layer, fits: Sequence[StoredPair], how: tuple[str, bool], found: Correspondence
) -> bool:
    """Whether another tensor of the layer has gates, too, and did not move."""
    roles = {each.role for each in fits}
    for each in a.stored:
        if each.role not in _MOVED or each.role in roles:
            continue
        values = normal(each, found.left.model.weights)
        moved = _moved(values, each.role, *how, a.op)
        if moved is None or not np.array_equal(moved, values):
            return True
    return False


def _patch(pair: StoredPair) -> SetInput:
    assert pair.values is not None  # as `_is_whole` has seen
    assert pair.right is not None  # likewise
    stored = as_stored(pair.values[0], pair.right).astype(pair.values[1].dtype, copy=False)
    return SetInput(node=pair.right.node, position=pair.right.position, values=stored)


def half_of_biases(pair: StoredPair) -> tuple[str, str, str] | None:
    """Which of a recurrent layer's two biases one side alone has: what, and both in words."""
    if pair.role != _BIASES or pair.values is None or not _is_whole(pair):
        return None
    sides = [np.split(each, _BOTH, axis=1) for each in pair.values if each.shape[1] % _BOTH == 0]
    if len(sides) != _BOTH:
        return None
    for at, what in enumerate(("biases of the input (Wb)", "biases of the state (Rb)")):
        left, right = sides[0][at], sides[1][at]
        others = sides[0][1 - at], sides[1][1 - at]
        if np.array_equal(left, right) or not np.array_equal(*others):
            continue
        if left.any() != right.any():
            return what, *(("present", "zeros") if left.any() else ("zeros", "present"))
        return None
    return None
