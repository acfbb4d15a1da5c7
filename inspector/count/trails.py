"""The scopes around a node, as exporters write them into names and notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from inspector.facts.model import Node
from inspector.facts.notes import traced

_TENSOR = re.compile(r"(?::\d+)?$")
_MADE = re.compile(r"__\d+$")
_CALLS = re.compile(r"(?:Stateful)?PartitionedCall(?:_\d+)?$")


def scoped_names(node: Node) -> Iterable[str]:
    """Names that may carry scopes: of the first output, since optimisers rename the node."""
    for name in (*node.outputs[:1], node.name):
        if "/" in name:
            yield _MADE.sub("", _TENSOR.sub("", name, count=1))


def trail(node: Node) -> tuple[str, ...]:
    """The scopes around a node by its name, from the outermost in."""
    if node.name.startswith("/"):
        return _torchscript(node.name.split("/")[1:-1])
    for name in scoped_names(node):
        if not name.startswith("/"):
            parts = name.split("/")[:-1]
            return tuple(each for each in parts if each and not _CALLS.match(each))
    return ()


def _torchscript(parts: Sequence[str]) -> tuple[str, ...]:
    """Scopes of TorchScript, which repeats a container's name in those of what it holds."""
    trail: list[str] = []
    for each in parts:
        if trail and each.startswith(f"{trail[-1]}."):
            trail.append(each.removeprefix(f"{trail[-1]}."))
        else:
            trail.append(each)
    return tuple(trail)


def told_layer(node: Node) -> tuple[str, ...] | None:
    """What is the same for all nodes of one layer, as far as the node itself tells."""
    noted = traced(node)
    if noted is not None:
        # A module that is called again has a number behind its path.
        return tuple(each.path.partition("@")[0] for each in noted.modules)
    return trail(node) or None
