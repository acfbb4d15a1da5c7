"""The question's network in PyTorch.

`bninspect export torch models/torch_cnn.py:cnn -o torch.onnx`

`cnn` is the question's code and nothing more: no ReLU after the first dense layer, no softmax,
PyTorch's defaults for epsilon and momentum. `matched` is what it takes to be Keras' network. The
other callables are `matched` with one thing left out each.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from weights import (
    FULL,
    ORDINARY_VARIANCE,
    SMALL,
    TINY_VARIANCE,
    Size,
    keras_weights,
    torch_weights,
)

KERAS_EPSILON = 1e-3
TORCH_EPSILON = 1e-5
MATCHED_MOMENTUM = 0.85
"""PyTorch writes the share of the new statistic: one minus Keras' 0.15."""


def build(
    size: Size,
    *,
    relu: bool = True,
    softmax: bool = True,
    epsilon: float = KERAS_EPSILON,
    momentum: float = MATCHED_MOMENTUM,
    permute_dense: bool = True,
    variance: tuple[float, float] = ORDINARY_VARIANCE,
) -> nn.Sequential:
    """The network with Keras' weights carried over, and an example input of batch 1."""
    layers: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(size.channels, size.filters, 3, padding=1)),
        ("relu", nn.ReLU()),
        ("bn", nn.BatchNorm2d(size.filters, eps=epsilon, momentum=momentum)),
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(size.flat, size.hidden)),
    ]
    if relu:
        layers.append(("relu1", nn.ReLU()))
    layers.append(("fc2", nn.Linear(size.hidden, size.classes)))
    if softmax:
        layers.append(("softmax", nn.Softmax(dim=1)))
    net = nn.Sequential(OrderedDict(layers))
    values = torch_weights(
        keras_weights(size, variance=variance), size, permute_dense=permute_dense
    )
    net.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    net.example_input_array = torch.zeros(1, size.channels, size.height, size.width)
    return net.eval()


def _as_asked(size: Size, variance: tuple[float, float] = ORDINARY_VARIANCE) -> nn.Sequential:
    return build(
        size, relu=False, softmax=False, epsilon=TORCH_EPSILON, momentum=0.1, variance=variance
    )


def cnn() -> nn.Sequential:
    """The network as the question has it."""
    return _as_asked(FULL)


def matched() -> nn.Sequential:
    """The network that is Keras' function: ReLU, softmax, epsilon and momentum as there."""
    return build(FULL)


def matched_torch_epsilon() -> nn.Sequential:
    """`matched` with PyTorch's epsilon."""
    return build(FULL, epsilon=TORCH_EPSILON)


def matched_no_relu() -> nn.Sequential:
    """`matched` without the ReLU after the first dense layer."""
    return build(FULL, relu=False)


def matched_no_softmax() -> nn.Sequential:
    """`matched` giving logits."""
    return build(FULL, softmax=False)


def matched_wrong_flatten() -> nn.Sequential:
    """`matched` with the first dense layer's inputs left in Keras' order."""
    return build(FULL, permute_dense=False)


def cnn_tiny_variance() -> nn.Sequential:
    """`cnn` with running variances of 0.001 to 0.0098."""
    return _as_asked(FULL, TINY_VARIANCE)


def matched_tiny_variance() -> nn.Sequential:
    """`matched` with running variances of 0.001 to 0.0098."""
    return build(FULL, variance=TINY_VARIANCE)


def matched_torch_epsilon_tiny_variance() -> nn.Sequential:
    """`matched_torch_epsilon` with running variances of 0.001 to 0.0098."""
    return build(FULL, epsilon=TORCH_EPSILON, variance=TINY_VARIANCE)


def small() -> nn.Sequential:
    """`cnn`, small."""
    return _as_asked(SMALL)


def small_matched() -> nn.Sequential:
    """`matched`, small."""
    return build(SMALL)


def small_matched_torch_epsilon() -> nn.Sequential:
    """`matched_torch_epsilon`, small."""
    return build(SMALL, epsilon=TORCH_EPSILON)


def small_matched_no_relu() -> nn.Sequential:
    """`matched_no_relu`, small."""
    return build(SMALL, relu=False)


def small_matched_no_softmax() -> nn.Sequential:
    """`matched_no_softmax`, small."""
    return build(SMALL, softmax=False)


def small_matched_wrong_flatten() -> nn.Sequential:
    """`matched_wrong_flatten`, small."""
    return build(SMALL, permute_dense=False)


def small_matched_tiny_variance() -> nn.Sequential:
    """`matched_tiny_variance`, small."""
    return build(SMALL, variance=TINY_VARIANCE)
