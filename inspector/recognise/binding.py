"""What a name in a model stands for, and how its values follow from constants."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from inspector.facts.batchnorm import Origin
from inspector.facts.fact import fact
from inspector.facts.model import Node, Tensor
from inspector.recognise.operators import ROOTS


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
    dims, is_float
        Of the output, where they are known before it is computed; else dims are None.
    rooted
        Whether a root goes into it, its own or one before.
    """

    __slots__ = ("dims", "inputs", "is_float", "node", "opset", "position", "rooted")

    def __init__(
        self, node: Node, inputs: Sequence[Binding | None], opset: int, position: int
    ) -> None:
        self.node = node
        self.inputs = inputs
        self.opset = opset
        self.position = position
        self.rooted = node.op_type in ROOTS
        self.is_float = True
        self.dims: tuple[int, ...] | None = None
        dims: tuple[int, ...] | None = None
        for at, each in enumerate(inputs):
            found = None
            if each is None:
                pass
            elif each.recipe is not None:
                found = each.recipe.dims
                self.rooted = self.rooted or each.recipe.rooted
                self.is_float = self.is_float and each.recipe.is_float
            elif each.tensor is not None:
                found = each.tensor.dims
                self.is_float = self.is_float and each.tensor.is_float
            if at == 0:
                dims = found
            elif dims != found:
                dims = None if dims is None or found is None else _broadcast(dims, found)
        if node.op_type in _ARITHMETIC:
            self.dims = dims


_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Neg"})


def told(binding: Binding) -> tuple[tuple[int, ...], bool] | None:
    """Dims of a constant, and whether it is of floats, where known before it is computed."""
    if binding.tensor is not None:
        return binding.tensor.dims, binding.tensor.is_float
    recipe = binding.recipe
    return None if recipe is None or recipe.dims is None else (recipe.dims, recipe.is_float)


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
