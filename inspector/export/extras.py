"""What to install when a framework is missing."""

from __future__ import annotations

import importlib.util

from inspector.errors import MissingExtraError

_NEEDS = {
    "keras": ("keras", "tensorflow", "tf2onnx"),
    "torch": ("torch", "onnxscript"),
}
_TITLES = {"keras": "Keras", "torch": "PyTorch"}


def require(extra: str) -> None:
    """Check that the packages of the extra `keras` or `torch` are installed, importing none.

    Asking whether they are there, rather than trying the import, keeps a missing framework apart
    from a user's file whose own imports fail.

    Raises
    ------
    inspector.errors.MissingExtraError
        One of them is not installed; the hint is the command that installs it.
    """
    missing = [name for name in _NEEDS[extra] if not _installed(name)]
    if missing:
        raise MissingExtraError(
            f"exporting from {_TITLES[extra]} needs {_listed(missing)}, "
            f"which {'is' if len(missing) == 1 else 'are'} not installed",
            hint=f'pip install "bninspect[{extra}]"',
        )


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a module without a spec, as under some test runners
        return False


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
