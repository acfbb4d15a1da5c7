"""Nested inputs and outputs: what the tensors in them are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_Path = tuple[str | int, ...]


def names_of(structure: Any, flat: Sequence[Any], *, within: str = "") -> list[str]:
    """A name for each tensor of `flat` from the keys of the dicts that it lies in.

    The empty name is for those that lie in none. Which is which is told by identity, so the order
    in which a library flattens dicts does not matter.

    Parameters
    ----------
    structure
        Dicts, lists and tuples of what is in `flat`.
    within
        What stands in front of a name that would begin with a number.
    """
    paths: dict[int, list[_Path]] = {}
    for path, leaf in _leaves(structure, ()):
        paths.setdefault(id(leaf), []).append(path)
    found = []
    for each in flat:
        known = paths.get(id(each), [])
        # What is given out twice has a path for each.
        found.append(_name(known.pop(0) if known else (), within))
    return found


def _leaves(structure: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    if isinstance(structure, Mapping):
        # As the libraries have them: it matters for what is given out twice.
        for key, each in sorted(structure.items(), key=lambda item: str(item[0])):
            yield from _leaves(each, (*path, str(key)))
    elif isinstance(structure, (list, tuple)):
        for position, each in enumerate(structure):
            yield from _leaves(each, (*path, position))
    else:
        yield path, structure


def _name(path: _Path, within: str) -> str:
    if all(isinstance(part, int) for part in path):
        return ""
    parts = [within] if within and isinstance(path[0], int) else []
    return "_".join([*parts, *map(str, path)])
