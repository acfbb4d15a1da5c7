"""Traces of BatchNorms that were folded into the weights of the operator before them.

What is folded is gone: w' = slope · w and b' = slope · b + intercept say nothing of what they were
before. Only names and exporters' notes are left, and they prove nothing. What each exporter leaves
was measured (docs/what-exporters-leave.md); with the model from before the folding it can be proved
(`inspector.recognise.against`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from inspector.facts.batchnorm import Confidence, FoldedEvidence, Linear
from inspector.facts.model import Node
from inspector.recognise.binding import Binding
from inspector.recognise.linear import bias_adder, channels_of, is_linear
from inspector.recognise.names import (
    is_torch_batchnorm,
    may_witness,
    torch_folding,
    torch_numbers,
    torch_scope,
    witness_scope,
)
from inspector.recognise.native import NATIVE, is_native
from inspector.recognise.operators import ACTIVATIONS, LINEAR
from inspector.recognise.place import Place

_LONGEST_NUMBER = 9
_NUMBERED = re.compile(r"(?:onnx::[A-Za-z]+_)?(\d{1,9})")
_ENDS = re.compile(r"(?<!\d)(\d{1,9})$")
_FEWEST_KIN = 3
_MOST_BEFORE = 4


class Traces:
    """Looks for traces of folded BatchNorms in one place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.nodes = [
            node
            for node in place.nodes
            if is_linear(node) and node.outputs and place.is_constant(node.input(1))
        ]

    def found(self) -> Iterator[FoldedEvidence]:
        """What was found, in the order of the file."""
        for node in self.nodes:
            witnesses, layer = self._witnesses(node)
            hints = [] if self._is_normalised(node) else [*self._hints(node)]
            if witnesses or hints:
                tensor = self._weight(node).tensor
                yield FoldedEvidence(
                    name=node.label,
                    scope=self._place.scope,
                    op_type=node.op_type,
                    channels=channels_of(node, tensor.dims if tensor is not None else ()),
                    confidence=_confidence(witnesses, hints),
                    evidence=(*witnesses, *hints),
                    batchnorm=layer,
                )

    def linear(self) -> Iterator[Linear]:
        """How many operators of each kind there are, and how many with a bias."""
        for op_type in LINEAR:
            of_kind = [each for each in self.nodes if each.op_type == op_type]
            if of_kind:
                biased = sum(self._has_bias(each) for each in of_kind)
                yield Linear(op_type=op_type, count=len(of_kind), with_bias=biased)

    def _witnesses(self, node: Node) -> tuple[list[str], str]:
        """What nothing but a folded BatchNorm leaves, and the name of that."""
        if is_torch_batchnorm(node):
            rule, scope, numbers = torch_folding(node), torch_scope(node), torch_numbers(node)
            who = f"BatchNorm {scope!r}" if scope else "a BatchNorm"
            said = f"torch's exporter notes that {who} went into it"
            said += (f" by {rule}" if rule else "") + (f" ({numbers})" if numbers else "")
            return [said], scope
        # Of most operators no name speaks of a BatchNorm, and one look at all of them tells.
        written = "\n".join((node.name, *node.outputs, *node.inputs))
        if not may_witness(written) and self._is_plain(node):
            return [], ""
        names = [("its name", node.name)]
        names += [("its output's name", each) for each in node.outputs]
        names += [("its weights' name", self._name(node.input(1)))]
        names += [("its bias' name", self._name(node.input(2)))]
        adder = bias_adder(node, self._place)
        if adder is not None and not node.input(2):
            names.append(("the name of the bias added to it", adder.label))
        for what, name in names:
            if layer := witness_scope(name):
                return [f"{what} {name!r}"], layer
        return [], ""

    def _hints(self, node: Node) -> Iterator[str]:
        """What a folded BatchNorm leaves, and other things may leave as well."""
        # Equal tensors may be stored once; their own names are still those of the operands.
        weight, bias = node.input(1), node.input(2)
        number = _number(weight) if weight[-1:].isdecimal() else None
        if number is not None and _number(bias) == number + 1:
            # Old exporters number everything; then other names are needed to make a difference.
            gap = number - 1 not in self._numbers and not weight.isdecimal()
            if gap or self._named_others:
                yield f"its weights are renumbered, as torch does on folding: {weight!r}, {bias!r}"
            if gap and self._named_others:
                yield "a number before theirs is missing, and other weights keep their names"
        if bias == f"{weight}_bias":
            yield f"its bias is called {bias!r}, as torch's exporter calls one it made"
        if self._stands_out(node):
            yield (
                "it has a bias and an activation behind it where the others of its kind have "
                "a BatchNorm"
            )

    def _is_plain(self, node: Node) -> bool:
        """Whether an operator takes its weights and bias as they are stored, and none is added."""
        stored = self._place.initializer
        if stored(node.input(1)) is None:
            return False
        if node.input(2):
            return stored(node.input(2)) is not None
        behind = self._place.readers(node.outputs[0])
        return all(each.op_type in NATIVE or each.op_type in ACTIVATIONS for each in behind)

    def _name(self, value: str) -> str:
        """The name under which an operand is stored; empty where it is not."""
        tensor = self._place.source(value).tensor if value else None
        return tensor.name or value if tensor is not None else ""

    @cached_property
    def _named_others(self) -> bool:
        """Whether any weights keep a name that a framework gave them."""
        norms = [name for node in self._place.nodes if is_native(node) for name in node.inputs[1:]]
        return any("." in name for name in (*(node.input(1) for node in self.nodes), *norms))

    @cached_property
    def _numbers(self) -> set[int]:
        """The numbers that names in the file end with."""
        names = (*self._place.wiring.users, *self._place.wiring.producers)
        found = (_ENDS.search(name[-_LONGEST_NUMBER - 1 :]) for name in names)
        return {int(each[1]) for each in found if each is not None}

    @cached_property
    def _kin(self) -> dict[str, int]:
        """How many operators of each kind have no bias and a BatchNorm behind them."""
        found: dict[str, int] = {}
        for node in self.nodes:
            if self._is_normalised(node) and not self._has_bias(node):
                found[node.op_type] = found.get(node.op_type, 0) + 1
        return found

    def _stands_out(self, node: Node) -> bool:
        if self._kin.get(node.op_type, 0) < _FEWEST_KIN or not self._has_bias(node):
            return False
        behind = self._place.readers(node.outputs[0])
        return any(each.op_type in ACTIVATIONS for each in behind) and not self._is_gate(node)

    def _is_gate(self, node: Node) -> bool:
        """Whether an operator works on channels that were pooled, as squeeze-and-excitation does.

        Such have a bias and no BatchNorm in most networks that have BatchNorm everywhere else.
        """
        before = self._place.producer(node.input(0))
        for _ in range(_MOST_BEFORE):
            if before is None:
                return False
            if before.op_type in ("GlobalAveragePool", "ReduceMean"):
                return True
            before = self._place.producer(before.input(0))
        return False

    def _is_normalised(self, node: Node) -> bool:
        if not self._place.operators & NATIVE:
            return False
        return any(is_native(each) for each in self._place.readers(node.outputs[0]))

    def _has_bias(self, node: Node) -> bool:
        return bool(node.input(2)) or bias_adder(node, self._place) is not None

    def _weight(self, node: Node) -> Binding:
        return self._place.source(node.input(1))


def _confidence(witnesses: Sequence[str], hints: Sequence[str]) -> Confidence:
    """A witness says so, and so do two hints; one may have any reason."""
    return Confidence.LIKELY if witnesses or len(hints) > 1 else Confidence.POSSIBLE


def _number(name: str) -> int | None:
    found = _NUMBERED.fullmatch(name)
    return int(found[1]) if found else None
