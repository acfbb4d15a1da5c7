"""Whether a restored model is what it claims to be, by its own bytes and by running it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from inspector.compare.graphs.order import in_order
from inspector.compare.measuring.measured import Measured
from inspector.compare.measuring.outputs import GraphsSay, run_both
from inspector.compare.pairing.layout import find_layouts
from inspector.compare.pairing.pair import pair_inputs, pair_outputs
from inspector.compare.runtime.host import Host
from inspector.compare.runtime.loaded import load_both
from inspector.errors import ExportDisagreesError, UndecidedError
from inspector.facts.batchnorm import BatchNorm, Form
from inspector.facts.model import Model
from inspector.facts.request import Request
from inspector.facts.restored import Agreement
from inspector.read.open import open_model
from inspector.read.schema import with_default_attributes
from inspector.read.shapes import with_inferred_shapes
from inspector.recognise import find_batchnorms
from inspector.recognise.scopes import check_scopes
from inspector.restore.kept import Original
from inspector.write.runnable import runnable

SEED = 0
"""Of the inputs that both models are run on."""

_PARTS = ("scale", "B", "mean", "var")


def check_tensors(path: Path, wanted: Iterable[tuple[str, Original]], name: str) -> int:
    """Read the BatchNorms back and hold them against the framework's; how many tensors are equal.

    Parameters
    ----------
    wanted
        Each node's name with what it has to hold.

    Raises
    ------
    inspector.errors.ExportDisagreesError
        A tensor, epsilon or momentum is not the framework's in every bit, or a node is not there.
    """
    model = open_model(path)
    found: dict[str, list[BatchNorm]] = {}
    for norm in find_batchnorms(model).batchnorms:
        found.setdefault(norm.name, []).append(norm)
    return sum(_check(node, each, found, model, name) for node, each in wanted)


def _check(
    node: str, original: Original, found: Mapping[str, list[BatchNorm]], model: Model, name: str
) -> int:
    norms = found.get(node, [])
    if len(norms) != 1 or norms[0].form is not Form.NATIVE or norms[0].training:
        raise _wrong(f"BatchNorm {node!r} is not a node of its own", name)
    (norm,) = norms
    for (_, stored), wanted, part in zip(norm.parameters, original.four, _PARTS, strict=True):
        values = None if stored.tensor is None else model.weights.load(stored.tensor)
        same = (
            values is not None
            and (values.dtype, values.shape) == (wanted.values.dtype, wanted.values.shape)
            and values.tobytes() == wanted.values.tobytes()
        )
        if not same:
            raise _wrong(f"{part} of BatchNorm {node!r} is not the framework's", name)
    for part, one, other in (
        ("epsilon", norm.epsilon, original.norm.epsilon),
        ("momentum", norm.momentum, original.norm.momentum),
    ):
        if part == "momentum" and not original.norm.momentum_stated:
            continue  # weights alone do not tell it
        if np.float32(one or 0.0) != np.float32(other or 0.0):
            raise _wrong(f"{part} of BatchNorm {node!r} is {one}, not {other}", name)
    return len(_PARTS)


def _wrong(what: str, name: str) -> ExportDisagreesError:
    return ExportDisagreesError(
        what, where=name, hint="nothing was written; please report the model"
    )


def agreement(
    left: Path, right: Path, *, same_inputs: bool, progress: Callable[[str], None]
) -> Agreement:
    """Run two models on the same inputs, at several batch sizes where they take any.

    Parameters
    ----------
    same_inputs
        Whether an input of one is that of the other, axis by axis, as it is of a changed copy.

    Raises
    ------
    inspector.errors.UnreadableError
        One of the two cannot be read.
    """
    try:
        measured = _measured(left, right, same_inputs, progress)
    except UndecidedError as error:
        return Agreement(within=False, undecided=error.what)
    worst = max(
        measured.outputs,
        key=lambda each: (
            not each.within,
            each.difference.max_abs / each.tolerance if each.tolerance else 0.0,
        ),
    )
    return Agreement(
        within=measured.agree and not measured.only_if,
        batch_sizes=tuple(sorted({each.size for each in measured.batches})),
        max_abs=worst.difference.max_abs,
        relative=worst.difference.relative,
        floor=worst.floor,
        tolerance=worst.tolerance,
    )


def _measured(
    left: Path, right: Path, same_inputs: bool, progress: Callable[[str], None]
) -> Measured:
    models = _prepared(left), _prepared(right)
    layouts = find_layouts(models[0]), find_layouts(models[1])
    outputs = pair_outputs(*models, layouts)
    if same_inputs:
        # Transposes around a node that was put back tell of other axes than the outputs have.
        outputs = tuple(
            replace(each, permutations=(tuple(range(len(each.left.dims))),))
            if each.left.dims is not None
            else each
            for each in outputs
        )
    with Host() as host:
        return run_both(
            models,
            pair_inputs(*models, layouts, "same" if same_inputs else None),
            outputs,
            loaded=load_both(models, (runnable(models[0]), runnable(models[1])), host),
            host=host,
            request=Request(seed=SEED),
            graphs=GraphsSay(),
            progress=progress,
        )


def _prepared(path: Path) -> Model:
    model = open_model(path)
    check_scopes(model)
    return in_order(with_default_attributes(with_inferred_shapes(model)))
