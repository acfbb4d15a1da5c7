"""Find the model that SOURCE names: `package.module:callable` or `path/to/file.py:callable`."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from inspector.errors import UnreadableError, UsageError

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_FORMS = "write package.module:callable or path/to/file.py:callable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A parsed SOURCE: a file or a module, and a dotted attribute of it."""

    text: str
    file: Path | None
    module: str
    attribute: str


def parse(text: str) -> Source:
    """Take SOURCE apart.

    Raises
    ------
    inspector.errors.UsageError
        It has neither form.
    """
    module, colon, attribute = text.rpartition(":")
    if not colon or not module or not _DOTTED.fullmatch(attribute):
        raise UsageError(f"the source {text!r} names no callable", hint=_FORMS)
    if module.endswith(".py"):
        return Source(text=text, file=Path(module), module="", attribute=attribute)
    if not _DOTTED.fullmatch(module):
        raise UsageError(f"{module!r} is neither a .py file nor a module's name", hint=_FORMS)
    return Source(text=text, file=None, module=module, attribute=attribute)


@contextmanager
def opened(source: Source, wanted: Callable[[object], bool], kind: str) -> Iterator[object]:
    """The model that the source names, with its own imports working while it is in use.

    The file's folder (the working directory for a module) is importable until the block ends;
    then `sys.path` is as it was, and modules that came from a file's folder are forgotten, so that
    two files of one name in different folders do not meet.

    Parameters
    ----------
    wanted
        Whether an object is a model of the framework asked for.
    kind
        What messages call such a model.

    Raises
    ------
    inspector.errors.UnreadableError
        There is no such file, module or callable, or it fails, or gives something else.
    """
    if source.file is not None and not source.file.is_file():
        raise UnreadableError("there is no such file", where=str(source.file), hint=_FORMS)
    # resolve(): a module must not be looked for elsewhere when the code changes directory.
    folder = source.file.resolve().parent if source.file is not None else Path.cwd()
    with _importable(folder, isolated=source.file is not None):
        yield _model(source, _attribute(source, _load(source)), wanted, kind)


@contextmanager
def _importable(folder: Path, *, isolated: bool) -> Iterator[None]:
    path = list(sys.path)
    hidden = {name: sys.modules.pop(name) for name in _shadowed(folder)} if isolated else {}
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        if isolated:
            for name in set(sys.modules) - before:
                if _lies_in(sys.modules[name], folder):
                    del sys.modules[name]
        sys.modules.update(hidden)


def _shadowed(folder: Path) -> list[str]:
    """Loaded modules that siblings in `folder` would be mistaken for.

    Installed packages stay: a sibling called like one of them would break the framework.
    """
    siblings = {each.stem for each in folder.glob("*.py")}
    siblings |= {each.parent.name for each in folder.glob("*/__init__.py")}
    siblings -= sys.stdlib_module_names | {__name__.partition(".")[0]}
    return [
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in siblings and not _installed(module)
    ]


def _origin(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def _installed(module: ModuleType | None) -> bool:
    origin = _origin(module)
    homes = (Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib"))
    return origin is None or any(origin.is_relative_to(home) for home in homes)


def _lies_in(module: ModuleType | None, folder: Path) -> bool:
    origin = _origin(module)
    if origin is None or not origin.is_relative_to(folder) or _installed(module):
        return False
    return getattr(module, "__name__", "").partition(".")[0] != __name__.partition(".")[0]


def _load(source: Source) -> ModuleType:
    try:
        if source.file is None:
            return importlib.import_module(source.module)
        return _load_file(source.file)
    except (Exception, SystemExit) as error:  # whatever a user's file raises while imported
        raise _import_failed(source, error) from error


def _load_file(file: Path) -> ModuleType:
    # A name of its own: the file may be called like a framework (torch.py).
    name = f"source_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered, because dataclasses and exporters look modules up by name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _import_failed(source: Source, error: BaseException) -> UnreadableError:
    if isinstance(error, ModuleNotFoundError) and source.file is None:
        parents = source.module.split(".")
        if error.name in {".".join(parents[: n + 1]) for n in range(len(parents))}:
            return UnreadableError(
                f"there is no module {error.name!r}",
                where=source.text,
                hint="run from the folder that holds it, or give the path of its .py file",
            )
    return UnreadableError(
        f"it does not import: {described(error)}",
        where=str(source.file or source.module),
        hint="import it with Python itself to see the whole traceback",
    )


def _attribute(source: Source, module: ModuleType) -> object:
    value: object = module
    for name in source.attribute.split("."):
        if not hasattr(value, name):
            raise UnreadableError(
                f"it has no callable {source.attribute!r}",
                where=str(source.file or source.module),
                hint=_offered(module),
            )
        value = getattr(value, name)
    return value


def _offered(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]
    return f"it has {', '.join(names[:8])}" if names else "it defines no callable at all"


def _model(source: Source, value: object, wanted: Callable[[object], bool], kind: str) -> object:
    if wanted(value):
        return value
    if not callable(value):
        raise UnreadableError(
            f"{source.attribute!r} is {_article(value)}, not a callable that gives {kind}",
            where=source.text,
            hint="name a function without arguments that builds the model",
        )
    try:
        result = value()
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise UnreadableError(
            f"{source.attribute}() raised {described(error)}",
            where=source.text,
            hint="it is called without arguments; call it yourself to see the whole traceback",
        ) from error
    if not wanted(result):
        raise UnreadableError(
            f"{source.attribute}() returned {_article(result)}, not {kind}",
            where=source.text,
            hint="return the model itself",
        )
    return result


def _article(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value)
    return f"a {kind.__qualname__}" if kind.__module__ == "builtins" else f"a {_full(kind)}"


def _full(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def described(error: BaseException) -> str:
    """An exception in one line: its type and the line of its message that says something.

    That is the first one, but for Keras, which puts a heading above it, and for messages that
    quote a traceback, where it is the last.
    """
    text = _COLOUR.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    name = type(error).__name__
    if not lines:
        return name
    if any(line.startswith("Traceback (most recent") for line in lines):
        return f"{name}: {lines[-1][:300]}"
    headed = lines[0].startswith("Exception encountered when calling") and len(lines) > 1
    return f"{name}: {lines[1 if headed else 0][:300]}"
