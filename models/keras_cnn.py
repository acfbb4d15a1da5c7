"""The question's network in Keras.

`bninspect export keras models/keras_cnn.py:cnn -o keras.onnx`
"""

from __future__ import annotations

import keras
from keras import layers
from weights import FULL, ORDINARY_VARIANCE, SMALL, TINY_VARIANCE, Size, keras_weights


def build(size: Size, *, variance: tuple[float, float] = ORDINARY_VARIANCE) -> keras.Model:
    """Conv → ReLU → BatchNorm → two dense layers, with the seeded weights.

    The layers are named as Keras names them in a fresh process, so that a second model in the
    same process has the same names.
    """
    image = keras.Input((size.height, size.width, size.channels), name="image")
    x = layers.Conv2D(size.filters, (3, 3), padding="same", activation="relu", name="conv2d")(image)
    x = layers.BatchNormalization(momentum=0.15, axis=-1, name="batch_normalization")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(size.hidden, activation="relu", name="dense")(x)
    x = layers.Dense(size.classes, activation="softmax", name="dense_1")(x)
    model = keras.Model(image, x, name="cnn")
    values = keras_weights(size, variance=variance)
    for variable in model.weights:
        variable.assign(values[variable.path])
    return model


def cnn() -> keras.Model:
    """The network as the question has it: 64×64, 32 filters."""
    return build(FULL)


def cnn_tiny_variance() -> keras.Model:
    """The same with running variances of 0.001 to 0.0098."""
    return build(FULL, variance=TINY_VARIANCE)


def small() -> keras.Model:
    """8×8, 4 filters: for quick tests."""
    return build(SMALL)


def small_tiny_variance() -> keras.Model:
    """The small network with running variances of 0.001 to 0.0098."""
    return build(SMALL, variance=TINY_VARIANCE)
