"""What comparing two models found: the verdict, the numbers it rests on, and the causes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """See the table in docs/start-to-finish.md; each has its exit code in `inspector.cli`."""

    IDENTICAL = "identical"
    EQUIVALENT = "equivalent"
    AGREES = "agrees"
    DIFFERENT = "different"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far two arrays of one shape lie apart.

    `scale` is the standard deviation of the left array's finite elements (the largest magnitude
    where that is 0). `at` is the index of the worst element. `top1` is the share of rows whose
    largest element lies at the same place, for arrays [N, K] with K ≥ 2. `both_non_finite` counts
    elements that are NaN or infinite on both sides, and are none the closer for it.
    """

    shape: tuple[int, ...]
    max_abs: float
    mean_abs: float
    scale: float
    at: tuple[int, ...]
    left_at: float
    right_at: float
    left_non_finite: int
    right_non_finite: int
    both_non_finite: int
    top1: float | None

    @property
    def relative(self) -> float:
        """`max_abs` as a share of the output's own scale; 0 where nothing differs."""
        if self.max_abs == 0.0:
            return 0.0
        return self.max_abs / self.scale if self.scale else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedInput:
    """An input of each side that gets the same values, and how their axes correspond.

    `permutation[i]` is the left axis that the right side's axis i holds; `told_by` says what in
    the two graphs told so.
    """

    left: str
    right: str
    left_dims: str
    right_dims: str
    permutation: tuple[int, ...]
    told_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedOutput:
    """An output of each side, the largest difference over all feeds, floor and tolerance.

    `floor` is the rounding floor measured on this pair; `tolerance` is what was allowed where the
    difference is largest, in the output's own unit. `within` says whether every element kept what
    it was allowed, `finite_within` whether those that are finite on both sides did; `beyond` is
    the one that did not by most, where that is another than the largest difference. `moved_over`
    are elements that differ because rounding moves them over a step of `moved_by`, operators that
    jump: all else about them agrees.
    """

    left: str
    right: str
    permutation: tuple[int, ...]
    difference: Difference
    floor: float
    tolerance: float
    within: bool
    finite_within: bool
    beyond: str = ""
    moved_over: int = 0
    moved_by: str = ""


class CauseKind(StrEnum):
    """What kind of difference between two graphs a cause is."""

    EPSILON = "epsilon"
    PARAMETER = "parameter"
    MISSING = "missing operator"
    ATTRIBUTE = "attribute"
    STRUCTURE = "structure"
    MODE = "training mode"
    OPERATOR = "operator"
    ORDER = "inputs order"
    PERMUTATION = "permutation"
    PREPROCESSING = "preprocessing"
    PRECISION = "precision"
    QUANTISATION = "quantisation"
    FOLDING = "folding"
    LAYOUT = "layout"


VALUES, OTHERS = "values", "other values"
"""What `Cause.left` and `Cause.right` say where many layers have other values in one place."""

ONE_VALUE = "one value"
"""What `Cause.left` says where nothing is known but how far apart two layers' values lie."""


class Proof(StrEnum):
    """What patching a difference away and running again showed.

    NECESSARY: with every other difference patched and this one left, the outputs still differ.
    HARMLESS: they no longer do. LOCATED: all in front of this place agrees, or was mended, and the
    layers here still give other values on the two sides; nothing that was patched mends that.
    UNTESTED: it could not be patched; `Cause.reason` says why.
    """

    NECESSARY = "proved"
    LOCATED = "located"
    HARMLESS = "no effect"
    UNTESTED = "not proved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One difference between the two models.

    `left` and `right` are the two values in words. `effect` is the largest difference of any
    output when this alone is left unpatched, None where that was not run. `share` is the part of
    the outputs' difference that patching this alone takes away, from 0 to 1; None likewise.
    """

    kind: CauseKind
    what: str
    left_where: str
    right_where: str
    left: str
    right: str
    proof: Proof
    effect: float | None
    reason: str = ""
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterMatch:
    """How the stored parameters of the two sides correspond, counted in tensors.

    `bitwise` are equal bit for bit once layouts are undone, `rounded` within a few units in the
    last place, `folded` written otherwise on each side (folded, split, as arithmetic) and come to
    the same, `differing` paired and not equal; the rest is on one side only.
    """

    bitwise: int
    rounded: int
    differing: int
    left_only: int
    right_only: int
    folded: int = 0

    @property
    def accounted_for(self) -> bool:
        return not (self.rounded or self.differing or self.left_only or self.right_only)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedNorm:
    """A BatchNorm of each side; `bitwise` lists which of scale, B, mean, var are equal in bits."""

    left: str
    right: str
    channels: int | None
    bitwise: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value in the middle of each model that should be the same on both sides.

    `left` and `right` are names of values, `left_where` and `right_where` say which layers compute
    them. `max_abs` is the largest difference there, `tolerance` what rounding may make of it,
    `relative` the former as a share of the value's own scale.
    """

    left: str
    right: str
    left_where: str
    right_where: str
    max_abs: float
    relative: float
    tolerance: float
    within: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Localisation:
    """Where in the models the difference arises, and how it grows from there.

    `points` lie in the order of the right model; `first` is the first that differs beyond
    rounding. `compared` counts the points that were run. `reason` says why there are none, or
    what could not be looked at.
    """

    points: tuple[Point, ...] = ()
    first: Point | None = None
    compared: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the inputs cannot show: units that never fire on them.

    `norms` are the channels of BatchNorms whose value never moves or is never let through by the
    ReLU behind, of `norm_channels`; `relus` the channels of ReLUs that are 0 on all inputs, of
    `relu_channels`. `where` names the layers with most of them.
    """

    norms: int = 0
    norm_channels: int = 0
    relus: int = 0
    relu_channels: int = 0
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The whole result of comparing two models.

    `causes` are differences that matter to the verdict, `harmless` those shown to have no effect
    on these inputs, `information` what never changes a verdict (momentum, names).
    `explained_to` is the largest difference left when all causes are patched, None where that
    was not run. `data` names the inputs the user gave; empty where they were drawn at random.
    `patched_to` is the file that the patched right model was written to, None where none was;
    `not_patched` says why not where one was asked for.
    """

    left: str
    right: str
    left_producer: str
    right_producer: str
    verdict: Verdict
    reason: str
    inputs: tuple[PairedInput, ...]
    outputs: tuple[PairedOutput, ...]
    causes: tuple[Cause, ...]
    harmless: tuple[Cause, ...]
    information: tuple[str, ...]
    norms: tuple[PairedNorm, ...]
    parameters: ParameterMatch | None
    explained_to: float | None
    explained: bool
    seed: int
    batch_sizes: tuple[int, ...]
    data: str = ""
    localisation: Localisation | None = None
    coverage: Coverage | None = None
    patched_to: str | None = None
    not_patched: str = ""
