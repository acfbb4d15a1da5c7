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


class Confidence(StrEnum):
    """How sure it is that something is, or was, a BatchNorm."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


@fact(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One of scale, bias, mean and var: shape [C]. `tensor` is None where certainty is LOST.

    `reason` says why it is lost, or how it was recovered. `stored` is the tensor in the file whose
    values these are, where arithmetic or a cast stands between.
    """

    value: str
    certainty: Certainty
    origin: Origin
    tensor: Tensor | None
    reason: str = ""
    stored: Tensor | None = None


@fact(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of an affine map, `Add`, `Sub`, `Mul` or `Div`, and its constant operand.

    `tensor` has one element or one for each channel; `reversed` says that it is the first operand.
    """

    op_type: str
    value: str
    tensor: Tensor
    reversed: bool = False


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

    Attributes
    ----------
    epsilon, momentum
        None where the file does not tell them. Momentum follows ONNX and Keras: the share of the
        old statistic that is kept; PyTorch writes one minus this. `momentum_stated` is False where
        it is left to ONNX's default.
    entered, output
        The values that it takes and gives.
    after, before
        The operators next to it, seen through Identity, Cast, Transpose and Reshape.
    foldable_into, obstacle
        The Conv, ConvTranspose or Gemm that could take it in; else why none can.
    axis
        The axis of the channels; counted from the last one, which is -1, where arithmetic tells
        it and nothing tells the rank.
    op_type
        Of the node that is the BatchNorm; empty where several are.
    nodes
        The arithmetic that it was found in, in its order; empty where one node is the BatchNorm.
    steps
        The affine map where it is all that is left: ``y = slope · x + intercept``.
    evidence
        What says that arithmetic is, or was, a BatchNorm.
    """

    name: str
    scope: Scope
    form: Form
    channels: int | None
    scale: Parameter
    bias: Parameter
    mean: Parameter
    var: Parameter
    epsilon: float | None
    momentum: float | None
    momentum_stated: bool
    training: bool
    after: tuple[str, ...]
    before: tuple[str, ...]
    foldable_into: str | None
    output: str
    entered: str = ""
    obstacle: str = ""
    axis: int = 1
    op_type: str = "BatchNormalization"
    nodes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    evidence: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def confidence(self) -> Confidence:
        """What computes as a BatchNorm is one; an affine map was one if its names say so."""
        return Confidence.LIKELY if self.form is Form.AFFINE else Confidence.CERTAIN

    @property
    def torch_momentum(self) -> float | None:
        """The same momentum as PyTorch writes it, free of float32 noise (0.9 gives 0.1)."""
        return None if self.momentum is None else _torch_momentum(self.momentum)

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
class Affine:
    """A per-channel affine map that nothing but its form connects with a BatchNorm.

    `remark` tells what it probably is instead, where its surroundings do.
    """

    name: str
    scope: Scope
    channels: int
    axis: int
    nodes: tuple[str, ...]
    steps: tuple[Step, ...]
    after: tuple[str, ...]
    before: tuple[str, ...]
    output: str
    entered: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookalike:
    """What could be taken for a BatchNorm and is none: `kind` names it, `why` tells by what.

    `tensors` are the stored scale and shift of a normalisation that is written out as arithmetic.
    """

    name: str
    scope: Scope
    kind: str
    why: str
    tensors: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedEvidence:
    """An operator that probably swallowed a BatchNorm, whose own name is `batchnorm` if told."""

    name: str
    scope: Scope
    op_type: str
    channels: int | None
    confidence: Confidence
    evidence: tuple[str, ...]
    batchnorm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """How many operators that BatchNorms are folded into there are, and how many have a bias."""

    op_type: str
    count: int
    with_bias: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Norms:
    """Every BatchNorm of a model in the file's order, outer scopes first; and what is none."""

    batchnorms: tuple[BatchNorm, ...]
    affines: tuple[Affine, ...] = ()
    lookalikes: tuple[Lookalike, ...] = ()
    folded: tuple[FoldedEvidence, ...] = ()
    linear: tuple[Linear, ...] = ()
