"""Tensors that several operators use: one that is shared, or several that an exporter merged.

Tied weights are one tensor in the framework, and count once. Equal tensors that an exporter stored
once (the ones and zeros of a network that was never trained, most often) are several there: each
counts in the role it plays.
"""

from __future__ import annotations

import re
from collections.abc import Container, Hashable, Sequence
from dataclasses import replace
from itertools import pairwise

from inspector.count.roles import Use
from inspector.count.trails import told_layer
from inspector.count.uses import Site, Stored
from inspector.facts.count import Role
from inspector.facts.fact import fact
from inspector.facts.model import Model, Node, Tensor

MOST_ELEMENTS = 2**22
"""Elements of a tensor that is looked at for being all the same."""


@fact(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How many layers use a tensor as one, or the roles in which it counts once more."""

    layers: int = 1
    again: tuple[Role, ...] = ()


ALONE = Sharing()
COUNTED = (Role.LEARNED, Role.STATISTIC)


class Layers:
    """Knows which nodes are calls of one layer, as far as names and tensors tell.

    Nodes that share a tensor whose values differ are one layer called again: no exporter merges
    such but where two layers were equal to begin with.
    """

    def __init__(self, stored: Sequence[Stored], model: Model) -> None:
        self._model = model
        self._same: dict[int, int] = {}
        for _, _, tensor, sites in stored:
            if len(sites) > 1 and not is_uniform(tensor, model):
                calls = [(each.node, each.position) for each in sites if each.node is not None]
                for (one, at), (other, there) in pairwise(calls):
                    if one.op_type == other.op_type and at == there and one is not other:
                        first = self._first(id(one))
                        self._same.setdefault(first, first)
                        self._same[self._first(id(other))] = first

    def sharing(
        self, tensor: Tensor, name: str, sites: Sequence[Site], *, buffer: bool = False
    ) -> Sharing:
        """Whether a tensor with several uses is one or several in the framework.

        Parameters
        ----------
        buffer
            Whether it is known to be a buffer: exporters keep the first of equal tensors, and
            parameters come first, so none was merged into it.
        """
        found = [
            each
            for each in self.slots(name, sites)
            if not buffer or each.use.role is Role.STATISTIC
        ]
        if len(found) < 2:
            return Sharing(layers=len({id(each.node) for each in sites}))
        roles = tuple(each.use.role for each in found)
        if len(set(roles)) > 1 or is_uniform(tensor, self._model):
            return Sharing(again=roles[1:])
        return Sharing(layers=len(found))

    def slots(self, name: str, sites: Sequence[Site]) -> list[Site]:
        """One site for each operand of each layer that holds weights or statistics."""
        found: dict[Hashable, Site] = {}
        for each in sites:
            site = _as_scale(each) if is_named(name) else each
            if site.node is not None and site.use.role in COUNTED:
                layer = self.layer(site.node, name) or id(site.node)
                found.setdefault((layer, site.node.op_type, site.position), site)
        return sorted(found.values(), key=lambda each: COUNTED.index(each.use.role))

    def layer(self, node: Node, name: str) -> Hashable:
        """What is the same for all calls of the layer that a node is of; None if nothing tells.

        `name` is that of one of its tensors.
        """
        if id(node) in self._same:
            return self._first(id(node))
        told = told_layer(node)
        if told is None:
            return None
        # A variable is called after its layer, and TensorFlow numbers the scope of each call.
        parent, variable = name.rpartition("/")[::2]
        own = parent.rpartition("/")[2]
        if variable in VARIABLES and re.fullmatch(rf"{re.escape(own)}(?:_\d+)*", told[-1]):
            return own
        return told

    def _first(self, key: int) -> int:
        while self._same.get(key, key) != key:
            key = self._same[key]
        return key


def _as_scale(site: Site) -> Site:
    """A scale or shift that is written out, where the tensor is called a weight or a bias.

    A GroupNorm's are, and what an exporter merged with them is a parameter by another use.
    """
    node = site.node
    if node is None or site.use.role is not Role.UNKNOWN or node.op_type not in ("Mul", "Add"):
        return site
    return replace(site, use=Use(role=Role.LEARNED, why=site.use.why))


_NAMED = re.compile(
    r"(?:^|[./_])(?:weight|bias|gamma|beta|scale|offset|kernel|w|b)(?::\d+)?$", re.IGNORECASE
)


def is_named(name: str) -> bool:
    """Whether a framework has given the name, as it calls a parameter."""
    return _NAMED.search(name) is not None


VARIABLES = frozenset("kernel bias gamma beta moving_mean moving_variance".split())


def is_uniform(tensor: Tensor, model: Model) -> bool:
    """Whether all values of a tensor are the same, as those that nothing has trained."""
    if not 0 < tensor.elements <= MOST_ELEMENTS or not tensor.is_float:
        return False
    values = model.values(tensor)
    return values is not None and bool((values == values.reshape(-1)[0]).all())


def stored_again(stored: Sequence[Stored], model: Model) -> dict[int, str]:
    """Weights that are an embedding's, stored once more for a linear layer, by their keys.

    Exporters transpose tied weights for the layer that multiplies with them, and store both. The
    copy has a name of the exporter's making; the same values bit for bit prove what it is.
    """
    tables: dict[tuple[int, ...], list[tuple[str, Tensor]]] = {}
    for _, name, tensor, sites in stored:
        if len(tensor.dims) == 2 and _is_at(sites, ("Gather",)):
            tables.setdefault(tensor.dims, []).append((name, tensor))
    found: dict[int, str] = {}
    for _, name, tensor, sites in stored if tables else ():
        if len(tensor.dims) != 2 or not _is_at(sites, ("MatMul", "Gemm")) or is_named(name):
            continue
        for original, table in tables.get(tensor.dims[::-1], ()):
            if not is_uniform(table, model) and _are_transposed(table, tensor, model):
                found[tensor.key] = original
    return found


def _is_at(sites: Sequence[Site], operators: Container[str]) -> bool:
    """Whether a tensor is learned by the operators that use it."""
    return any(
        site.node is not None and site.node.op_type in operators and site.use.role is Role.LEARNED
        for site in sites
    )


def _are_transposed(one: Tensor, other: Tensor, model: Model) -> bool:
    if max(one.elements, other.elements) > MOST_ELEMENTS or one.dtype != other.dtype:
        return False
    left, right = model.values(one), model.values(other)
    if left is None or right is None:
        return False
    return left.T.tobytes() == right.tobytes()
