"""A Keras model as a function of flat tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from inspector.errors import UnreadableError, UsageError
from inspector.export.axes import Order
from inspector.export.feeds import Input
from inspector.export.keras_library import Library, flattened_layers
from inspector.export.protos import unique
from inspector.export.source import described
from inspector.export.tensorflow_subject import Subject

Shapes = Sequence[Sequence[int]]


def subject(model: Any, library: Library, shapes: Shapes | None = None) -> Subject:
    """Look at a model, calling it once on zeros of `shapes` if that was never done.

    Raises
    ------
    inspector.errors.UnreadableError
        Its input shapes are not known, or its code fails.
    """
    structure = _structure(model, library, shapes)
    return Subject(
        name=str(model.name),
        inputs=_inputs(model, library, structure),
        call=_caller(model, library, structure),
        output_names=_output_names(model),
        variables={id(library.handle(each)): each for each in model.variables},
        owner=model,
        order=_order(model),
    )


def _structure(model: Any, library: Library, shapes: Shapes | None) -> Any:
    free = library.is_graph(model) or library.is_sequential(model)
    needed = [] if free else _needed(model)
    try:
        structure = library.structure(model)
    except UnreadableError:
        if shapes is None:
            raise
        return _called_first(model, library, shapes, needed)
    if len(needed) <= len(structure):
        return structure
    # Keras records the first argument's shape alone where a subclass has no `build`.
    if shapes is not None and len(shapes) == len(needed):
        return _specs(model, shapes)
    raise UnreadableError(
        f"its call takes {', '.join(needed)}, and Keras recorded the shape of "
        f"{len(structure)} of them",
        where=f"model {model.name!r}",
        hint="give --input-shape for each, or wrap it: keras.Model(inputs, model(*inputs)) with a "
        "keras.Input for each",
    )


def _needed(model: Any) -> list[str]:
    return [
        each.name
        for each in inspect.signature(model.call).parameters.values()
        if each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]


def _called_first(model: Any, library: Library, shapes: Shapes, needed: Sequence[str]) -> Any:
    import tensorflow as tf

    examples = [tf.zeros(shape, _dtype(model)) for shape in shapes]
    # A model of several inputs takes them one by one, or as one list.
    packed = examples if len(examples) == max(len(needed), 1) else [examples]
    try:
        model(*packed)
    except Exception as error:  # whatever the model's own code raises
        raise UnreadableError(
            f"it does not take inputs of {_listed(shapes)}: {described(error)}",
            where=f"model {model.name!r}",
            hint="give --input-shape with the batch and in the order of its arguments",
        ) from error
    if library.is_graph(model) or library.is_sequential(model):
        return library.structure(model)
    specs = _specs(model, shapes)
    return specs if packed is examples else [specs]


def _specs(model: Any, shapes: Shapes) -> list[Any]:
    import tensorflow as tf

    return [tf.TensorSpec([None, *shape[1:]], _dtype(model)) for shape in shapes]


def _dtype(model: Any) -> str:
    return str(getattr(model, "input_dtype", None) or model.compute_dtype or "float32")


def _listed(shapes: Shapes) -> str:
    return " and ".join(str(list(shape)) for shape in shapes)


def _inputs(model: Any, library: Library, structure: Any) -> tuple[Input, ...]:
    specs = library.flatten(structure)
    declared = [each.shape[0] for each in getattr(model, "inputs", None) or ()]
    if len(declared) != len(specs):
        declared = [None] * len(specs)
    taken: set[str] = set()
    found = []
    for position, (spec, batch) in enumerate(zip(specs, declared, strict=True)):
        if spec.shape is None or getattr(spec.shape, "rank", 0) is None:
            raise UsageError(
                f"input {position} of model {model.name!r} has no rank", hint="give --input-shape"
            )
        # Keras numbers unnamed inputs through the process; those names would mean nothing.
        given = str(spec.name or "")
        if given.startswith("keras_tensor") or (library.name != "keras" and _numbered(given)):
            given = ""
        name = given or ("input" if len(specs) == 1 else f"input_{position}")
        found.append(
            Input(
                name=unique(name, taken),
                dtype=_numpy_dtype(spec.dtype),
                dims=(batch, *tuple(spec.shape)[1:]) if len(spec.shape) else (),
            )
        )
    return tuple(found)


def _numbered(name: str) -> bool:
    return name.startswith("input_") and name.removeprefix("input_").isdecimal()


def _numpy_dtype(dtype: Any) -> np.dtype[np.generic]:
    import tensorflow as tf

    found: np.dtype[np.generic] = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
    return found


def _caller(model: Any, library: Library, structure: Any) -> Callable[[Sequence[Any]], list[Any]]:
    # Passing an argument that `call` does not have is an error for subclassed models.
    takes = getattr(model, "_call_has_training_arg", None)
    if takes is None:
        takes = model._expects_training_arg
    options = {"training": False} if takes else {}

    def call(flat: Sequence[Any]) -> list[Any]:
        return library.flatten(model(*library.pack(structure, flat), **options))

    return call


def _output_names(model: Any) -> tuple[str, ...]:
    declared = list(getattr(model, "output_names", None) or ())
    if not declared and getattr(model, "outputs", None):
        declared = [each._keras_history.operation.name for each in model.outputs]
    return tuple(map(str, declared))


def _order(model: Any) -> Order:
    """Where the model's images have their channels, as its layers say."""
    for layer in flattened_layers(model):
        if getattr(layer, "data_format", None) == "channels_first":
            return Order.FIRST
    return Order.LAST
