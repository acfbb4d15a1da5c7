"""Both models of a comparison, loaded to be run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inspector.compare.host import Host, HostedRunner
from inspector.facts.model import Model
from inspector.facts.patch import Runnable

Sources = tuple[Path | Runnable, Path | Runnable]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """Both models, or on their way to be, with graph optimisation on and off.

    `units` are the spacings of the numbers that their values stand for; 0 for those they are
    written in.
    """

    sources: Sources
    optimised: tuple[HostedRunner, HostedRunner]
    plain: tuple[HostedRunner, HostedRunner]
    units: tuple[float, float] = (0.0, 0.0)


def load_both(
    models: tuple[Model, Model],
    sources: Sources,
    host: Host,
    *,
    units: tuple[float, float] = (0.0, 0.0),
) -> Loaded:
    """Begin to load both models; the caller goes on meanwhile.

    What goes wrong in loading is raised where they are run.

    Parameters
    ----------
    sources
        What is opened in place of each model.
    host
        Where they run.
    """

    def both(optimise: bool) -> tuple[HostedRunner, HostedRunner]:
        left, right = (
            host.load(source, name=each.path, optimise=optimise)
            for source, each in zip(sources, models, strict=True)
        )
        return left, right

    return Loaded(sources=sources, optimised=both(True), plain=both(False), units=units)
