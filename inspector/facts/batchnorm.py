"""The neutral form of a BatchNorm: what any framework's layer comes down to.

For input x with channels C on axis 1, inference computes ``y = slope · x + intercept`` with
``slope = scale / sqrt(var + epsilon)`` and ``intercept = bias − mean · slope``
(https://onnx.ai/onnx/operators/onnx__BatchNormalization.html; Ioffe & Szegedy 2015,
https://arxiv.org/abs/1502.03167).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from struct import pack

from inspector.facts.fact import fact
from inspector.facts.model import Node, Scope, Tensor


class Form(StrEnum):
    """How much of a BatchNorm is left in the file."""

    NATIVE = "native"
    DECOMPOSED = "decomposed"
    AFFINE = "affine"
    RUNTIME = "runtime"


class Certainty(StrEnum):
    """How well a parameter's values are known."""

    EXACT = "exact"
    RECOVERED = "recovered"
    LOST = "lost"


class Origin(StrEnum):
    """Where a parameter's values come from."""

    INITIALIZER = "initializer"
    OVERRIDABLE = "overridable initializer"
    CONSTANT = "Constant node"
    CHAIN = "chain of constants"
    FUNCTION_ARGUMENT = "function argument"
    GRAPH_INPUT = "graph input"
    COMPUTED = "computed at run time"
    ABSENT = "absent"


@fact(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One of scale, bias, mean and var: shape [C]. `tensor` is None where certainty is LOST."""

    value: str
    certainty: Certainty
    origin: Origin
    tensor: Tensor | None
    reason: str = ""


DEFAULT_EPSILON = 9.999999747378752e-06  # float32(1e-5), the default in every opset
DEFAULT_MOMENTUM = 0.8999999761581421  # float32(0.9), likewise


def is_training(node: Node, opset: int) -> bool:
    """Whether a BatchNormalization node normalises by the batch, by its opset's own rules.

    Opsets 1 and 6 train unless `is_test` is set; 7 to 13 where the extra outputs are asked for;
    from 14 on `training_mode` says so. Drafts of 12 and 14 took it as a sixth input
    (https://github.com/onnx/onnx/pull/3333): there, too, the extra outputs tell.
    """
    if opset < 7:
        return node.int_attribute("is_test", 0) == 0
    if opset < 14 or node.input(5):
        return sum(bool(name) for name in node.outputs) > 1
    return node.int_attribute("training_mode", 0) != 0


def _shortest(value: float) -> float:
    """The number with the fewest digits that is the same float32."""
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if pack("f", short) == pack("f", value):
            return short
    return value


@lru_cache(maxsize=256)
def _torch_momentum(momentum: float) -> float:
    return float(f"{1.0 - _shortest(momentum):.7g}")


@fact(frozen=True, slots=True, kw_only=True)
class BatchNorm:
    """One BatchNorm; (`scope`, `name`) is unique within its model.

    `momentum` follows ONNX and Keras: the share of the old statistic that is kept. PyTorch
    writes one minus this. `momentum_stated` is False where the file leaves it to the default.
    """

    name: str
    scope: Scope
    form: Form
    channels: int | None
    scale: Parameter
    bias: Parameter
    mean: Parameter
    var: Parameter
    epsilon: float
    momentum: float
    momentum_stated: bool
    training: bool
    after: tuple[str, ...]
    before: tuple[str, ...]
    foldable_into: str | None
    output: str

    @property
    def torch_momentum(self) -> float:
        """The same momentum as PyTorch writes it, free of float32 noise (0.9 gives 0.1)."""
        return _torch_momentum(self.momentum)

    @property
    def parameters(self) -> tuple[tuple[str, Parameter], ...]:
        """The four parameters under ONNX's names, in ONNX's order."""
        return (
            ("scale", self.scale),
            ("B", self.bias),
            ("mean", self.mean),
            ("var", self.var),
        )


@fact(frozen=True, slots=True, kw_only=True)
class Range:
    """Smallest and largest finite value, and how many values are NaN or infinite."""

    low: float
    high: float
    non_finite: int


@fact(frozen=True, slots=True, kw_only=True)
class BatchNormValues:
    """Ranges over channels of a BatchNorm's parameters; None where the values are not known."""

    scale: Range | None
    bias: Range | None
    mean: Range | None
    var: Range | None
    slope: Range | None
    intercept: Range | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Norms:
    """Every BatchNorm of a model, in the order of the file, outer scopes first."""

    batchnorms: tuple[BatchNorm, ...]
