"""What torch's exporter notes about where a node came from.

It writes lists as Python prints them: the classes of all modules around a node and their paths,
from the outermost in, and last the operation that it traced.
"""

from __future__ import annotations

import re

from inspector.facts.fact import fact
from inspector.facts.model import Node

KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
"""Of a value: what input of the exported program it was, ``PARAMETER`` or ``BUFFER`` of them."""

_CLASSES = "pkg.torch.onnx.class_hierarchy"
_SCOPES = "pkg.torch.onnx.name_scopes"
_QUOTED = re.compile(r"'([^']*)'")


@fact(frozen=True, slots=True, kw_only=True)
class Module:
    """A module by its class, with the package it is of, and by its path; the outermost has none."""

    kind: str
    path: str


@fact(frozen=True, slots=True, kw_only=True)
class Traced:
    """The modules around a node, from the outermost in, and the operation within the last."""

    modules: tuple[Module, ...]
    operation: str


def traced(node: Node) -> Traced | None:
    """What torch's exporter notes of a node; None where it notes nothing."""
    if not node.metadata:
        return None
    kinds = _QUOTED.findall(node.metadata.get(_CLASSES, ""))
    paths = _QUOTED.findall(node.metadata.get(_SCOPES, ""))
    if len(kinds) < 2:
        return None
    if len(paths) != len(kinds):
        paths = [""] * len(kinds)  # classes alone still tell what the node was
    modules = [
        Module(kind=kind, path=path)
        for kind, path in zip(kinds[:-1], paths[:-1], strict=True)
        if not kind.startswith("_empty_nn_module_stack")
    ]
    return Traced(modules=tuple(modules), operation=paths[-1]) if modules else None
