"""Why two totals of parameters differ: a list that adds up to the gap."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Elements as Keras counts them (total), as PyTorch does (parameters), and as the file holds.

    `stored` are all elements of all tensors in the file.
    """

    keras: int = 0
    torch: int = 0
    stored: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            keras=self.keras + other.keras,
            torch=self.torch + other.torch,
            stored=self.stored + other.stored,
        )

    def __neg__(self) -> Amounts:
        return Amounts(keras=-self.keras, torch=-self.torch, stored=-self.stored)

    def __sub__(self, other: Amounts) -> Amounts:
        return self + -other

    def __bool__(self) -> bool:
        return bool(self.keras or self.torch or self.stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One cause, what it adds from left to right, and the layers or tensors that it concerns."""

    what: str
    amounts: Amounts
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A number of elements, and what they are."""

    what: str
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What each model's own framework prints as its total, and what lies between the two.

    ``totals[0] + sum of the terms == totals[1]``; `frameworks` are ``keras`` and ``torch``, in the
    order of the models.
    """

    frameworks: tuple[str, str]
    totals: tuple[int, int]
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Two models' totals, and why they differ.

    ``left + sum of all differences + unexplained == right`` in every column; `unexplained_where`
    names what nothing explains. `crossing` is there where the models are of two frameworks.
    """

    left: str
    right: str
    totals: tuple[Amounts, Amounts]
    differences: tuple[Difference, ...]
    unexplained: Amounts
    unexplained_where: tuple[str, ...] = ()
    crossing: Crossing | None = None

    @property
    def is_explained(self) -> bool:
        """Whether nothing is left, not even amounts that cancel each other."""
        return not self.unexplained and not self.unexplained_where


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A total from elsewhere as a sum of what a model holds.

    ``sum of the terms + unexplained == total``. `counted` is what the model counts in each
    convention; `others` are further sums of as many terms.
    """

    path: str
    total: int
    counted: Amounts
    terms: tuple[Term, ...]
    unexplained: int
    others: tuple[tuple[Term, ...], ...] = ()

    @property
    def is_explained(self) -> bool:
        """Whether nothing is left."""
        return not self.unexplained
