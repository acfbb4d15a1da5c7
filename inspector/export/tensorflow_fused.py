"""BatchNorm as the one operator of TensorFlow that tf2onnx writes as BatchNormalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MARK = "bninspect_bn_"
"""Name scope, followed by a call's number, under which the native node is traced."""


def is_possible(x: Any) -> bool:
    """Whether the operator takes such a tensor (tensorflow/core/ops/nn_ops.cc)."""
    import tensorflow as tf

    known = (tf.float32, tf.float16)
    return x.dtype in known and x.shape.rank is not None and x.shape.rank >= 2


def on_axis(x: Any, axis: int, parameters: Sequence[Any], epsilon: float) -> Any:
    """BatchNorm of `x` over channels on `axis`; parameters are scale, B, mean and var."""
    import tensorflow as tf

    rank = x.shape.rank
    if axis == 1 and rank in (4, 5):
        return _fused(x, parameters, epsilon, "NCHW" if rank == 4 else "NCDHW")
    if axis == rank - 1:
        return _on_last_axis(x, parameters, epsilon)
    order = [each for each in range(rank) if each != axis] + [axis]
    back = [order.index(each) for each in range(rank)]
    return tf.transpose(_on_last_axis(tf.transpose(x, order), parameters, epsilon), back)


def _on_last_axis(x: Any, parameters: Sequence[Any], epsilon: float) -> Any:
    import tensorflow as tf

    rank = x.shape.rank
    if rank in (4, 5):
        return _fused(x, parameters, epsilon, "NHWC" if rank == 4 else "NDHWC")
    if rank == 3:
        return tf.squeeze(_fused(tf.expand_dims(x, 1), parameters, epsilon, "NHWC"), 1)
    flat = tf.reshape(x, [-1, 1, 1, parameters[2].shape[0]])
    result = tf.reshape(_fused(flat, parameters, epsilon, "NHWC"), tf.shape(x))
    result.set_shape(x.shape)
    return result


def _fused(x: Any, parameters: Sequence[Any], epsilon: float, data_format: str) -> Any:
    import tensorflow as tf

    scale, offset, mean, variance = parameters
    # The Python wrapper would raise epsilon to CUDA's minimum of 1.001e-5; the raw op does not.
    return tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=scale,
        offset=offset,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        data_format=data_format,
        is_training=False,
    ).y
