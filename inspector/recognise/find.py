"""Find every BatchNorm of a model, and what could be taken for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from inspector.facts.batchnorm import Norms
from inspector.facts.model import Model, Node, Scope
from inspector.recognise.native import is_native, native
from inspector.recognise.place import Place
from inspector.recognise.scopes import places


def find_batchnorms(model: Model) -> Norms:
    """Every BatchNorm of every scope, with its parameters traced to where they lie.

    A function's body is reported once for each call, with that call's arguments.

    Raises
    ------
    inspector.errors.UnreadableError
        The model's functions call each other in a circle.
    """
    found = [(node, place) for place in places(model) for node in place.nodes if is_native(node)]
    names = _unique_names(found)
    return Norms(
        batchnorms=tuple([native(*each, name) for each, name in zip(found, names, strict=True)])
    )


def _unique_names(found: Sequence[tuple[Node, Place]]) -> list[str]:
    """Names that are unique within their scopes: by the output where they repeat, else numbered."""
    own = [(place.scope, node.label or node.op_type) for node, place in found]
    times = Counter(own)
    taken = {key for key, count in times.items() if count == 1}
    tried: dict[tuple[Scope, str], int] = {}
    names = []
    for (node, _), (scope, called) in zip(found, own, strict=True):
        name = called
        if times[scope, called] > 1:
            base = name = f"{called} ({node.outputs[0] if node.outputs else ''})"
            again = tried.get((scope, base), 1)
            while (scope, name) in taken:
                again += 1
                name = f"{base} #{again}"
            tried[scope, base] = again
            taken.add((scope, name))
        names.append(name)
    return names
