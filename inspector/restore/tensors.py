"""BatchNorms and layers among a framework's tensors, told by what the tensors are called.

PyTorch writes ``bn.weight``, ``bn.bias``, ``bn.running_mean`` and ``bn.running_var``; Keras
``bn/gamma``, ``bn/beta``, ``bn/moving_mean`` and ``bn/moving_variance``, or in its newer files
``bn/vars/0`` to ``bn/vars/3``, in this order
(https://github.com/keras-team/keras/blob/master/keras/src/saving/saving_lib.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

_ROLES = {
    "weight": 0,
    "gamma": 0,
    "bias": 1,
    "beta": 1,
    "running_mean": 2,
    "moving_mean": 2,
    "running_var": 3,
    "moving_variance": 3,
}
_NAME = re.compile(r"(?P<layer>.*?)(?P<separator>[./]?)(?P<role>[^./]+?)(?::\d+)?")
_NUMBERED = re.compile(r"(?P<layer>.*)/vars/(?P<at>\d+)")
_MADE = ("weight", "bias")
"""What a layer without a scale or a bias is given: ones and zeros, as its framework does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """The tensors of one BatchNorm: scale, B, mean and var, each of shape [C], and their names."""

    name: str
    names: tuple[str, ...]
    four: tuple[Array, ...]

    @property
    def channels(self) -> int:
        return int(self.four[3].size)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weight:
    """The weights of another layer, and its bias where it has one."""

    name: str
    values: Array
    bias_name: str
    bias: Array | None


def groups(tensors: Mapping[str, Array]) -> tuple[Group, ...]:
    """Every BatchNorm whose statistics are among the tensors, in their order."""
    found: dict[str, dict[int, str]] = {}
    for name, values in tensors.items():
        if values.ndim != 1 or values.dtype.kind != "f":
            continue
        if numbered := _NUMBERED.fullmatch(name):
            found.setdefault(numbered["layer"], {})[int(numbered["at"])] = name
        elif (parts := _NAME.fullmatch(name)) and parts["role"] in _ROLES:
            found.setdefault(parts["layer"], {})[_ROLES[parts["role"]]] = name
    return tuple(
        _group(layer, names, tensors) for layer, names in found.items() if _is_whole(names, tensors)
    )


def _is_whole(names: Mapping[int, str], tensors: Mapping[str, Array]) -> bool:
    """Whether both statistics are there, all of one length, and nothing else is."""
    if not {2, 3} <= names.keys() <= {0, 1, 2, 3}:
        return False
    if any(_NUMBERED.fullmatch(each) for each in names.values()) and len(names) != 4:
        return False  # which of three is missing is not told
    return len({(tensors[each].shape, tensors[each].dtype) for each in names.values()}) == 1


def _group(layer: str, names: Mapping[int, str], tensors: Mapping[str, Array]) -> Group:
    var = tensors[names[3]]
    made = (np.ones_like(var), np.zeros_like(var))
    return Group(
        name=layer or "batchnorm",
        names=tuple(names.get(at) or f"{layer}.{_MADE[at]}" for at in range(4)),
        four=tuple(tensors[names[at]] if at in names else made[at] for at in range(4)),
    )


def weights(tensors: Mapping[str, Array]) -> Iterator[Weight]:
    """Every tensor that can be the weights of an operator, with the bias that goes with it."""
    for name, values in tensors.items():
        if values.ndim < 2 or values.dtype.kind != "f":
            continue
        bias_name = _bias_name(name)
        bias = tensors.get(bias_name)
        is_bias = bias is not None and bias.ndim == 1
        yield Weight(
            name=name,
            values=values,
            bias_name=bias_name if is_bias else "",
            bias=bias if is_bias else None,
        )


def _bias_name(name: str) -> str:
    if numbered := _NUMBERED.fullmatch(name):
        return f"{numbered['layer']}/vars/{int(numbered['at']) + 1}"
    layer, separator, _ = name.rpartition("/" if "/" in name else ".")
    tail = ":0" if name.endswith(":0") else ""
    return f"{layer}{separator}bias{tail}"


def matrices(
    values: Array, op_type: str, dims: Sequence[int], channels: int, group: int
) -> Iterator[Array]:
    """The weights as [channels, inputs] in each layout of a framework that fits an operator's.

    Parameters
    ----------
    dims
        Of the weights that the operator has in the model.
    """
    if op_type in ("Gemm", "MatMul", "FusedGemm", "FusedMatMul"):
        if values.ndim == 2:
            # PyTorch's [outputs, inputs], Keras' [inputs, outputs]: a square one may be either.
            yield from (each for each in (values, values.T) if each.shape[0] == channels)
        return
    last = values.ndim - 1
    spatial = tuple(range(last - 1))
    for turned in (
        values,  # PyTorch's, as ONNX has it
        values.transpose(last, last - 1, *spatial),  # Keras' Conv and Conv2DTranspose
        values.transpose(last - 1, last, *spatial),  # Keras' DepthwiseConv2D
    ):
        if turned.size != np.prod(dims) or not _fits(turned.shape, dims):
            continue
        if op_type != "ConvTranspose":
            yield turned.reshape(channels, -1)
            continue
        split = turned.reshape(group, dims[0] // group, channels // group, -1)
        yield split.transpose(0, 2, 1, 3).reshape(channels, -1)


def _fits(shape: Sequence[int], dims: Sequence[int]) -> bool:
    """Whether two shapes are one but for axes of length 1, and for how groups are written.

    [channels, multiplier, …] of a depthwise layer is [channels · multiplier, 1, …] in ONNX.
    """
    together = (shape[0] * shape[1], *shape[2:])
    return _long(dims) in (_long(shape), _long(together))


def _long(shape: Sequence[int]) -> list[int]:
    return [each for each in shape if each != 1]
