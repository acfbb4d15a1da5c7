"""Constants as sums of products of what they are computed from.

``(x − mean) · scale / sqrt(var + epsilon) + bias`` can be written in any order of operands and in
any grouping. Multiplied out, all of them are the same two sums: the slope and the intercept. So
nothing here looks for a pattern of nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from inspector.recognise.binding import Binding, Recipe
from inspector.recognise.chains import MOST_ELEMENTS, Chains
from inspector.recognise.operators import FLOAT_TYPES, MOVES

if TYPE_CHECKING:
    from numpy.typing import NDArray

Atom: TypeAlias = int
"""Stands for a stored tensor, a value computed by other than arithmetic, or a sum under a root."""

Product: TypeAlias = tuple[tuple[Atom, int], ...]
"""Atoms, sorted, each with its exponent in halves: 2 is the atom itself, -1 one over its root."""

Sum: TypeAlias = Mapping[Product, float]
"""Products, each with its factor. In order of appearance."""

_MOST_PRODUCTS = 8
_DEEPEST = 24

ONE: Sum = {(): 1.0}


@dataclass(slots=True)
class Algebra:
    """Writes constants as sums, and keeps what each atom stands for.

    Attributes
    ----------
    by_content
        Whether tensors of the same numbers are one atom: an exporter may store one twice.
    leaves
        The value of each atom that is no sum, as the arithmetic sees it.
    sums
        The addition behind each atom that is one.
    variances
        What was read of each such addition: the variance, epsilon, and a remark on them.
    """

    chains: Chains
    channels: int
    by_content: bool = False
    leaves: dict[Atom, Binding] = field(default_factory=dict)
    sums: dict[Atom, Recipe] = field(default_factory=dict)
    variances: dict[Atom, tuple[Binding, float, str] | None] = field(default_factory=dict)
    _sums: dict[Recipe, Sum | None] = field(default_factory=dict)
    _atoms: dict[Hashable, Atom] = field(default_factory=dict)
    _numbers: dict[int, float | None] = field(default_factory=dict)
    _tensors: dict[int, Atom] = field(default_factory=dict)

    def sum(self, binding: Binding, depth: int = 0) -> Sum | None:
        """What a constant is made of; None where that takes too many products to say."""
        recipe = binding.recipe
        if recipe is None or depth > _DEEPEST:
            return self._leaf(binding)
        if recipe not in self._sums:
            self._sums[recipe] = self._sum(recipe, binding, depth)
        return self._sums[recipe]

    def _sum(self, recipe: Recipe, binding: Binding, depth: int) -> Sum | None:
        node, inputs = recipe.node, recipe.inputs
        first = inputs[0] if inputs else None
        if first is None:
            return self._leaf(binding)
        if is_move(recipe):
            inner = self.sum(first, depth + 1) if first.recipe is not None else None
            return self._leaf(binding) if inner is None or _is_leaf(inner) else inner
        if node.op_type in ("Sqrt", "Reciprocal", "Neg"):
            inner = self.sum(first, depth + 1)
            if inner is None:
                return None
            if node.op_type == "Neg":
                return scaled(inner, -1.0)
            return self._power(inner, first, 1 if node.op_type == "Sqrt" else -2)
        second = inputs[1] if len(inputs) == 2 else None
        if second is None or node.op_type not in ("Add", "Sum", "Sub", "Mul", "Div", "Pow"):
            return self._leaf(binding)
        if node.op_type == "Pow":
            return self._raised(binding, first, second, depth)
        left, right = self.sum(first, depth + 1), self.sum(second, depth + 1)
        if left is None or right is None:
            return None
        match node.op_type:
            case "Add" | "Sum":
                return added(left, right)
            case "Sub":
                return added(left, scaled(right, -1.0))
            case "Mul":
                return multiplied(left, right)
            case _:
                over = self._power(right, second, -2)
                return None if over is None else multiplied(left, over)

    def over(self, sum_: Sum, binding: Binding) -> Sum | None:
        """One over `sum_`, which `binding` stands for."""
        return self._power(sum_, binding, -2)

    def values(self, binding: Binding) -> NDArray[Any] | None:
        """The numbers of a constant; None where they are not known."""
        tensor = self.chains.settled(binding).tensor
        return None if tensor is None else self.chains.load(tensor)

    def is_one(self, atom: Atom) -> bool:
        """Whether all values of an atom are 1, so that it may stand in any product."""
        binding = self.leaves.get(atom)
        values = None if binding is None else self.values(binding)
        return values is not None and bool((values == 1.0).all())

    def _raised(self, binding: Binding, base: Binding, exponent: Binding, depth: int) -> Sum | None:
        """A power with a plain exponent; anything else is a value like any other."""
        power = self._number(exponent)
        if power not in (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0):
            return self._leaf(binding)
        inner = self.sum(base, depth + 1)
        return None if inner is None else self._power(inner, base, int(power * 2))

    def _power(self, inner: Sum, binding: Binding, halves: int) -> Sum | None:
        """`inner`, which `binding` stands for, to the power of so many halves."""
        addition = base(binding).recipe
        if addition is not None and _is_addition(addition):
            atom = self._atom(("sum", *sorted(inner.items())))
            self.sums.setdefault(atom, addition)
            return {((atom, halves),): 1.0}
        if len(inner) != 1:
            return None
        ((product, factor),) = inner.items()
        if halves % 2 and any(abs(exponent) != 2 for _, exponent in product):
            # The root of a square is no longer what was squared: it has lost the sign.
            return None
        powers = tuple([(atom, exponent * halves // 2) for atom, exponent in product])
        if factor == 1.0 or (factor == -1.0 and halves == -2):
            return {powers: factor}
        return None

    def _leaf(self, binding: Binding) -> Sum:
        number = self._number(binding)
        if number in (1.0, -1.0) and self._is_scalar(binding):
            return {(): float(number)}
        atom = self._identity(binding)
        self.leaves.setdefault(atom, binding)
        return {((atom, 2),): 1.0}

    def _identity(self, binding: Binding) -> Atom:
        """What makes two uses of a constant the same one, however it was moved."""
        found = base(binding)
        if found.recipe is not None:
            return self._atom(("recipe", id(found.recipe)))
        tensor = found.tensor
        if tensor is None:
            return self._atom(("unknown", id(found)))
        if tensor.key not in self._tensors:
            what: Hashable = tensor.key
            if self.by_content and tensor.elements <= MOST_ELEMENTS:
                values = self.chains.load(tensor)
                what = what if values is None else values.astype("float64").tobytes()
            self._tensors[tensor.key] = self._atom(("tensor", what))
        return self._tensors[tensor.key]

    def _atom(self, what: Hashable) -> Atom:
        """A number that stands for `what`, the same at each time."""
        return self._atoms.setdefault(what, len(self._atoms))

    def _number(self, binding: Binding) -> float | None:
        """The value of a constant that is a single number."""
        told = self.chains.told(binding)
        if told is None or prod(told[0]) != 1:
            return None
        tensor = self.chains.settled(binding).tensor
        if tensor is None:
            return None
        if tensor.key not in self._numbers:
            values = self.chains.load(tensor)
            self._numbers[tensor.key] = None if values is None else float(values.reshape(-1)[0])
        return self._numbers[tensor.key]

    def _is_scalar(self, binding: Binding) -> bool:
        """Whether a single number is no parameter of a single channel."""
        tensor = self.chains.settled(binding).tensor
        return tensor is not None and (self.channels > 1 or not tensor.dims)


def added(left: Sum, right: Sum) -> Sum | None:
    """Left + right."""
    if not left or not right:
        return right or left
    total = dict(left)
    for product, factor in right.items():
        total[product] = total.get(product, 0.0) + factor
    found = {product: factor for product, factor in total.items() if factor != 0.0}
    return found if len(found) <= _MOST_PRODUCTS else None


def multiplied(left: Sum, right: Sum) -> Sum | None:
    """Left · right."""
    if len(left) == 1 and len(right) == 1:  # most by far
        ((one, factor),), ((other, by),) = left.items(), right.items()
        both = factor * by
        return {_times(one, other): both} if both else {}
    total: dict[Product, float] = {}
    for one, factor in left.items():
        for other, by in right.items():
            product = _times(one, other)
            total[product] = total.get(product, 0.0) + factor * by
    found = {product: factor for product, factor in total.items() if factor != 0.0}
    return found if len(found) <= _MOST_PRODUCTS else None


def scaled(sum_: Sum, by: float) -> Sum:
    """By · sum_."""
    return {product: factor * by for product, factor in sum_.items()}


def without(product: Product, divisor: Product) -> Product | None:
    """Product / divisor, where the divisor is wholly in it."""
    rest = dict(product)
    for atom, exponent in divisor:
        if rest.get(atom, 0) * exponent <= 0 or abs(rest[atom]) < abs(exponent):
            return None
        rest[atom] -= exponent
    return tuple(sorted([each for each in rest.items() if each[1]]))


def _times(one: Product, other: Product) -> Product:
    if not one or not other:
        return one or other
    exponents = dict(one)
    for atom, exponent in other:
        exponents[atom] = exponents.get(atom, 0) + exponent
    return tuple(sorted([each for each in exponents.items() if each[1]]))


def _is_leaf(sum_: Sum) -> bool:
    """Whether a sum is one atom as it is, and so its own value."""
    if len(sum_) != 1:
        return False
    ((product, factor),) = sum_.items()
    return factor == 1.0 and len(product) == 1 and product[0][1] == 2


def is_move(recipe: Recipe) -> bool:
    """Whether a node moves its first input, or writes it in another type of float."""
    node, first = recipe.node, recipe.inputs[0] if recipe.inputs else None
    if first is None:
        return False
    if node.op_type == "Cast":
        return node.int_attribute("to", 0) in FLOAT_TYPES
    if node.op_type == "CastLike":
        like = recipe.inputs[1] if len(recipe.inputs) > 1 else None
        return like is not None and like.tensor is not None and like.tensor.is_float
    return node.op_type in MOVES or node.op_type == "Expand"


def _is_addition(recipe: Recipe) -> bool:
    return recipe.node.op_type in ("Add", "Sum") and len(recipe.inputs) == 2


def base(binding: Binding) -> Binding:
    """What a value was before it was moved and converted."""
    for _ in range(_DEEPEST):
        recipe = binding.recipe
        if recipe is None or not is_move(recipe) or recipe.inputs[0] is None:
            break
        binding = recipe.inputs[0]
    return binding
