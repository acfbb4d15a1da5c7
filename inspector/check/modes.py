"""Whether a layer that normalises by the batch could go by its statistics instead."""

from __future__ import annotations

import numpy as np

from inspector.check.sites import Sites
from inspector.check.subject import Layer
from inspector.check.values import is_untouched
from inspector.facts.batchnorm import Form
from inspector.facts.model import Node


def why_training(node: Node | None, opset: int) -> str:
    """By what a node is known to train, in the words of its opset."""
    if node is None or node.op_type == "BatchNormInternal":
        return "it is of a training graph"
    if opset < 7:
        return f"is_test is not set, at opset {opset}"
    asked = sum(bool(name) for name in node.outputs)
    if opset < 14 or node.input(5):
        return f"{asked} outputs are asked for, at opset {opset}"
    return f"training_mode = {node.int_attribute('training_mode', 0)}, at opset {opset}"


def why_not_inference(layer: Layer, sites: Sites) -> str:
    """Why a training layer cannot simply be set to inference; empty where it can."""
    node = sites.node(layer.norm)
    arrays = layer.arrays
    if node is None or node.op_type != "BatchNormalization" or node.input(5):
        return "its node is no standard one"
    if layer.norm.form is not Form.NATIVE:
        return "its statistics are not in the file"
    slope, intercept = arrays.slope, arrays.intercept
    if slope is None or intercept is None:
        return "its parameters disagree about the number of channels"
    if not (np.isfinite(slope).all() and np.isfinite(intercept).all()):
        return "its statistics give no finite result"
    if is_untouched(arrays):
        return "its statistics were never updated"
    if _read(node, layer, sites):
        return "something reads its further outputs"
    return ""


def _read(node: Node, layer: Layer, sites: Sites) -> bool:
    """Whether anything reads more of a node than its first output."""
    more = {name for name in node.outputs[1:] if name}
    scope = layer.norm.scope
    site = sites.at(scope)
    if not more or site is None:
        return bool(more)
    # Not `isdisjoint`, which goes through all names of the scope.
    if any(name in site.wiring.users for name in more):
        return True
    return bool(more & sites.read_inside(site)) or bool(more & sites.leaving(scope))
