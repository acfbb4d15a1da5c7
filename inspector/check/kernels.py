"""The weights of the operator that a layer could be folded into, by output channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.check.sites import Site
from inspector.facts.batchnorm import BatchNorm
from inspector.facts.model import Model, Node


def channels_given(node: Node, site: Site) -> int | None:
    """How many channels a Conv, ConvTranspose or Gemm gives, by its weights."""
    tensor = site.tensor(node.input(1)) if node.is_standard else None
    if tensor is None or len(tensor.dims) < 2:
        return None
    match node.op_type:
        case "Conv":
            return tensor.dims[0]
        case "ConvTranspose":
            return tensor.dims[1] * node.int_attribute("group", 1)
        case "Gemm":
            return tensor.dims[0] if node.int_attribute("transB", 0) else tensor.dims[1]
        case _:
            return None


def in_front(norm: BatchNorm, site: Site) -> Node | None:
    """The operator that a layer could be folded into."""
    node = site.producer(norm.entered) if norm.foldable_into is not None else None
    return node if node is not None and node.label == norm.foldable_into else None


def ranges(node: Node, site: Site, model: Model) -> NDArray[np.float64] | None:
    """[C]: the largest absolute weight of each output channel; None where they are not stored.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    tensor = site.tensor(node.input(1))
    channels = channels_given(node, site)
    if tensor is None or not channels or not tensor.is_float or not tensor.elements:
        return None
    stored = model.values(tensor)
    if stored is None:
        return None
    table = _by_channel(node, stored, channels)
    if table is None:
        return None
    largest: NDArray[np.float64] = np.max(np.abs(table.astype(np.float64)), axis=1)
    return largest


def _by_channel(node: Node, stored: NDArray[Any], channels: int) -> NDArray[Any] | None:
    """Weights as a matrix [channels, …]; None where groups do not divide them."""
    if node.op_type == "Conv":
        return stored.reshape(channels, -1)
    if node.op_type == "ConvTranspose":
        # [inputs, channels / group, …], where a group of inputs makes a group of channels.
        group = node.int_attribute("group", 1)
        if group < 1 or stored.shape[0] % group:
            return None
        split = stored.reshape(group, stored.shape[0] // group, channels // group, -1)
        return split.transpose(0, 2, 1, 3).reshape(channels, -1)
    if stored.ndim != 2:
        return None
    return stored if node.int_attribute("transB", 0) else stored.T
