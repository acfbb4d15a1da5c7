"""Which node of the main graph each counted element belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from inspector.count.merged import Layers
from inspector.count.uses import Site, stored_tensors
from inspector.facts.count import Count, CountedTensor, Role
from inspector.facts.fact import fact
from inspector.facts.graphs import subgraphs
from inspector.facts.model import Model, Node

_MOST_STEPS = 256


@fact(frozen=True, slots=True, kw_only=True)
class Placed:
    """Elements of one tensor in one role, at the node that uses them first; None if none does.

    `site` is the operator that gives them the role, and `users` are all nodes that use the tensor.
    `stored` is False for all but the first role of a tensor.
    """

    tensor: CountedTensor
    role: Role
    home: Node | None
    site: Site | None
    users: tuple[Node, ...]
    stored: bool


def placed(model: Model, path: Sequence[Node], count: Count) -> Iterator[Placed]:
    """Everything that was counted, where it is used.

    Parameters
    ----------
    path
        The nodes that data flows through: what others hold belongs to the first of these behind.
    """
    order = {id(node): position for position, node in enumerate(path)}
    outer = _outer(model)
    stored = list(stored_tensors(model))
    layers = Layers(stored, model) if count.merged else None
    for counted, (_, name, _, every) in zip(count.tensors, stored, strict=True):
        # Where a weight's dims are read as well, it is a weight to what computes with it.
        sites = [each for each in every if each.use.role is counted.role] or every
        homes = [_home(site, outer, order, model) for site in sites]
        found = {order[id(node)]: node for node in homes if node is not None}
        users = tuple(found[at] for at in sorted(found))
        chosen: list[tuple[Site | None, Node | None]] = [(None, None)]
        if counted.again and layers is not None:
            slots = layers.slots(name, every)[-1 - len(counted.again) :]
            chosen = [(site, _home(site, outer, order, model)) for site in slots]
        elif users:
            at = next(i for i, home in enumerate(homes) if home is users[0])
            chosen = [(sites[at], users[0])]
        roles = (counted.role, *counted.again)
        for at, (role, (site, home)) in enumerate(zip(roles, chosen, strict=True)):
            yield Placed(
                tensor=counted, role=role, home=home, site=site, users=users, stored=at == 0
            )


def _home(
    site: Site, outer: Mapping[int, Node], order: Mapping[int, int], model: Model
) -> Node | None:
    """The node on the path that a site belongs to: itself, or the next one behind."""
    node = site.call or site.node
    if node is None:
        return None
    pending = [outer.get(id(node), node)]
    seen: set[int] = set()
    while pending and len(seen) < _MOST_STEPS:
        node = pending.pop(0)
        if id(node) in order:
            return node
        for name in node.outputs:
            for user, _ in model.graph.wiring.users.get(name, ()):
                if id(user) not in seen:
                    seen.add(id(user))
                    pending.append(user)
    return None


def _outer(model: Model) -> dict[int, Node]:
    """The node of the main graph that holds each node of a subgraph or calls it in a function."""
    found: dict[int, Node] = {}
    if not model.functions and not model.graph.wiring.nesting:
        return found
    for node in model.graph.nodes:
        pending, entered = [node], set()
        while pending:
            each = pending.pop()
            function = model.function(each)
            inner = [one for graph in subgraphs(each) for one in graph.nodes]
            if function is not None and id(function) not in entered:
                entered.add(id(function))
                inner += function.nodes
            for one in inner:
                found.setdefault(id(one), node)
            pending += inner
    return found
