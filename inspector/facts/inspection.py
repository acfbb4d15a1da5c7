"""The facts that `bninspect MODEL.onnx` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspector.facts.batchnorm import BatchNorm, BatchNormValues
from inspector.facts.count import Count
from inspector.facts.fact import fact
from inspector.facts.model import Value

if TYPE_CHECKING:
    from inspector.facts.manifest import Manifest


@fact(frozen=True, slots=True, kw_only=True)
class InspectedNorm:
    """A BatchNorm and the ranges of its values."""

    norm: BatchNorm
    values: BatchNormValues


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One model, read, recognised and counted. `size` is of the model file alone, in bytes."""

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
