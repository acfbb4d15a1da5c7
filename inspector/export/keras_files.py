"""Load saved models, with Keras 3 or tf_keras; code of theirs is run only if that is asked for."""

from __future__ import annotations

import importlib
import json
import re
import sys
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from inspector.errors import UnreadableError
from inspector.export.keras_library import LEGACY, Legacy, has_legacy, legacy_part
from inspector.export.quiet import quiet
from inspector.export.source import described
from inspector.export.tensorflow_saved import is_saved, open_graph

SAVED = (".keras", ".h5", ".hdf5")
_METADATA = "keras_metadata.pb"
_UNSAFE = (
    "the file was loaded with safe_mode off: code that it carries was run, and what that did is "
    "not known"
)


class _UnsafeError(UnreadableError):
    """Loading would run code that the file carries."""


def load(path: Path, *, unsafe: bool, imports: Collection[str]) -> tuple[Any, tuple[str, ...]]:
    """The model in a file or folder, and what the user should know of its loading.

    Gives a Keras model; for a SavedModel without layers, a `tensorflow_subject.Subject`.

    Parameters
    ----------
    unsafe
        Let it run the code that it carries.
    imports
        Modules that the user trusts.

    Raises
    ------
    inspector.errors.UnreadableError
        There is none, or it does not load.
    """
    if path.is_dir() and is_saved(path):
        return _from_folder(path, unsafe=unsafe, imports=imports)
    unzipped = (path / "config.json").is_file()
    if not path.is_file() and not unzipped:
        what = "it is no SavedModel" if path.is_dir() else "there is no such file"
        raise UnreadableError(what, where=str(path), hint="give a .keras file or a SavedModel")
    if path.suffix not in SAVED and not unzipped:
        raise UnreadableError(
            "it is not a saved Keras model", where=str(path), hint="give a .keras file"
        )
    return _from_file(path, unsafe=unsafe, imports=imports), (_UNSAFE,) if unsafe else ()


def _from_file(path: Path, *, unsafe: bool, imports: Collection[str]) -> Any:
    if not _is_legacy(path):
        return _loaded(path, "keras", unsafe=unsafe, imports=imports)
    if not has_legacy():
        try:
            return _loaded(path, "keras", unsafe=unsafe, imports=imports)
        except _UnsafeError:
            raise
        except UnreadableError as error:
            raise UnreadableError(
                f"Keras 2 wrote it, and {error.what}",
                where=str(path),
                hint="pip install --no-deps tf_keras, which is Keras 2",
            ) from error
    try:
        return _loaded_legacy(path, unsafe=unsafe, imports=imports)
    except _UnsafeError:
        raise
    except UnreadableError as first:
        # Keras 3 reads most of what Keras 2 wrote, and knows other custom objects.
        try:
            return _loaded(path, "keras", unsafe=unsafe, imports=imports)
        except UnreadableError:
            raise first from None


def _loaded(path: Path, library: str, *, unsafe: bool, imports: Collection[str]) -> Any:
    keras = importlib.import_module(library)
    options = {} if path.is_dir() and library == LEGACY else {"safe_mode": not unsafe}
    given: dict[str, Any] = {}
    while True:
        try:
            with quiet():
                return keras.models.load_model(
                    path, compile=False, custom_objects=dict(given), **options
                )
        except (Exception, SystemExit) as error:  # whatever Keras' parts and custom layers raise
            missing = _MISSING.search(str(error))
            name = missing[2] if missing is not None else ""
            found = None if name in given else _offered(name, imports)
            if found is None:
                raise _failed(path, error) from error
            given[name] = found


def _offered(name: str, imports: Collection[str]) -> Any:
    """The class or function of that name in the user's modules, or None.

    Not all code registers its classes; and Keras' own are not to be hidden by what is called alike.
    """
    for module in (sys.modules[each] for each in imports if each in sys.modules):
        found = vars(module).get(name.rpartition(">")[2])
        if callable(found) and getattr(found, "__module__", None) == module.__name__:
            return found
    return None


_MISSING = re.compile(r"(?:Could not locate|Unknown) (\w+):? '([^']+)'")
_MODULE = re.compile(r"'module': '([\w.]+)'")


def _failed(path: Path, error: BaseException) -> UnreadableError:
    text = str(error)
    if "safe_mode" in text or "unsafe_deserialization" in text:
        return _unsafe(path)
    missing = _MISSING.search(text)
    if missing is not None:
        module = _MODULE.search(text[missing.end() :])
        module = None if module is not None and module[1] == "builtins" else module
        name = module[1] if module else "MODULE"
        return UnreadableError(
            f"it needs the {missing[1]} {missing[2]!r}"
            f"{f' of module {name!r}' if module else ''}, which Keras does not know",
            where=str(path),
            hint=f"--import {name} imports the module that has it, found from the working "
            "directory as Python finds it",
        )
    return UnreadableError(
        f"Keras does not load it: {described(error)}",
        where=str(path),
        hint="--import MODULE imports the module that has its own layers"
        if "custom_objects" in text
        else "a model with code of its own can be given as file.py:callable",
    )


def _unsafe(path: Path) -> _UnsafeError:
    return _UnsafeError(
        "it carries Python code, as a Lambda layer does, and safe_mode refuses to run it",
        where=str(path),
        hint="--unsafe runs it, with all that it may do to this machine: only for a file that you "
        "trust",
    )


def _loaded_legacy(path: Path, *, unsafe: bool, imports: Collection[str]) -> Any:
    """Load with tf_keras, whose own safe mode has gaps.

    It knows none for HDF5 files and SavedModels, though its layers ask for it; and it imports any
    module that a file names.
    """
    Legacy()  # imports it
    if not unsafe and _foreign(path, imports):
        raise _unsafe(path)
    with legacy_part("saving.serialization_lib").SafeModeScope(not unsafe):
        return _loaded(path, LEGACY, unsafe=unsafe, imports=imports)


def _foreign(path: Path, imports: Collection[str]) -> bool:
    """Whether a file names modules that are neither Keras' nor the user's."""
    known = {"builtins", "keras", LEGACY, *(name.partition(".")[0] for name in imports)}

    def is_known(module: object) -> bool:
        return not isinstance(module, str) or module.partition(".")[0] in known

    return not all(
        is_known(each.get("module")) for config in _configs(path) for each in _dicts(config)
    )


def _configs(path: Path) -> Iterator[Any]:
    """What a saved model says of its layers, as JSON has it."""
    try:
        if path.is_dir():
            messages = importlib.import_module(f"{LEGACY}.protobuf.saved_metadata_pb2")
            saved = messages.SavedMetadata.FromString((path / _METADATA).read_bytes())
            yield from (json.loads(each.metadata) for each in saved.nodes)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield json.loads(archive.read("config.json"))
        else:
            yield json.loads(_attribute(path, "model_config"))
    except Exception as error:  # json, zipfile, h5py and protobuf have no base in common
        raise UnreadableError(
            f"what it says of its layers is not readable: {described(error)}",
            where=str(path),
            hint="save the model again",
        ) from error


def _dicts(config: Any) -> Iterator[dict[str, Any]]:
    waiting = [config]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _from_folder(
    path: Path, *, unsafe: bool, imports: Collection[str]
) -> tuple[Any, tuple[str, ...]]:
    """A SavedModel: with its layers where tf_keras wrote it and can restore them."""
    if not (path / _METADATA).is_file() or not has_legacy():
        return open_graph(path), ()
    try:
        model = _loaded_legacy(path, unsafe=unsafe, imports=imports)
    except _UnsafeError:
        note = (
            "it carries Python code, as a Lambda layer does: its graph was exported, without its "
            "layers and momentum; --unsafe loads the layers and runs that code"
        )
    except UnreadableError as error:
        note = f"its graph was exported, without layers and momentum: {error.what}"
    else:
        if _is_whole(model):
            return model, (_UNSAFE,) if unsafe else ()
        note = (
            "its layers cannot be restored without their code: its graph was exported, without "
            "momentum; --import names the module of custom layers"
        )
    return open_graph(path), (note,)


def _is_whole(model: Any) -> bool:
    """Whether all layers are Python, none of them a stand-in for unknown code."""
    if not Legacy().is_model(model):
        return False
    stand_in = legacy_part("saving.legacy.saved_model.load").RevivedLayer
    layers = model._flatten_layers(include_self=True, recursive=True)
    return not any(isinstance(each, stand_in) for each in layers)


def _is_legacy(path: Path) -> bool:
    """Whether Keras 2 wrote the file, as the file says."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                version = json.loads(archive.read("metadata.json"))["keras_version"]
        else:
            version = _attribute(path, "keras_version")
        return str(version).startswith("2.")
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
        return False  # it says nothing that can be read; loading it will say why


def _attribute(path: Path, name: str) -> str:
    h5py = importlib.import_module("h5py")  # it has no types
    with h5py.File(path, "r") as file:
        value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)
