"""How many parameters a model has, in each framework's way of counting."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inspector.facts.fact import fact
from inspector.facts.model import Scope, Tensor


class Role(StrEnum):
    """What a stored tensor is to the operators that use it."""

    LEARNED = "learned"
    STATISTIC = "statistic"
    CONSTANT = "constant"
    UNKNOWN = "unknown"


@fact(frozen=True, slots=True, kw_only=True)
class CountedTensor:
    """A stored tensor with its role and why it has it.

    `synthetic` says that the export wrote it: the framework has no such tensor.
    """

    tensor: Tensor
    scope: Scope
    role: Role
    why: str
    synthetic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasTotals:
    """`model.summary()`: running statistics are non-trainable weights and part of the total."""

    total: int
    trainable: int
    non_trainable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchTotals:
    """`sum(p.numel() for p in model.parameters())`: running statistics are buffers beside it.

    `num_batches_tracked` is one element a BatchNorm layer, which ONNX never stores.
    """

    parameters: int
    buffers: int
    num_batches_tracked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxTotals:
    """What the file stores: tensors wherever they lie, and the float initializers among them."""

    tensors: int
    elements: int
    float_initializer_elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One count from which every convention follows.

    `learned + statistics + constants + unknown == onnx.elements` always holds.
    """

    tensors: tuple[CountedTensor, ...]
    learned: int
    statistics: int
    constants: int
    unknown: int
    keras: KerasTotals
    torch: TorchTotals
    onnx: OnnxTotals
    notes: tuple[str, ...]
