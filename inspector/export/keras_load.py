"""Find or load the Keras model that an export is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspector.errors import UnreadableError, UsageError
from inspector.export import source
from inspector.export.keras_arguments import calls_noted
from inspector.export.keras_files import SAVED, load
from inspector.export.keras_library import known_legacy
from inspector.export.quiet import environment, quiet, silent_stderr
from inspector.export.tensorflow_subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A Keras model, or the graph of a SavedModel; and what the user should know of its loading."""

    found: Any
    notes: tuple[str, ...] = ()

    @property
    def graph(self) -> Subject | None:
        """The graph, where there are no layers any more."""
        return self.found if isinstance(self.found, Subject) else None


def import_frameworks() -> str:
    """Import Keras and what converts its graphs, without their chatter.

    Returns
    -------
    The backend that Keras runs on.

    Raises
    ------
    inspector.errors.UsageError
        Something is installed and does not import.
    """
    # Keras reads its backend once, when it is imported; TensorFlow its log level as well.
    with (
        environment(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3"),
        quiet(),
        silent_stderr(),
    ):
        try:
            import keras

            backend = str(keras.backend.backend())
            if backend == "tensorflow":
                import tensorflow as tf
                import tf2onnx  # noqa: F401  # only whether it imports

                tf.constant(0.0)
        except ImportError as error:
            raise UsageError(
                f"Keras is installed and does not import: {source.described(error)}",
                hint='pip install --upgrade "bninspect[keras]"',
            ) from error
    return backend


def parsed(model: object) -> source.Source | None:
    """The callable that a text names; None for files, folders and models themselves.

    Raises
    ------
    inspector.errors.UsageError
        The text is neither a file, a folder nor a callable.
    """
    if not isinstance(model, str) or model.endswith(SAVED) or Path(model).is_dir():
        return None
    return source.parse(model)


@contextmanager
def opened(
    model: Any, spec: source.Source | None, *, imports: Sequence[str], unsafe: bool
) -> Iterator[Opened]:
    """The model that was asked for, with its own imports working while it is in use.

    Parameters
    ----------
    imports
        Modules with custom objects, imported first; looked for in the working directory too.
    unsafe
        Let files run the code that they carry.

    Raises
    ------
    inspector.errors.UsageError
        It is no model.
    inspector.errors.UnreadableError
        There is no such file or callable, or it fails.
    """
    with _imported(imports):
        if spec is not None:
            with ExitStack() as until:
                with calls_noted(), quiet():
                    found = until.enter_context(source.opened(spec, _is_model, "a Keras model"))
                yield Opened(found=found)
        elif isinstance(model, (str, Path)):
            found, notes = load(Path(model), unsafe=unsafe, imports=imports)
            yield Opened(found=found, notes=notes)
        elif _is_model(model):
            yield Opened(found=model)
        else:
            kind = type(model)
            raise UsageError(f"a {kind.__module__}.{kind.__qualname__} is not a Keras model")


def _is_model(value: object) -> bool:
    import keras

    legacy = known_legacy()
    return isinstance(value, keras.Model) or (legacy is not None and legacy.is_model(value))


@contextmanager
def _imported(modules: Sequence[str]) -> Iterator[None]:
    path = list(sys.path)
    if modules:
        sys.path.insert(0, str(Path.cwd()))
        importlib.invalidate_caches()
    try:
        for name in modules:
            try:
                with quiet():
                    importlib.import_module(name)
            except (Exception, SystemExit) as error:  # whatever a user's module raises
                raise _import_failed(name, error) from error
        yield
    finally:
        sys.path[:] = path


def _import_failed(name: str, error: BaseException) -> UnreadableError:
    if isinstance(error, ModuleNotFoundError) and name.startswith(str(error.name)):
        return UnreadableError(
            f"there is no module {error.name!r}",
            where=name,
            hint="name it as Python imports it from the working directory, without .py",
        )
    return UnreadableError(
        f"it does not import: {source.described(error)}",
        where=name,
        hint="import it with Python itself to see the whole traceback",
    )
