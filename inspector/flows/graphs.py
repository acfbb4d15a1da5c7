"""Comparing the graphs of two sides; with one set of weights, where rounding sets theirs apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inspector.compare.causes.differences import Differences, find_differences
from inspector.compare.graphs.align import align
from inspector.compare.graphs.contents import let_go
from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.rewire import rewired
from inspector.compare.graphs.structure import build_both
from inspector.compare.pairing.layout import Layouts
from inspector.compare.pairing.pair import Pair
from inspector.facts.comparison import CauseKind
from inspector.flows.sides import Side, written_out

Sides = tuple[Side, Side]


def both_graphs(
    sides: Sides,
    layouts: tuple[Layouts, Layouts],
    inputs: Sequence[Pair],
    outputs: Sequence[Pair],
) -> tuple[Correspondence, Differences]:
    """Which layers correspond, and what differs between them."""
    views = sides[0].view, sides[1].view
    networks = build_both(views, layouts, inputs, outputs)
    fed = {each.left.name: each.right.name for each in inputs}
    alignment = rewired(align(*networks), *networks, fed)
    found = Correspondence(*networks, alignment, fed)
    steps = sides[0].steps or {}, sides[1].steps or {}
    differences = find_differences(found, inputs=inputs, outputs=outputs, steps=steps)
    for each in sides:
        let_go(each.view.weights)
    return found, differences


def on_one_set(
    sides: Sides,
    found: Correspondence,
    differences: Differences,
    layouts: tuple[Layouts, Layouts],
    inputs: Sequence[Pair],
    outputs: Sequence[Pair],
) -> tuple[Sides, Correspondence, Differences]:
    """The same with the left weights on both sides, where rounding is what sets those apart.

    As it was, where it is not, or where activations lie on grids that were calibrated: what such a
    grid cuts off is no rounding, and stands in the view as an operator that may have an effect.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor cannot be loaded.
    """
    if all(each.steps is None for each in sides) or any(each.calibrated for each in sides):
        return sides, found, differences
    from inspector.compare.causes.rounded import of_one_set
    from inspector.write.upgrade import with_patches

    left, right = sides
    patches = of_one_set(found, (left.steps or {}, right.steps or {}))
    if not patches:
        return sides, found, differences
    view = written_out(with_patches(right.view, patches))
    alike = (
        replace(left, steps=None if left.steps is None else {}),
        replace(right, view=view, steps={}),
    )
    found, others = both_graphs(alike, layouts, inputs, outputs)
    # Said all the same: that it has no effect is what was shown.
    rounded = [each for each in differences.candidates if each.kind is CauseKind.QUANTISATION]
    return alike, found, replace(others, candidates=(*rounded, *others.candidates))
