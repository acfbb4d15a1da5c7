"""From a model that is loaded to a verified file: which sizes and which opset it can have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspector.errors import InspectorError, RunError, UnreadableError, UsageError
from inspector.export import keras_trace as tracing
from inspector.export import protos
from inspector.export import tensorflow_convert as converting
from inspector.export import tensorflow_saved as saved
from inspector.export.axes import BATCH
from inspector.export.keras_library import Library, flattened_layers
from inspector.export.keras_manifest import describe
from inspector.export.keras_subject import subject as subject_of
from inspector.export.manifests import Description, finish
from inspector.export.quiet import quiet
from inspector.export.references import Reference, reference
from inspector.export.source import described
from inspector.export.tensorflow_signatures import Request, Signature, signatures
from inspector.export.tensorflow_subject import Subject
from inspector.export.tensorflow_unsupported import ConversionError
from inspector.export.verify import ExpectedNorm
from inspector.facts.export import Export

if TYPE_CHECKING:
    from onnx import ModelProto

OPSETS = range(7, 19)
_TRIED = (18, 17, 16, 15)
"""The newest first; below 15 BatchNormalization has another signature."""
_ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float64": 8}


def _silence(_: str) -> None:
    """Without anyone to tell, nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked of an export; `opset` of None is the newest that works."""

    destination: Path
    request: Request = field(default_factory=Request)
    opset: int | None = None
    verify: bool = True
    say: Callable[[str], None] = _silence


_Result = tuple["ModelProto", Sequence[ExpectedNorm], Description]
_Convert = Callable[[Signature, int], _Result]


def export_model(model: Any, library: Library, job: Job) -> Export:
    """Export a Keras model whose backend is TensorFlow.

    Raises
    ------
    inspector.errors.InspectorError
        See `inspector.export.from_keras.export_keras`.
    """
    title = f"model {model.name!r}"
    refuse_too_large(model.weights, title)
    with _as_found(model, library), quiet():
        subject = subject_of(model, library, job.request.shapes)
        if job.verify:
            _refuse_bfloat16(model, title)
            _refuse_strings(subject)

        def convert(how: Signature, opset: int) -> _Result:
            converted = tracing.convert(subject, library, how, opset)
            description, norms = describe(model, library, converted)
            return converted.proto, norms, description

        return _export(subject, convert, job)


def export_graph(subject: Subject, job: Job) -> Export:
    """Export the graph of a SavedModel.

    Raises
    ------
    inspector.errors.InspectorError
        See `inspector.export.from_keras.export_keras`.
    """
    if job.verify:
        _refuse_strings(subject)
    refuse_too_large(subject.variables.values(), subject.title)

    def convert(how: Signature, opset: int) -> _Result:
        written, norms, description = saved.convert(subject, how, opset)
        return written.proto, norms, description

    with quiet():
        return _export(subject, convert, job)


def with_notes(export: Export, notes: Sequence[str]) -> Export:
    """The same with more to say."""
    return replace(export, notes=(*notes, *export.notes))


def _export(subject: Subject, convert: _Convert, job: Job) -> Export:
    """Try what is best first: a free batch, then the newest opset."""
    ways = signatures(subject, job.request)
    opsets = _TRIED if job.opset is None else (job.opset,)
    kept: InspectorError | None = None
    for how in ways:
        failed: InspectorError | None = None
        try:
            wanted = _wanted(subject, how, job)
            for opset in opsets:
                try:
                    made = _attempt(subject, convert, how, wanted, opset, job)
                # Of another opset, tf2onnx may write operators that ONNX Runtime has.
                except (ConversionError, RunError) as error:
                    failed = failed or error
                    continue
                return with_notes(made, [*subject.notes, *_excuses(how, opset, kept, failed)])
        except InspectorError as error:
            failed = error
        kept = failed
    assert kept is not None  # there is one way at least, and it failed
    if job.opset is not None and isinstance(kept, (ConversionError, RunError)):
        _advise(kept, subject, convert, ways[-1], job.opset)
    raise kept


def _advise(
    error: InspectorError, subject: Subject, convert: _Convert, how: Signature, opset: int
) -> None:
    """Say which opset can be converted to, where the one that was asked for cannot."""
    for other in (each for each in _TRIED if each != opset):
        try:
            convert(how, other)
        except Exception:  # noqa: BLE001, S112  # whatever exporters raise: this opset is no help either
            continue
        error.hint = f"--opset {other} can be converted to"
        return


def _excuses(
    how: Signature, opset: int, kept: InspectorError | None, failed: InspectorError | None
) -> list[str]:
    """Why it is not the best that was hoped for."""
    notes = []
    if kept is not None:
        sizes = ", ".join(str(each.dims[0]) for each in how.inputs if each.dims)
        notes.append(f"the batch is fixed at {sizes}: with a free one, {kept.what}")
    if failed is not None:
        notes.append(f"opset {opset} is used: {failed.what}")
    return notes


def _attempt(
    subject: Subject,
    convert: _Convert,
    how: Signature,
    wanted: Reference | None,
    opset: int,
    job: Job,
) -> Export:
    job.say("converting to ONNX")
    with explained(subject.title):
        proto, norms, description = convert(how, opset)
    _name_axes(proto, how, wanted)
    if wanted is not None:
        job.say("verifying with ONNX Runtime")
    return finish(proto, job.destination, wanted, norms, description, opset=opset)


def _wanted(subject: Subject, how: Signature, job: Job) -> Reference | None:
    """What the framework gives, at the sizes that are to be free."""
    if not job.verify:
        return None
    job.say("running the model in Keras")
    with explained(subject.title, how):
        run = converting.runner(subject, how)
        if not how.samples:
            return reference(run, how.inputs)
        parts = []
        for shapes in how.samples:
            inputs = [replace(each, dims=s) for each, s in zip(how.inputs, shapes, strict=True)]
            parts.append(reference(run, inputs))
    return Reference(
        sizes=tuple(size for each in parts for size in each.sizes),
        batches=tuple(batch for each in parts for batch in each.batches),
        outputs=tuple(outputs for each in parts for outputs in each.outputs),
        deviations=tuple(moved for each in parts for moved in each.deviations),
    )


@contextmanager
def explained(title: str, how: Signature | None = None) -> Iterator[None]:
    """Turn whatever a model's code or an exporter raises into one line that says what it was."""
    freed = {name for axes in (how.axes if how else ()) for name in axes.values()} - {BATCH}
    try:
        yield
    except InspectorError:
        raise
    except (Exception, SystemExit) as error:  # the model's code and exporters share no base
        if how is not None and how.traced and freed:
            names = " and ".join(sorted(freed))
            raise UsageError(
                f"it does not take any {names}: {_cause(error)}",
                where=title,
                hint=f"leave {names} out of --dynamic; a Flatten before a Dense fixes the size",
            ) from error
        raise UnreadableError(
            f"the export fails: {_cause(error)}",
            where=title,
            hint="call the model itself on an example to see whether it is its own code; --debug "
            "shows the whole traceback",
        ) from error


def _cause(error: BaseException) -> str:
    """`described`, but for TensorFlow's graphs, whose messages have what happened near the end."""
    lines = [line.strip() for line in str(error).splitlines()]
    if lines and lines[0].startswith("Graph execution error"):
        marks = [at for at, line in enumerate(lines) if line.startswith("[[{{node")]
        if marks and marks[0] > 0 and lines[marks[0] - 1]:
            return f"{type(error).__name__}: {lines[marks[0] - 1][:300]}"
    return described(error)


def refuse_too_large(variables: Iterable[Any], title: str) -> None:
    """Refuse what TensorFlow cannot freeze, before anything is run.

    Raises
    ------
    inspector.errors.UnreadableError
        The variables are too large for one graph.
    """
    size = sum(map(_bytes, variables))
    if size > protos.LIMIT:
        raise UnreadableError(
            f"its weights take {size / 2**30:.1f} GiB, and TensorFlow freezes 2 GiB at most into a "
            "graph",
            where=title,
            hint="export parts of it, each below 2 GiB",
        )


def _bytes(variable: Any) -> int:
    dtype = str(getattr(variable.dtype, "name", variable.dtype))
    return int(math.prod(variable.shape)) * _ITEM_BYTES.get(dtype, 4)


def _refuse_bfloat16(model: Any, title: str) -> None:
    for layer in flattened_layers(model):
        if str(getattr(layer, "compute_dtype", "")) == "bfloat16":
            raise UnreadableError(
                f"layer {layer.name!r} computes in bfloat16, which ONNX Runtime does not run",
                where=title,
                hint="build the model in float32 or mixed_float16, or export without verification "
                "(--no-verify)",
            )


def _refuse_strings(subject: Subject) -> None:
    for each in subject.inputs:
        if each.dtype.kind in "OSU":
            raise UnreadableError(
                f"input {each.name!r} takes strings, and which of them mean anything is not known",
                where=subject.title,
                hint="export what follows the lookup, or export without verification (--no-verify)",
            )


@contextmanager
def _as_found(model: Any, library: Library) -> Iterator[None]:
    """Put back what running the model changes: statistics, counters, states of generators."""
    found = [(each, library.value(each)) for each in model.non_trainable_variables]
    try:
        yield
    finally:
        for variable, values in found:
            if library.value(variable).tobytes() != values.tobytes():
                variable.assign(values)


def _name_axes(proto: ModelProto, how: Signature, wanted: Reference | None) -> None:
    """Name the free axes; an output's as the input's whose length it has at every size run."""
    inputs = how.names()
    lengths = _lengths(how, wanted)
    outputs = {each.name: index for index, each in enumerate(proto.graph.output)}
    free = all(axes.get(0) == BATCH for axes in how.axes)

    def name(value: str, axis: int) -> str:
        if value in inputs:
            return inputs[value].get(axis, f"{value}_{axis}")
        if value not in outputs:
            return ""
        if axis == 0 and free:
            return BATCH
        if not how.samples or wanted is None:
            return ""
        own = tuple(batch[outputs[value]].shape[axis] for batch in wanted.outputs)
        return lengths.get(own, f"{value}_{axis}")

    protos.name_free_axes(proto, name)


def _lengths(how: Signature, wanted: Reference | None) -> dict[tuple[int, ...], str]:
    """Names of free axes by the lengths that they had; those alone that lengths tell apart."""
    if wanted is None:
        return {}
    found: dict[tuple[int, ...], set[str]] = {}
    for each, axes in zip(how.inputs, how.axes, strict=True):
        for axis, name in axes.items():
            own = tuple(batch[each.name].shape[axis] for batch in wanted.batches)
            found.setdefault(own, set()).add(name)
    return {own: names.pop() for own, names in found.items() if len(names) == 1}
