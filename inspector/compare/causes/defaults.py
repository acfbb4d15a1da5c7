"""Inputs with a default that the other side puts to another use, or does not have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.contents import content_digest
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.parameters import StoredPair
from inspector.compare.graphs.structure import Layer
from inspector.compare.graphs.view import commutes
from inspector.compare.pairing.defaults import overridable, paired_defaults
from inspector.facts.comparison import CauseKind
from inspector.facts.graphs import captured
from inspector.facts.model import Tensor

_NAMED = 3


class Defaults:
    """Inputs with a default of both sides, and which is which."""

    def __init__(self, found: Correspondence) -> None:
        models = found.left.model, found.right.model
        self._sides = overridable(models[0]), overridable(models[1])
        self._pairs = paired_defaults(
            *self._sides,
            (
                partial(content_digest, models[0].weights),
                partial(content_digest, models[1].weights),
            ),
        )
        self._lefts = {b: a for a, b in self._pairs.items()}

    def crossed(self, a: Layer, b: Layer, pairs: Sequence[StoredPair]) -> Iterator[Candidate]:
        """Defaults that two layers read in one place and that are not one input."""
        if not all(self._sides):
            return
        for lefts, rights in self._read_alike(a, b, pairs):
            astray = [n for n in lefts if n in self._pairs and self._pairs[n] not in rights]
            others = [n for n in rights if n in self._lefts and self._lefts[n] not in lefts]
            if not astray and not others:
                continue
            yield Candidate(
                kind=CauseKind.ORDER,
                what="inputs with a default",
                left_where=a.shown,
                right_where=b.shown,
                left_node=a.node,
                right_node=b.node,
                left=" and ".join(map(repr, astray or lefts)) or "none",
                right=" and ".join(map(repr, others or rights)) or "none",
                reason="they hold the same, and what is fed in their place goes elsewhere",
            )

    def _read_alike(
        self, a: Layer, b: Layer, pairs: Sequence[StoredPair]
    ) -> Iterator[tuple[list[str], list[str]]]:
        """Inputs that two layers read in one place, all of a place where the order is free."""
        for tensors in _stored_alike(a, b, pairs):
            names = [
                [each.name for each in of if side.get(each.name) == each]
                for side, of in zip(self._sides, tensors, strict=True)
            ]
            # What one side alone stores is told of as that.
            if all(tensors):
                yield names[0], names[1]
        inner = list(captured(a.node_fact)), list(captured(b.node_fact))
        if len(inner[0]) == len(inner[1]):
            for one, other in zip(*inner, strict=True):
                yield [one], [other]

    def notes(self) -> Iterator[str]:
        """A sentence for each side on inputs with a default that the other has not."""
        known = self._pairs.keys(), frozenset(self._pairs.values())
        for side, of, paired in zip(("left", "right"), self._sides, known, strict=True):
            alone = [repr(name) for name in of if name not in paired]
            if alone:
                shown = ", ".join(alone[:_NAMED])
                more = f" and {len(alone) - _NAMED} more" if alone[_NAMED:] else ""
                yield (
                    f"inputs with a default on the {side} alone, compared at that: {shown}{more}"
                )


def _stored_alike(
    a: Layer, b: Layer, pairs: Sequence[StoredPair]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    roles: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
    for each in pairs:
        tensors = roles.setdefault(each.role, ([], []))
        for side, stored in zip(tensors, (each.left, each.right), strict=True):
            if stored is not None:
                side.append(stored.tensor)
    yield from roles.values()
    # Short integers, and bounds, are no parameters.
    known = {each.tensor for of in (a, b) for each in of.stored}
    rest = [{at: each for at, each in of.constants.items() if each not in known} for of in (a, b)]
    if commutes(a.node_fact):
        yield list(rest[0].values()), list(rest[1].values())
        return
    for at in rest[0].keys() & rest[1].keys():
        yield [rest[0][at]], [rest[1][at]]
