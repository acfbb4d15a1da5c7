"""What stands around a layer that is to be fixed, and why that may be in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspector.facts.batchnorm import BatchNorm, Origin
from inspector.facts.model import Node, Storage, Tensor

if TYPE_CHECKING:
    from inspector.check.sites import Sites
    from inspector.recognise.place import Place

_MOST_IDENTITIES = 32


class NoFixError(Exception):
    """A finding cannot be fixed; the message says why."""


def in_function(norm: BatchNorm, sites: Sites) -> bool:
    """Whether a layer stands in a function, or in a graph inside of one."""
    for at in range(1, len(norm.scope) + 1):
        site = sites.at(norm.scope[:at])
        if site is None or site.arguments is not None:
            return True
    return False


def links_of(norm: BatchNorm, place: Place) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """The operators of arithmetic in the data's order, as `WriteNative` has them; and constants."""
    from inspector.recognise.operators import ARITHMETIC

    links: list[tuple[str, str]] = []
    constants: list[str] = []
    value = norm.output
    while len(links) < len(norm.nodes):
        node = place.producer(value)
        if node is None or not place.is_local(value) or len(links) > len(norm.nodes):
            raise NoFixError("its arithmetic is not found again")
        if node.op_type in ARITHMETIC and node.is_standard:
            flows = [each for each in node.inputs if not place.is_constant(each)]
            if len(flows) != 1:
                raise NoFixError("its arithmetic is not found again")
            constants += [each for each in node.inputs if each != flows[0]]
            links.append((value, flows[0]))
            value = flows[0]
        elif node.op_type in ("Identity", "Transpose") and links:
            value = node.input(0)
        elif node.op_type == "Cast":
            raise NoFixError("its type changes within the arithmetic")
        else:
            raise NoFixError("its arithmetic is not found again")
    return tuple(reversed(links)), constants


def axis_of(norm: BatchNorm, data: str, place: Place) -> tuple[int, int]:
    """The axis of the channels of what flows in, and how many axes there are."""
    from inspector.recognise.around import dims_of

    dims = dims_of(data, place)
    if dims is None:
        raise NoFixError(f"the rank of {data!r} is not known")
    rank = len(dims)
    axis = norm.axis + rank if norm.axis < 0 else norm.axis
    length = dims[axis] if 0 < axis < rank else None
    if not 0 < axis < rank or (isinstance(length, int) and length != norm.channels):
        raise NoFixError(f"its channels do not lie on an axis of {data!r} but the first")
    return axis, rank


def held(tensor: Tensor | None, place: Place) -> str:
    """The initializer that is a parameter as it is; empty where none is."""
    if tensor is None or tensor.storage is not Storage.INITIALIZER or len(tensor.dims) != 1:
        return ""
    source = place.source(tensor.name)
    same = source.tensor is not None and source.tensor.key == tensor.key
    return tensor.name if same and source.origin is Origin.INITIALIZER else ""


def operator(norm: BatchNorm, place: Place) -> tuple[str, Node]:
    """The operator in front of a BatchNorm, by its output and as it is."""
    value = norm.entered
    for _ in range(_MOST_IDENTITIES):
        node = place.producer(value)
        if node is None or not place.is_local(value):
            break
        if node.op_type != "Identity":
            return value, node
        value = node.input(0)
    raise NoFixError("the operator in front of it stands in another graph")
