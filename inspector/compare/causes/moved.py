"""Operators that only move a value, and move it otherwise on the right: as suspicions.

Reshapes and Transposes are no layers: most of them undo an exporter's layout, and two that differ
may come to the same. So they are no differences between two models, and are asked only where
outputs differ: each is patched, and is a cause where the copy that runs with it says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from inspector.compare.causes.candidate import Candidate
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.moves import Target, in_words, target, way
from inspector.compare.graphs.parameters import Relation, as_stored, compare_stored, normal
from inspector.compare.graphs.structure import Layer, Network
from inspector.compare.graphs.view import commutes
from inspector.compare.pairing.pair import Pair
from inspector.compare.runtime.run import Array
from inspector.facts.comparison import CauseKind
from inspector.facts.model import Attribute, Node
from inspector.facts.patch import Bypass, InsertAfter, Patch, SetAttribute, SetInput, SetOperator

END = "end "
"""In front of an output's name among the nodes of what is suspected: it is read by no layer."""

_FAMILY = frozenset("Reshape Flatten Squeeze Unsqueeze".split())


_BLOCKS = frozenset({"DepthToSpace", "SpaceToDepth"})
"""What others write as a Reshape, a Transpose and a Reshape."""


@dataclass(slots=True, kw_only=True)
class _Step:
    """One node of the right side, or a whole way of them, that moves what it reads otherwise."""

    what: str
    left: str
    right: str
    where: tuple[str, str]
    begins: tuple[str, str]
    op_type: str
    patches: list[Patch]
    readers: set[str] = field(default_factory=set)


def moved_otherwise(found: Correspondence, outputs: Sequence[Pair]) -> tuple[Candidate, ...]:
    """What moves values between paired layers otherwise on the right; each may be harmless.

    Those of one operator that say the same are one, as the Reshapes of an attention's heads are.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    asked = _Asked(found)
    for a, b in found.alignment.pairs:
        readers = {f"l{a.node}", f"r{b.node}"}
        steps = [step for names in _reads(a, b, found) for step in asked.steps(*names, (a, b))]
        sized = _sized(a, b, found) if steps else []
        for step in steps:
            step.readers |= readers
            step.patches += [each for each in sized if not _is_in(each, step.patches)]
    for pair in outputs:
        for step in asked.steps(pair.left.name, pair.right.name):
            step.readers |= {f"l{END}{pair.left.name}", f"r{END}{pair.right.name}"}
    groups: dict[tuple[str, str, str, str], list[_Step]] = defaultdict(list)
    for step in asked.found.values():
        groups[step.op_type, step.what, step.left, step.right].append(step)
    return tuple(_as_one(each) for each in groups.values())


def _reads(a: Layer, b: Layer, found: Correspondence) -> Iterator[tuple[str, str]]:
    """Names under which two layers read values that correspond."""
    lefts, rights = _names(a, found.left), _names(b, found.right)
    free = list(rights)
    for at, (source, name) in enumerate(lefts):
        wanted = found.right_of(found.past_left(source))
        if not wanted:
            continue
        if commutes(a.node_fact):
            fitting = [each for each in free if found.past_right(each[0]) == wanted]
        else:
            here = rights[at : at + 1]
            fitting = [each for each in here if found.past_right(each[0]) == wanted]
        if fitting:
            free = [each for each in free if each is not fitting[0]]
            yield name, fitting[0][1]


def _names(layer: Layer, network: Network) -> list[tuple[str, str]]:
    wanted = set(layer.inputs)
    pairs = ((network.sources.get(name, name), name) for name in layer.node_fact.inputs if name)
    return [each for each in pairs if each[0] in wanted]


def _sized(a: Layer, b: Layer, found: Correspondence) -> list[Patch]:
    """A reader's own vectors on the right in the lengths that the left side's have.

    An InstanceNormalization has a scale for each group that the Reshape in front makes.
    """
    made: list[Patch] = []
    for each in compare_stored(a, b, found.left.model.weights, found.right.model.weights):
        left, right = each.left, each.right
        if each.relation is not Relation.SHAPES or left is None or right is None:
            continue
        if left.spreads or right.spreads or len(left.tensor.dims) != 1:
            continue
        values = as_stored(normal(left, found.left.model.weights), left)
        made.append(SetInput(node=right.node, position=right.position, values=values))
    return made


def _is_in(patch: Patch, patches: Sequence[Patch]) -> bool:
    return any(
        isinstance(patch, SetInput)
        and isinstance(each, SetInput)
        and (patch.node, patch.position) == (each.node, each.position)
        for each in patches
    )


class _Asked:
    """What was found on the ways of values so far, by what the right side's nodes compute."""

    def __init__(self, found: Correspondence) -> None:
        self._networks = found.left, found.right
        self._producers = [
            {name: node for node in each.model.graph.nodes for name in node.outputs if name}
            for each in self._networks
        ]
        alone = found.alignment.left_only, found.alignment.right_only
        self._blocks = [
            {e.value for e in each if e.op in _BLOCKS and not e.domain} for each in alone
        ]
        self._users = Counter(
            name for node in found.right.model.graph.nodes for name in {*node.inputs}
        )
        self.found: dict[str, _Step] = {}

    def steps(
        self, left: str, right: str, readers: tuple[Layer, Layer] | None = None
    ) -> list[_Step]:
        """What differs on the ways to two values; the same step for all that read it."""
        names = left, right
        ways: list[tuple[Node, ...]] = []
        for side, name in enumerate(names):
            found = self._way(side, name)
            if found is None:
                return []
            ways.append(found)
        if [_family(each) for each in ways[0]] == [_family(each) for each in ways[1]]:
            steps = [
                self._known(n.outputs[0], partial(self._of_nodes, m, n))
                for m, n in zip(*ways, strict=True)
            ]
            return [each for each in steps if each is not None]
        key = right if ways[1] or readers is None else f"{right} of {readers[1].node}"
        whole = self._known(key, lambda: self._of_ways(ways[0], ways[1], names, readers))
        return [] if whole is None else [whole]

    def _way(self, side: int, name: str) -> tuple[Node, ...] | None:
        """What moves a value on its way to `name`.

        Blocks put into depth and back, where one side alone has an operator for it, are on the way.
        """
        sources, producer = self._networks[side].sources, self._producers[side]
        source = sources.get(name, name)
        found = way(producer, source, name)
        while found is not None and source in self._blocks[side]:
            node = producer[source]
            source = sources.get(node.input(0), node.input(0))
            more = way(producer, source, node.input(0))
            found = None if more is None else (*more, node, *found)
        return found

    def _known(self, name: str, make: Callable[[], _Step | None]) -> _Step | None:
        step = self.found.get(name) or make()
        if step is not None:
            self.found[name] = step
        return step

    def _target(self, side: int, node: Node) -> Target:
        return target(self._networks[side].model, self._producers[side], node)

    def _of_nodes(self, m: Node, n: Node) -> _Step | None:
        left, right = self._target(0, m), self._target(1, n)
        if not left.differs(right):
            return None
        patches = _patched(n, m, left)
        if not patches:
            return None
        alike = m.op_type == n.op_type
        return _Step(
            what="perm" if n.op_type == "Transpose" else "shape",
            left=left.words if alike else left.shown,
            right=right.words if alike else right.shown,
            where=(_shown(m), _shown(n)),
            begins=(m.outputs[0], n.outputs[0]),
            op_type=n.op_type,
            patches=patches,
        )

    def _of_ways(
        self,
        lefts: Sequence[Node],
        rights: Sequence[Node],
        names: tuple[str, str],
        readers: tuple[Layer, Layer] | None,
    ) -> _Step | None:
        """One way in the place of another that takes other steps."""
        graphs = self._networks[0].model.graph, self._networks[1].model.graph
        words = in_words(graphs[0], lefts), in_words(graphs[1], rights)
        if words[0] == words[1]:
            return None
        patches: list[Patch] = []
        spare = len(rights) - len(lefts)
        patches += [Bypass(node=each.outputs[0], keep=0) for each in rights[: max(spare, 0)]]
        for m, n in zip(lefts, rights[max(spare, 0) :], strict=False):
            patches += (made := _patched(n, m, self._target(0, m)))
            if not made:
                return None
        more = lefts[len(rights) :]
        alone = self._users[names[1]] <= 1 if readers else not self._users[names[1]]
        if more and not alone and (rights or len(more) > 1 or readers is None):
            return None
        for m in more:
            only = () if alone or readers is None else (readers[1].node,)
            new = _inserted(names[1], m, self._target(0, m), only)
            if new is None:
                return None
            patches.append(new)
        where = [
            _shown(way[0]) if way else f"before {readers[side].shown}" if readers else names[side]
            for side, way in enumerate((lefts, rights))
        ]
        return _Step(
            what="how axes are moved",
            left=words[0] or "not at all",
            right=words[1] or "not at all",
            where=(where[0], where[1]),
            begins=((lefts[0].outputs[0] if lefts else names[0]), names[1]),
            op_type="",
            patches=patches,
            readers={
                f"{side}{node.outputs[0]}"
                for side, way in (("l", lefts), ("r", rights))
                for node in way
                if node.op_type in _BLOCKS
            },
        )


def _shown(node: Node) -> str:
    return f"{node.op_type} {node.label!r}" if node.label else node.op_type


def _family(node: Node) -> str:
    return "Reshape" if node.op_type in _FAMILY else node.op_type


def _patched(right: Node, left: Node, target: Target) -> list[Patch]:
    """The patch that makes a right node move values as a left one does."""
    name = right.outputs[0]
    if left.op_type == "Transpose":
        if right.op_type == "Transpose":
            return [SetAttribute(node=name, name="perm", value=left.ints_attribute("perm"))]
        return [_operator(name, left, {})]
    if left.op_type in _BLOCKS:
        return [_operator(name, left, {})]
    if target.shape is None:
        return []
    shape = np.array(target.shape, np.int64)
    if right.op_type == "Reshape":
        return [SetInput(node=name, position=1, values=shape)]
    return [_operator(name, left, {1: shape})]


def _operator(name: str, left: Node, constants: Mapping[int, Array]) -> SetOperator:
    op_type, attributes = _written(left)
    return SetOperator(
        node=name,
        op_type=op_type,
        domain="",
        attributes=attributes,
        keep=(0,),
        constants=constants,
    )


def _written(left: Node) -> tuple[str, Mapping[str, Attribute]]:
    """The operator, and its attributes, that moves a value as a left one does."""
    if left.op_type in _BLOCKS:
        return left.op_type, left.attributes
    if left.op_type == "Transpose":
        return "Transpose", {"perm": left.ints_attribute("perm")}
    return "Reshape", {}


def _inserted(
    value: str, left: Node, target: Target, readers: tuple[str, ...]
) -> InsertAfter | None:
    op_type, attributes = _written(left)
    if op_type == "Reshape" and target.shape is None:
        return None
    shape = np.array(target.shape, np.int64)
    return InsertAfter(
        value=value,
        op_type=op_type,
        domain="",
        attributes=attributes,
        constants={1: shape} if op_type == "Reshape" else {},
        readers=readers,
    )


def _as_one(steps: Sequence[_Step]) -> Candidate:
    """One suspicion for all operators that move what they read in one and the same other way."""
    first, last = steps[0], steps[-1]
    where = []
    for side in (0, 1):
        named = [each.where[side] for each in (first, last)]
        of_many = f"{len(steps)} operators, from {named[0]} to {named[1]}"
        where.append(named[0] if len(steps) == 1 else of_many)
    patches: list[Patch] = []
    for each in steps:
        patches += [patch for patch in each.patches if not _is_in(patch, patches)]
    return Candidate(
        kind=CauseKind.ATTRIBUTE if first.what != "how axes are moved" else CauseKind.STRUCTURE,
        what=first.what,
        left_where=where[0],
        right_where=where[1],
        left=first.left,
        right=first.right,
        patches=tuple(patches),
        more_nodes=tuple(sorted({name for each in steps for name in each.readers})),
        begins=(*first.begins, *first.where),
    )
