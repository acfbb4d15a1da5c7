"""The filters that make the channels of a layer, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from inspector.check.kernels import channels_given, in_front
from inspector.check.sites import Site, Sites
from inspector.facts.batchnorm import BatchNorm
from inspector.facts.model import Node

_BY_CHANNEL = frozenset(
    "Identity Relu LeakyRelu Elu Selu Celu Clip Sigmoid HardSigmoid HardSwish Tanh Gelu Mish "
    "Softplus Dropout MaxPool AveragePool".split()
)
"""Operators that make each channel of the same one before."""

_MOST = 4
"""Of those, between filters and layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters of one operator; `each` has so many weights."""

    op_type: str
    label: str
    each: int


def filters_of(norm: BatchNorm, channels: int, sites: Sites) -> Filters | None:
    """The operator whose filters make each a channel of `norm`; None where others read them too."""
    site = sites.at(norm.scope)
    if site is None:
        return None
    node = in_front(norm, site)
    if node is None and not norm.scope:
        node = _behind(norm.entered, site, sites)
    if node is None or channels_given(node, site) != channels:
        return None
    tensor = site.tensor(node.input(1))
    if tensor is None:
        return None
    return Filters(op_type=node.op_type, label=node.label, each=tensor.elements // channels)


def _behind(value: str, site: Site, sites: Sites) -> Node | None:
    """What makes a value of the main graph, seen through operators that work by channel.

    Each value on the way is read once, or its filters could not go.
    """
    kept = sites.leaving(()), sites.read_inside(site)
    for _ in range(_MOST):
        node = site.wiring.producers.get(value)
        alone = len(site.wiring.users.get(value, ())) == 1
        if node is None or not alone or any(value in each for each in kept):
            return None
        if node.op_type not in _BY_CHANNEL or not node.is_standard:
            return node
        value = node.input(0)
    return None
