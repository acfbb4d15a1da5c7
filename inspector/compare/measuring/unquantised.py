"""Two models without the grids of their activations: what is left is not their quantising.

A quantised model differs from a float one in two ways: its weights lie on grids, which moves each
by half a step at most, and its activations do. Without the latter, the outputs of two models that
are one lie as far apart as weights that were rounded otherwise would put them, and what lies
further apart is something else (docs/decisions/0011-precision.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inspector.compare.measuring.difference import distances
from inspector.compare.measuring.floor import (
    FLOORS,
    FLOORS_COARSE,
    Deviations,
    Grain,
    allowance,
    measure,
)
from inspector.compare.measuring.judged import OutputsShapesError, furthest, turned
from inspector.compare.measuring.measured import Measured, Results
from inspector.compare.measuring.precision import Coarser, Precision
from inspector.compare.runtime.host import Host, HostGoneError
from inspector.compare.runtime.run import Array, Fed
from inspector.errors import UndecidedError
from inspector.facts.comparison import PairedOutput
from inspector.facts.model import Model
from inspector.facts.patch import Runnable

ROUNDED = Coarser(grain=Grain(quantised=True), words="rounding of the quantised weights")
"""What two views are held to: floors in which weights move within their steps."""

ALIKE = Coarser(grain=Grain(quantised=True), words="rounding with one set of weights on both sides")
"""The same where no weights are left that were rounded: nothing moves but by float32's rounding."""

DRAWS = 3
"""How often weights are rounded anew."""

_MOST_MOVED = 2**28
"""Bytes of weights that are moved, of one model."""

_FEW = 1e-4
"""Share of an output's elements that may lie beyond their bounds by chance."""

_SOMEWHAT = 1.5
"""Times their bounds that those may lie away. Measured on a detector's boxes, 147456
elements: one or two of them at 1.0 to 1.4."""

Steps = Mapping[str, Array]
"""Distances between the numbers that stored weights could have, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unquantised:
    """Both models without grids, held against each other, and what the grids move.

    `apart` is the largest difference of any output as a multiple of what the grids of activations
    move it by: the largest by the largest, or all together by all together, whichever is more.
    `shares` are what quantising moves each output by, all elements together, as a share of the
    output's own spread.
    """

    measured: Measured
    apart: float
    shares: tuple[float, ...]

    @property
    def agree(self) -> bool:
        """Whether rounding weights accounts for all that differs."""
        return self.measured.agree

    @property
    def stand_out(self) -> bool:
        """Whether what differs beyond that is more than what quantising activations does."""
        return not self.agree and self.apart > 1.0

    @property
    def beyond(self) -> str:
        """What stands out, in words."""
        if self.measured.coarser is ALIKE:
            return "more than quantising does"
        return "with all activations as they are: more than quantising those does"

    @property
    def max_abs(self) -> float:
        return max((each.difference.max_abs for each in self.measured.outputs), default=0.0)

    def settled(self, without_jumps: Measured, whole: Measured) -> Unquantised:
        """The same where outputs behind operators that jump were judged by what those read.

        Of what moves by steps the elements count, not by how much, where those are fewer.
        """
        shares = [
            min(share, disagreement(each, whole))
            if each.moved_by or moves_by_steps(each, whole)
            else share
            for each, share in zip(without_jumps.outputs, self.shares, strict=True)
        ]
        return replace(self, measured=without_jumps, shares=tuple(shares))


def without_grids(
    views: tuple[Model, Model],
    steps: tuple[Steps | None, Steps | None],
    measured: Measured,
    *,
    written: tuple[Callable[[], Runnable], Callable[[], Runnable]],
    host: Host,
    seed: int,
) -> Unquantised | None:
    """Run both models without their grids on the inputs of `measured`; None where that fails.

    Parameters
    ----------
    steps
        Of each view's weights; None for a side that had no grid, which is not run again, and
        empty for one that now has the other side's weights.
    written
        Gives what is run for each view.

    Raises
    ------
    HostGoneError
        The process in which models run has ended.
    """
    results: list[Results] = [measured.left_results, measured.right_results]
    moved: list[Deviations] = [measured.left_deviations, measured.right_deviations]
    for side, own in enumerate(steps):
        feeds = [(each.left, each.right)[side] for each in measured.batches]
        if own is None:
            moved[side] = _times(moved[side], measured.precisions[side])
            continue
        try:
            ran = _run(views[side], own, feeds, written[side](), host, seed)
        except HostGoneError:
            raise
        except UndecidedError:
            return None
        results[side], moved[side] = ran
    try:
        outputs = tuple(_held(each, results, moved) for each in measured.outputs)
    except (OutputsShapesError, KeyError):
        return None
    views_measured = replace(
        measured,
        outputs=outputs,
        left_results=results[0],
        right_results=results[1],
        left_deviations=moved[0],
        right_deviations=moved[1],
        coarser=ALIKE if not any(steps) else ROUNDED,
        limited="",
        note="",
    )
    return Unquantised(
        measured=views_measured,
        apart=_apart(views_measured, measured),
        shares=tuple(_share(each, measured) for each in measured.outputs),
    )


def _held(
    output: PairedOutput, results: Sequence[Results], moved: Sequence[Deviations]
) -> PairedOutput:
    """An output of both views; a few of very many elements may lie somewhat beyond their bounds.

    Those are taken along axes of which some have few elements a place, from a few draws: among
    thousands of places one has a floor that is too small.
    """
    lefts, rights = (
        [each[name] for each in several]
        for several, name in zip(results, (output.left, output.right), strict=True)
    )
    sides = moved[0][output.left], moved[1][output.right]
    grain = ROUNDED.grain
    found = furthest(output, lefts, rights, sides, asked=None, grain=grain)
    far = found.difference
    if found.within or far.left_non_finite or far.right_non_finite:
        return found
    rights, there = (
        [turned(each, output.permutation) for each in several] for several in (rights, sides[1])
    )
    bounds = allowance(lefts, rights, sides[0], there, grain=grain).bounds
    apart = [distances(a, b) for a, b in zip(lefts, rights, strict=True)]
    beyond = sum(int((each > most).sum()) for each, most in zip(apart, bounds, strict=True))
    if beyond > _FEW * sum(each.size for each in apart) or any(
        (each > _SOMEWHAT * most).any() for each, most in zip(apart, bounds, strict=True)
    ):
        return found
    return replace(found, within=True, finite_within=True, beyond="")


def rounded_anew(
    model: Model, steps: Steps, *, seed: int, draws: int
) -> Iterator[dict[str, Array]]:
    """Initializers with each weight moved within half a step: as another rounding would have it."""
    stored = model.graph.initializers
    names = sorted(name for name in steps if name in stored)
    if sum(4 * stored[name].elements for name in names) > _MOST_MOVED:
        draws = min(draws, 1)
    for at in range(draws if names else 0):
        rng = np.random.default_rng([seed, at])
        found = {}
        for name in names:
            values = model.weights.load(stored[name])
            with np.errstate(invalid="ignore", over="ignore"):
                moved = values + rng.uniform(-0.5, 0.5, values.shape) * steps[name]
            found[name] = np.asarray(moved, values.dtype)
        yield found


def _run(
    model: Model, steps: Steps, feeds: Sequence[Fed], source: Runnable, host: Host, seed: int
) -> tuple[Results, Deviations]:
    """A view's outputs, and how far they move where weights are rounded otherwise."""
    name = f"{model.path} (without its grids)"
    plain = host.load(source, name=name, optimise=False)
    results: Results = [plain.run(each) for each in feeds]
    optimised = host.load(source, name=name, optimise=True)
    moved = _times(measure(plain, [optimised], feeds, results, seed=seed))
    del optimised
    for weights in rounded_anew(model, steps, seed=seed, draws=DRAWS):
        runner = host.load(source, name=name, optimise=False, instead=weights)
        for at, fed in enumerate(feeds):
            for output, values in runner.run(fed).items():
                plainly = results[at][output]
                if values.dtype.kind == "f" and values.shape == plainly.shape:
                    apart = np.abs(np.subtract(values, plainly, dtype=np.float64))
                    np.fmax(moved[output][at], apart, out=moved[output][at])
    return results, moved


def _times(moved: Deviations, precision: Precision | None = None) -> Deviations:
    """Deviations that are float32's rounding, so that as many floors of it are allowed as ever."""
    if precision is not None and precision.coarse:
        return moved
    times = FLOORS / FLOORS_COARSE
    return {name: [times * each for each in several] for name, several in moved.items()}


def _apart(views: Measured, whole: Measured) -> float:
    """See `Unquantised.apart`."""
    found = 0.0
    for each in views.outputs:
        far, noise = [], []
        for at in range(len(views.batches)):
            left, right = (r[at] for r in (views.left_results, views.right_results))
            far.append(_stepped(left[each.left], turned(right[each.right], each.permutation)))
            for side, name, seen in (
                (views.left_results, each.left, whole.left_results),
                (views.right_results, each.right, whole.right_results),
            ):
                if side is not seen:
                    noise.append(_stepped(side[at][name], seen[at][name]))
        for size in (_largest, _together):
            by = size(noise)
            found = max(found, size(far) / by if by else float("inf") if size(far) else 0.0)
    return found


def disagreement(output: PairedOutput, measured: Measured) -> float:
    """The share of elements that differ, of those that would if one side were shuffled."""
    lefts, rights = _both(output, measured)
    left, right = (np.concatenate([a.reshape(-1) for a in each]) for each in (lefts, rights))
    apart = float((left != right).mean()) if left.size else 0.0
    if not apart:
        return 0.0
    counts = dict(zip(*np.unique(left, return_counts=True), strict=True))
    alike = sum(
        counts.get(value, 0) * count
        for value, count in zip(*np.unique(right, return_counts=True), strict=True)
    )
    chance = 1.0 - float(alike) / float(left.size) ** 2
    return apart / chance if chance else float("inf")


def moves_by_steps(output: PairedOutput, measured: Measured) -> bool:
    """Whether an output is of whole numbers or of truths."""
    return all(each[output.left].dtype.kind in "iub" for each in measured.left_results)


def _both(output: PairedOutput, measured: Measured) -> tuple[list[Array], list[Array]]:
    lefts = [each[output.left] for each in measured.left_results]
    rights = [turned(each[output.right], output.permutation) for each in measured.right_results]
    return lefts, rights


def _share(output: PairedOutput, whole: Measured) -> float:
    """See `Unquantised.shares`."""
    lefts, rights = _both(output, whole)
    far = _together([_difference(a, b) for a, b in zip(lefts, rights, strict=True)])
    middle = [float(a.mean(dtype=np.float64)) for a in lefts if a.size and a.dtype.kind in "fiub"]
    spread = _together([a - np.mean(middle) for a in lefts]) if middle else 0.0
    return far / spread if spread else (float("inf") if far else 0.0)


def _difference(one: Array, other: Array) -> Array:
    if one.dtype.kind not in "fiub" or one.shape != other.shape:
        return np.zeros(1)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.abs(np.subtract(one, other, dtype=np.float64)), posinf=0.0)


def _stepped(one: Array, other: Array) -> Array:
    """Distances; of whole numbers and truths, whether there is one: classes have no distances."""
    apart = _difference(one, other)
    return np.asarray(apart > 0.0, np.float64) if one.dtype.kind in "iub" else apart


def _largest(several: Sequence[Array]) -> float:
    return max((float(each.max(initial=0.0)) for each in several), default=0.0)


def _together(several: Sequence[Array]) -> float:
    """The root of the mean square."""
    count = sum(each.size for each in several)
    return float(np.sqrt(sum(float(np.square(each).sum()) for each in several) / max(1, count)))
