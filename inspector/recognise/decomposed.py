"""BatchNorm as arithmetic from which all four parameters can be told.

What a run of arithmetic computes is ``y = S · x + T``. It is a BatchNorm where S and T, multiplied
out, are ``scale · (var + epsilon)^(-1/2)`` and ``bias − mean · S`` (Ioffe & Szegedy 2015,
https://arxiv.org/abs/1502.03167).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from inspector.facts.batchnorm import Certainty, Origin, Parameter
from inspector.recognise.algebra import (
    ONE,
    Algebra,
    Atom,
    Product,
    Sum,
    added,
    base,
    multiplied,
    scaled,
    without,
)
from inspector.recognise.binding import Binding, Recipe
from inspector.recognise.runs import Link

LONGEST = 6
"""Links that one BatchNorm takes, at most: four, and two for a sign or a factor of one."""

_LARGE = 0.05
"""More than any framework's epsilon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parameters of a BatchNorm that was found in arithmetic."""

    scale: Parameter
    bias: Parameter
    mean: Parameter
    var: Parameter
    epsilon: float
    remarks: tuple[str, ...]


def has_root(links: Sequence[Link]) -> bool:
    """Whether any constant of a run is computed through a root, without which none is told."""
    return any(each.source.recipe is not None and each.source.recipe.rooted for each in links)


def parts_of(links: Sequence[Link], algebra: Algebra, *, bias_first: bool) -> Parts | None:
    """The parameters behind a run, if it is one whole BatchNorm.

    Parameters
    ----------
    bias_first
        Whether an addition in front may be the bias of the operator before it.
    """
    lines = _slope_and_intercept(links, algebra)
    if lines is None:
        return None
    return _Match(algebra, *lines, may_negate=not bias_first).parts()


def _slope_and_intercept(links: Sequence[Link], algebra: Algebra) -> tuple[Sum, Sum] | None:
    """S and T of a whole run."""
    slope: Sum | None = ONE
    intercept: Sum | None = {}
    for link in links:
        constant = algebra.sum(link.source)
        if constant is None or slope is None or intercept is None:
            return None
        match link.op_type:
            case "Add":
                intercept = added(intercept, constant)
            case "Sub" if link.reversed:
                slope, intercept = scaled(slope, -1.0), added(constant, scaled(intercept, -1.0))
            case "Sub":
                intercept = added(intercept, scaled(constant, -1.0))
            case _:
                by = constant if link.op_type == "Mul" else algebra.over(constant, link.source)
                if by is None:
                    return None
                slope, intercept = multiplied(slope, by), multiplied(intercept, by)
    return None if slope is None or intercept is None else (slope, intercept)


class _Match:
    """Reads the parameters off a slope and an intercept."""

    def __init__(self, algebra: Algebra, slope: Sum, intercept: Sum, *, may_negate: bool) -> None:
        self._algebra = algebra
        self._slope = slope
        self._intercept = intercept
        self._may_negate = may_negate
        self._remarks: list[str] = []

    def parts(self) -> Parts | None:
        if len(self._slope) != 1:
            return None
        ((slope, factor),) = self._slope.items()
        found = self._over_root(slope)
        if found is None or factor != 1.0:
            return None
        root, scale = found
        told = self._told_intercept(slope)
        if told is None:
            return None
        bias, mean = told
        spread = self._variance(root, whole=scale is not None and bias is not None)
        if spread is None or mean is None:
            return None
        var, epsilon = spread
        stretch = self._optional(None if scale is None else (scale, 1.0), "scale", 1.0)
        shift = self._optional(bias, "bias", 0.0)
        centre = self._parameter(*mean)
        if stretch is None or shift is None or centre is None or var is None:
            return None
        return Parts(
            scale=stretch,
            bias=shift,
            mean=centre,
            var=var,
            epsilon=epsilon,
            remarks=tuple(self._remarks),
        )

    def _over_root(self, slope: Product) -> tuple[Atom, Atom | None] | None:
        """One over the root of something, and at most one thing that is multiplied by it."""
        roots = [atom for atom, halves in slope if halves == -1]
        rest = [atom for atom, halves in slope if halves == 2]
        if len(roots) != 1 or len(rest) + 1 != len(slope):
            return None
        if len(rest) > 1:
            rest = [each for each in rest if not self._is_one(each)]
        return (roots[0], rest[0] if rest else None) if len(rest) <= 1 else None

    def _is_one(self, atom: Atom) -> bool:
        binding = self._algebra.leaves.get(atom)
        values = None if binding is None else self._algebra.values(binding)
        return values is not None and bool((values == 1.0).all())

    def _told_intercept(
        self, slope: Product
    ) -> tuple[tuple[Atom, float] | None, tuple[Atom, float] | None] | None:
        """The bias and the mean, each with its sign; None where the intercept is more than that."""
        bias = mean = None
        for product, factor in self._intercept.items():
            if abs(factor) != 1.0:
                return None
            rest = without(product, slope)
            if rest is not None and _is_atom(rest) and mean is None:
                mean = rest[0][0], -factor
            elif _is_atom(product) and bias is None:
                bias = product[0][0], factor
            else:
                return None
        if mean is not None and mean[1] < 0 and not self._may_negate:
            return None
        return bias, mean

    def _variance(self, root: Atom, *, whole: bool) -> tuple[Parameter, float] | None:
        """The variance and epsilon under the root.

        Without an epsilon it takes a `whole` BatchNorm, with scale and bias, to tell one.
        """
        addition = self._algebra.sums.get(root)
        if addition is None:
            var = self._parameter(root, 1.0)
            if var is None or var.tensor is None or var.tensor.elements < 2 or not whole:
                # A shift and a division by a root are much else as well: the scale of an
                # attention, the standardising of an input.
                return None
            return _recovered(var, "no epsilon is added to it: that is 0, or was added before"), 0.0
        told = self._epsilon_of(addition)
        if told is None:
            return None
        binding, epsilon = told
        var = self._value(binding)
        return None if var is None else (var, epsilon)

    def _epsilon_of(self, addition: Recipe) -> tuple[Binding, float] | None:
        """Which of the two that are added is epsilon: one number, where the other is a vector.

        Of a single channel both are numbers. Then the one written without axes is epsilon, or the
        one that is called so; failing that, the one that looks like it.
        """
        first, second = addition.inputs
        if first is None or second is None:
            return None
        lengths = [self._algebra.chains.told(each) for each in (first, second)]
        sizes = [prod(each.dims) for each in lengths if each is not None]
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            var, epsilon = (first, second) if sizes[1] == 1 else (second, first)
            values = self._algebra.values(epsilon)
            if values is not None and values.size == 1:
                return var, float(values.reshape(-1)[0])
        candidates = []
        for at, (var, epsilon) in enumerate(((first, second), (second, first))):
            values = self._algebra.values(epsilon)
            if values is None or values.size == 0 or not (values == values.reshape(-1)[0]).all():
                continue
            tensor = self._algebra.chains.settled(epsilon).tensor
            other = self._algebra.chains.settled(var).tensor
            assert tensor is not None  # its values are known
            if other is None or other.elements < self._algebra.channels:
                continue
            number = values.reshape(-1)[0]
            told = tensor.elements, len(tensor.dims), not _called(epsilon)
            guessed = number > _LARGE, _digits(number), at
            candidates.append((told, guessed, var, float(number)))
        if not candidates:
            return None
        told, _, var, number = min(candidates, key=lambda each: each[:2])
        if sum(each[0] == told for each in candidates) > 1 or number > _LARGE:
            self._remarks.append(
                f"of the two that are added under the root, {number:g} is taken for epsilon: "
                "nothing but its value tells"
            )
        return var, number

    def _optional(
        self, told: tuple[Atom, float] | None, name: str, absent: float
    ) -> Parameter | None:
        """The scale or the bias, which a BatchNorm may lack."""
        if told is not None:
            return self._parameter(*told)
        import numpy as np

        values = np.full(self._algebra.channels, absent, dtype=self._dtype())
        return Parameter(
            value="",
            certainty=Certainty.RECOVERED,
            origin=Origin.ABSENT,
            tensor=self._algebra.chains.keep(name, values),
            reason=f"there is none: {absent:g} in every channel",
        )

    def _dtype(self) -> str:
        """The type in which the arithmetic is done."""
        for binding in self._algebra.leaves.values():
            tensor = self._algebra.chains.settled(binding).tensor
            if tensor is not None and tensor.elements == self._algebra.channels:
                return tensor.dtype
        return "float32"

    def _parameter(self, atom: Atom, sign: float) -> Parameter | None:
        binding = self._algebra.leaves.get(atom)
        found = None if binding is None else self._value(binding)
        if found is None or found.tensor is None or sign > 0:
            return found
        values = self._algebra.chains.load(found.tensor)
        if values is None:
            return None
        negative = self._algebra.chains.keep(found.value, -values)
        return _recovered(found, "stored with the opposite sign", negative)

    def _value(self, binding: Binding) -> Parameter | None:
        """A parameter as it is stored, or as it was computed; of one element for each channel."""
        stored = base(binding)
        settled = self._algebra.chains.settled(binding)
        if settled.tensor is None:
            return None
        channels = self._algebra.channels
        tensor, origin = settled.tensor, settled.origin
        if (
            stored.tensor is not None
            and stored.tensor.dtype == tensor.dtype
            and stored.tensor.elements == tensor.elements
        ):
            # Moved and nothing else: these are the values in the file.
            tensor, origin = stored.tensor, stored.origin
        if tensor.elements not in (1, channels):
            return None
        if tensor.elements != channels:
            import numpy as np

            values = self._algebra.chains.load(tensor)
            if values is None:
                return None
            spread = np.full(channels, values.reshape(-1)[0], dtype=values.dtype)
            tensor = self._algebra.chains.keep(tensor.name, spread)
        arithmetic = settled.arithmetic
        return Parameter(
            value=tensor.name,
            certainty=Certainty.RECOVERED if arithmetic else Certainty.EXACT,
            origin=origin,
            tensor=tensor,
            reason=f"computed from constants by {', '.join(arithmetic)}" if arithmetic else "",
            stored=stored.tensor,
        )


def _recovered(parameter: Parameter, reason: str, tensor: object = None) -> Parameter:
    from dataclasses import replace

    found = replace(parameter, certainty=Certainty.RECOVERED, reason=reason)
    return found if tensor is None else replace(found, tensor=tensor)  # type: ignore[arg-type]


def _is_atom(product: Product) -> bool:
    return len(product) == 1 and product[0][1] == 2


def _called(binding: Binding) -> bool:
    """Whether a constant is called epsilon."""
    tensor = base(binding).tensor
    return tensor is not None and "eps" in tensor.name.lower()


def _digits(number: Any) -> int:
    """Characters that it takes to write a number of its own type; epsilons are short."""
    import numpy as np

    return len(np.format_float_scientific(number))
