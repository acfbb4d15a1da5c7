"""Padding of two convolutions, wherever it is written: as numbers, as a mode, in a Pad in front."""

from __future__ import annotations

from ast import literal_eval

from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.padding import explicit
from inspector.compare.graphs.structure import Layer, Network
from inspector.facts.patch import Patch, SetAttribute

PADDING = ("pads", "auto_pad")
"""The attributes that say it."""

_SPATIAL = 2
"""The first axis of a convolution's kernel and input that is no channel or batch."""


def pads_alike(a: Layer, b: Layer, found: Correspondence) -> bool:
    """Whether padding that one side leaves to the lengths of its input is what the other has."""
    if "auto_pad" not in a.attributes and "auto_pad" not in b.attributes:
        return False
    pads = [_pads(each, side) for each, side in ((a, found.left), (b, found.right))]
    return pads[0] is not None and pads[0] == pads[1]


def _pads(layer: Layer, network: Network) -> list[int] | None:
    """A convolution's padding as numbers; None where it depends on lengths that are not known."""
    kernel = next((each.dims for each in layer.stored if each.role == "kernel"), None)
    known = network.model.graph.values.get(layer.node_fact.input(0))
    if layer.op != "Conv" or layer.domain or kernel is None or len(kernel) <= _SPATIAL:
        return None
    if "auto_pad" not in layer.attributes:
        none = [0] * (2 * (len(kernel) - _SPATIAL))
        return list(literal_eval(layer.attributes.get("pads", "[]"))) or none
    dims = None if known is None or known.dims is None else known.dims[_SPATIAL:]
    if dims is None or not all(isinstance(each, int) and each > 0 for each in dims):
        return None
    lengths = [each for each in dims if isinstance(each, int)]
    own = explicit(layer.node_fact, lengths, kernel[_SPATIAL:])
    return None if own is None else list(own)


def padding_patches(a: Layer, b: Layer) -> tuple[Patch, ...]:
    """The left side's padding on the right, less what a Pad in front of that adds already."""
    if "auto_pad" in a.attributes or "auto_pad" in b.attributes:
        return ()
    wanted = literal_eval(a.attributes.get("pads", "[]"))
    there = b.put_apart or (0,) * len(wanted)
    wanted = wanted or [0] * len(there)
    if len(wanted) != len(there):
        return ()
    pads = tuple(int(each) - own for each, own in zip(wanted, there, strict=True))
    return (SetAttribute(node=b.node, name="pads", value=pads),) if min(pads) >= 0 else ()
