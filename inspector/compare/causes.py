"""Every difference between two aligned networks, with the patch that would take it away.

Patches turn the right side into the left: `inspector.compare.explain` applies them to a copy
and runs it, which is what makes a difference a cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from inspector.compare.align import Alignment
from inspector.compare.parameters import Relation, StoredPair, as_stored, compare_stored, normal
from inspector.compare.structure import Layer, Network
from inspector.facts.comparison import CauseKind, PairedNorm, ParameterMatch
from inspector.facts.model import Attribute, Graph
from inspector.facts.patch import Bypass, InsertAfter, Patch, SetAttribute, SetInput


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A difference that may be a cause. `patches` is empty where `reason` says why not."""

    kind: CauseKind
    what: str
    left_where: str
    right_where: str
    left: str
    right: str
    patches: tuple[Patch, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """All that differs between two networks, and all that was found equal."""

    candidates: tuple[Candidate, ...]
    information: tuple[str, ...]
    norms: tuple[PairedNorm, ...]
    parameters: ParameterMatch


def find_differences(
    left: Network,
    right: Network,
    alignment: Alignment,
    *,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
) -> Differences:
    """Compare two aligned networks layer by layer.

    Parameters
    ----------
    inputs, outputs
        Right names by left names, as paired.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    finder = _Finder(left, right, alignment, inputs, outputs)
    return finder.find()


class _Finder:
    def __init__(
        self,
        left: Network,
        right: Network,
        alignment: Alignment,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
    ) -> None:
        self._left = left
        self._right = right
        self._alignment = alignment
        self._outputs = outputs
        self._counterpart = dict(inputs)
        self._counterpart.update({a.value: b.value for a, b in alignment.pairs})
        self._left_gaps = {each.value: each for each in alignment.left_only}
        self._right_gaps = {each.value: each for each in alignment.right_only}
        self._information: dict[str, None] = {}
        self._norms: list[PairedNorm] = []
        self._tally = dict.fromkeys(Relation, 0)

    def find(self) -> Differences:
        found: list[Candidate] = []
        for a, b in self._alignment.pairs:
            found += self._norm(a, b)
            found += self._parameters(a, b)
            found += self._attributes(a, b)
            found += self._wiring(a, b)
        found += [self._missing(each) for each in self._alignment.left_only]
        found += [self._extra(each) for each in self._alignment.right_only]
        found += self._output_wiring()
        order = {layer.node: at for at, layer in enumerate(self._right.layers)}
        lefts = {a.value: order[b.node] for a, b in self._alignment.pairs}
        return Differences(
            candidates=tuple(sorted(found, key=lambda each: self._position(each, order, lefts))),
            information=tuple(self._information),
            norms=tuple(self._norms),
            parameters=self._match(),
        )

    def _position(
        self, each: Candidate, order: Mapping[str, int], lefts: Mapping[str, int]
    ) -> float:
        """Where in the network a difference lies, so that causes read from input to output."""
        for patch in each.patches:
            if isinstance(patch, InsertAfter):
                for layer in self._right.layers:
                    if layer.value == patch.value:
                        return order[layer.node] + 0.5
            elif patch.node in order:
                return order[patch.node]
        return float(len(order))

    # -- BatchNorm -----------------------------------------------------------------------------

    def _norm(self, a: Layer, b: Layer) -> Iterator[Candidate]:
        if a.op != "BatchNormalization" or a.domain:
            return
        left, right = (np.float32(n.node_fact.float_attribute("epsilon", 1e-5)) for n in (a, b))
        if left != right:
            yield Candidate(
                kind=CauseKind.EPSILON,
                what="epsilon",
                left_where=a.label,
                right_where=b.label,
                left=str(left),
                right=str(right),
                patches=(SetAttribute(node=b.node, name="epsilon", value=float(left)),),
            )
        yield from self._mode(a, b)
        self._momentum(a, b)

    def _mode(self, a: Layer, b: Layer) -> Iterator[Candidate]:
        modes = [self._trains(layer, n) for layer, n in ((a, self._left), (b, self._right))]
        if modes[0] != modes[1]:
            words = {True: "normalises by the batch (training)", False: "uses stored statistics"}
            single = len([name for name in b.node_fact.outputs if name]) == 1
            patchable = single and self._right.model.opset >= 14
            yield Candidate(
                kind=CauseKind.MODE,
                what="training mode",
                left_where=a.label,
                right_where=b.label,
                left=words[modes[0]],
                right=words[modes[1]],
                patches=(
                    (SetAttribute(node=b.node, name="training_mode", value=int(modes[0])),)
                    if patchable
                    else ()
                ),
                reason="" if patchable else "this opset's mode is no attribute to patch",
            )

    @staticmethod
    def _trains(layer: Layer, network: Network) -> bool:
        opset = network.model.opset
        if opset < 7:
            return layer.node_fact.int_attribute("is_test", 0) == 0
        if opset < 14:
            return len([name for name in layer.node_fact.outputs if name]) > 1
        return layer.node_fact.int_attribute("training_mode", 0) != 0

    def _momentum(self, a: Layer, b: Layer) -> None:
        left, right = (np.float32(n.node_fact.float_attribute("momentum", 0.9)) for n in (a, b))
        if left != right:
            torch = [f"{1.0 - float(each):.4g}" for each in (left, right)]
            self._information[
                f"momentum {left} against {right} in {_both(a, b)} (PyTorch writes {torch[0]} and "
                f"{torch[1]}): used in training alone"
            ] = None

    # -- Parameters ----------------------------------------------------------------------------

    def _parameters(self, a: Layer, b: Layer) -> Iterator[Candidate]:
        pairs = compare_stored(a, b, self._left.model.weights, self._right.model.weights)
        for pair in pairs:
            self._tally[pair.relation] += 1
            if pair.relation is not Relation.BITWISE:
                yield self._parameter(a, b, pair)
        if a.op == "BatchNormalization" and not a.domain:
            equal = {each.role for each in pairs if each.relation is Relation.BITWISE}
            self._norms.append(
                PairedNorm(
                    left=a.label,
                    right=b.label,
                    channels=next((each.tensor.elements for each in a.stored), None),
                    bitwise=tuple(r for r in ("scale", "B", "mean", "var") if r in equal),
                )
            )

    def _parameter(self, a: Layer, b: Layer, pair: StoredPair) -> Candidate:
        left, right = _relation_in_words(pair)
        patches: tuple[Patch, ...] = ()
        reason = ""
        match pair.relation:
            case Relation.LEFT_ONLY | Relation.RIGHT_ONLY:
                reason = "only one side has it"
            case Relation.SHAPES:
                reason = "the shapes differ"
            case _:
                assert pair.left is not None  # the two cases above are the ones without
                assert pair.right is not None
                values = normal(pair.left, self._left.model.weights)
                stored = as_stored(values, pair.right)
                dtype = self._right.model.weights.load(pair.right.tensor).dtype
                patches = (
                    SetInput(
                        node=pair.right.node,
                        position=pair.right.position,
                        values=stored.astype(dtype),
                    ),
                )
        return Candidate(
            kind=CauseKind.PARAMETER,
            what=pair.role,
            left_where=a.shown,
            right_where=b.shown,
            left=left,
            right=right,
            patches=patches,
            reason=reason,
        )

    def _match(self) -> ParameterMatch:
        tally = self._tally
        return ParameterMatch(
            bitwise=tally[Relation.BITWISE],
            rounded=tally[Relation.ROUNDED],
            differing=sum(
                tally[each] for each in (Relation.REORDERED, Relation.DIFFERENT, Relation.SHAPES)
            ),
            left_only=_stored_names(self._alignment.left_only) + ("",) * tally[Relation.LEFT_ONLY],
            right_only=_stored_names(self._alignment.right_only)
            + ("",) * tally[Relation.RIGHT_ONLY],
        )

    # -- Attributes and wiring -----------------------------------------------------------------

    def _attributes(self, a: Layer, b: Layer) -> Iterator[Candidate]:
        for name in sorted(a.attributes.keys() | b.attributes.keys()):
            left, right = a.attributes.get(name), b.attributes.get(name)
            if left == right:
                continue
            movable = name not in ("axis", "axes") and not name.startswith("input ")
            raw = a.node_fact.attributes.get(name)
            patchable = movable and not isinstance(raw, Graph)
            yield Candidate(
                kind=CauseKind.ATTRIBUTE,
                what=name,
                left_where=a.shown,
                right_where=b.shown,
                left=left if left is not None else "not set",
                right=right if right is not None else "not set",
                patches=(SetAttribute(node=b.node, name=name, value=raw),) if patchable else (),
                reason="" if patchable else "it depends on the layout",
            )

    def _wiring(self, a: Layer, b: Layer) -> Iterator[Candidate]:
        lefts = [self._counterpart.get(self._past(n, self._left_gaps), "") for n in a.inputs]
        rights = [self._past(name, self._right_gaps) for name in b.inputs]
        if a.op in ("Add", "Mul", "Sum", "Max", "Min", "Mean"):
            lefts, rights = sorted(lefts), sorted(rights)
        if lefts != rights:
            yield _structure(a, b, "its inputs", "reads other values", "reads other values")

    def _output_wiring(self) -> Iterator[Candidate]:
        for left, right in self._outputs.items():
            a = self._past(self._left.sources.get(left, left), self._left_gaps)
            b = self._past(self._right.sources.get(right, right), self._right_gaps)
            if self._counterpart.get(a) != b:
                yield Candidate(
                    kind=CauseKind.STRUCTURE,
                    what="where an output comes from",
                    left_where=left,
                    right_where=right,
                    left="another layer",
                    right="another layer",
                    reason="the two layers do not correspond",
                )

    @staticmethod
    def _past(value: str, gaps: Mapping[str, Layer]) -> str:
        """The value in front of layers that the other side lacks."""
        seen = 0
        while value in gaps and gaps[value].inputs and seen <= len(gaps):
            value = gaps[value].inputs[0]
            seen += 1
        return value

    # -- Operators on one side -----------------------------------------------------------------

    def _missing(self, layer: Layer) -> Candidate:
        """An operator that only the left has: the patch puts it into the right."""
        patches, reason = self._insertion(layer)
        before = self._past(layer.inputs[0], self._left_gaps) if layer.inputs else ""
        return Candidate(
            kind=CauseKind.MISSING,
            what=layer.op,
            left_where=layer.shown,
            right_where=self._behind(self._counterpart.get(before, ""), self._right),
            left="present",
            right="missing",
            patches=patches,
            reason=reason,
        )

    def _insertion(self, layer: Layer) -> tuple[tuple[Patch, ...], str]:
        if len(layer.inputs) != 1 or layer.node_fact.input(0) == "":
            return (), "it joins several values"
        if any(isinstance(value, Graph) for value in layer.node_fact.attributes.values()):
            return (), "it holds a subgraph"
        target = self._counterpart.get(self._past(layer.inputs[0], self._left_gaps))
        if target is None:
            return (), "its place on the right is not known"
        if layer.op in ("Conv", "ConvTranspose", "Dense"):
            return (), "a layer with weights of its own cannot be put in alone"
        channel_first = self._is_channel_first(target)
        if not channel_first and (layer.op == "BatchNormalization" or self._has_vectors(layer)):
            return (), "its place on the right is not in its layout"
        attributes = dict(layer.node_fact.attributes)
        if "axis" in attributes and not channel_first:
            return (), "the axis it works on is not known on the right"
        constants = {
            each.position: self._left.model.weights.load(each.tensor) for each in layer.stored
        }
        return (
            InsertAfter(
                value=target,
                op_type=layer.node_fact.op_type,
                domain=layer.domain,
                attributes=_with_axis(attributes, layer),
                constants=constants,
            ),
        ), ""

    @staticmethod
    def _has_vectors(layer: Layer) -> bool:
        return any(each.tensor.elements > 1 for each in layer.stored)

    def _is_channel_first(self, value: str) -> bool:
        axes = self._right.layouts.axes.get(value)
        known = self._right.model.graph.values.get(value)
        flat = known is not None and known.dims is not None and len(known.dims) <= 2
        return flat or (axes is not None and axes == tuple(range(len(axes))))

    def _extra(self, layer: Layer) -> Candidate:
        """An operator that only the right has: the patch lets its input pass."""
        patches: tuple[Patch, ...] = ()
        reason = "it changes the shape, so its input cannot pass in its place"
        values = self._right.model.graph.values
        source = layer.node_fact.input(0)
        before, after = values.get(source), values.get(layer.value)
        if len(layer.inputs) != 1:
            reason = "it joins several values"
        elif before is not None and after is not None and _same_dims(before.dims, after.dims):
            patches, reason = (Bypass(node=layer.node, keep=0),), ""
        mirror = {b: a for a, b in self._counterpart.items()}
        behind = self._past(layer.inputs[0], self._right_gaps) if layer.inputs else ""
        return Candidate(
            kind=CauseKind.MISSING,
            what=layer.op,
            left_where=self._behind(mirror.get(behind, ""), self._left),
            right_where=layer.shown,
            left="missing",
            right="present",
            patches=patches,
            reason=reason,
        )

    @staticmethod
    def _behind(value: str, network: Network) -> str:
        for layer in network.layers:
            if layer.value == value:
                return f"after {layer.shown}"
        return f"after input {value!r}" if value else ""


def _structure(a: Layer, b: Layer, what: str, left: str, right: str) -> Candidate:
    return Candidate(
        kind=CauseKind.STRUCTURE,
        what=what,
        left_where=a.shown,
        right_where=b.shown,
        left=left,
        right=right,
        reason="the two graphs are wired differently",
    )


def _both(a: Layer, b: Layer) -> str:
    return repr(a.label) if a.label == b.label else f"{a.label!r} / {b.label!r}"


def _relation_in_words(pair: StoredPair) -> tuple[str, str]:
    if pair.left is None or pair.right is None:
        has = ("present", "missing")
        return has if pair.right is None else (has[1], has[0])
    dims = [str(list(each.tensor.dims)) for each in (pair.left, pair.right)]
    match pair.relation:
        case Relation.REORDERED:
            return f"{dims[0]}", "the same values in another order"
        case Relation.SHAPES:
            return dims[0], dims[1]
        case _:
            return f"{dims[0]}", f"differs by up to {pair.max_abs:.3g}"


def _stored_names(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    return tuple(
        each.tensor.name or each.role
        for layer in layers
        for each in layer.stored
        if each.tensor.is_float and each.tensor.elements > 1
    )


def _same_dims(before: object, after: object) -> bool:
    """Whether two dims are the same length for length; unknown lengths only by their place."""
    if not isinstance(before, tuple) or not isinstance(after, tuple):
        return False
    return len(before) == len(after) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(before, after, strict=True)
    )


def _with_axis(attributes: Mapping[str, Attribute], layer: Layer) -> Mapping[str, Attribute]:
    """Attributes with the axis counted channels first, as `Layer.attributes` has it."""
    from ast import literal_eval

    words = layer.attributes.get("axis")
    if words is None or not isinstance(attributes.get("axis"), int):
        return attributes
    return {**attributes, "axis": literal_eval(words)[0]}
