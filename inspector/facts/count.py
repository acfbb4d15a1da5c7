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

    Attributes
    ----------
    value
        The value of its scope that it is; empty for an attribute of a node.
    synthetic
        Whether the exporter wrote it: the framework has no such tensor.
    doubt
        Why it may be one that the exporter wrote, where nothing tells; it is counted by its role.
    again
        The roles in which it counts once more: the exporter stored equal tensors once.
    layers
        Operators that share it as one tensor: it counts once.
    copy_of
        The value whose weights it holds again, transposed, as exporters store tied ones.
    padding
        Elements of it that ONNX asks for and the framework does not have.
    """

    tensor: Tensor
    scope: Scope
    role: Role
    why: str
    value: str = ""
    synthetic: bool = False
    doubt: str = ""
    again: tuple[Role, ...] = ()
    layers: int = 1
    copy_of: str = ""
    padding: int = 0

    @property
    def elements(self) -> int:
        """Elements that count by its role."""
        return self.tensor.elements - self.padding


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasTotals:
    """`model.summary()`: running statistics are non-trainable weights and part of the total."""

    total: int
    trainable: int
    non_trainable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchTotals:
    """`sum(p.numel() for p in model.parameters())`: running statistics are buffers beside it.

    `trainable` are the parameters that are not frozen, as far as the file tells.
    `num_batches_tracked` is one element a BatchNorm layer, which ONNX never stores.
    """

    parameters: int
    trainable: int
    buffers: int
    num_batches_tracked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxTotals:
    """What the file stores: tensors wherever they lie, and the float initializers among them."""

    tensors: int
    elements: int
    float_initializer_elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """Elements that the framework counted when it exported, over those that the file holds.

    Negative where the file holds more than the framework has.
    """

    learned: int
    statistics: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One count from which every convention follows.

    `learned + statistics + constants + unknown == onnx.elements + merged` always holds: `merged`
    are elements that the exporter stored once where the framework has them several times. The
    totals of Keras and PyTorch are those with `beyond`.
    """

    tensors: tuple[CountedTensor, ...]
    learned: int
    statistics: int
    constants: int
    unknown: int
    keras: KerasTotals
    torch: TorchTotals
    onnx: OnnxTotals
    merged: int
    beyond: Beyond
    notes: tuple[str, ...]
