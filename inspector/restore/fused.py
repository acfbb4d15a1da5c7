"""What ONNX Runtime's optimiser writes into one operator: a sum and an activation behind it.

A BatchNorm belongs in front of both, so they become operators of their own again
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, FusedConv).
"""

from __future__ import annotations

from dataclasses import dataclass

from inspector.facts.model import Attribute, Node
from inspector.recognise.place import Place
from inspector.write.fused import ACTIVATIONS
from inspector.write.splice import Editor, Splice

_PLAIN = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
_OF_FUSED = ("activation", "activation_params", "activation_alpha", "activation_beta")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What stands within an operator behind its own result; empty for most.

    `node` is the operator's value, `plain` what it is without them, `added` the value summed up.
    """

    node: str
    plain: str = ""
    added: str = ""
    activation: str = ""
    attributes: tuple[tuple[str, Attribute], ...] = ()

    def split_off(self, raw: str, output: str, editor: Editor, splice: Splice) -> str:
        """Make operators of them that end in `output`; gives the value that they begin with.

        `raw` is what the operator's own result is called by now.
        """
        if not self.plain:
            return output
        editor.become(raw, self.plain)
        for name in _OF_FUSED:
            editor.set_attribute(raw, name, None)
        if self.added:
            editor.set_input(raw, 3, "")
        first = output
        if self.activation:
            first = splice.value(f"{output}_before_{self.activation}")
            name = splice.node(f"{self.node}_{self.activation}")
            attributes = dict(self.attributes)
            editor.insert(raw, self.activation, [first], output, name=name, attributes=attributes)
        if self.added:
            summed, first = first, splice.value(f"{output}_before_Add")
            name = splice.node(f"{self.node}_Add")
            inputs = [first, self.added]
            editor.insert(raw, "Add", inputs, summed, name=name, attributes={})
        return first


def tail_of(node: Node, place: Place) -> Tail | str:
    """What stands within an operator, or why it cannot be taken apart."""
    if node.is_standard:
        return Tail(node=node.label)
    activation = node.attributes.get("activation", b"")
    kind = activation.decode() if isinstance(activation, bytes) else ""
    if node.op_type not in _PLAIN:
        return Tail(node=node.label) if not kind else f"{node.op_type} has an activation within"
    if kind and kind not in ACTIVATIONS:
        return f"{node.op_type} {node.label!r} has an activation within, {kind!r}"
    names = ACTIVATIONS.get(kind, ())
    given = node.attributes.get("activation_params", ())
    if node.op_type == "FusedGemm":
        given = tuple(node.float_attribute(f"activation_{each}", 0.0) for each in names)
    if not isinstance(given, tuple) or len(given) < len(names):
        return f"{node.op_type} {node.label!r} does not tell its activation's parameters"
    return Tail(
        node=node.label,
        plain=_PLAIN[node.op_type],
        added=node.input(3) if node.op_type == "FusedConv" else "",
        activation=kind,
        attributes=tuple(
            (name, value)
            for name, value in zip(names, given, strict=False)
            if isinstance(value, float)
        ),
    )
