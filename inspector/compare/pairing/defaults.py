"""Inputs that have a default: what a model stores under an input's name can be fed over.

That is so from IR 4 on. Before, every initializer had to be listed among the inputs, and runtimes
let none be fed (https://onnx.ai/onnx/repo-docs/IR.html, "Graphs").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping

from inspector.facts.model import Model, Tensor

FIRST_OVERRIDABLE = 4
"""The IR version from which on an initializer that is an input is its default."""

Key = Callable[[Tensor], Hashable]


def overridable(model: Model) -> Mapping[str, Tensor]:
    """Defaults by the name of their input, in the order of the inputs."""
    if model.ir_version < FIRST_OVERRIDABLE:
        return {}
    stored = model.graph.initializers
    return {each.name: stored[each.name] for each in model.graph.inputs if each.name in stored}


def paired_defaults(
    lefts: Mapping[str, Tensor], rights: Mapping[str, Tensor], contents: tuple[Key, Key]
) -> dict[str, str]:
    """Which default of the right is which of the left: by name, else by what it holds.

    What is left is paired in the order of the inputs where both sides have as many of one type and
    size.

    Parameters
    ----------
    contents
        Gives what a tensor of the left, or of the right, holds.
    """
    found = {
        name: name
        for name, tensor in lefts.items()
        if name in rights and _kind(tensor) == _kind(rights[name])
    }
    if len(found) == min(len(lefts), len(rights)):
        return found
    free = [name for name in rights if name not in found]
    rest = [name for name in lefts if name not in found]
    by_content = [
        {name: (_kind(of[name]), content(of[name])) for name in names}
        for of, names, content in ((lefts, rest, contents[0]), (rights, free, contents[1]))
    ]
    found |= _in_order(*by_content)
    by_kind = [
        {name: _kind(of[name]) for name in names if name not in taken}
        for of, names, taken in ((lefts, rest, found.keys()), (rights, free, {*found.values()}))
    ]
    counts = [Counter(each.values()) for each in by_kind]
    even = [
        {name: key for name, key in each.items() if counts[0][key] == counts[1][key]}
        for each in by_kind
    ]
    return found | _in_order(*even)


def _in_order(left: Mapping[str, Hashable], right: Mapping[str, Hashable]) -> dict[str, str]:
    """Names of one key on both sides, the first with the first."""
    waiting: dict[Hashable, list[str]] = {}
    for name, key in right.items():
        waiting.setdefault(key, []).append(name)
    for each in waiting.values():
        each.reverse()
    return {name: waiting[key].pop() for name, key in left.items() if waiting.get(key)}


def _kind(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return tensor.dtype, tensor.dims
