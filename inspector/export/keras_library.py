"""Keras 3 and tf_keras under one set of names: what an export asks a model about itself."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any, Protocol

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.errors import UnreadableError
from inspector.export.source import described

LEGACY = "tf_keras"
NEVER_CALLED = "call it once on an example before returning it, or give --input-shape"


class Library(Protocol):
    """One of the two libraries that are called Keras."""

    name: str
    version: str

    def is_model(self, value: object) -> bool: ...
    def is_graph(self, model: Any) -> bool:
        """Whether the model is a graph of layers: Functional, not Sequential."""

    def is_sequential(self, model: Any) -> bool: ...
    def norm_class(self) -> Any:
        """The class whose `call` is BatchNorm."""

    def value(self, variable: Any) -> Array: ...
    def handle(self, variable: Any) -> Any:
        """TensorFlow's resource that holds the variable."""

    def path(self, thing: Any) -> str:
        """The library's own path of a variable or layer; it need not be unique."""

    def listed(self, model: Any) -> Sequence[Any]:
        """What `model.summary()` lists, in its order."""

    def dims(self, layer: Any) -> tuple[int | None, ...] | None:
        """Dims of what a layer gives, if that is one tensor and the library knows them."""

    def structure(self, model: Any) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of a call, with specs for tensors.

        Raises
        ------
        inspector.errors.UnreadableError
            The model was never built or called.
        """

    def flatten(self, structure: Any) -> list[Any]: ...
    def pack(self, structure: Any, flat: Sequence[Any]) -> Any: ...


def flattened_layers(model: Any, *, include_self: bool = True) -> Iterable[Any]:
    """Every layer inside of a model, however deep."""
    found: Iterable[Any] = model._flatten_layers(include_self=include_self, recursive=True)
    return found


def of(model: Any) -> Library:
    """The library whose model it is."""
    legacy = known_legacy()
    return legacy if legacy is not None and legacy.is_model(model) else Keras()


def known_legacy() -> Legacy | None:
    """tf_keras, where something imported it: else there can be no model of it."""
    return Legacy() if LEGACY in sys.modules else None


def has_legacy() -> bool:
    """Whether tf_keras is installed."""
    return LEGACY in sys.modules or importlib.util.find_spec(LEGACY) is not None


def legacy_part(name: str) -> Any:
    """A module of tf_keras' own, which has no types."""
    return importlib.import_module(f"{LEGACY}.src.{name}")


class Keras:
    """Keras 3."""

    name = "keras"

    def __init__(self) -> None:
        import keras

        self._keras = keras
        self.version = str(keras.__version__)

    def is_model(self, value: object) -> bool:
        return isinstance(value, self._keras.Model)

    def is_graph(self, model: Any) -> bool:
        return isinstance(model, self._keras.src.models.Functional) and not self.is_sequential(
            model
        )

    def is_sequential(self, model: Any) -> bool:
        return isinstance(model, self._keras.Sequential)

    def norm_class(self) -> Any:
        return self._keras.layers.BatchNormalization

    def value(self, variable: Any) -> Array:
        if self._keras.backend.backend() == "tensorflow":
            return np.asarray(variable.value.numpy())
        return np.asarray(self._keras.ops.convert_to_numpy(variable.value))

    def handle(self, variable: Any) -> Any:
        return variable.value.handle

    def path(self, thing: Any) -> str:
        return str(getattr(thing, "path", "") or thing.name)

    def listed(self, model: Any) -> Sequence[Any]:
        # As keras.src.utils.summary_utils has it.
        found: Sequence[Any] = model._operations if self.is_graph(model) else model.layers
        return found

    def dims(self, layer: Any) -> tuple[int | None, ...] | None:
        for node in reversed(layer._inbound_nodes):
            shapes = [each.shape for each in self.flatten(node.output_tensors)]
            return tuple(shapes[0]) if len(shapes) == 1 else None
        return None

    def structure(self, model: Any) -> tuple[list[Any], dict[str, Any]]:
        from keras.src.export import export_utils

        try:
            known = self.is_graph(model) or self.is_sequential(model) or model._called
            if model.built and not known:
                # A file tells the shapes as well; Keras wants to be called all the same.
                recorded = export_utils._infer_input_signature_from_model(model)
                if recorded:
                    return list(recorded), {}
            return list(export_utils.get_input_signature(model)), {}
        except (ValueError, TypeError) as error:
            raise _shapes_unknown(model, described(error)) from error

    def flatten(self, structure: Any) -> list[Any]:
        return list(self._keras.tree.flatten(structure))

    def pack(self, structure: Any, flat: Sequence[Any]) -> Any:
        return self._keras.tree.pack_sequence_as(structure, list(flat))


class Legacy:
    """tf_keras: Keras 2 as it lives on beside Keras 3."""

    name = LEGACY

    def __init__(self) -> None:
        import tensorflow as tf

        self._keras, self._tf = importlib.import_module(LEGACY), tf
        self.version = str(self._keras.__version__)

    def is_model(self, value: object) -> bool:
        return isinstance(value, self._keras.Model)

    def is_graph(self, model: Any) -> bool:
        functional = legacy_part("engine.functional").Functional
        return isinstance(model, functional) and not self.is_sequential(model)

    def is_sequential(self, model: Any) -> bool:
        return isinstance(model, self._keras.Sequential)

    def norm_class(self) -> Any:
        return legacy_part("layers.normalization.batch_normalization").BatchNormalizationBase

    def value(self, variable: Any) -> Array:
        return np.asarray(variable.numpy())

    def handle(self, variable: Any) -> Any:
        return variable.handle

    def path(self, thing: Any) -> str:
        if isinstance(thing, self._tf.Variable):
            return str(thing.name).partition(":")[0]
        # Layers have no path; their variables are named under it.
        own = [each for each in thing._trainable_weights + thing._non_trainable_weights]
        return self.path(own[0]).rpartition("/")[0] or thing.name if own else str(thing.name)

    def listed(self, model: Any) -> Sequence[Any]:
        found: Sequence[Any] = model.layers
        return found

    def dims(self, layer: Any) -> tuple[int | None, ...] | None:
        for node in reversed(layer._inbound_nodes):
            shapes = [each.shape for each in self.flatten(node.outputs)]
            if len(shapes) != 1 or shapes[0].rank is None:
                return None
            return tuple(shapes[0].as_list())
        return None

    def structure(self, model: Any) -> tuple[list[Any], dict[str, Any]]:
        spec = model.save_spec()
        if spec is None:
            raise _shapes_unknown(model, "it was never called")
        positional, keyword = spec
        count = next((i for i, e in enumerate(positional) if not self._is_spec(e)), len(positional))
        # What follows an argument that is no tensor can be given by its name alone.
        later = dict(zip(list(signature(model.call).parameters)[count:], positional[count:]))  # noqa: B905  # as many as were given
        keyword = {name: e for name, e in {**later, **keyword}.items() if self._is_spec(e)}
        # Shapes come with the batch of the first call where a subclass recorded them.
        any_batch = self._tf.nest.map_structure(
            self._any_batch, (list(positional[:count]), keyword)
        )
        return any_batch[0], any_batch[1]

    def _is_spec(self, value: Any) -> bool:
        leaves = self._tf.nest.flatten(value)
        return bool(leaves) and all(isinstance(each, self._tf.TensorSpec) for each in leaves)

    def _any_batch(self, spec: Any) -> Any:
        return self._tf.TensorSpec([None, *spec.shape[1:]], spec.dtype, spec.name)

    def flatten(self, structure: Any) -> list[Any]:
        return list(self._tf.nest.flatten(structure))

    def pack(self, structure: Any, flat: Sequence[Any]) -> Any:
        return self._tf.nest.pack_sequence_as(structure, list(flat))


def _shapes_unknown(model: Any, why: str) -> UnreadableError:
    return UnreadableError(
        f"Keras does not know the model's input shapes ({why})",
        where=f"model {model.name!r}",
        hint=NEVER_CALLED,
    )
