"""The parameters of a BatchNorm that is no longer a node of its own."""

from __future__ import annotations

from inspector.facts.batchnorm import Parameter
from inspector.facts.fact import fact


@fact(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parameters of a BatchNorm that was found in arithmetic."""

    scale: Parameter
    bias: Parameter
    mean: Parameter
    var: Parameter
    epsilon: float | None
    remarks: tuple[str, ...]
