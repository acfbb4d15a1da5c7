"""Stored integers that say what an operator does: bounds, sizes, repeats, axes.

They are constants to the file and attributes to whoever reads it, and belong together: a Slice's
end moved without its start cuts out another length.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Collection

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.attributes import shown
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.structure import Layer
from inspector.facts.comparison import CauseKind
from inspector.facts.patch import Patch, Reorder, SetInput

_PREFIX = "input "
_END = 2**31 - 1
"""From here on a bound of a Slice says no more than that all that is left is meant."""

_NAMES = {
    "Slice": ("", "starts", "ends", "axes", "steps"),
    "Tile": ("", "repeats"),
    "Expand": ("", "shape"),
    "Split": ("", "split"),
    "ConstantOfShape": ("shape",),
    "Pad": ("", "pads", "", "axes"),
    "TopK": ("", "k"),
    "Resize": ("", "", "", "sizes"),
    "CumSum": ("", "axis"),
    "OneHot": ("", "depth"),
    "Trilu": ("", "k"),
    "LSTM": ("", "", "", "", "sequence_lens"),
    "GRU": ("", "", "", "", "sequence_lens"),
    "RNN": ("", "", "", "", "sequence_lens"),
}
"""What the standard calls the inputs of its operators (onnx's docs/Operators.md)."""


def argument_difference(
    a: Layer, b: Layer, found: Correspondence, done: Collection[str]
) -> tuple[frozenset[str], Candidate | None]:
    """What two layers are told by stored integers, as one difference.

    With the names of the attributes that it stands for.

    Parameters
    ----------
    done
        Attributes that another difference stands for.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    places = sorted(
        int(name.removeprefix(_PREFIX))
        for name in (a.attributes.keys() | b.attributes.keys()) - set(done)
        if name.startswith(_PREFIX) and a.attributes.get(name) != b.attributes.get(name)
    )
    if not places:
        return frozenset(), None
    patches = _patches(a, b, places, found)
    words = _cut(a, places), _cut(b, places)
    if None in words:
        words = shown(_in_words(a, places), _in_words(b, places))
    names = frozenset(f"{_PREFIX}{at}" for at in places)
    return names, Candidate(
        kind=CauseKind.ATTRIBUTE,
        what=" and ".join(_name(b, at) for at in places),
        left_where=a.shown,
        right_where=b.shown,
        left_node=a.node,
        right_node=b.node,
        left=words[0] or "not set",
        right=words[1] or "not set",
        patches=patches,
        reason="" if patches else "how to write it on the right depends on the layout",
    )


def _name(layer: Layer, at: int) -> str:
    names = _NAMES.get(layer.op, ()) if not layer.domain else ()
    return (names[at] if at < len(names) else "") or f"{_PREFIX}{at}"


def _in_words(layer: Layer, places: list[int]) -> str | None:
    known = [layer.attributes.get(f"{_PREFIX}{at}") for at in places]
    if not any(known):
        return None
    return " and ".join(each or "not set" for each in known)


def _cut(layer: Layer, places: list[int]) -> str | None:
    """What a Slice cuts out, axis by axis; None where that is not known, or it is none."""
    if layer.op != "Slice" or layer.domain or max(places) > len(_NAMES["Slice"]) - 1:
        return None
    words = [layer.attributes.get(f"{_PREFIX}{at}") for at in (1, 2, 3)]
    steps = layer.attributes.get(f"{_PREFIX}4")
    if None in words or (steps is None and len(layer.node_fact.inputs) > len(_NAMES["Slice"]) - 1):
        return None
    try:
        lists = [literal_eval(each or "") for each in words]
        lists.append(literal_eval(steps) if steps is not None else [1] * len(lists[0]))
    except (ValueError, SyntaxError):  # a type in front of the numbers
        return None
    if len({len(each) for each in lists}) != 1:
        return None
    return ", ".join(
        f"{start}:{'' if end >= _END else end}{f':{step}' if step != 1 else ''} along axis {axis}"
        for start, end, axis, step in zip(*lists, strict=True)
    )


def _patches(a: Layer, b: Layer, places: list[int], found: Correspondence) -> tuple[Patch, ...]:
    """The left side's integers on the right node, where no layout stands between them."""
    layouts = [
        network.layouts.axes.get(layer.node_fact.input(0))
        for network, layer in ((found.left, a), (found.right, b))
    ]
    plain = [axes is None or axes == tuple(range(len(axes))) for axes in layouts]
    same = layouts[0] == layouts[1] and layouts[0] is not None
    if a.node_fact.op_type != b.node_fact.op_type or not (all(plain) or same):
        return ()
    made: list[Patch] = []
    last = len(b.node_fact.inputs)
    for at in reversed(places):
        stored = a.constants.get(at)
        if stored is not None and (at in b.constants or not b.node_fact.input(at)):
            values = found.left.model.weights.load(stored)
            there = b.constants.get(at)
            if there is not None:
                values = values.astype(found.right.model.weights.load(there).dtype)
            made.append(SetInput(node=b.node, position=at, values=values))
        elif not a.node_fact.input(at) and at in b.constants and at == last - 1:
            last = at
            made.append(Reorder(node=b.node, order=tuple(range(at))))
        else:
            return ()
    # What goes at the end goes first: what is set may be there anew.
    return tuple(sorted(made, key=lambda each: isinstance(each, SetInput)))
