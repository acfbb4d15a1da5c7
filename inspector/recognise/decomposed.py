"""BatchNorm as arithmetic from which all four parameters can be told.

What a run of arithmetic computes is ``y = S · x + T``. It is a BatchNorm where S and T, multiplied
out, are ``scale · (var + epsilon)^(-1/2)`` and ``bias − mean · S`` (Ioffe & Szegedy 2015,
https://arxiv.org/abs/1502.03167).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from inspector.facts.batchnorm import Certainty, Origin, Parameter
from inspector.facts.model import Tensor
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
from inspector.recognise.parts import Parts
from inspector.recognise.runs import Link

LONGEST = 6
"""Links that one BatchNorm takes, at most: four, and two for a sign or a factor of one."""

_LARGE = 0.0101
"""More than any framework's epsilon."""


def lines(links: Sequence[Link], algebra: Algebra) -> Iterator[tuple[Sum, Sum]]:
    """S and T of the first link, of the first two, and so on, while they may be a BatchNorm's."""
    slope: Sum | None = ONE
    intercept: Sum | None = {}
    for link in links:
        constant = algebra.sum(link.source)
        if constant is None or slope is None or intercept is None:
            return
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
                    return
                slope, intercept = multiplied(slope, by), multiplied(intercept, by)
        if slope is None or intercept is None or _is_beyond(slope):
            return
        yield slope, intercept


def _is_beyond(slope: Sum) -> bool:
    """Whether a slope can no longer become a BatchNorm's: it has several terms, or two roots."""
    if len(slope) != 1:
        return True
    (product,) = slope
    return sum(exponent % 2 for _, exponent in product) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a slope and an intercept are made of; a sign of -1.0 is one too many in the file."""

    variance: Variance
    scale: Atom | None
    bias: tuple[Atom, float] | None
    mean: tuple[Atom, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variance:
    """What is under a root: the variance, and epsilon, which is None where none is added."""

    var: Binding
    epsilon: float | None
    remark: str = ""


def reading(slope: Sum, intercept: Sum, algebra: Algebra, *, may_negate: bool) -> Reading | None:
    """How a slope and an intercept read as those of one whole BatchNorm, if they do.

    Parameters
    ----------
    may_negate
        Whether a mean may be stored with the opposite sign: an addition in front may also be the
        bias of the operator before it.
    """
    ((product, factor),) = slope.items()
    found = _over_root(product, algebra)
    if found is None or factor != 1.0:
        return None
    root, scale = found
    told = _told_intercept(product, intercept)
    if told is None:
        return None
    bias, mean = told
    if mean is None or (mean[1] < 0 and not may_negate):
        return None
    variance = _variance(root, algebra, whole=scale is not None and bias is not None)
    if variance is None:
        return None
    return Reading(variance=variance, scale=scale, bias=bias, mean=mean)


def _over_root(slope: Product, algebra: Algebra) -> tuple[Atom, Atom | None] | None:
    """One over the root of something, and at most one thing that is multiplied by it."""
    roots = [atom for atom, halves in slope if halves == -1]
    rest = [atom for atom, halves in slope if halves == 2]
    if len(roots) != 1 or len(rest) + 1 != len(slope):
        return None
    if len(rest) > 1:
        rest = [each for each in rest if not algebra.is_one(each)]
    return (roots[0], rest[0] if rest else None) if len(rest) <= 1 else None


def _told_intercept(
    slope: Product, intercept: Sum
) -> tuple[tuple[Atom, float] | None, tuple[Atom, float] | None] | None:
    """The bias and the mean, each with its sign; None where the intercept is more than that."""
    bias = mean = None
    for product, factor in intercept.items():
        if abs(factor) != 1.0:
            return None
        rest = without(product, slope)
        if rest is not None and _is_atom(rest) and mean is None:
            mean = rest[0][0], -factor
        elif _is_atom(product) and bias is None:
            bias = product[0][0], factor
        else:
            return None
    return bias, mean


def _variance(root: Atom, algebra: Algebra, *, whole: bool) -> Variance | None:
    """The variance and epsilon under a root.

    Without an epsilon it takes a `whole` BatchNorm, with scale and bias, to tell one: a shift and
    a division by a root are much else as well, as the scale of an attention or the standardising
    of an input.
    """
    addition = algebra.sums.get(root)
    if addition is None:
        var = algebra.leaves.get(root)
        length = None if var is None else algebra.chains.told(var)
        if var is None or length is None or not whole or algebra.channels < 2:
            return None
        return Variance(var=var, epsilon=None) if prod(length[0]) == algebra.channels else None
    if root not in algebra.variances:
        algebra.variances[root] = _epsilon_of(addition, algebra)
    found = algebra.variances[root]
    if found is None:
        return None
    var, epsilon, remark = found
    return Variance(var=var, epsilon=epsilon, remark=remark)


def _epsilon_of(addition: Recipe, algebra: Algebra) -> tuple[Binding, float, str] | None:
    """Which of the two that are added is epsilon: one number, where the other is a vector.

    Of a single channel both are numbers. Then the one written without axes is epsilon, or the
    one that is called so; failing that, the one that looks like it.
    """
    first, second = addition.inputs
    if first is None or second is None:
        return None
    lengths = [algebra.chains.told(each) for each in (first, second)]
    sizes = [prod(each[0]) for each in lengths if each is not None]
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        var, epsilon = (first, second) if sizes[1] == 1 else (second, first)
        values = algebra.values(epsilon)
        if values is not None and values.size == 1:
            return var, float(values.reshape(-1)[0]), ""
    candidates = []
    for at, (var, epsilon) in enumerate(((first, second), (second, first))):
        values = algebra.values(epsilon)
        if values is None or values.size == 0 or not (values == values.reshape(-1)[0]).all():
            continue
        tensor = algebra.chains.settled(epsilon).tensor
        other = algebra.chains.settled(var).tensor
        assert tensor is not None  # its values are known
        if other is None or other.elements < algebra.channels:
            continue
        number = values.reshape(-1)[0]
        told = tensor.elements, len(tensor.dims), not _called(epsilon)
        guessed = number > _LARGE, _digits(number), at
        candidates.append((told, guessed, var, float(number)))
    if not candidates:
        return None
    told, _, var, number = min(candidates, key=lambda each: each[:2])
    remark = ""
    if sum(each[0] == told for each in candidates) > 1 or number > _LARGE:
        remark = (
            f"of the two that are added under the root, {number:g} is taken for epsilon: "
            "nothing but its value tells"
        )
    return var, number, remark


def parts_of(found: Reading, algebra: Algebra) -> Parts | None:
    """The parameters of a BatchNorm; None where one has another length, or no values."""
    return _Builder(algebra).parts(found)


class _Builder:
    """Makes parameters of what was read."""

    def __init__(self, algebra: Algebra) -> None:
        self._algebra = algebra

    def parts(self, found: Reading) -> Parts | None:
        scale = None if found.scale is None else (found.scale, 1.0)
        centre = self._parameter(*found.mean)
        if centre is None or centre.tensor is None:
            return None
        stretch = self._optional(scale, 1.0, centre.tensor)
        shift = self._optional(found.bias, 0.0, centre.tensor)
        var = self._value(found.variance.var)
        if stretch is None or shift is None or var is None:
            return None
        epsilon = found.variance.epsilon
        if epsilon is None:
            var = _recovered(var, "no epsilon is added to it: that is 0, or was added before")
        return Parts(
            scale=stretch,
            bias=shift,
            mean=centre,
            var=var,
            epsilon=epsilon or 0.0,
            remarks=(found.variance.remark,) if found.variance.remark else (),
        )

    def _optional(
        self, told: tuple[Atom, float] | None, absent: float, like: Tensor
    ) -> Parameter | None:
        """The scale or the bias, which a BatchNorm may lack; of the same type as the others."""
        if told is not None:
            return self._parameter(*told)
        import numpy as np

        values = np.full_like(self._algebra.chains.load(like), absent).reshape(-1)
        return Parameter(
            value="",
            certainty=Certainty.RECOVERED,
            origin=Origin.ABSENT,
            tensor=self._algebra.chains.keep("", values),
            reason=f"there is none: {absent:g} in every channel",
        )

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


def _recovered(parameter: Parameter, reason: str, tensor: Tensor | None = None) -> Parameter:
    from dataclasses import replace

    found = replace(parameter, certainty=Certainty.RECOVERED, reason=reason)
    return found if tensor is None else replace(found, tensor=tensor)


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
