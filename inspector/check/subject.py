"""What a rule looks at: one model, its BatchNorms, and their values when it asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from inspector.facts.arrays import Arrays
from inspector.facts.batchnorm import BatchNorm, Norms
from inspector.facts.model import Model, Value

Load = Callable[[BatchNorm, Model], Arrays]


class Subject:
    """A model under check.

    Parameters
    ----------
    model
        As it was opened.
    norms
        Its BatchNorms and what else was recognised.
    load
        Loads the values of one of them.
    infer
        The same model with the shapes of its values filled in; asked for once, by rules that need
        them.
    baseline
        The release before, where there is one to compare with.
    """

    def __init__(
        self,
        model: Model,
        norms: Norms,
        *,
        load: Load,
        infer: Callable[[Model], Model],
        baseline: Subject | None = None,
    ) -> None:
        self.model = model
        self.norms = norms
        self.baseline = baseline
        self._load = load
        self._infer = infer
        self._loaded: dict[int, Arrays] = {}

    @cached_property
    def inferred(self) -> Model:
        """The model with the dtype and shape of each value of its main graph, where they follow."""
        return self._infer(self.model)

    @cached_property
    def inputs(self) -> frozenset[str]:
        """What the main graph takes."""
        return frozenset(value.name for value in self.model.graph.inputs)

    def value(self, name: str) -> Value | None:
        """What is known of a value of the main graph: as it is declared, or else inferred.

        Inferring takes longer than all else about a small model.
        """
        declared = self.model.graph.values.get(name)
        if declared is not None and declared.dtype and None not in (declared.dims or (None,)):
            return declared
        return self.inferred.graph.values.get(name)

    def arrays(self, norm: BatchNorm) -> Arrays:
        """The values of one of its BatchNorms.

        Raises
        ------
        inspector.errors.UnreadableError
            A tensor's bytes are damaged.
        """
        found = self._loaded.get(id(norm))
        if found is None:
            found = self._loaded[id(norm)] = self._load(norm, self.model)
        return found

    def layers(self) -> Iterator[Layer]:
        """Every BatchNorm with its values, in the file's order."""
        for norm in self.norms.batchnorms:
            yield Layer(norm=norm, arrays=self.arrays(norm))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A BatchNorm and its values."""

    norm: BatchNorm
    arrays: Arrays
