"""Rewrite operators of TensorFlow that tf2onnx has no words for."""

from __future__ import annotations

from typing import Any


def without_erfc(graph: Any) -> None:
    """Write ``erfc(x)`` as ``1 - erf(x)`` in a GraphDef and in the functions of its library.

    Keras' exact GELU takes it; ONNX has Erf alone.
    """
    _rewritten(graph.node, "{}", "{}")
    for function in graph.library.function:
        # Inside of a function, inputs name the output argument too (tensorflow's function.proto).
        _rewritten(function.node_def, "{}:output:0", "{}:y:0")


def _rewritten(nodes: Any, constant: str, result: str) -> None:
    import numpy as np
    import tensorflow as tf

    for node in [each for each in nodes if each.op == "Erfc"]:
        dtype = node.attr["T"].type
        one, inner = nodes.add(), nodes.add()
        inner.CopyFrom(node)
        inner.name, inner.op = f"{node.name}/erf", "Erf"
        one.name, one.op = f"{node.name}/one", "Const"
        one.attr["dtype"].type = dtype
        numpy_dtype = tf.dtypes.as_dtype(dtype).as_numpy_dtype
        one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.ones((), numpy_dtype)))
        node.op = "Sub"
        node.input[:] = [constant.format(one.name), result.format(inner.name)]
        # A shape noted for the result holds for all three.
        one.attr.pop("_output_shapes", None)


_WIDENED = ("ResizeBilinear", "ResizeBicubic")


def with_single_resizes(graph: Any) -> None:
    """Give resizing single precision to resize, in a GraphDef and the functions of its library.

    TensorFlow takes half precision, and computes and gives single; ONNX's Resize gives what it
    takes.
    """
    _cast_before(graph.node, "{}")
    for function in graph.library.function:
        _cast_before(function.node_def, "{}:y:0")


def _cast_before(nodes: Any, result: str) -> None:
    import tensorflow as tf

    half, single = tf.float16.as_datatype_enum, tf.float32.as_datatype_enum
    for node in [each for each in nodes if each.op in _WIDENED]:
        if node.attr["T"].type != half:
            continue
        cast = nodes.add(name=f"{node.name}/single", op="Cast", input=[node.input[0]])
        cast.attr["SrcT"].type, cast.attr["DstT"].type = half, single
        node.attr["T"].type = single
        node.input[0] = result.format(cast.name)
