"""What the tool does, each flow a paragraph: the only place that knows the order of stages."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from inspector.errors import UndecidedError, UnreadableError
from inspector.facts.comparison import Verdict
from inspector.facts.inspection import InspectedNorm, Inspection
from inspector.facts.manifest import KEY, Manifest

if TYPE_CHECKING:
    from inspector.facts.comparison import Comparison
    from inspector.facts.model import Model

Path: TypeAlias = str | os.PathLike[str]
Progress: TypeAlias = Callable[[str], None]


def _silently(stage: str) -> None:
    """Progress for callers that want none."""


def inspect_file(path: Path) -> Inspection:
    """Read a model, recognise its BatchNorms and count its parameters.

    Parameters
    ----------
    path
        An ONNX file.

    Raises
    ------
    inspector.errors.UnreadableError
        It is no readable ONNX model.
    """
    model = _opened(path)
    from inspector.count import count_parameters
    from inspector.recognise import find_batchnorms, measure

    norms = find_batchnorms(model)
    manifest, notes = _manifest(model)
    return Inspection(
        path=model.path,
        size=model.size,
        producer=model.producer,
        ir_version=model.ir_version,
        opsets=model.opsets,
        inputs=tuple(v for v in model.graph.inputs if v.name not in model.graph.initializers),
        outputs=model.graph.outputs,
        nodes=len(model.graph.nodes),
        norms=tuple(
            InspectedNorm(norm=norm, values=measure(norm, model)) for norm in norms.batchnorms
        ),
        count=count_parameters(model, norms, manifest),
        manifest=manifest,
        notes=(*notes, *_remarks(model)),
    )


def _opened(path: Path) -> Model:
    """An open model; a mistyped path is answered before onnx is imported."""
    from pathlib import Path as FilePath

    from inspector.read.formats import check_is_file

    check_is_file(FilePath(path))
    from inspector.read.open import open_model

    return open_model(path)


def _manifest(model: Model) -> tuple[Manifest | None, tuple[str, ...]]:
    """The export's manifest, where the file carries one that can be read."""
    text = model.metadata.get(KEY)
    if text is None:
        return None, ()
    try:
        return Manifest.from_json(text), ()
    except UnreadableError as error:
        return None, (str(error),)


def _remarks(model: Model) -> tuple[str, ...]:
    """What a reader of the report has to know about the file itself."""
    found = []
    if model.missing_data:
        files = ", ".join(repr(name) for name in model.missing_data)
        found.append(f"values are unknown where data files are missing: {files}")
    if not model.graph.nodes:
        found.append("the graph has no nodes")
    if not model.opsets:
        found.append("the file names no operator set: read as opset 1")
    return tuple(found)


def compare_files(
    left: Path,
    right: Path,
    *,
    atol: float | None = None,
    rtol: float | None = None,
    layout: str | None = None,
    seed: int = 0,
    progress: Progress = _silently,
) -> Comparison:
    """Run two models on the same inputs and say whether they are one function, and if not, why.

    Parameters
    ----------
    left, right
        ONNX files.
    atol, rtol
        Tolerance in place of the measured rounding floor; one alone sets the other to 0.
    layout
        Input layouts as ``LEFT:RIGHT`` or ``same``, where the graphs do not tell them.
    seed
        Of the random inputs.
    progress
        Called with the name of each stage.

    Raises
    ------
    inspector.errors.UsageError
        An option makes no sense.
    inspector.errors.UnreadableError
        One of the files is no readable ONNX model. What cannot be decided is no error but the
        verdict `undecided`.
    """
    from inspector.compare.align import align
    from inspector.compare.causes import find_differences
    from inspector.compare.digest import same_function
    from inspector.compare.explain import Explanation, explain, without_effect
    from inspector.compare.judged import OutputsShapesError, asked_tolerance
    from inspector.compare.layout import find_layouts
    from inspector.compare.outputs import experiment_on, run_both
    from inspector.compare.pair import OutputsDifferError, pair_inputs, pair_outputs
    from inspector.compare.result import decided, undecided
    from inspector.compare.structure import build_both
    from inspector.compare.verdict import judge
    from inspector.write.patch import patched

    progress("reading both models")
    models = _prepared(left), _prepared(right)
    asked = asked_tolerance(atol, rtol)
    differences = None
    try:
        layouts = find_layouts(models[0]), find_layouts(models[1])
        inputs = pair_inputs(*models, layouts, layout)
        outputs = pair_outputs(*models, layouts)
        progress("comparing the graphs")
        networks = build_both(models, layouts, inputs, outputs)
        differences = find_differences(*networks, align(*networks), inputs=inputs, outputs=outputs)
        same = same_function(models, inputs, outputs)
        measured = run_both(
            models,
            inputs,
            outputs,
            seed=seed,
            asked=asked,
            doubt=bool(differences.candidates),
            progress=progress,
        )
        judgement = judge(measured, differences, same_digest=same, asked=asked is not None)
        match judgement.verdict:
            case Verdict.DIFFERENT:
                experiment = experiment_on(
                    models[1], measured, patched=patched, seed=seed, progress=progress
                )
                explanation = explain(differences.candidates, experiment)
            case Verdict.AGREES:
                explanation = without_effect(differences.candidates, "the outputs agree")
            case _:
                explanation = Explanation()
        return decided(models, inputs, measured, differences, judgement, explanation, seed)
    except (OutputsDifferError, OutputsShapesError) as error:
        return undecided(models, Verdict.DIFFERENT, str(error), seed, differences)
    except UndecidedError as error:
        return undecided(models, Verdict.UNDECIDED, str(error), seed, differences)


def _prepared(path: Path) -> Model:
    """A model with everything written out that comparing needs, and all its data in place."""
    from inspector.compare.order import in_order
    from inspector.read.external import data_files_missing
    from inspector.read.schema import with_default_attributes
    from inspector.read.shapes import with_inferred_shapes

    model = _opened(path)
    if model.missing_data:
        raise data_files_missing(model.missing_data, model.path)
    return in_order(with_default_attributes(with_inferred_shapes(model)))
