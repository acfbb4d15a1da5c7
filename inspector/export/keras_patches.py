"""What has to be changed in Keras and tf2onnx so that a BatchNorm stays one, and put back.

Keras 3 computes BatchNorm by arithmetic (`tf.nn.batch_normalization`), TensorFlow's Grappler and
tf2onnx then fold that away. Every patch here is a context manager, restored on exceptions too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

MARK = "bninspect_bn_"
"""Name scope, followed by a call's number, under which the native node is traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a BatchNormalization layer; `training` where it normalises by the batch."""

    layer: Any
    training: bool


@dataclass(slots=True, kw_only=True)
class Calls:
    """The calls met while tracing, in order; `unsupported` are those that stay arithmetic."""

    met: list[Call] = field(default_factory=list)
    unsupported: list[Any] = field(default_factory=list)
    open: list[int] = field(default_factory=list)


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Set an attribute for a while."""
    found = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, found)


@contextmanager
def native_batchnorm() -> Iterator[Calls]:
    """While tracing, emit FusedBatchNormV3 for every BatchNorm, and tell which layer it was."""
    import keras
    from keras.src.backend.tensorflow import nn

    calls = Calls()
    with (
        replaced(
            keras.layers.BatchNormalization,
            "call",
            _numbered(keras.layers.BatchNormalization.call, calls),
        ),
        replaced(nn, "batch_normalization", _emitter(nn.batch_normalization, calls)),
    ):
        yield calls


@contextmanager
def scopes_noted() -> Iterator[dict[int, list[str]]]:
    """While tracing, tell under which name scopes each layer computes, by the layer's id.

    Operations that are no layers get a scope of their own: Keras opens none for them.
    """
    import keras
    import tensorflow as tf
    from keras.src.backend.tensorflow.core import name_scope
    from keras.src.ops.operation import Operation

    noted: dict[int, list[str]] = {}
    enter, call = name_scope.__enter__, Operation.__call__

    def note(owner: Any) -> None:
        scope = tf.get_current_name_scope()
        if scope:
            noted.setdefault(id(owner), []).append(scope)

    def entering(self: Any) -> Any:
        result = enter(self)
        if self._pop_on_exit and isinstance(self.caller, keras.layers.Layer):
            note(self.caller)
        return result

    @wraps(call)
    def calling(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, keras.layers.Layer) or tf.executing_eagerly():
            return call(self, *args, **kwargs)
        with tf.name_scope(self.name):
            note(self)
            return call(self, *args, **kwargs)

    with replaced(name_scope, "__enter__", entering), replaced(Operation, "__call__", calling):
        yield noted


@contextmanager
def inlined_functions() -> Iterator[None]:
    """While tracing, trace what Keras would have XLA compile: tf2onnx does not look inside.

    Keras does so where an eager convolution with groups has no CPU kernel.
    """
    import tensorflow as tf

    function = tf.function

    @wraps(function)
    def traced(*args: Any, jit_compile: bool | None = None, **options: Any) -> Any:
        if jit_compile and not tf.executing_eagerly():
            return args[0] if args else lambda plain: plain
        return function(*args, jit_compile=jit_compile, **options)

    with replaced(tf, "function", traced):
        yield


def _numbered(call: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    # Keras reads the signature of `call`; `wraps` keeps it.
    @wraps(call)
    def numbered(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        calls.open.append(len(calls.met))
        calls.met.append(Call(layer=layer, training=bool(training) and bool(layer.trainable)))
        try:
            return call(layer, inputs, training=training, mask=mask)
        finally:
            calls.open.pop()

    return numbered


def _emitter(original: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    import tensorflow as tf

    @wraps(original)
    def emit(
        x: Any,
        mean: Any,
        variance: Any,
        axis: int,
        offset: Any = None,
        scale: Any = None,
        epsilon: float = 1e-3,
    ) -> Any:
        # The operator knows no other dtypes (tensorflow/core/ops/nn_ops.cc).
        if x.dtype not in (tf.float32, tf.float16) or x.shape.rank is None or x.shape.rank < 2:
            if calls.open:
                calls.unsupported.append(calls.met[calls.open[-1]].layer)
            return original(x, mean, variance, axis, offset, scale, epsilon)
        mark = f"{MARK}{calls.open[-1]}" if calls.open else "batch_normalization"
        with tf.name_scope(mark):
            ones = tf.ones(mean.shape, mean.dtype) if scale is None else scale
            zeros = tf.zeros(mean.shape, mean.dtype) if offset is None else offset
            return _on_axis(x, axis % x.shape.rank, (ones, zeros, mean, variance), float(epsilon))

    return emit


def _on_axis(x: Any, axis: int, parameters: Sequence[Any], epsilon: float) -> Any:
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


@contextmanager
def untouched_constants() -> Iterator[dict[str, Any]]:
    """Keep Grappler and tf2onnx from folding BatchNorms and merging equal constants.

    Yields the optimizers to give to tf2onnx: all but the one that merges constants of equal
    values (a fresh layer's mean and beta are both zeros).
    """
    from tf2onnx import optimizer, tf_loader, utils
    from tf2onnx.optimizer import back_to_back_optimizer

    folds = ("Conv", "BatchNormalization")
    others = {
        name: fold for name, fold in back_to_back_optimizer._func_map.items() if name != folds
    }
    optimizers = {
        name: each
        for name, each in optimizer._get_optimizers().items()
        if name != "merge_duplication"
    }
    with (
        replaced(tf_loader, "tf_optimize_grappler", _optimize_gently),
        replaced(back_to_back_optimizer, "_func_map", others),
        # Names end in a number that counts on through the process; from 1 they are reproducible.
        replaced(utils, "INTERNAL_NAME", 1),
    ):
        yield optimizers


def _optimize_gently(inputs: list[str], outputs: list[str], graph_def: Any) -> Any:
    """`tf2onnx.tf_loader.tf_optimize_grappler` without `constfold`.

    `constfold` pushes BatchNorm into kernels and deletes zero biases; `dependency` stays, or
    shared weights would be duplicated.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    config = config_pb2.ConfigProto()
    config.graph_options.infer_shapes = True
    rewrite = config.graph_options.rewrite_options
    rewrite.optimizers[:] = ["function", "dependency"]
    rewrite.experimental_disable_folding_quantization_emulation = True
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph_def)
    fetched = meta_graph_pb2.CollectionDef()
    fetched.node_list.value.extend([*inputs, *outputs])
    meta.collection_def["train_op"].CopyFrom(fetched)
    return tf_optimizer.OptimizeGraph(config, meta)
