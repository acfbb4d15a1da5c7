"""Keep the exporters' chatter off the screen, and put everything back.

Nothing here catches an exception: what fails is raised, only what is merely said is dropped.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

_LOGGERS = (
    "absl",
    "tensorflow",
    "tf2onnx",
    "torch",
    "torch.onnx",
    "torch.export",
    "onnxscript",
    "onnx_ir",
)


def _is_debugging() -> bool:
    """Whether the user wants to see what is said: `--debug`, or the variable by itself."""
    return bool(os.environ.get("BNINSPECT_DEBUG"))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Python warnings and the exporters' loggers."""
    if _is_debugging():
        yield
        return
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    found = [(each, each.level, each.disabled) for each in loggers]
    # Children that carry a level of their own would still speak.
    children = [
        each
        for name, each in logging.root.manager.loggerDict.items()
        if isinstance(each, logging.Logger) and name.startswith(tuple(f"{n}." for n in _LOGGERS))
    ]
    found += [(each, each.level, each.disabled) for each in children]
    try:
        for each, _, _ in found:
            each.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level, disabled in found:
            each.setLevel(level)
            each.disabled = disabled


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables that are not set yet, for a while."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keep TensorFlow quiet whoever imports it meanwhile, a user's module for example."""
    finder = _QuietFinder()
    sys.meta_path.insert(0, finder)
    try:
        with environment(TF_CPP_MIN_LOG_LEVEL="3"):
            yield
    finally:
        sys.meta_path.remove(finder)


class _QuietFinder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow where it is, and has it imported without a word."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def silently(module: ModuleType) -> None:
                with environment(TF_CPP_MIN_LOG_LEVEL="3"), silent_stderr():
                    run(module)
                    # Its first operation is when it reads the level, once and for all.
                    module.constant(0.0)

            spec.loader.exec_module = silently  # type: ignore[method-assign]  # of this spec's own loader
        return spec


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what C and C++ code writes to the process's standard error.

    Only for importing TensorFlow, whose first lines are written before any log level of its own
    is read. It also drops what other threads write there meanwhile.
    """
    if _is_debugging():
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
