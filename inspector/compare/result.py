"""Gather what a comparison found into one fact."""

from __future__ import annotations

import os
from collections.abc import Sequence

from inspector.compare.causes.differences import Differences
from inspector.compare.causes.explain import Explanation, unproved
from inspector.compare.feeding.feeds import BATCH_SIZES
from inspector.compare.graphs.chance import which_draws
from inspector.compare.locating.diagnose import Diagnosis
from inspector.compare.measuring.measured import Measured
from inspector.compare.pairing.pair import Pair, shown_dims
from inspector.compare.verdict import Judgement
from inspector.facts.comparison import Comparison, PairedInput, Verdict
from inspector.facts.model import Model


def decided(
    models: tuple[Model, Model],
    inputs: Sequence[Pair],
    measured: Measured,
    differences: Differences,
    judgement: Judgement,
    diagnosis: Diagnosis,
    seed: int,
) -> Comparison:
    """The result of a comparison that could be run."""
    explanation = diagnosis.explanation
    return Comparison(
        left=models[0].path,
        right=models[1].path,
        left_producer=models[0].producer,
        right_producer=models[1].producer,
        verdict=judgement.verdict,
        reason=judgement.reason,
        inputs=tuple(
            _input(pair, order) for pair, order in zip(inputs, measured.orders, strict=True)
        ),
        outputs=measured.outputs,
        causes=explanation.causes,
        harmless=explanation.harmless,
        information=(
            *differences.information,
            *_limits(measured),
            *_shared_data(models),
            *which_draws(models),
        ),
        norms=differences.norms,
        parameters=differences.parameters,
        explained_to=explanation.explained_to,
        explained=explanation.explained,
        seed=seed,
        batch_sizes=tuple(each.size for each in measured.batches),
        data=measured.data,
        localisation=diagnosis.localisation,
        coverage=diagnosis.coverage,
    )


def _shared_data(models: tuple[Model, Model]) -> tuple[str, ...]:
    """Two files that read the same data differ in nothing that lies there, whatever it is."""
    left, right = models
    shared = sorted(set(left.data_files) & set(right.data_files))
    if not shared or os.path.realpath(left.path) == os.path.realpath(right.path):
        return ()
    files = ", ".join(map(repr, shared[:3])) + (" and more" if shared[3:] else "")
    return (f"both models read the same data files ({files}): weights there cannot differ",)


def _limits(measured: Measured) -> tuple[str, ...]:
    return tuple(each for each in (measured.limited, measured.note) if each)


def undecided(
    models: tuple[Model, Model],
    verdict: Verdict,
    reason: str,
    seed: int,
    differences: Differences | None = None,
) -> Comparison:
    """The result of a comparison that stopped before outputs could be measured.

    `differences` are what the graphs alone show, none of it proved.
    """
    explanation = Explanation()
    if differences is not None and verdict is Verdict.DIFFERENT:
        explanation = unproved(differences.candidates, "the outputs cannot be held together")
    return Comparison(
        left=models[0].path,
        right=models[1].path,
        left_producer=models[0].producer,
        right_producer=models[1].producer,
        verdict=verdict,
        reason=reason,
        inputs=(),
        outputs=(),
        causes=explanation.causes,
        harmless=(),
        information=(
            *(differences.information if differences is not None else ()),
            *_shared_data(models),
        ),
        norms=differences.norms if differences is not None else (),
        parameters=differences.parameters if differences is not None else None,
        explained_to=None,
        explained=False,
        seed=seed,
        batch_sizes=BATCH_SIZES,
    )


def _input(pair: Pair, order: tuple[int, ...]) -> PairedInput:
    axes = pair.left_axes
    right_axes = None if axes is None else tuple(axes[here] for here in order)
    told_by = pair.told_by
    if len(pair.permutations) > 1:
        told_by = "no operator (the first order of axes that fits is taken)"
    return PairedInput(
        left=pair.left.name,
        right=pair.right.name,
        left_dims=shown_dims(pair.left, axes),
        right_dims=shown_dims(pair.right, right_axes),
        permutation=order,
        told_by=told_by,
    )
