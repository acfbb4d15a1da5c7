"""The weights and biases of operators, in one layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inspector.facts.model import Node
from inspector.recognise.linear import bias_adder, channels_of
from inspector.recognise.place import Place

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """An operator with its weights as a matrix [channels, inputs], and what its bias may be.

    Numbers of the weights are of their own dtype, those of each bias [channels] in float64.
    """

    weights: NDArray[Any]
    biases: tuple[NDArray[Any], ...]
    dtype: str


def layer_of(node: Node, place: Place) -> Layer | None:
    """An operator's weights and bias; None where the file does not tell them."""
    import numpy as np

    tensor = place.source(node.input(1)).tensor or place.binding(node.input(1)).tensor
    channels = None if tensor is None else channels_of(node, tensor.dims)
    if tensor is None or not channels or not tensor.is_float or not _is_sound(node, tensor.dims):
        return None
    stored = place.chains.load(tensor)
    biases = _biases(node, place, channels)
    if stored is None or biases is None:
        return None
    alpha = node.float_attribute("alpha", 1.0) if node.op_type in _WITH_ALPHA else 1.0
    weights = _as_matrix(node, stored, channels)
    return Layer(
        weights=weights if alpha == 1.0 else weights * np.asarray(alpha, dtype=weights.dtype),
        biases=tuple(biases),
        dtype=tensor.dtype,
    )


_WITH_ALPHA = frozenset({"Gemm", "FusedGemm", "FusedMatMul"})


def _is_sound(node: Node, dims: tuple[int, ...]) -> bool:
    """Whether weights have elements, and their groups divide them."""
    if 0 in dims:
        return False
    group = node.int_attribute("group", 1)
    if node.op_type in ("Conv", "FusedConv", "ConvTranspose"):
        return group > 0 and dims[0] % group == 0
    # A batch of matrices has no channels of its own.
    return len(dims) == 2 and not node.int_attribute("transBatchB", 0)


def _as_matrix(node: Node, stored: NDArray[Any], channels: int) -> NDArray[Any]:
    match node.op_type:
        case "Conv" | "FusedConv":
            return stored.reshape(channels, -1)
        case "ConvTranspose":
            # [inputs, channels / group, …], where a group of inputs makes a group of channels.
            group = node.int_attribute("group", 1)
            split = stored.reshape(group, stored.shape[0] // group, channels // group, -1)
            return split.transpose(0, 2, 1, 3).reshape(channels, -1)
        case "MatMul":
            return stored.T
        case _:
            return stored if node.int_attribute("transB", 0) else stored.T


def _biases(node: Node, place: Place, channels: int) -> list[NDArray[Any]] | None:
    """The bias of an operator; and where one is added behind it, the two together.

    What stands behind an operator that has a bias may be its bias as well, or may not.
    """
    import numpy as np

    own = np.zeros(channels)
    if node.input(2):
        factor = node.float_attribute("beta", 1.0) if node.op_type in _GEMMS else 1.0
        found = _vector(node.input(2), place, channels)
        if found is None:
            return None
        own = found * factor
    adder = bias_adder(node, place)
    if adder is None:
        return [own]
    name = next(each for each in adder.inputs if place.is_constant(each))
    more = _vector(name, place, channels)
    if more is None:
        return [own]
    return [own + more] if not node.input(2) else [own, own + more]


_GEMMS = frozenset({"Gemm", "FusedGemm"})


def _vector(name: str, place: Place, channels: int) -> NDArray[Any] | None:
    """A constant as float64 [channels]; None where it is none of such."""
    import numpy as np

    tensor = place.binding(name).tensor
    values = None if tensor is None else place.chains.load(tensor)
    if values is None or values.size not in (1, channels):
        return None
    return np.broadcast_to(values.reshape(-1).astype(np.float64), (channels,))
