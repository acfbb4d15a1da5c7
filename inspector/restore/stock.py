"""Where in a stock export each BatchNorm is, by the words in which a trace says so.

`inspector.recognise.against` tells the operator, the arithmetic or the node by its name, as its
report does. Names may repeat over scopes, so there may be several of one name.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from inspector.facts.batchnorm import Affine, BatchNorm, Norms, Origin
from inspector.facts.model import Model, Node, Scope
from inspector.facts.traced import Fate, Traced
from inspector.recognise.folded import Traces
from inspector.recognise.linear import bias_adder
from inspector.recognise.place import Place
from inspector.recognise.scopes import places


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operator:
    """One whose weights took a BatchNorm in."""

    node: Node
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arithmetic:
    """What is left of a BatchNorm as Mul, Add and the like, or one that is a node.

    `skipped` additions in front are none of it: the bias of the operator before.
    """

    norm: BatchNorm | Affine
    skipped: int
    place: Place


class Stock:
    """The stock export, and what stands where.

    Raises
    ------
    inspector.errors.UnreadableError
        Its functions call each other in a circle.
    """

    def __init__(self, model: Model, norms: Norms) -> None:
        self._places: dict[Scope, Place] = {each.scope: each for each in places(model)}
        self._operators: dict[str, list[Operator]] = defaultdict(list)
        for place in self._places.values():
            for node in Traces(place).nodes:
                self._operators[_called(node, place)].append(Operator(node=node, place=place))
        self._maps: dict[str, list[Arithmetic]] = defaultdict(list)
        self._norms: dict[str, list[Arithmetic]] = defaultdict(list)
        all_of_them: list[BatchNorm | Affine] = [*norms.batchnorms, *norms.affines]
        for each in all_of_them:
            place = self._places[each.scope]
            for skipped in (0, 1):
                found = Arithmetic(norm=each, skipped=skipped, place=place)
                self._maps[", ".join(each.nodes[skipped:])].append(found)
            if isinstance(each, BatchNorm):
                self._norms[each.name].append(Arithmetic(norm=each, skipped=0, place=place))

    def operators(self, traced: Traced) -> list[Operator]:
        """The operators that a folded BatchNorm may be in."""
        return self._operators.get(traced.where, []) if traced.fate is Fate.FOLDED else []

    def arithmetic(self, traced: Traced) -> list[Arithmetic]:
        """The arithmetic, or the node, that a BatchNorm may be."""
        match traced.fate:
            case Fate.ARITHMETIC:
                return self._maps.get(traced.where, [])
            case Fate.KEPT:
                return self._norms.get(traced.where, [])
            case _:
                return []


def may_be_fed(value: str, place: Place) -> bool:
    """Whether a caller of the model may give a stored value another one."""
    return place.source(value).origin is Origin.OVERRIDABLE


def _called(node: Node, place: Place) -> str:
    """An operator as `inspector.recognise.folding.Layers` calls it."""
    adder = None if node.input(2) else bias_adder(node, place)
    both = (node,) if adder is None else (node, adder)
    return ", ".join(f"{each.op_type} {each.label}".rstrip() for each in both)
