"""What tensors hold, read once: graphs, layers and runs of layers are compared by it in turn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.facts.model import Tensor, Weights

MOST_KEPT = 2**27
"""Bytes of a model's values that are kept; those of a larger one are read again."""

_FEW = 16


@dataclass(slots=True)
class _Contents:
    digests: dict[int, str] = field(default_factory=dict)
    values: dict[int, Array] = field(default_factory=dict)
    kept: int = 0


_known: WeakKeyDictionary[Weights, _Contents] = WeakKeyDictionary()


def values_of(weights: Weights, tensor: Tensor) -> Array:
    """A tensor's values; not to be written to.

    Raises
    ------
    inspector.errors.UnreadableError
        It cannot be loaded.
    """
    known = _known.setdefault(weights, _Contents())
    found = known.values.get(tensor.key)
    if found is None:
        found = weights.load(tensor)
        if known.kept + found.nbytes <= MOST_KEPT:
            known.values[tensor.key] = found
            known.kept += found.nbytes
    return found


def content_digest(weights: Weights, tensor: Tensor) -> str:
    """A digest of a tensor's values alone, in their order.

    Raises
    ------
    inspector.errors.UnreadableError
        It cannot be loaded.
    """
    known = _known.setdefault(weights, _Contents())
    if tensor.key not in known.digests:
        values = np.ascontiguousarray(values_of(weights, tensor))
        data: bytes | memoryview
        if values.dtype.kind in "OUS":
            data = repr(values.tolist()).encode()
        else:
            data = values.view(np.uint8).data if values.size else b""
        # Processors have instructions for it: twice as fast as blake2b where they do.
        known.digests[tensor.key] = hashlib.sha256(data).hexdigest()
    return known.digests[tensor.key]


def sample(weights: Weights, tensor: Tensor) -> str:
    """A few of a tensor's values: where they differ, so does what it holds.

    Raises
    ------
    inspector.errors.UnreadableError
        It cannot be loaded.
    """
    values = values_of(weights, tensor).reshape(-1)
    return repr([each.tobytes() for each in (values[:_FEW], values[-_FEW:])])


def let_go(weights: Weights) -> None:
    """Keep a model's values no longer."""
    if weights in _known:
        _known[weights].values.clear()
        _known[weights].kept = MOST_KEPT  # and no others in their place
