"""The facts that `bninspect MODEL.onnx` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspector.facts.batchnorm import (
    Affine,
    BatchNorm,
    BatchNormValues,
    FoldedEvidence,
    Linear,
    Lookalike,
)
from inspector.facts.count import Count
from inspector.facts.fact import fact
from inspector.facts.model import Value

if TYPE_CHECKING:
    from inspector.facts.manifest import Manifest
    from inspector.facts.traced import Traced


@fact(frozen=True, slots=True, kw_only=True)
class InspectedNorm:
    """A BatchNorm and the ranges of its values."""

    norm: BatchNorm
    values: BatchNormValues


@fact(frozen=True, slots=True, kw_only=True)
class InspectedAffine:
    """A per-channel affine map and the ranges of its values."""

    affine: Affine
    values: BatchNormValues


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A model with its BatchNorms kept, and what became of each of them in the one inspected.

    `lost` says what the reference itself has lost of them, if it has.
    """

    path: str
    traced: tuple[Traced, ...]
    lost: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One model, read, recognised and counted. `size` is of the model file alone, in bytes.

    `affines`, `lookalikes` and `folded` are no BatchNorms: what may be one, what is none, and
    where one probably was; see `inspector.facts.batchnorm`.
    """

    path: str
    size: int
    producer: str
    ir_version: int
    opsets: Mapping[str, int]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: int
    norms: tuple[InspectedNorm, ...]
    count: Count
    manifest: Manifest | None
    notes: tuple[str, ...]
    affines: tuple[InspectedAffine, ...] = ()
    lookalikes: tuple[Lookalike, ...] = ()
    folded: tuple[FoldedEvidence, ...] = ()
    linear: tuple[Linear, ...] = ()
    reference: Reference | None = None
