"""What a name in a model stands for, and how its values follow from constants."""

from __future__ import annotations

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
    """A node whose inputs are all constants; `position` is that of the output meant.

    Compared by identity: one recipe is one value.
    """

    __slots__ = ("inputs", "node", "opset", "position")

    def __init__(
        self, node: Node, inputs: tuple[Binding | None, ...], opset: int, position: int
    ) -> None:
        self.node = node
        self.inputs = inputs
        self.opset = opset
        self.position = position


def computed(node: Node) -> Binding:
    """What a node gives that depends on more than constants."""
    return Binding(
        origin=Origin.COMPUTED, tensor=None, reason=f"computed by {node.op_type} at run time"
    )


ABSENT = Binding(origin=Origin.ABSENT, tensor=None, reason="not given")
