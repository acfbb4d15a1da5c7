"""How a Keras model is called: which arguments are tensors, and of which shapes."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from inspector.errors import UnreadableError
from inspector.export.keras_library import Library
from inspector.export.source import described
from inspector.export.tensorflow_patches import EXCLUSIVE, replaced

Shapes = Sequence[Sequence[int]]
_NO_INPUTS = ("training", "mask")
"""Arguments that Keras gives by itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arguments:
    """Specs of the arguments of a call, the last ones by the keywords in `names`.

    `left_out` are optional arguments that could be tensors and are given none, `settings` those
    that the model was called with and that are no tensors.
    """

    structure: list[Any]
    names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def give(self, model: Any, library: Library, flat: Sequence[Any], **options: Any) -> Any:
        """Call the model on tensors in the order of the specs."""
        packed = library.pack(self.structure, flat)
        count = len(packed) - len(self.names)
        keywords = dict(zip(self.names, packed[count:], strict=True))
        return model(*packed[:count], **keywords, **options)


def arguments(model: Any, library: Library, shapes: Shapes | None = None) -> Arguments:
    """What a model is to be called with; it is called on zeros of `shapes` if it never was.

    Raises
    ------
    inspector.errors.UnreadableError
        Its input shapes are not known, or its code fails.
    """
    if library.is_graph(model) or library.is_sequential(model):
        return Arguments(structure=_of_graph(model, library, shapes))
    needed, optional = _parameters(model)
    found = _recorded(model, library)
    if found is None:
        found = _unknown(model, library, shapes, needed, optional)
    elif shapes is not None and _count(found, library) < len(shapes) <= len(needed + optional):
        found = Arguments(structure=_specs(model, shapes))
    elif len(found.structure) < len(needed):
        raise UnreadableError(
            f"its call takes {', '.join(needed)}, and Keras recorded the shape of "
            f"{len(found.structure)} of them",
            where=f"model {model.name!r}",
            hint="give --input-shape for each, or wrap it: keras.Model(inputs, model(*inputs)) "
            "with a keras.Input for each",
        )
    given = (needed + optional)[: len(found.structure) - len(found.names)]
    return Arguments(
        structure=found.structure,
        names=found.names,
        left_out=tuple(e for e in optional if e not in (*given, *found.names, *found.settings)),
        settings=found.settings,
    )


def _count(found: Arguments, library: Library) -> int:
    return len(library.flatten(found.structure))


def _of_graph(model: Any, library: Library, shapes: Shapes | None) -> list[Any]:
    try:
        return list(library.structure(model)[0])
    except UnreadableError:
        if shapes is None:
            raise
        _call(model, [_zeros(model, shapes)], shapes)
        return list(library.structure(model)[0])


def _recorded(model: Any, library: Library) -> Arguments | None:
    """From the calls that were noted, or from what the library itself recorded."""
    noted = _noted.get(model) if _is_noted(library) else None
    if noted is not None:
        return noted
    try:
        positional, keyword = library.structure(model)
    except UnreadableError:
        return None
    return Arguments(structure=[*positional, *keyword.values()], names=tuple(keyword))


def _is_noted(library: Library) -> bool:
    # tf_keras records every argument by itself.
    return library.name == "keras"


def _unknown(
    model: Any,
    library: Library,
    shapes: Shapes | None,
    needed: Sequence[str],
    optional: Sequence[str],
) -> Arguments:
    """Of a model that was never called: call it on zeros."""
    if shapes is None:
        library.structure(model)  # raises, and says what is missing
    assert shapes is not None
    examples, specs = _zeros(model, shapes), _specs(model, shapes)
    count = len(shapes)
    parameters = inspect.signature(model.call).parameters.values()
    variadic = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    if variadic or count == max(len(needed), 1):
        _call(model, examples, shapes)
        return Arguments(structure=specs)
    if len(needed) < count <= len(needed) + len(optional):
        try:
            _call(model, examples, shapes)
        except UnreadableError:
            # It may take them as one list all the same.
            _call(model, [examples], shapes)
        else:
            return Arguments(structure=specs)
    else:
        _call(model, [examples], shapes)
    return Arguments(structure=[specs])


def _call(model: Any, given: Sequence[Any], shapes: Shapes) -> None:
    given = given[0] if len(shapes) == 1 and isinstance(given[0], list) else given
    try:
        model(*given)
    except Exception as error:  # whatever the model's own code raises
        listed = " and ".join(str(list(shape)) for shape in shapes)
        raise UnreadableError(
            f"it does not take inputs of {listed}: {described(error)}",
            where=f"model {model.name!r}",
            hint="give --input-shape with the batch and in the order of its arguments",
        ) from error


def _parameters(model: Any) -> tuple[list[str], list[str]]:
    """Arguments of `call` that are needed, and those that are None where they are not given."""
    needed, optional = [], []
    for each in inspect.signature(model.call).parameters.values():
        if each.kind not in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
            continue
        if each.default is each.empty:
            needed.append(each.name)
        elif each.default is None and each.name not in _NO_INPUTS:
            optional.append(each.name)
    return needed, optional


def _zeros(model: Any, shapes: Shapes) -> list[Any]:
    import tensorflow as tf

    return [tf.zeros(shape, _dtype(model)) for shape in shapes]


def _specs(model: Any, shapes: Shapes) -> list[Any]:
    import tensorflow as tf

    return [tf.TensorSpec([None, *shape[1:]], _dtype(model)) for shape in shapes]


def _dtype(model: Any) -> str:
    return str(getattr(model, "input_dtype", None) or model.compute_dtype or "float32")


_noted: weakref.WeakKeyDictionary[Any, Arguments] = weakref.WeakKeyDictionary()


@contextmanager
def calls_noted() -> Iterator[None]:
    """Note what models of Keras 3 are called with, in the block.

    Of a subclassed model without a `build` of its own, Keras keeps the first argument's shape
    alone, and no dtype.
    """
    import keras

    plain = keras.Model.__call__

    @wraps(plain)
    def calling(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = plain(self, *args, **kwargs)
        _note(self, args, kwargs)
        return result

    with EXCLUSIVE, replaced(keras.Model, "__call__", calling):
        yield


def _note(model: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    parameters = inspect.signature(model.call).parameters.values()
    names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        # *args have no names to be given by.
        names = [f"*{position}" for position in range(len(args))]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    # A mask comes from layers before a model, unless it is given to it.
    tensors = {
        name: spec
        for name in dict.fromkeys([*names, *given])
        if name in given
        and name != "training"
        and (spec := _as_spec(given[name], model)) is not None
    }
    if not tensors:
        return
    # By position as far as that goes: what is first may not be called what it is in `call`.
    count = next((i for i, each in enumerate(names) if each not in tensors), len(names))
    _noted[model] = Arguments(
        structure=list(tensors.values()),
        names=tuple(list(tensors)[min(count, len(tensors)) :]),
        settings=tuple(
            each.name
            for each in parameters
            if each.name in given
            and each.name not in (*tensors, *_NO_INPUTS)
            and not _is_default(given[each.name], each.default)
        ),
    )


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, (int, float, str)) and value == default)


def _as_spec(value: Any, model: Any) -> Any:
    """Specs of an argument's tensors; None if there is anything else in it."""
    import keras
    import tensorflow as tf

    def spec(each: Any) -> Any:
        shape, dtype = tuple(each.shape), keras.backend.standardize_dtype(each.dtype)
        if "float" in dtype and getattr(model, "autocast", True):
            dtype = _dtype(model)  # what Keras casts it to
        return tf.TensorSpec([None, *shape[1:]] if shape else [], dtype)

    leaves = keras.tree.flatten(value)
    if not leaves or not all(hasattr(each, "shape") and hasattr(each, "dtype") for each in leaves):
        return None
    return keras.tree.map_structure(spec, value)
