"""What a name in a model stands for, and how its values follow from constants."""

from __future__ import annotations

from functools import lru_cache

from inspector.facts.batchnorm import Origin
from inspector.facts.fact import fact
from inspector.facts.model import Node, Tensor


@fact(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a name stands for.

    Attributes
    ----------
    tensor
        Known where the values are stored in the file, or were computed from such.
    recipe
        How to compute them, where nobody has yet.
    reason
        Why there are no values.
    arithmetic
        The operators that made the values, as opposed to moving them; empty for stored ones.
    """

    origin: Origin
    tensor: Tensor | None
    reason: str = ""
    recipe: Recipe | None = None
    arithmetic: tuple[str, ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether the file alone tells the values."""
        return self.tensor is not None or self.recipe is not None

    @property
    def is_fixed(self) -> bool:
        """Whether nobody can feed other values."""
        return self.is_constant and self.origin is not Origin.OVERRIDABLE


class Recipe:
    """A node whose inputs are all constants, and how to compute one of its outputs.

    Compared by identity: one recipe is one value.

    Attributes
    ----------
    position
        Of the output meant.
    told
        Dims and type of the output, where they are known before it is computed.
    rooted
        Whether a root goes into it, its own or one before.
    """

    __slots__ = ("inputs", "node", "opset", "position", "rooted", "told")

    def __init__(
        self, node: Node, inputs: tuple[Binding | None, ...], opset: int, position: int
    ) -> None:
        self.node = node
        self.inputs = inputs
        self.opset = opset
        self.position = position
        self.told = _told(node, inputs)
        self.rooted = node.op_type in _ROOTS
        for each in inputs:
            if each is not None and each.recipe is not None and each.recipe.rooted:
                self.rooted = True


_ROOTS = frozenset({"Sqrt", "Pow", "Reciprocal"})
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Neg"})


@fact(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of a constant before it is computed."""

    dims: tuple[int, ...]
    is_float: bool


def told(binding: Binding | None) -> Told | None:
    """Dims and type of a constant, where they are known before it is computed."""
    if binding is None:
        return None
    if binding.tensor is not None:
        return Told(dims=binding.tensor.dims, is_float=binding.tensor.is_float)
    return None if binding.recipe is None else binding.recipe.told


def _told(node: Node, inputs: tuple[Binding | None, ...]) -> Told | None:
    """Of arithmetic: what its operands broadcast to."""
    if node.op_type not in _ARITHMETIC or not inputs:
        return None
    found = told(inputs[0])
    for each in inputs[1:]:
        other = told(each)
        if found is None or other is None:
            return None
        dims = found.dims if found.dims == other.dims else _broadcast(found.dims, other.dims)
        if dims is None:
            return None
        found = Told(dims=dims, is_float=found.is_float and other.is_float)
    return found


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    """The dims that two broadcast to; None where they do not.

    Source: https://onnx.ai/onnx/repo-docs/Broadcasting.html.
    """
    rank = max(len(one), len(other))
    one, other = (1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other
    if any(a != b and 1 not in (a, b) for a, b in zip(one, other, strict=True)):
        return None
    return tuple([b if a == 1 else a for a, b in zip(one, other, strict=True)])


def computed(node: Node) -> Binding:
    """What a node gives that depends on more than constants."""
    return _computed_by(node.op_type)


@lru_cache(maxsize=1024)
def _computed_by(op_type: str) -> Binding:
    reason = f"computed by {op_type} at run time"
    return Binding(origin=Origin.COMPUTED, tensor=None, reason=reason)


ABSENT = Binding(origin=Origin.ABSENT, tensor=None, reason="not given")
