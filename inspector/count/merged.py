"""Tensors that several operators use: one that is shared, or several that an exporter merged.

Tied weights are one tensor in the framework, and count once. Equal tensors that an exporter stored
once (the ones and zeros of a network that was never trained, most often) are several there: each
counts in the role it plays.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from inspector.count.owners import told_layer
from inspector.count.uses import Site
from inspector.facts.count import Role
from inspector.facts.fact import fact
from inspector.facts.model import Model, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ELEMENTS = 2**22
"""Elements of a tensor that is looked at for being all the same."""


@fact(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How many layers use a tensor as one, or the roles in which it counts once more."""

    layers: int = 1
    again: tuple[Role, ...] = ()


ALONE = Sharing()
_ORDER = (Role.LEARNED, Role.STATISTIC)


def sharing(tensor: Tensor, sites: Sequence[Site], model: Model) -> Sharing:
    """Whether a tensor with several uses is one or several in the framework."""
    found = slots(sites)
    if len(found) < 2:
        return ALONE
    roles = tuple(each.use.role for each in found)
    if len(set(roles)) > 1 or is_uniform(tensor, model):
        return Sharing(again=roles[1:])
    return Sharing(layers=len(found))


def slots(sites: Sequence[Site]) -> list[Site]:
    """One site for each operand of each layer that holds weights or statistics, weights first."""
    found: dict[Hashable, Site] = {}
    for site in sites:
        if site.node is not None and site.use.role in _ORDER:
            layer = told_layer(site.node) or id(site.node)
            found.setdefault((layer, site.node.op_type, site.position), site)
    return sorted(found.values(), key=lambda each: _ORDER.index(each.use.role))


def is_uniform(tensor: Tensor, model: Model) -> bool:
    """Whether all values of a tensor are the same, as those that nothing has trained."""
    if not 0 < tensor.elements <= MOST_ELEMENTS or not tensor.is_float:
        return False
    values = loaded(tensor, model)
    return values is not None and bool((values == values.reshape(-1)[0]).all())


def loaded(tensor: Tensor, model: Model) -> NDArray[Any] | None:
    """Values of a tensor; None where its data file is missing."""
    return None if tensor.external in model.missing_data else model.weights.load(tensor)
