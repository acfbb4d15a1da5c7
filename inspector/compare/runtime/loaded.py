"""Both models of a comparison, to be loaded and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inspector.compare.runtime.host import Host, HostedRunner
from inspector.facts.model import Model
from inspector.facts.patch import Runnable

Sources = tuple[Path | Runnable, Path | Runnable]
Pair = tuple[HostedRunner, HostedRunner]

SMALL = 2**22
"""Bytes of a model of which more runs than are needed cost nothing to speak of."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """Both models with graph optimisation on and off, each loaded when it is first asked for.

    `units` are the spacings of the numbers that their values stand for; 0 for those they are
    written in. `is_small` tells whether more runs than are needed cost nothing to speak of.
    """

    sources: Sources
    is_small: bool
    units: tuple[float, float]
    load: Callable[[bool], Pair]

    @cached_property
    def optimised(self) -> Pair:
        """Both as ONNX Runtime runs them unless told otherwise."""
        return self.load(True)

    @cached_property
    def plain(self) -> Pair:
        """Both as they are written: a large model is loaded in a fraction of the time."""
        return self.load(False)


def _is_small(models: tuple[Model, Model]) -> bool:
    return all(each.size <= SMALL for each in models)


def load_ahead(
    models: tuple[Model, Model], files: tuple[Path | None, Path | None], host: Host
) -> None:
    """Begin to load what `load_both` will, where that is a file as it is.

    Parameters
    ----------
    files
        That of each model; None where something else may be run in its place.
    host
        Where they run.
    """
    for optimise in (True, False) if _is_small(models) else (False,):
        for file, model in zip(files, models, strict=True):
            if file is not None:
                host.load_ahead(file, name=model.path, optimise=optimise)


def load_both(
    models: tuple[Model, Model],
    sources: Sources,
    host: Host,
    *,
    units: tuple[float, float] = (0.0, 0.0),
) -> Loaded:
    """Begin to load what is run first of both models; the caller goes on meanwhile.

    What goes wrong in loading is raised where they are run.

    Parameters
    ----------
    sources
        What is opened in place of each model.
    host
        Where they run.
    """

    def both(optimise: bool) -> Pair:
        left, right = (
            host.load(source, name=each.path, optimise=optimise)
            for source, each in zip(sources, models, strict=True)
        )
        return left, right

    is_small = _is_small(models)
    loaded = Loaded(sources=sources, is_small=is_small, units=units, load=both)
    if is_small:
        loaded.optimised  # noqa: B018  # begins to load them
    loaded.plain  # noqa: B018  # likewise
    host.forget_ahead()
    return loaded
