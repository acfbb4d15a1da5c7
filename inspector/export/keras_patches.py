"""What has to be changed in Keras and tf_keras so that a BatchNorm stays one, and put back.

Keras 3 computes BatchNorm by arithmetic (`tf.nn.batch_normalization`), tf_keras does so for other
ranks than 4 and 5; what converts the graph then folds that away. Every patch is a context manager,
restored on exceptions too, and in force for the thread alone that entered it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from inspector.export.keras_library import LEGACY, Library, legacy_part
from inspector.export.tensorflow_fused import MARK, is_possible, on_axis
from inspector.export.tensorflow_patches import EXCLUSIVE, replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a BatchNormalization layer; `training` where it normalises by the batch."""

    layer: Any
    training: bool


@dataclass(slots=True, kw_only=True)
class Calls:
    """The calls met while tracing, in order; `unsupported` are those that stay arithmetic."""

    met: list[Call] = field(default_factory=list)
    unsupported: list[tuple[Any, str]] = field(default_factory=list)
    open: list[int] = field(default_factory=list)

    @contextmanager
    def opened(self, layer: Any, *, training: bool) -> Iterator[str]:
        """Number a call; gives the name of its scope."""
        number = len(self.met)
        self.open.append(number)
        self.met.append(Call(layer=layer, training=training))
        try:
            yield f"{MARK}{number}"
        finally:
            self.open.pop()


@contextmanager
def native_batchnorm(library: Library) -> Iterator[Calls]:
    """While tracing, emit FusedBatchNormV3 for every BatchNorm, and tell which layer it was."""
    kind, calls = library.norm_class(), Calls()
    if library.name == LEGACY:
        with EXCLUSIVE, replaced(kind, "call", _own(_emitting(kind.call, calls), kind.call)):
            yield calls
        return
    from keras.src.backend.tensorflow import nn

    plain = nn.batch_normalization
    with (
        EXCLUSIVE,
        replaced(kind, "call", _own(_numbered(kind.call, calls), kind.call)),
        replaced(nn, "batch_normalization", _own(_emitter(plain, calls), plain)),
    ):
        yield calls


@contextmanager
def scopes_noted(library: Library) -> Iterator[dict[int, list[str]]]:
    """While tracing, tell under which name scopes each layer computes, by the layer's id."""
    import tensorflow as tf

    noted: dict[int, list[str]] = {}

    def note(owner: Any) -> None:
        scope = tf.get_current_name_scope()
        if scope:
            noted.setdefault(id(owner), []).append(scope)

    with EXCLUSIVE, (_legacy_scopes if library.name == LEGACY else _scopes)(note):
        yield noted


@contextmanager
def _scopes(note: Callable[[Any], None]) -> Iterator[None]:
    """Operations that are no layers get a scope of their own: Keras opens none for them."""
    import keras
    import tensorflow as tf
    from keras.src.backend.tensorflow.core import name_scope
    from keras.src.ops.operation import Operation

    enter, call = name_scope.__enter__, Operation.__call__

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

    with (
        replaced(name_scope, "__enter__", _own(entering, enter)),
        replaced(Operation, "__call__", _own(calling, call)),
    ):
        yield


@contextmanager
def _legacy_scopes(note: Callable[[Any], None]) -> Iterator[None]:
    layer = legacy_part("engine.base_layer").Layer
    # What `__call__` calls in a graph, under the layer's scope.
    plain = layer._autographed_call

    def prepared(self: Any) -> Any:
        call = plain(self)

        @wraps(call)
        def calling(*args: Any, **kwargs: Any) -> Any:
            note(self)
            return call(*args, **kwargs)

        return calling

    with replaced(layer, "_autographed_call", _own(prepared, plain)):
        yield


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

    from keras.src.backend.tensorflow import numpy

    signbit = numpy.signbit
    with (
        EXCLUSIVE,
        replaced(tf, "function", _own(traced, function)),
        replaced(numpy, "signbit", _own(_signbit(signbit), signbit)),
    ):
        yield


def _signbit(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Keras' `signbit`, which `argmax` asks, without the Bitcast that ONNX has only since 26."""
    import tensorflow as tf

    @wraps(plain)
    def signbit(x: Any) -> Any:
        if not x.dtype.is_floating:
            return plain(x)
        negative_zero = tf.logical_and(tf.equal(x, 0), tf.math.divide(tf.ones_like(x), x) < 0)
        return tf.logical_or(x < 0, negative_zero)

    return signbit


def _own(patch: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """`patch` in the thread that asks now, `plain` in every other."""
    owner = threading.get_ident()

    @wraps(plain)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (patch if threading.get_ident() == owner else plain)(*args, **kwargs)

    return chosen


def _numbered(call: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    # Keras reads the signature of `call`; `wraps` keeps it.
    @wraps(call)
    def numbered(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        with calls.opened(layer, training=bool(training) and bool(layer.trainable)):
            return call(layer, inputs, training=training, mask=mask)

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
        if not is_possible(x):
            if calls.open:
                calls.unsupported.append((calls.met[calls.open[-1]].layer, _unfit(x)))
            return original(x, mean, variance, axis, offset, scale, epsilon)
        mark = f"{MARK}{calls.open[-1]}" if calls.open else "batch_normalization"
        with tf.name_scope(mark):
            ones = tf.ones(mean.shape, mean.dtype) if scale is None else scale
            zeros = tf.zeros(mean.shape, mean.dtype) if offset is None else offset
            return on_axis(x, axis % x.shape.rank, (ones, zeros, mean, variance), float(epsilon))

    return emit


def _unfit(x: Any) -> str:
    return f"computes in {x.dtype.name}, for which TensorFlow has no BatchNorm operator"


def _emitting(call: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    """`call` of tf_keras' layer, whose inference is emitted in its place."""
    import tensorflow as tf

    @wraps(call)
    def emitting(layer: Any, inputs: Any, training: Any = None, **options: Any) -> Any:
        value = layer._get_training_value(training)
        static = tf.get_static_value(value) if tf.is_tensor(value) else value
        # A mode that only running tells is no inference.
        trains = static is None or bool(static)
        with calls.opened(layer, training=trains) as mark:
            x = tf.cast(inputs, layer.compute_dtype)
            if not trains and len(layer.axis) == 1 and is_possible(x):
                # Virtual batches have an axis of their own, in training alone.
                axis = layer.axis[0] - (layer.virtual_batch_size is not None)
                parameters = _legacy_parameters(layer)
                with tf.name_scope(mark):
                    return on_axis(x, axis % x.shape.rank, parameters, float(layer.epsilon))
            if not trains:
                many = f"normalises over axes {list(layer.axis)}, which ONNX's BatchNorm cannot"
                calls.unsupported.append((layer, many if len(layer.axis) > 1 else _unfit(x)))
            return call(layer, inputs, training=training, **options)

    return emitting


def _legacy_parameters(layer: Any) -> tuple[Any, Any, Any, Any]:
    import tensorflow as tf

    def flat(variable: Any) -> Any:
        value = tf.convert_to_tensor(variable)
        return value if value.shape.rank == 1 else tf.reshape(value, [-1])

    mean, variance = flat(layer.moving_mean), flat(layer.moving_variance)
    scale = tf.ones(mean.shape, mean.dtype) if layer.gamma is None else flat(layer.gamma)
    offset = tf.zeros(mean.shape, mean.dtype) if layer.beta is None else flat(layer.beta)
    return scale, offset, mean, variance
