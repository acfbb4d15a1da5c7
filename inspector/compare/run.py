"""Run a model with ONNX Runtime: the only place that imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.errors import RunError

Array: TypeAlias = NDArray[Any]
Feeds: TypeAlias = Mapping[str, Array]

_FATAL_ONLY = 4
"""ONNX Runtime's log level: failures reach us as exceptions, so its own lines only repeat them."""


class Runner:
    """A model loaded for running, with graph optimisation on or off.

    Parameters
    ----------
    source
        A model file whose data files have been checked already, or a serialised model.
    name
        What messages call the model.
    optimise
        Whether ONNX Runtime may rewrite the graph (ORT_ENABLE_ALL) or not (ORT_DISABLE_ALL).

    Raises
    ------
    inspector.errors.RunError
        ONNX Runtime refuses the model.
    """

    def __init__(self, source: Path | bytes, *, name: str, optimise: bool = True) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
        )
        self._name = name
        try:
            self._session = onnxruntime.InferenceSession(
                source if isinstance(source, bytes) else str(source),
                options,
                providers=["CPUExecutionProvider"],
            )
        # ONNX Runtime's exceptions share no base below Exception.
        except Exception as error:
            raise RunError(
                f"ONNX Runtime does not load it: {_first_line(error)}", where=name
            ) from error

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Outputs by name (all of them unless named) for one batch of `feeds`.

        Raises
        ------
        inspector.errors.RunError
            ONNX Runtime fails while running, or an output is not a tensor.
        """
        names = list(outputs or (each.name for each in self._session.get_outputs()))
        try:
            values = self._session.run(names, dict(feeds))
        # As above: no common base.
        except Exception as error:
            raise RunError(
                f"ONNX Runtime fails while running it: {_first_line(error)}", where=self._name
            ) from error
        for name, value in zip(names, values, strict=True):
            if not isinstance(value, np.ndarray):
                raise RunError(
                    f"output {name!r} is not a dense tensor but a {type(value).__name__}",
                    where=self._name,
                )
        return dict(zip(names, values, strict=True))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
