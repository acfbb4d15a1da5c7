"""Weights from a file into a module: state dicts as PyTorch, Lightning and others save them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inspector.errors import UnreadableError, UsageError
from inspector.export.source import described

if TYPE_CHECKING:
    import torch

_LISTED = 3
"""How many names a message has of those that do not fit."""

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, torch.compile and Lightning's modules put before names."""

_NEEDS_CODE = re.compile(r"GLOBAL|[Gg]lobal|instantiate|build state")
"""What torch.load says of a file that is whole and holds more than weights."""

_RUNS_CODE = "it can run any code that whoever made the file put into it"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Weights:
    """A state dict, and the keys of the file that lead to it."""

    tensors: Mapping[str, Any]
    path: str = ""


def load_weights(module: torch.nn.Module, path: str | Path, *, unsafe: bool) -> list[str]:
    """Put the tensors of a file into a module; gives notes about how they were fitted.

    Parameters
    ----------
    path
        A file of `torch.save`, or a .safetensors file.
    unsafe
        Whether a file that needs pickle may be opened: it can run any code.

    Raises
    ------
    inspector.errors.UnreadableError
        The file cannot be read, holds no state dict, or its names or shapes do not fit.
    inspector.errors.UsageError
        It holds several state dicts that fit, or needs `unsafe`.
    """
    import torch

    where = Path(path)
    candidates = list(state_dicts(read(where, unsafe=unsafe)))
    if not candidates:
        raise UnreadableError("it holds no state dict", where=str(where), hint=_save_as())
    own = module.state_dict()
    fitted = [(each, *_fitted(each.tensors, own)) for each in candidates]
    best = max(_overlap(tensors, own) for _, tensors, _ in fitted)
    fitting = [each for each in fitted if _overlap(each[1], own) == best]
    if len(fitting) > 1:
        keys = " and ".join(repr(each.path) for each, _, _ in fitting)
        raise UsageError(
            f"it holds several sets of weights that fit alike: {keys}",
            where=str(where),
            hint="save the one that is meant in a file of its own",
        )
    ((chosen, tensors, notes),) = fitting
    if chosen.path:
        notes = [f"the weights are those under {chosen.path!r} of {where.name}", *notes]
    notes += _checked(tensors, own, where)
    meta = any(each.is_meta for each in own.values() if not torch.nn.parameter.is_lazy(each))
    try:
        # BatchNorms' counts of steps may be absent, and one name of a tied weight is enough.
        module.load_state_dict(tensors, strict=False, assign=meta)
    except Exception as error:  # a module's own hooks may raise anything
        raise UnreadableError(
            f"its weights do not go into the module: {described(error)}", where=str(where)
        ) from error
    return notes


def read(path: Path, *, unsafe: bool) -> Any:
    """What is in a file of weights.

    Raises
    ------
    inspector.errors.UnreadableError
        It cannot be read.
    inspector.errors.UsageError
        It can be read by running its code only, and that was not allowed.
    """
    if not path.is_file():
        raise UnreadableError("there is no such file", where=str(path))
    if path.suffix == ".safetensors":
        return _safetensors(path)
    return _pickled(path, unsafe=unsafe)


def _safetensors(path: Path) -> Any:
    from inspector.export.extras import require

    require("torch")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UnreadableError(
            f"it is no safetensors file: {described(error)}", where=str(path)
        ) from error


def _pickled(path: Path, *, unsafe: bool) -> Any:
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=not unsafe)
    except pickle.UnpicklingError as error:
        if unsafe or not _NEEDS_CODE.search(str(error)):
            raise _broken(path, error) from error
        raise UsageError(
            "it holds more than tensors (a pickled module, or objects of other libraries)",
            where=str(path),
            hint=f"save its state_dict() instead, or add --unsafe if you trust the file: opening "
            f"{_RUNS_CODE}",
        ) from error
    except AttributeError as error:
        raise UnreadableError(
            f"the class of what was pickled is not found: {described(error)}",
            where=str(path),
            hint="a whole module names its class by where that was defined, a script as __main__: "
            "give the class as the source, file.py:callable, and save its state_dict() as weights",
        ) from error
    except Exception as error:  # a broken archive, a missing class, a legacy tar: no common base
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> UnreadableError:
    return UnreadableError(
        f"PyTorch does not read it: {described(error)}", where=str(path), hint=_save_as()
    )


def _save_as() -> str:
    return "write the weights with torch.save(module.state_dict(), path)"


def state_dicts(found: Any, path: str = "", depth: int = 2) -> Iterator[_Weights]:
    """The state dicts in what a file holds: itself, or what is under some of its keys."""
    import torch

    if isinstance(found, torch.nn.Module):
        found = found.state_dict()
    if not isinstance(found, Mapping):
        return
    tensors = {
        name: each
        for name, each in found.items()
        if isinstance(name, str) and isinstance(each, torch.Tensor)
    }
    # A checkpoint may have a loss or a step beside the dictionaries of weights.
    inner = [(k, e) for k, e in found.items() if isinstance(e, (Mapping, torch.nn.Module))]
    nested = [
        each
        for key, value in inner
        if depth
        for each in state_dicts(value, f"{path}.{key}" if path else str(key), depth - 1)
    ]
    if tensors and not nested:
        yield _Weights(tensors=tensors, path=path)
    # What optimizers keep has numbers for names, and so is no candidate.
    yield from nested


def _fitted(tensors: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The tensors under the module's names for them, as far as prefixes make the difference."""
    best, notes = dict(tensors), []
    if best.keys() == own.keys():
        return best, []
    for removed, renamed in _renamed(tensors):
        if len(renamed) == len(tensors) and _overlap(renamed, own) > _overlap(best, own):
            best = renamed
            notes = [f"{' and '.join(map(repr, removed))} was taken off the weights' names"]
    return best, notes


def _renamed(tensors: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """The tensors with prefixes taken off, from the mildest change to the strongest."""
    # torch.compile and DataParallel wrap inner modules too.
    for inner in ("_orig_mod.", "module."):
        yield (inner,), _without_segments(tensors, (inner,))
    yield ("module.", "_orig_mod."), _without_segments(tensors, ("module.", "_orig_mod."))
    removed: tuple[str, ...] = ()
    names = dict(tensors)
    while names:
        counts = {p: sum(name.startswith(p) for name in names) for p in _PREFIXES}
        prefix = max(counts, key=lambda each: counts[each])
        if not counts[prefix]:
            return
        names = {name.removeprefix(prefix): each for name, each in names.items()}
        removed = (*removed, prefix)
        yield removed, dict(names)
        yield (*removed, "_orig_mod."), _without_segments(names, ("_orig_mod.",))


def _without_segments(tensors: Mapping[str, Any], segments: Sequence[str]) -> dict[str, Any]:
    dropped = {each.rstrip(".") for each in segments}
    return {
        ".".join(part for part in name.split(".") if part not in dropped): each
        for name, each in tensors.items()
    }


def _overlap(tensors: Mapping[str, Any], own: Mapping[str, Any]) -> int:
    return len(tensors.keys() & own.keys())


def _checked(tensors: Mapping[str, Any], own: Mapping[str, Any], where: Path) -> list[str]:
    """Refuse names and shapes that do not fit; notes about dtypes that differ."""
    from torch.nn.parameter import is_lazy

    present = {id(own[name]) for name in tensors if name in own}
    present |= _addresses(own, tensors)
    missing = [
        name
        for name, each in own.items()
        if name not in tensors
        and id(each) not in present
        and (is_lazy(each) or each.data_ptr() not in present or not each.numel())
        and name.rpartition(".")[2] not in ("num_batches_tracked", "_extra_state")
    ]
    unexpected = [name for name in tensors if name not in own]
    shaped = [
        f"{name} is {list(tensors[name].shape)} and not {list(each.shape)}"
        for name, each in own.items()
        if name in tensors and not is_lazy(each) and tensors[name].shape != each.shape
    ]
    # Integers would be taken for values, and are those of a quantised model without their scale.
    whole = [
        f"{name} is {str(tensors[name].dtype)[6:]} and not {str(each.dtype)[6:]}"
        for name, each in own.items()
        if name in tensors and each.dtype.is_floating_point and not _is_real(tensors[name])
    ]
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for names, what in (
            (missing, "of the module's tensors missing"),
            (unexpected, "of its tensors not the module's"),
            (shaped, "of another shape"),
            (whole, "of a dtype that holds no real numbers"),
        )
        if names
    ]
    if problems:
        raise UnreadableError(
            f"the weights do not fit the module: {'; '.join(problems)}",
            where=str(where),
            hint="the file belongs to another module, or to another version of it",
        )
    return _cast(tensors, own)


def _is_real(tensor: Any) -> bool:
    return bool(tensor.dtype.is_floating_point)


def _addresses(own: Mapping[str, Any], tensors: Mapping[str, Any]) -> set[int]:
    """Where the tensors lie that the file has: state_dict() detaches tied ones from each other."""
    from torch.nn.parameter import is_lazy

    return {
        cast("int", own[name].data_ptr())
        for name in tensors
        if name in own and not is_lazy(own[name]) and own[name].numel() and not own[name].is_meta
    }


def _cast(tensors: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    pairs = {
        (str(tensors[name].dtype)[6:], str(each.dtype)[6:])
        for name, each in own.items()
        if name in tensors and tensors[name].dtype != each.dtype
    }
    return [f"weights of {left} were written as the module's {right}" for left, right in pairs]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
