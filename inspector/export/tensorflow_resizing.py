"""Mend what tf2onnx writes for Resize."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.export import protos

if TYPE_CHECKING:
    from onnx import ModelProto

_WITH_AXES = 18
"""The opset from which Resize takes lengths for some axes alone."""
_WITHOUT_NN = 13
"""The opset that took tf_half_pixel_for_nn out of Resize."""


def give_lengths(graph: Any, opset: int) -> None:
    """Let Resize give the lengths that are meant: 23 times 7/23 in single precision is below 7."""
    for node in graph.get_nodes():
        # Upsample, before opset 10, has its scales second; Resize since 11 third.
        position = 2 if len(node.input) > 2 else 1
        if node.type not in ("Resize", "Upsample") or len(node.input) <= position:
            continue
        held, given = node.inputs[position], graph.get_shape(node.input[0])
        if held is None or not held.is_const() or given is None:
            continue
        scales = held.get_tensor_value(as_list=False)
        if scales.dtype != np.float32 or scales.shape != (len(given),):
            continue
        raised = _raised(scales, given)
        if (raised == scales).all():
            continue
        scaled = [axis for axis, scale in enumerate(scales) if scale != 1]
        if opset >= _WITH_AXES and all(given[axis] > 0 for axis in scaled):
            # Exact, where a scale that is raised moves the places in between.
            lengths = [round(given[axis] * float(scales[axis])) for axis in scaled]
            sizes = graph.make_const(f"{node.name}/sizes", np.array(lengths, np.int64))
            graph.replace_inputs(node, [node.input[0], node.input[1], "", sizes.output[0]])
            node.set_attr("axes", scaled)
        else:
            constant = graph.make_const(f"{node.name}/scales", raised)
            graph.replace_input(node, node.input[position], constant.output[0], position)


def _raised(scales: Array, given: list[int]) -> Array:
    """Scales whose products do not fall short: the operator takes the floor in single precision."""
    raised = scales.copy()
    for axis, size in enumerate(given):
        length = round(size * float(scales[axis]))
        while size > 0 and int(np.float32(size) * raised[axis]) < length:
            raised[axis] = np.nextafter(raised[axis], np.float32(np.inf))
    return raised


def modernise_nearest(proto: ModelProto, opset: int) -> None:
    """Say in today's words where the nearest pixel lies: tf2onnx uses one that ONNX took away.

    ``floor((x + 0.5) / scale)`` is what rounding ``(x + 0.5) / scale - 0.5`` up at a half gives.
    """
    for node in protos.nodes(proto) if opset >= _WITHOUT_NN else ():
        given = {each.name: each for each in node.attribute}
        mode = given.get("coordinate_transformation_mode")
        if node.op_type != "Resize" or mode is None or mode.s != b"tf_half_pixel_for_nn":
            continue
        mode.s = b"half_pixel"
        if "nearest_mode" not in given:
            node.attribute.add(name="nearest_mode", type=mode.type)
        next(e for e in node.attribute if e.name == "nearest_mode").s = b"round_prefer_ceil"
