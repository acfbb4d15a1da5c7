"""Run a model with ONNX Runtime: the only place that imports it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.errors import RunError, UndecidedError, UsageError
from inspector.facts.patch import Runnable

Array: TypeAlias = NDArray[Any]
Feeds: TypeAlias = Mapping[str, Array]

_FATAL_ONLY = 4
"""ONNX Runtime's log level: failures reach us as exceptions, so its own lines only repeat them."""

_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
"""Where a model without a path has its data (onnxruntime_session_options_config_keys.h)."""

CPU = "CPUExecutionProvider"

_FORMAT = "session.load_model_format"

_SPINNING = "session.intra_op.allow_spinning"

_ALLOCATION = re.compile(
    r"Failed to allocate memory(?: for requested buffer of size (\d+))?|bad_alloc"
)

_NOISE = (
    re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : "),
    re.compile(r"^Load model from .*? failed: ?"),
    re.compile(r"^/\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z\[])"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fed:
    """One batch for one model. `rows` is how many the model takes at once; 0 for all of them.

    Models with fixed batches of different sizes are fed the same rows in parts.
    """

    values: Feeds
    rows: int = 0

    def parts(self) -> list[Feeds]:
        """What goes into the model, run by run."""
        if not self.rows:
            return [self.values]
        total = max((each.shape[0] for each in self.values.values() if each.ndim), default=0)
        if total <= self.rows:
            return [self.values]
        return [
            {
                name: each[at : at + self.rows] if each.ndim and each.shape[0] == total else each
                for name, each in self.values.items()
            }
            for at in range(0, total, self.rows)
        ]


class InParts(ABC):
    """Something that runs a model on one batch, in as many parts as the model wants."""

    name: str

    def run(self, fed: Fed) -> dict[str, Array]:
        """Every output by name for one batch, put together from as many runs as it takes.

        Raises
        ------
        inspector.errors.RunError
            ONNX Runtime fails while running, or an output is not a tensor.
        inspector.errors.UndecidedError
            The batch goes in in parts, and an output does not follow it.
        """
        parts = [self._run(each) for each in fed.parts()]
        if len(parts) == 1:
            return parts[0]
        return {name: self._joined(name, [each[name] for each in parts], fed) for name in parts[0]}

    @abstractmethod
    def _run(self, feeds: Feeds) -> dict[str, Array]:
        """Every output by name, for what goes in at once."""

    def _joined(self, name: str, parts: Sequence[Array], fed: Fed) -> Array:
        if any(not each.ndim or each.shape[0] != fed.rows for each in parts):
            raise UndecidedError(
                f"its batch is fixed to {fed.rows} and its output {name!r} does not follow it, "
                "so batches of another size cannot be put together",
                where=self.name,
                hint="export both with one batch size",
            )
        return np.concatenate(parts)


class Runner(InParts):
    """A model loaded for running, with graph optimisation on or off.

    Parameters
    ----------
    source
        A model file, a serialised model, or one with data files, which have been checked already.
    name
        What messages call the model.
    optimise
        Whether ONNX Runtime may rewrite the graph (ORT_ENABLE_ALL) or not (ORT_DISABLE_ALL).
    providers
        ONNX Runtime's execution providers, in order of preference.
    instead
        Values that take the place of those of initializers, by name. Only without `optimise` do
        all of them: what ONNX Runtime rewrites is computed from the model's own.

    Raises
    ------
    inspector.errors.RunError
        ONNX Runtime refuses the model.
    inspector.errors.UsageError
        It has no such provider here; it would take another without a word.
    """

    def __init__(
        self,
        source: Path | bytes | Runnable,
        *,
        name: str,
        optimise: bool = True,
        providers: Sequence[str] = (CPU,),
        instead: Mapping[str, Array] = MappingProxyType({}),
    ) -> None:
        import onnxruntime

        _check(providers, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        # Threads that wait in a loop take the time of the process that asks, which works meanwhile.
        options.add_session_config_entry(_SPINNING, "0")
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
        )
        # It would take bytes that spell ORTM, or a path that ends in .ort, for another format: for
        # another model than the one that was read.
        options.add_session_config_entry(_FORMAT, "ONNX")
        if isinstance(source, Runnable):
            if source.folder:
                options.add_session_config_entry(_DATA_FOLDER, source.folder)
            source = source.data
        self.name = name
        # ONNX Runtime does not copy them: they have to live as long as the session.
        self._instead = {
            each: onnxruntime.OrtValue.ortvalue_from_numpy(values)
            for each, values in instead.items()
        }
        for each, value in self._instead.items():
            options.add_initializer(each, value)
        try:
            self._session = onnxruntime.InferenceSession(
                source if isinstance(source, bytes) else str(source),
                options,
                providers=list(providers),
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base below this
            raise RunError(
                f"ONNX Runtime does not load it: {_first_line(error)}", where=name
            ) from error
        self._outputs = [each.name for each in self._session.get_outputs()]

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        try:
            values = self._session.run(self._outputs, dict(feeds))
        except Exception as error:  # as above: no common base
            raise RunError(
                f"ONNX Runtime fails while running it: {_first_line(error)}", where=self.name
            ) from error
        for name, value in zip(self._outputs, values, strict=True):
            if not isinstance(value, np.ndarray):
                raise RunError(
                    f"output {name!r} is not a dense tensor but a {type(value).__name__}",
                    where=self.name,
                )
        return dict(zip(self._outputs, values, strict=True))


def _check(wanted: Sequence[str], known: Sequence[str]) -> None:
    missing = [each for each in wanted if each not in known]
    if missing:
        raise UsageError(
            f"ONNX Runtime has no execution provider {missing[0]!r} here",
            hint=f"it has {', '.join(known)}",
        )


def prepare() -> None:
    """Import the runtime, which takes its time and its memory."""
    import onnxruntime  # noqa: F401  # for what importing does


def _first_line(error: Exception) -> str:
    """What went wrong, without the runtime's own error codes, source files and repetitions."""
    if (found := _ALLOCATION.search(str(error))) is not None:
        size = f"{int(found[1]) / 1e6:,.0f} MB" if found[1] else "memory"
        return f"it asks for {size}, more than is left to it (see --max-memory)"
    lines = str(error).strip().splitlines()
    first = lines[0].strip() if lines else type(error).__name__
    for noise in _NOISE:
        first = noise.sub("", first)
    return first.strip() or type(error).__name__
