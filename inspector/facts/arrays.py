"""A BatchNorm's values, loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[Any]"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrays:
    """Arrays of shape [C]: the four parameters in their own dtype, the derived two in float64.

    None stands for values that the file or its data files do not hold.
    """

    scale: Vector | None
    bias: Vector | None
    mean: Vector | None
    var: Vector | None
    slope: Vector | None
    intercept: Vector | None
