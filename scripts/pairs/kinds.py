"""What a kind of change is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx

from .edit import Graph

Perms: TypeAlias = dict[int, tuple[int, ...]]
"""By an input's or output's place: the axes of the original in the order they now have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong: words that name it rightly, and names of places that do.

    `first` are the values and nodes where outputs first differ, `later` those one step on.
    """

    causes: frozenset[str]
    where: frozenset[str]
    first: frozenset[str]
    later: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A changed model and, where it is harmful, its faults.

    `parts` are models with one of several faults each: all have to do harm alone.
    """

    model: onnx.ModelProto
    faults: tuple[Fault, ...] = ()
    inputs: Perms = field(default_factory=dict)
    outputs: Perms = field(default_factory=dict)
    external: bool = False
    parts: tuple[onnx.ModelProto, ...] = ()


Maker: TypeAlias = Callable[[Graph, np.random.Generator], Change | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`make` gives None for a network that a kind cannot be applied to.

    `coarse` marks those that cost precision alone: that outputs agree within a coarser floor is
    a right answer there too, as long as it is not said that nothing differs.
    """

    name: str
    harmful: bool
    make: Maker
    coarse: bool = False


KINDS: dict[str, Kind] = {}


def harmless(make: Maker) -> Maker:
    return _listed(make, harmful=False)


def harmful(make: Maker) -> Maker:
    return _listed(make, harmful=True)


def coarse(make: Maker) -> Maker:
    return _listed(make, harmful=True, coarse=True)


def _listed(make: Maker, *, harmful: bool, coarse: bool = False) -> Maker:
    name = make.__name__
    assert name not in KINDS, name
    KINDS[name] = Kind(name=name, harmful=harmful, make=make, coarse=coarse)
    return make


def fault(g: Graph, node: onnx.NodeProto, *causes: str, near: bool = False) -> Fault:
    """A fault of one node; `near` where its neighbours are as good a name for the place."""
    where = g.around(node) if near else g.names(node)
    first = where if near else g.names(node)
    return Fault(causes=frozenset(causes), where=where, first=first, later=g.ahead(node))
