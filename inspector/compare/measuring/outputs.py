"""Run both models on the same inputs and measure how far each output lies apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

from inspector.compare.measuring.both import Both
from inspector.compare.measuring.measured import Measured
from inspector.compare.pairing.pair import Pair
from inspector.compare.runtime.host import Host
from inspector.compare.runtime.loaded import Loaded
from inspector.errors import UndecidedError
from inspector.facts.model import Model
from inspector.facts.request import Request

MOST_HYPOTHESES = 27
"""Ways in which the axes of inputs may correspond, of which at most so many are run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphsSay:
    """What two graphs say of how much has to be run.

    All are asked once something has run. `same` is whether they are one by structure and bitwise
    parameters, `differ` whether they differ, so that agreement has to be shown on more inputs.
    `settled` gives what was measured without that by which rounding alone makes outputs differ.
    """

    same: Callable[[], bool] = lambda: False
    differ: Callable[[], bool] = lambda: False
    settled: Callable[[Measured], Measured] = lambda measured: measured


def run_both(
    models: tuple[Model, Model],
    inputs: Sequence[Pair],
    outputs: Sequence[Pair],
    *,
    loaded: Loaded,
    host: Host,
    request: Request,
    graphs: GraphsSay,
    progress: Callable[[str], None],
) -> Measured:
    """Run two models on the same seeded inputs, and measure each one's rounding floor.

    Where the graphs do not tell how the axes of an input correspond, every way is tried and the
    first under which the outputs agree is taken, or else the first of all that runs.

    Parameters
    ----------
    loaded
        Both models, see `load_both`.
    host
        Where they run.
    graphs
        What is known without running them.

    Raises
    ------
    inspector.errors.UndecidedError
        A model does not run, or the two cannot be fed the same inputs.
    """
    progress("loading both models")
    both = Both(
        models,
        inputs,
        outputs,
        loaded=loaded,
        host=host,
        request=request,
        same=graphs.same,
        progress=progress,
    )
    first: Measured | None = None
    failure: UndecidedError | None = None
    for orders in islice(product(*(each.permutations for each in inputs)), MOST_HYPOTHESES):
        try:
            measured = graphs.settled(both.measured(orders))
        except UndecidedError as error:
            failure = failure or error
            continue
        # Where they differ too: of two faults, one may need more inputs to show.
        if both.draws_more and (measured.agree or loaded.is_small) and graphs.differ():
            measured = graphs.settled(both.measured(orders, more=True))
            if measured.agree and (far := both.beyond(measured)) is not None:
                far = graphs.settled(far)
                measured = measured if far.agree else far
        if measured.agree and both.draws_more and not graphs.same():
            measured = graphs.settled(both.at_another_length(measured))
        if measured.agree:
            return _by_shapes(measured, inputs) if first is None else _assuming(measured, inputs)
        first = first or measured
    if first is not None:
        return first
    assert failure is not None  # product() of no inputs still gives one empty hypothesis
    raise failure


def _by_shapes(measured: Measured, inputs: Sequence[Pair]) -> Measured:
    """Agreement that says so where nothing but the shapes told an order of axes."""
    moved = [
        f"{pair.right.name!r} was fed {pair.left.name!r} with its axes in the order {list(order)}: "
        "no operator tells it, and its shape fits no other (--layout says what is meant)"
        for pair, order in zip(inputs, measured.orders, strict=True)
        if order != tuple(sorted(order)) and not pair.told_by
    ]
    return replace(measured, note="; ".join(filter(None, [measured.note, *moved])))


def _assuming(measured: Measured, inputs: Sequence[Pair]) -> Measured:
    """Agreement under another order of axes than the plain one, which also ran and did not agree.

    The graphs do not tell which was meant, so the agreement may be a coincidence of shapes or
    the very mistake that was to be found.
    """
    moved = [
        f"{pair.right.name!r} is {pair.left.name!r} with its axes in the order {list(order)}"
        for pair, order in zip(inputs, measured.orders, strict=True)
        if order != tuple(sorted(order))
    ]
    return replace(measured, only_if=" and ".join(moved))
