"""What names and exporters' notes tell about where an operator came from.

They never decide what it computes. What each exporter writes was measured; see
docs/what-exporters-leave.md.
"""

from __future__ import annotations

import re

from inspector.facts.model import Node

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
"""TensorFlow has LayerNormalization compute ``layer_normalization/batchnorm/mul``."""

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

_SEPARATORS = re.compile(r"[/:;.]")

_CLASSES = "pkg.torch.onnx.class_hierarchy"
_SCOPES = "pkg.torch.onnx.name_scopes"
_TRACED = "pkg.torch.onnx.fx_node"
_RULES = "pkg.onnxscript.rewriter.rule_name"


def batchnorm_scope(name: str) -> str:
    """The part of `name` up to and with the BatchNorm that it names; empty if it names none."""
    low = name.lower()
    # Most names name none, and a search for a few letters is fast.
    if ("norm" not in low and "bn" not in low) or _OTHER.search(name):
        return ""
    found = _BATCHNORM.search(name)
    if found is None:
        return ""
    end = _SEPARATORS.search(name, found.end())
    return name[: end.start()] if end is not None else name


def other_norm(node: Node) -> str:
    """The other normalisation that a node's name, or an exporter's note on it, speaks of."""
    classes = node.metadata.get(_CLASSES, "") if node.metadata else ""
    if not classes and "norm" not in node.name.lower():
        return ""
    found = _OTHER.search(classes) or _OTHER.search(node.name)
    return _KINDS[found[1].lower()] if found else ""


def witness_scope(name: str) -> str:
    """As `batchnorm_scope`, for names that nothing but a BatchNorm leaves."""
    found = _WITNESS.search(name) if "atch" in name or "_bn" in name or "BnF" in name else None
    return (batchnorm_scope(name) or name) if found and not _OTHER.search(name) else ""


def torch_scope(node: Node) -> str:
    """The path of the torch.nn BatchNorm that the exporter notes for a node; empty if none."""
    if not node.metadata:
        return ""
    classes, traced = node.metadata.get(_CLASSES, ""), node.metadata.get(_TRACED, "")
    if "BatchNorm" not in classes and "batch_norm" not in traced:
        return ""
    # A list of paths as Python writes it: the last is the operator, the one before the module.
    paths = re.findall(r"'([^']*)'", node.metadata.get(_SCOPES, ""))
    return paths[-2] if len(paths) > 1 and paths[-2] else node.label


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
