"""What names and exporters' notes tell about where an operator came from.

They never decide what it computes. What each exporter writes was measured; see
docs/what-exporters-leave.md.
"""

from __future__ import annotations

import re

from inspector.facts.model import Node
from inspector.facts.notes import traced

_BATCHNORM = re.compile(
    r"(?:fused)?batch_?norm(?:alization)?(?:_?[123]d)?|(?<![a-z])bn(?![a-z])", re.IGNORECASE
)
"""As frameworks and people call the layer: batch_normalization_3, FusedBatchNormV3, conv1_bn."""

_WITNESS = re.compile(
    r"/batchnorm/(?:mul|mul_1|add_1|sub|Rsqrt)(?![a-z])|FusedBatchNorm|_fused_bn|ConvBnFusion_"
)
"""What exporters and optimisers write for BatchNorm alone, whatever the layers are called."""

_OTHER = re.compile(
    r"(layer|instance|group|rms|unit|weight|spectral|response)_?norm", re.IGNORECASE
)

_KINDS = {
    "layer": "LayerNorm",
    "instance": "InstanceNorm",
    "group": "GroupNorm",
    "rms": "RMSNorm",
    "unit": "UnitNormalization",
    "weight": "weight normalisation",
    "spectral": "spectral normalisation",
    "response": "local response normalisation",
}

_OPERATION = re.compile(r"batchnorm|FusedBatchNorm\w*")
"""Scopes in which TensorFlow computes a normalisation of any layer: the one around them tells."""

_SEPARATORS = re.compile(r"[/:;.]")

_TRACED = "pkg.torch.onnx.fx_node"
_RULES = "pkg.onnxscript.rewriter.rule_name"


def batchnorm_scope(name: str) -> str:
    """The part of `name` up to and with the BatchNorm that it names; empty if it names none.

    Of several layers one within the other the innermost counts.
    """
    if not may_name(name):
        return ""
    if ";" in name:
        # TensorFlow Lite puts the names of all operators that became one behind each other.
        return next(filter(None, map(batchnorm_scope, name.split(";"))), "")
    end = len(name)
    operation = 0
    for part in reversed(_SEPARATORS.split(name)):
        begin = end - len(part)
        if _OPERATION.fullmatch(part):
            operation = operation or end
        elif _OTHER.search(part):
            return ""
        elif _BATCHNORM.search(part) or (operation and part):
            return name[:end]
        end = begin - 1
    return name[:operation]


def may_name(text: str) -> bool:
    """Whether there can be a `batchnorm_scope` in a text: a search for a few letters is fast."""
    low = text.lower()
    return "norm" in low or "bn" in low


def other_norm(node: Node) -> str:
    """The other normalisation that a node's name, or an exporter's note on it, speaks of."""
    module = _torch_module(node)
    if module is not None:
        found = _OTHER.search(module[0])
        return _KINDS[found[1].lower()] if found else ""
    if "norm" not in node.name.lower():
        return ""
    for part in reversed(_SEPARATORS.split(node.name)):
        if found := _OTHER.search(part):
            return _KINDS[found[1].lower()]
        if _BATCHNORM.search(part) and not _OPERATION.fullmatch(part):
            return ""
    return ""


def may_witness(text: str) -> bool:
    """Whether there can be a `witness_scope` in a text: a search for a few letters is fast."""
    return "atch" in text or "_bn" in text or "BnF" in text


def witness_scope(name: str) -> str:
    """As `batchnorm_scope`, for names that nothing but a BatchNorm leaves."""
    if not may_witness(name):
        return ""
    if _WITNESS.search(name) is None:
        return ""
    return batchnorm_scope(name) or ("" if _OTHER.search(name) else name)


def is_torch_batchnorm(node: Node) -> bool:
    """Whether torch's exporter notes that a node was a BatchNorm, or took one in.

    Its notes name the classes of all modules around a node, of which the innermost is meant, and
    the operation it traced.
    """
    if not node.metadata:
        return False
    module = _torch_module(node)
    if module is not None and _MODULE.search(module[0]):
        return True
    return bool(torch_folding(node) or _TARGET.search(node.metadata.get(_TRACED, "")))


def torch_scope(node: Node) -> str:
    """The path of the module that torch's exporter notes for a node; empty if it notes none."""
    module = _torch_module(node)
    return "" if module is None else module[1]


def _torch_module(node: Node) -> tuple[str, str] | None:
    """Class and path of the innermost module around a node, as torch's exporter notes them."""
    noted = traced(node)
    if noted is None:
        return None
    return noted.modules[-1].kind, noted.modules[-1].path


_MODULE = re.compile(r"BatchNorm(?:_?[123]d)?$")
"""Of torch, of torchvision (FrozenBatchNorm2d), and whatever else people call such a class."""

_TARGET = re.compile(r"target=[\w.]*batch_norm")


def torch_folding(node: Node) -> str:
    """The rule by which torch's exporter folded a BatchNorm into a node; empty if it did not."""
    rules = node.metadata.get(_RULES, "") if node.metadata else ""
    return next((each for each in rules.split(", ") if each.startswith("FuseBatchNorm")), "")


def torch_numbers(node: Node) -> str:
    """The momentum and epsilon that torch's exporter notes of a BatchNorm it folded."""
    found = re.search(
        r"%\w+, %\w+, %\w+, %\w+, %\w+, ([-+.\de]+), ([-+.\de]+)\)",
        node.metadata.get(_TRACED, ""),
    )
    return f"eps {found[2]}, torch momentum {found[1]}" if found else ""
