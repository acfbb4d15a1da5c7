"""Names for a model's layers and variables that are unique in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from inspector.export.keras_library import Library
from inspector.export.protos import unique


class Paths:
    """Keras' paths of a model's layers and variables, told apart where Keras does not.

    Keras names what is inside of a nested model as if that stood alone: two encoders with a layer
    `conv` each have two variables `conv/kernel`. Such a path gets the nested models' names in
    front. What several models share keeps one path.
    """

    def __init__(self, model: Any, library: Library) -> None:
        self._model, self._library = model, library
        self._prefixes = library.is_sequential(model) or not library.is_graph(model)
        chains = dict(_chains(model, library, ()))
        variables = [*model.weights, *model.variables]
        self._variables = self._told_apart(variables, chains)
        self._layers = self._told_apart(
            model._flatten_layers(include_self=False, recursive=True), chains
        )

    def __call__(self, thing: Any) -> str:
        """The path of a layer or variable."""
        found = self._variables.get(id(thing)) or self._layers.get(id(thing))
        return found or self._own(thing)

    def _own(self, thing: Any) -> str:
        """Keras' path without the model's own name.

        Sequential and subclassed models prefix it; Functional ones do not, and the first part may
        well be a layer of the model's own name.
        """
        path = self._library.path(thing)
        return path.removeprefix(f"{self._model.name}/") if self._prefixes else path

    def _told_apart(
        self, things: Iterable[Any], chains: Mapping[int, tuple[str, ...]]
    ) -> dict[int, str]:
        own = {id(each): self._own(each) for each in things}
        times = Counter(own.values())
        taken = {path for path, count in times.items() if count == 1}
        found = {}
        for key, path in own.items():
            if times[path] == 1:
                found[key] = path
                continue
            chain = chains.get(key, ())
            found[key] = unique("/".join((*chain, path)), taken)
        return found


def _chains(
    outer: Any, library: Library, within: tuple[str, ...]
) -> Iterable[tuple[int, tuple[str, ...]]]:
    """For each layer and variable, the names of the models it lies in, outermost first."""
    for layer in outer._flatten_layers(include_self=False, recursive=False):
        for part in layer._flatten_layers(include_self=True, recursive=True):
            yield id(part), within
        for variable in layer.variables:
            yield id(variable), within
    for layer in outer._flatten_layers(include_self=False, recursive=False):
        inner = (*within, layer.name) if library.is_model(layer) else within
        yield from _chains(layer, library, inner)
