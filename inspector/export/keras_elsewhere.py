"""A Keras 3 model under another backend than TensorFlow, which alone can be converted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.errors import UnreadableError
from inspector.export.feeds import Feeds, Input
from inspector.export.keras_arguments import arguments
from inspector.export.keras_export import Job, explained, refuse_too_large, with_notes
from inspector.export.keras_library import NEVER_CALLED, Keras
from inspector.export.keras_manifest import expected
from inspector.export.manifests import Description, finish
from inspector.export.quiet import quiet
from inspector.export.references import Reference, reference
from inspector.facts.export import Export
from inspector.facts.manifest import KEY, Manifest

if TYPE_CHECKING:
    from onnx import ModelProto

_CHILD = """
import json, sys
asked = json.loads(sys.argv[1])
from inspector.errors import InspectorError
from inspector.export.from_keras import export_keras
try:
    made = export_keras(verify=False, **asked)
except InspectorError as error:
    told = {"what": error.what, "hint": error.hint}
else:
    told = {"opset": made.opset, "notes": made.notes}
sys.stdout.write("\\n" + json.dumps(told))
"""


def export_elsewhere(model: Any, job: Job, backend: str, imports: Sequence[str]) -> Export:
    """Convert a saved copy under TensorFlow, in a process of its own, and compare it with `model`.

    Parameters
    ----------
    backend
        The one that Keras runs on here.
    imports
        Modules with custom objects, for the other process.

    Raises
    ------
    inspector.errors.UnreadableError
        The model cannot be saved, or TensorFlow cannot build or convert it.
    inspector.errors.ExportDisagreesError
        The converted model does not give what `model` gives here.
    """
    library, title = Keras(), f"model {model.name!r}"
    _be_built(model, job, title)
    refuse_too_large(model.weights, title)
    with tempfile.TemporaryDirectory(prefix="bninspect-") as folder:
        copy, written = Path(folder) / "model.keras", Path(folder) / "model.onnx"
        with explained(title), quiet():
            model.save(copy)
        job.say("converting to ONNX under TensorFlow, in another process")
        told = _converted(copy, written, job, backend, imports, title)
        proto, manifest = _taken(written)
    with quiet():
        wanted = _wanted(model, library, proto, job, title)
        norms = expected(model, library, manifest)
    if wanted is not None:
        job.say("verifying with ONNX Runtime")
    description = Description(
        framework=manifest.framework,
        version=manifest.framework_version,
        exporter=f"{manifest.exporter}, from a model of the {backend} backend",
        tensors=manifest.tensors,
        batchnorms=manifest.batchnorms,
        not_exported=manifest.not_exported,
        totals=manifest.totals,
        notes=(),
        layers=manifest.layers,
    )
    made = finish(proto, job.destination, wanted, norms, description, opset=int(told["opset"]))
    return with_notes(made, [*told["notes"], *_untried(model, library, proto, job)])


def _be_built(model: Any, job: Job, title: str) -> None:
    """Call a model that was never called: what has no shapes cannot be saved."""
    if model.built:
        return
    if job.request.shapes is None:
        raise UnreadableError(
            "Keras does not know the model's input shapes", where=title, hint=NEVER_CALLED
        )
    with explained(title), quiet():
        model(*(np.zeros(shape, model.input_dtype or "float32") for shape in job.request.shapes))


def _converted(
    copy: Path, written: Path, job: Job, backend: str, imports: Sequence[str], title: str
) -> dict[str, Any]:
    request = job.request
    asked = {
        "model": str(copy),
        "output": str(written),
        "input_shape": request.shapes,
        "dynamic": request.dynamic,
        "inputs_as_nchw": request.as_nchw,
        "imports": list(imports),
        "opset": job.opset,
        # The copy comes from a model that runs here already: its code is not new.
        "unsafe": True,
    }
    path = os.pathsep.join(each or "." for each in sys.path)
    done = subprocess.run(  # noqa: S603  # this Python, and data for it
        [sys.executable, "-c", _CHILD, json.dumps(asked)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    told = _told(done.stdout)
    if "opset" in told:
        told["notes"] = [each for each in told["notes"] if "safe_mode" not in each]
        return told
    last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1][:300]
    raise UnreadableError(
        f"a copy of it does not export under TensorFlow: {told.get('what', last)}",
        where=title,
        hint=f"layers that need {backend} cannot be converted; --import names the module of custom "
        "layers that do not",
    )


def _told(text: str) -> dict[str, Any]:
    """The last line that the other process wrote: custom layers may print as well."""
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _taken(written: Path) -> tuple[ModelProto, Manifest]:
    """The other process' model, and the manifest taken out of it."""
    import onnx

    proto = onnx.load(str(written))
    (entry,) = (each for each in proto.metadata_props if each.key == KEY)
    manifest = Manifest.from_json(entry.value)
    proto.metadata_props.remove(entry)
    return proto, manifest


def _wanted(
    model: Any, library: Keras, proto: ModelProto, job: Job, title: str
) -> Reference | None:
    """What the model gives here."""
    if not job.verify:
        return None
    job.say("running the model in Keras")
    inputs = _inputs(model, library, proto, job)
    with explained(title):
        given = arguments(model, library, job.request.shapes)
        options = {"training": False} if model._call_has_training_arg else {}

        def run(feeds: Feeds) -> list[Array]:
            flat = [_own(feeds[each.name], job) for each in inputs]
            result = given.give(model, library, flat, **options)
            return [_array(each) for each in library.flatten(result)]

        return reference(run, inputs)


def _inputs(model: Any, library: Keras, proto: ModelProto, job: Job) -> tuple[Input, ...]:
    """Inputs as ONNX has them, with the lengths that the model takes: calls refuse all others."""
    from onnx import helper

    given = arguments(model, library, job.request.shapes)
    shapes = [tuple(each.shape) for each in library.flatten(given.structure)]
    found = []
    for each, shape in zip(proto.graph.input, shapes, strict=True):
        kind = each.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        turned = job.request.as_nchw and len(shape) in (4, 5)
        own = (shape[0], shape[-1], *shape[1:-1]) if turned else shape
        found.append(
            Input(
                name=each.name,
                dtype=np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)),
                dims=tuple(d or o for d, o in zip(dims, own, strict=True)),
            )
        )
    return tuple(found)


def _untried(model: Any, library: Keras, proto: ModelProto, job: Job) -> list[str]:
    """What is not known of lengths that the model itself refuses."""
    fixed = zip(proto.graph.input, _inputs(model, library, proto, job), strict=True)
    freed = [
        dim.dim_param
        for each, own in fixed
        for axis, dim in enumerate(each.type.tensor_type.shape.dim)
        if axis and dim.HasField("dim_param") and own.dims[axis] is not None
    ]
    if not job.verify or not freed:
        return []
    return [
        f"{' and '.join(dict.fromkeys(freed))} may have any length in ONNX, and was verified at "
        "the model's own alone, which refuses others"
    ]


def _own(value: Array, job: Job) -> Array:
    if job.request.as_nchw and value.ndim in (4, 5):
        return np.ascontiguousarray(np.moveaxis(value, 1, -1))
    return value


def _array(value: Any) -> Array:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(value))
