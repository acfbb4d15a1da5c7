"""Which layer of the original each node belongs to, as far as the file tells.

An export's manifest tells it, torch's exporter notes it, and other exporters leave it in the names:
`/layer1/conv1/Conv` (TorchScript), `model/conv2d_1/BiasAdd` (TensorFlow).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from inspector.count.trails import scoped_names
from inspector.count.trails import trail as trail_of
from inspector.facts.fact import fact
from inspector.facts.model import Node
from inspector.facts.notes import Module, traced
from inspector.facts.summary import Source

if TYPE_CHECKING:
    from inspector.facts.manifest import SourceLayer


@fact(frozen=True, slots=True, kw_only=True)
class Owner:
    """The layer that a node belongs to.

    Attributes
    ----------
    key
        The same for all nodes of a layer.
    name, kind
        Of the layer and of its class, as the framework has them; empty where nothing tells.
    within
        The modules around the layer that only contain others, from the outermost in.
    """

    key: tuple[str, ...]
    name: str
    kind: str = ""
    within: tuple[Module, ...] = ()


Owners = Mapping[int, Owner]
"""By the id of the node."""


def owners(
    nodes: Sequence[Node], layers: Sequence[SourceLayer], weighs: Callable[[Node], bool]
) -> tuple[Source, Owners]:
    """The layers that nodes belong to, and what told it.

    Parameters
    ----------
    layers
        Of the export's manifest.
    weighs
        Whether a node has weights: a layer has one such node, as a rule.
    """
    found = _by_manifest(nodes, layers)
    if found:
        return Source.MANIFEST, found
    found = _by_notes(nodes)
    if found:
        return Source.NOTES, found
    found = _by_names(nodes, weighs)
    return (Source.NAMES, found) if found else (Source.GRAPH, {})


def _by_manifest(nodes: Sequence[Node], layers: Sequence[SourceLayer]) -> dict[int, Owner]:
    containing = {each.within for each in layers}
    innermost = [each for each in layers if each.name not in containing]
    scopes = {scope: each for each in innermost for scope in each.scopes}
    found = {}
    for node in nodes:
        for name in scoped_names(node):
            parts = name.split("/")
            inside = ("/".join(parts[:end]) for end in range(len(parts), 0, -1))
            scope = next((each for each in inside if each in scopes), "")
            if scope:
                layer = scopes[scope]
                found[id(node)] = Owner(key=(scope,), name=layer.name, kind=layer.kind)
                break
    return found


def _by_notes(nodes: Sequence[Node]) -> dict[int, Owner]:
    """By torch's notes: a module that contains none with nodes of its own is a layer."""
    told = {id(node): each for node in nodes if (each := traced(node)) is not None}
    if not any(each.modules[-1].path for each in told.values()):
        return {}
    containers = {module.path for each in told.values() for module in each.modules[:-1]}
    found = {}
    for key, each in told.items():
        last = each.modules[-1]
        if last.path in containers or not last.path:
            # Written out in the module's own code: each operation stands for itself.
            found[key] = Owner(key=(last.path, each.operation), name="", within=each.modules)
        else:
            found[key] = Owner(
                key=(last.path,), name=last.path, kind=last.kind, within=each.modules[:-1]
            )
    return found


def _by_names(nodes: Sequence[Node], weighs: Callable[[Node], bool]) -> dict[int, Owner]:
    """By scopes in names: the outermost scope with one node with weights at most is a layer."""
    trails = {id(node): trail for node in nodes if (trail := trail_of(node))}
    torch = _is_torch(nodes)
    if not torch:
        trails = {key: _of_both_directions(trail) for key, trail in trails.items()}
    weighing: Counter[tuple[str, ...]] = Counter()
    together: set[tuple[str, ...]] = set()
    separable = set() if torch else _depthwise_of_separable(nodes, trails)
    for node in nodes:
        trail = trails.get(id(node), ())
        if not weighs(node) or id(node) in separable or trail in together:
            continue
        if trail and trail[-1] == _BOTH:
            together.add(trail)
        weighing.update(trail[:end] for end in range(1, len(trail) + 1))
    containing = {trail[:end] for trail in trails.values() for end in range(len(trail))}
    if not weighing:
        return {}
    root = _root(list(trails.values()))
    numbered = _is_numbered([trail for trail in trails.values() if weighing[trail]], root)
    root = 0 if torch else root
    found = {}
    for key, trail in trails.items():
        # PyTorch's modules are the innermost scopes; of TensorFlow's the outermost that may be one.
        shortest = len(trail) if torch else min(root + 1, len(trail))
        for end in range(shortest, len(trail) + 1):
            scope = trail[:end]
            if weighing[scope] <= 1 or scope not in containing:
                break
        container = scope in containing and (torch or weighing[scope] > 1)
        if len(scope) <= root or container:
            continue  # written out in a scope that contains layers
        name = _NUMBER.sub("", scope[-1]) if numbered else scope[-1]
        path = (*scope[root:-1], name)
        found[key] = Owner(key=scope, name=".".join(path) if torch else "/".join(path))
    return found


_BOTH = "both directions"
"""Stands for the two layers inside of a Bidirectional one."""


def _of_both_directions(trail: tuple[str, ...]) -> tuple[str, ...]:
    """A trail in which the halves of Keras' Bidirectional are one: it calls them so."""
    for at, each in enumerate(trail):
        if at and each.startswith(("forward_", "backward_")):
            return (*trail[:at], _BOTH)
    return trail


def _depthwise_of_separable(
    nodes: Sequence[Node], trails: Mapping[int, tuple[str, ...]]
) -> set[int]:
    """The first halves of Keras' separable convolutions, which are two operators of one layer."""
    by_output = {name: node for node in nodes for name in node.outputs if node.op_type == "Conv"}
    found = set()
    for node in nodes:
        first = by_output.get(node.input(0)) if node.op_type == "Conv" else None
        outer = trails.get(id(node), ())
        if first is None or not outer or first.int_attribute("group", 1) == 1:
            continue
        inner = trails.get(id(first), ())
        if inner[: len(outer)] == outer and any(e.startswith("separable_conv") for e in inner):
            found.add(id(first))
    return found


_NUMBER = re.compile(r"_\d+$")


def _root(trails: Sequence[tuple[str, ...]]) -> int:
    """How many scopes all names begin with: the model's own name."""
    if not trails:
        return 0
    first, last = min(trails), max(trails)
    shared = 0
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        shared += 1
    return min(shared, min(map(len, trails)) - 1) if shared else 0


def _is_numbered(trails: Iterable[tuple[str, ...]], root: int) -> bool:
    """Whether TensorFlow has numbered all scopes anew, as it does where a model is traced twice."""
    layers = {trail[root] for trail in trails if len(trail) > root}
    return len(layers) > 1 and all(_NUMBER.search(each) for each in layers)


def _is_torch(nodes: Sequence[Node]) -> bool:
    return any(node.name.startswith("/") for node in nodes)
