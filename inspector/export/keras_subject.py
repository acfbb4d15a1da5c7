"""A Keras model as a function of flat tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from inspector.errors import UnreadableError, UsageError
from inspector.export.axes import Order
from inspector.export.feeds import Input
from inspector.export.keras_arguments import Arguments, Shapes, arguments
from inspector.export.keras_library import Library, flattened_layers
from inspector.export.keras_structures import names_of
from inspector.export.protos import unique
from inspector.export.tensorflow_subject import Subject


def subject(model: Any, library: Library, shapes: Shapes | None = None) -> Subject:
    """Look at a model, calling it once on zeros of `shapes` if that was never done.

    Raises
    ------
    inspector.errors.UnreadableError
        Its input shapes are not known, or its code fails.
    """
    given = arguments(model, library, shapes)
    names: list[str] = []
    return Subject(
        name=str(model.name),
        inputs=_inputs(model, library, given),
        call=_caller(model, library, given, names),
        output_names=lambda: tuple(names),
        variables={id(library.handle(each)): each for each in model.variables},
        owner=model,
        order=_order(model),
        notes=_remarks(given),
    )


def _remarks(given: Arguments) -> tuple[str, ...]:
    notes = []
    if given.left_out:
        names, verb = _listed(given.left_out)
        notes.append(
            f"call's optional {names} {verb} left out: None, as by default; --input-shape once for "
            "each input exports with more of them"
        )
    if given.settings:
        names, verb = _listed(given.settings)
        notes.append(
            f"call was given {names}, which {verb} no tensor: exported as by default; a model that "
            "calls this one can give it"
        )
    return tuple(notes)


def _listed(names: Sequence[str]) -> tuple[str, str]:
    return ", ".join(map(repr, names)), "is" if len(names) == 1 else "are"


def _inputs(model: Any, library: Library, given: Arguments) -> tuple[Input, ...]:
    specs = library.flatten(given.structure)
    declared = [each.shape[0] for each in getattr(model, "inputs", None) or ()]
    if len(declared) != len(specs):
        declared = [None] * len(specs)
    names = _input_names(specs, given, library)
    return tuple(
        Input(
            name=name,
            dtype=_numpy_dtype(spec.dtype),
            dims=(batch, *tuple(spec.shape)[1:]) if _rank(spec, name, model) else (),
        )
        for spec, batch, name in zip(specs, declared, names, strict=True)
    )


def _input_names(specs: Sequence[Any], given: Arguments, library: Library) -> list[str]:
    """The keys of dicts, else the names that the user gave, else numbers."""
    keyed: list[str] = []
    for each in given.structure:
        keyed += names_of(each, library.flatten(each), within="input")
    taken: set[str] = set()
    names = []
    for position, (spec, key) in enumerate(zip(specs, keyed, strict=True)):
        own = str(getattr(spec, "name", None) or "")
        # Keras numbers unnamed inputs through the process; those names would mean nothing.
        if own.startswith("keras_tensor") or (library.name != "keras" and _numbered(own)):
            own = ""
        plain = "input" if len(specs) == 1 else f"input_{position}"
        names.append(unique(key or own or plain, taken))
    return names


def _rank(spec: Any, name: str, model: Any) -> int:
    if spec.shape is None or getattr(spec.shape, "rank", 0) is None:
        raise UsageError(
            f"input {name!r} of model {model.name!r} has no rank", hint="give --input-shape"
        )
    return len(spec.shape)


def _numbered(name: str) -> bool:
    return name.startswith("input_") and name.removeprefix("input_").isdecimal()


def _numpy_dtype(dtype: Any) -> np.dtype[np.generic]:
    import tensorflow as tf

    found: np.dtype[np.generic] = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
    return found


def _caller(
    model: Any, library: Library, given: Arguments, names: list[str]
) -> Callable[[Sequence[Any]], list[Any]]:
    """The model's inference; each call notes in `names` what its outputs are called."""
    # Passing an argument that `call` does not have is an error for subclassed models.
    takes = getattr(model, "_call_has_training_arg", None)
    if takes is None:
        takes = model._expects_training_arg
    options = {"training": False} if takes else {}
    declared = _output_names(model)

    def call(flat: Sequence[Any]) -> list[Any]:
        result = given.give(model, library, flat, **options)
        found = _tensors(model, library.flatten(result))
        keyed = names_of(result, found, within="output")
        plain = ["output"] if len(found) == 1 else [f"output_{i}" for i in range(len(found))]
        own = declared if len(declared) == len(found) else plain
        names[:] = [key or other for key, other in zip(keyed, own, strict=True)]
        return found

    return call


def _tensors(model: Any, outputs: Sequence[Any]) -> list[Any]:
    """Outputs without those that are None: a subclass may leave some out."""
    found = [each for each in outputs if each is not None]
    for each in found:
        if isinstance(each, (bool, int, float, complex, str)):
            raise UnreadableError(
                f"among its outputs is {each!r}, which is no tensor",
                where=f"model {model.name!r}",
                hint="return tensors alone: ONNX has no other outputs",
            )
    return found


def _output_names(model: Any) -> tuple[str, ...]:
    """The layers that a graph's outputs come from."""
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
