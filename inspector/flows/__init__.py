"""What the tool does, each flow a paragraph: the only place that knows the order of stages.

Comparing has a module of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from inspector.errors import UnreadableError, UsageError
from inspector.flows.compare import compare_files
from inspector.flows.opened import opened
from inspector.flows.remarks import remarks

if TYPE_CHECKING:
    from inspector.facts.batchnorm import Norms
    from inspector.facts.count import CountedTensor
    from inspector.facts.inspection import Inspection, Reference
    from inspector.facts.manifest import Manifest
    from inspector.facts.model import Model
    from inspector.facts.reconciliation import Explanation, Reconciliation
    from inspector.facts.summary import Summary
    from inspector.facts.table import Table

Path: TypeAlias = str | os.PathLike[str]

__all__ = [
    "compare_files",
    "explain_total",
    "inspect_file",
    "reconcile_files",
    "summarise_file",
    "summary_table",
]


def inspect_file(
    path: Path, *, against: Path | None = None, external_dirs: Sequence[Path] = ()
) -> Inspection:
    """Read a model, recognise its BatchNorms and count its parameters.

    Parameters
    ----------
    path
        An ONNX file.
    against
        The same network with its BatchNorms kept: says what became of each of them.
    external_dirs
        Folders in which data files may lie beside the models' own.

    Raises
    ------
    inspector.errors.UnreadableError
        One of them is no readable ONNX model.
    """
    model = opened(path, external_dirs)
    from inspector.count import count_parameters
    from inspector.facts.inspection import InspectedAffine, InspectedNorm, Inspection
    from inspector.recognise import find_batchnorms, measure_affine, measure_all

    norms = find_batchnorms(model)
    values = measure_all(norms.batchnorms, model)
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
            InspectedNorm(norm=norm, values=found)
            for norm, found in zip(norms.batchnorms, values, strict=True)
        ),
        count=count_parameters(model, norms, manifest),
        manifest=manifest,
        notes=(*notes, *remarks(model)),
        affines=tuple(
            InspectedAffine(affine=each, values=measure_affine(each, model))
            for each in norms.affines
        ),
        lookalikes=norms.lookalikes,
        folded=norms.folded,
        linear=norms.linear,
        reference=None if against is None else _traced(model, norms, against, external_dirs),
    )


def summarise_file(path: Path, *, external_dirs: Sequence[Path] = ()) -> Summary:
    """The layers of a model, as each framework's own summary would list them.

    Parameters
    ----------
    path
        An ONNX file.
    external_dirs
        Folders in which data files may lie beside the model's own.

    Raises
    ------
    inspector.errors.UnreadableError
        It is no readable ONNX model.
    """
    return _summed(path, external_dirs)[2]


def summary_table(summary: Summary, style: str = "") -> Table:
    """A model's layers as ``keras``, ``torch`` or ``onnx`` would list them.

    Without a style, as the model's own framework would.

    Raises
    ------
    inspector.errors.UsageError
        There is no such style.
    """
    from inspector.count.tables import table

    return table(summary, style)


def _summed(path: Path, external_dirs: Sequence[Path]) -> tuple[Model, Norms, Summary]:
    """A model with its BatchNorms and its layer table."""
    model = opened(path, external_dirs)
    from inspector.count import count_parameters
    from inspector.count.summary import summarise
    from inspector.read.shapes import with_inferred_shapes
    from inspector.recognise import find_batchnorms

    norms = find_batchnorms(model)
    manifest, notes = _manifest(model)
    count = count_parameters(model, norms, manifest)
    notes = (*notes, *remarks(model))
    summary = summarise(with_inferred_shapes(model), norms, count, manifest, notes=notes)
    return model, norms, summary


def reconcile_files(
    left: Path, right: Path, *, external_dirs: Sequence[Path] = ()
) -> Reconciliation:
    """Why the totals of two models differ: a list that adds up to the gap.

    Parameters
    ----------
    left, right
        ONNX files.
    external_dirs
        Folders in which data files may lie beside the models' own.

    Raises
    ------
    inspector.errors.UnreadableError
        One of them is no readable ONNX model.
    """
    from inspector.count.reconcile import reconcile

    one, norms, before = _summed(left, external_dirs)
    other, other_norms, after = _summed(right, external_dirs)
    fates, other_fates = {}, {}
    if not one.missing_data and not other.missing_data:
        # What one side holds and the other does not is looked for there.
        from inspector.recognise.against import trace

        fates = {each.name: each for each in trace(other, other_norms, one, norms)}
        other_fates = {each.name: each for each in trace(one, norms, other, other_norms)}
    sides = ((one, before), (other, after))
    owners = {id(each): model for model, summary in sides for each in summary.count.tensors}

    def is_zero(counted: CountedTensor) -> bool:
        values = owners[id(counted)].values(counted.tensor)
        return values is not None and not values.any()

    return reconcile(before, after, is_zero, left_fates=fates, right_fates=other_fates)


def explain_total(path: Path, total: int, *, external_dirs: Sequence[Path] = ()) -> Explanation:
    """How a total of parameters from somebody's summary comes about, by what a model holds.

    Raises
    ------
    inspector.errors.UsageError
        `total` is no number of parameters.
    inspector.errors.UnreadableError
        The file is no readable ONNX model.
    """
    from inspector.count.explain import explain

    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        raise UsageError(f"{total!r} is no number of parameters", hint="give a whole number")
    return explain(_summed(path, external_dirs)[2], total)


def _traced(model: Model, norms: Norms, against: Path, external_dirs: Sequence[Path]) -> Reference:
    """What became of the BatchNorms of another model in this one."""
    from inspector.facts.inspection import Reference
    from inspector.recognise import find_batchnorms
    from inspector.recognise.against import trace

    reference = opened(against, external_dirs)
    if reference.missing_data:
        from inspector.read.external import data_files_missing

        raise data_files_missing(reference.missing_data, reference.path)
    originals = find_batchnorms(reference)
    return Reference(
        path=reference.path,
        traced=trace(model, norms, reference, originals),
        lost=_lost(originals),
    )


def _lost(norms: Norms) -> str:
    """What a model that is to have all its BatchNorms has lost of them."""
    from inspector.facts.batchnorm import Confidence, Form

    affine = sum(each.form is Form.AFFINE for each in norms.batchnorms)
    folded = sum(each.confidence is Confidence.LIKELY for each in norms.folded)
    parts = [f"{affine} affine"] if affine else []
    parts += [f"{folded} probably folded"] if folded else []
    return f"the reference has lost BatchNorms itself: {', '.join(parts)}" if parts else ""


def _manifest(model: Model) -> tuple[Manifest | None, tuple[str, ...]]:
    """The export's manifest, where the file carries one that can be read."""
    if not model.metadata:
        return None, ()
    from inspector.facts.manifest import KEY, Manifest

    text = model.metadata.get(KEY)
    if text is None:
        return None, ()
    try:
        return Manifest.from_json(text), ()
    except UnreadableError as error:
        return None, (str(error),)
