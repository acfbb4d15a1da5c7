"""What running two models on the same batches gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isnan

from inspector.compare.feeding.feeds import Batch, Plan
from inspector.compare.measuring.difference import distances
from inspector.compare.measuring.floor import Deviations
from inspector.compare.measuring.judged import turned
from inspector.compare.measuring.precision import Coarser, Precision
from inspector.compare.pairing.layout import Axes
from inspector.compare.runtime.run import Array
from inspector.facts.comparison import PairedOutput

Results = list[dict[str, Array]]

_HOPELESS = 16.0
"""Times what is allowed, beyond which a few more draws will not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Both models run on the same batches.

    `orders` are the input permutations that were used, one an input pair. `only_if` says what had
    to be assumed for the outputs to agree, `limited` what could not be run, `data` which of the
    user's files were fed.
    """

    outputs: tuple[PairedOutput, ...]
    orders: tuple[Axes, ...]
    batches: tuple[Batch, ...]
    left_results: Results = field(repr=False)
    right_results: Results = field(repr=False)
    left_deviations: Deviations = field(repr=False)
    plan: Plan
    only_if: str = ""
    limited: str = ""
    note: str = ""
    data: str = ""
    optimised: bool = True
    precisions: tuple[Precision, ...] = ()
    coarser: Coarser = field(default_factory=Coarser)
    right_deviations: Deviations = field(default_factory=dict, repr=False)

    @property
    def hushed(self) -> bool:
        """Whether nothing but NaN and infinity on both sides stands against agreement."""
        return all(
            each.finite_within
            and each.difference.left_non_finite
            == each.difference.right_non_finite
            == each.difference.both_non_finite
            for each in self.outputs
        )

    @property
    def worst_batch(self) -> Batch:
        """The batch on which the outputs lie furthest apart; of several, the smallest."""

        def apart(at: int) -> float:
            ratios = [
                ratio(each, self.left_results[at], self.right_results[at]) for each in self.outputs
            ]
            # NaN lies further away than any number.
            return float("inf") if any(map(isnan, ratios)) else max(ratios, default=0.0)

        far = [apart(at) for at in range(len(self.batches))]
        enough = [at for at, each in enumerate(far) if each >= max(far) / 2]
        return self.batches[min(enough, key=lambda at: (self.batches[at].size, at))]

    @property
    def agree(self) -> bool:
        return all(each.within for each in self.outputs)

    @property
    def far(self) -> bool:
        """Whether outputs lie further apart than a few more draws could account for."""
        pairs = zip(self.left_results, self.right_results, strict=True)
        return any(
            ratio(each, left, right) > _HOPELESS for left, right in pairs for each in self.outputs
        )


def ratio(output: PairedOutput, lefts: dict[str, Array], rights: dict[str, Array]) -> float:
    """How far an output of one batch lies apart, as a multiple of what is allowed."""
    left, right = lefts[output.left], turned(rights[output.right], output.permutation)
    if left.shape != right.shape or not left.size:
        return float("inf")
    apart = float(distances(left, right).max())
    return apart / output.tolerance if output.tolerance else apart
