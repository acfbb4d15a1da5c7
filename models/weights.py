"""Seeded weights of the question's network, in Keras' layout, and the same for PyTorch.

One set of numbers serves both frameworks, so that what still differs between two exports is what
the networks and the exporters do. Only numpy is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large the network is; the defaults are the question's."""

    height: int = 64
    width: int = 64
    channels: int = 1
    filters: int = 32
    hidden: int = 100
    classes: int = 10

    @property
    def flat(self) -> int:
        """Elements of one image after the convolution: what the first dense layer takes."""
        return self.height * self.width * self.filters


FULL = Size()
SMALL = Size(height=8, width=8, filters=4, hidden=6, classes=3)

ORDINARY_VARIANCE = (0.33, 1.98)
TINY_VARIANCE = (0.001, 0.0098)
"""Running variances so small that epsilon is a large part of them."""


def keras_weights(
    size: Size, *, variance: tuple[float, float] = ORDINARY_VARIANCE, seed: int = 20240611
) -> dict[str, Array]:
    """Every weight under `layer/variable`, kernels as Keras stores them (HWIO, [in, out]).

    The statistics are not the 0 and 1 of a fresh layer, so that swapping any two of the four
    BatchNorm tensors shows. Dense kernels are scaled by their inputs, so that the logits are of
    order one and softmax is not saturated; the first one by a quarter of the usual, with larger
    biases, because a float32 sum of 131,072 terms of either sign carries an error of 1e-5 of its
    own size, and that is not what this network is meant to show.
    """
    rng = np.random.default_rng(seed)

    def normal(shape: tuple[int, ...], scale: float) -> Array:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    def uniform(low: float, high: float) -> Array:
        return rng.uniform(low, high, size.filters).astype(np.float32)

    kernel = (3, 3, size.channels, size.filters)
    return {
        "conv2d/kernel": normal(kernel, (2.0 / (9 * size.channels)) ** 0.5),
        "conv2d/bias": normal((size.filters,), 0.1),
        "batch_normalization/gamma": uniform(0.5, 1.5),
        "batch_normalization/beta": uniform(-0.5, 0.5),
        "batch_normalization/moving_mean": uniform(0.2, 0.8),
        "batch_normalization/moving_variance": uniform(*variance),
        "dense/kernel": normal((size.flat, size.hidden), (0.125 / size.flat) ** 0.5),
        "dense/bias": normal((size.hidden,), 0.5),
        "dense_1/kernel": normal((size.hidden, size.classes), (2.0 / size.hidden) ** 0.5),
        "dense_1/bias": normal((size.classes,), 0.1),
    }


def torch_weights(
    weights: Mapping[str, Array], size: Size, *, permute_dense: bool = True
) -> dict[str, Array]:
    """The same weights under PyTorch's names and in its layout (OIHW, [out, in]).

    Keras flattens rows, columns, channels and PyTorch channels, rows, columns, so the first dense
    kernel's inputs have to be reordered; `permute_dense=False` leaves that out, which is the
    mistake most often made.
    """
    dense = weights["dense/kernel"]
    if permute_dense:
        image = dense.reshape(size.height, size.width, size.filters, size.hidden)
        dense = image.transpose(2, 0, 1, 3).reshape(size.flat, size.hidden)
    laid_out = {
        "conv.weight": weights["conv2d/kernel"].transpose(3, 2, 0, 1),
        "conv.bias": weights["conv2d/bias"],
        "bn.weight": weights["batch_normalization/gamma"],
        "bn.bias": weights["batch_normalization/beta"],
        "bn.running_mean": weights["batch_normalization/moving_mean"],
        "bn.running_var": weights["batch_normalization/moving_variance"],
        "fc1.weight": dense.T,
        "fc1.bias": weights["dense/bias"],
        "fc2.weight": weights["dense_1/kernel"].T,
        "fc2.bias": weights["dense_1/bias"],
    }
    return {name: np.ascontiguousarray(values) for name, values in laid_out.items()}
