"""Run the right side with patches, and hold it against the left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from inspector.compare.causes.explain import Trial
from inspector.compare.measuring.floor import Deviations, measure
from inspector.compare.measuring.judged import OutputsShapesError, furthest
from inspector.compare.measuring.measured import Measured
from inspector.compare.runtime.host import Host
from inspector.facts.model import Model
from inspector.facts.patch import Patch, Runnable


def experiment_on(
    model: Model,
    measured: Measured,
    *,
    patched: Callable[[Model, Sequence[Patch]], Runnable],
    host: Host,
    seed: int,
    progress: Callable[[str], None],
) -> Callable[[Sequence[Patch]], Trial]:
    """A function that patches `model`, the right side, runs it, and compares it with the left.

    The tolerance rests on the left model's floor and on that of the first copy that is run,
    which has everything patched: the unpatched right side may live on another scale. What the
    user allows plays no part: a cause is what moves the outputs by more than rounding.
    """
    moved: Deviations = {}
    name = f"{model.path} (patched)"

    def experiment(patches: Sequence[Patch]) -> Trial:
        progress("proving causes")
        source = patched(model, patches)
        runner = host.load(source, name=name, optimise=measured.optimised)
        feeds = [each.right for each in measured.batches]
        results = [runner.run(each) for each in feeds]
        if not moved:
            plain = host.load(source, name=name, optimise=False)
            moved.update(measure(runner, [plain], feeds, results, seed=seed))
            if measured.coarser.grain.coarse:
                _raise_to(moved, measured.right_deviations)
        try:
            held = [
                furthest(
                    each,
                    [r[each.left] for r in measured.left_results],
                    [r[each.right] for r in results],
                    (measured.left_deviations[each.left], moved[each.right]),
                    asked=None,
                    grain=measured.coarser.grain,
                )
                for each in measured.outputs
            ]
        except OutputsShapesError:
            return Trial(max_abs=float("inf"), within=False)
        return Trial(
            max_abs=max(each.difference.max_abs for each in held),
            within=all(each.within for each in held),
        )

    return experiment


def _raise_to(moved: Deviations, least: Deviations) -> None:
    """What a model computes in stays: the floor of a patched copy is no smaller than its own."""
    for name, deviations in moved.items():
        moved[name] = [
            np.maximum(own, other) if own.shape == other.shape else own
            for own, other in zip(deviations, least[name], strict=True)
        ]
