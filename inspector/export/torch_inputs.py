"""The inputs that a PyTorch source is traced with, and which of their axes are free."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.errors import UnreadableError, UsageError
from inspector.export.axes import BATCH, Order, free_axes

Given = str | Path | Sequence[Any] | Mapping[str, Any]
"""An example as a user gives it: a file, tensors in order, or tensors by name."""

Axes = tuple[Mapping[int, str], ...]
"""For each input, the names of its free axes by number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """Tensors to call `forward` with: first `args`, then `kwargs`.

    `names` are `forward`'s for all of them, in that order; empty where it has none (`*args`).
    `gathers` where some of them are in its `**kwargs`.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]
    spread: int | None = None
    notes: tuple[str, ...] = ()
    gathers: bool = False

    def tensors(self) -> list[Any]:
        """All of them in order."""
        return [*self.args, *self.kwargs.values()]

    def labelled(self) -> dict[str, Any]:
        """All of them by what messages call them."""
        pairs = zip(self.names, self.tensors(), strict=True)
        return {f"input {name or number}": each for number, (name, each) in enumerate(pairs)}

    def with_tensors(self, tensors: Sequence[Any]) -> Example:
        """The same call with other tensors."""
        count = len(self.args)
        kwargs = dict(zip(self.kwargs, tensors[count:], strict=True))
        return replace(self, args=tuple(tensors[:count]), kwargs=kwargs)

    def copied(self) -> Example:
        """The same with tensors of its own: forward() may change its inputs in place."""
        return self.with_tensors([each.clone() for each in self.tensors()])

    def free(self, wanted: Sequence[str] | None) -> Axes:
        """The axes to be free: those asked for by name, or the batch of every input.

        Raises
        ------
        inspector.errors.UsageError
            See `inspector.export.axes.free_axes`.
        """
        ranks = [each.ndim for each in self.tensors()]
        if wanted is None:
            return tuple({0: BATCH} if rank else {} for rank in ranks)
        return free_axes(wanted, ranks, Order.FIRST)

    def dynamic_shapes(self, axes: Axes) -> Any:
        """`axes` in the form in which torch.export takes them."""
        import torch

        auto = torch.export.Dim.AUTO
        each = [dict.fromkeys(free, auto) or None for free in axes]
        if self.kwargs:
            if self.gathers and any(each):
                raise UnreadableError(
                    "inputs that forward() takes in its **kwargs cannot have free axes in PyTorch",
                    hint="name them in forward()'s signature, or fix all axes: --dynamic none",
                )
            return None if self.gathers else dict(zip(self.names, each, strict=True))
        if self.spread is not None:
            return (*each[: self.spread], tuple(each[self.spread :]))
        return tuple(each)

    def grown(self, axes: Axes) -> Example:
        """Twice as long where a free axis has length 1, which torch.export takes for a constant."""
        import torch

        grown = []
        for tensor, free in zip(self.tensors(), axes, strict=True):
            larger = tensor
            for axis in free:
                if larger.shape[axis] == 1:
                    larger = torch.cat([larger, larger], dim=axis)
            grown.append(larger)
        return self.with_tensors(grown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """`forward`'s inputs by name.

    `spread` is where `*args` begins; `keywords` are those that it takes by name alone.
    """

    names: tuple[str, ...]
    spread: int | None = None
    takes_any_name: bool = False
    keywords: frozenset[str] = frozenset()


def signature(forward: Callable[..., Any]) -> Signature:
    """What a forward pass can be called with."""
    try:
        given = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):  # written in C
        return Signature(names=(), spread=0, takes_any_name=True)
    named = [
        each.name for each in given if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    spread = next((i for i, each in enumerate(given) if each.kind == each.VAR_POSITIONAL), None)
    return Signature(
        names=tuple(named),
        spread=spread,
        takes_any_name=any(each.kind == each.VAR_KEYWORD for each in given),
        keywords=frozenset(each.name for each in given if each.kind == each.KEYWORD_ONLY),
    )


def from_shapes(
    shapes: Sequence[int] | Sequence[Sequence[int]], like: Any, taken: Signature
) -> Example:
    """Zeros of the given shape, or of each of several.

    Raises
    ------
    inspector.errors.UsageError
        A shape has no axes, or an axis without elements.
    """
    import torch

    several = [each for each in shapes if isinstance(each, Sequence)]
    each_shape = several if several and len(several) == len(shapes) else [shapes]
    made = []
    for given in each_shape:
        shape = tuple(int(length) for length in given)  # type: ignore[arg-type]  # told apart above
        if not shape or min(shape) < 1:
            raise UsageError(
                f"the input shape {list(shape)} has an axis without elements",
                hint="give all axes, the batch first, for example 1,3,224,224",
            )
        dtype, device = (torch.float32, "cpu") if like is None else (like.dtype, like.device)
        made.append(torch.zeros(shape, dtype=dtype, device=device))
    return ordered(made, taken)


def ordered(tensors: Sequence[Any], taken: Signature, notes: Sequence[str] = ()) -> Example:
    """An example of tensors in `forward`'s order.

    Raises
    ------
    inspector.errors.UsageError
        They are more than it takes.
    """
    if taken.spread is None and len(tensors) > len(taken.names):
        raise UsageError(
            f"forward() takes {len(taken.names)} input{'s' * (len(taken.names) != 1)} and the "
            f"example has {len(tensors)}",
            hint=f"it takes {', '.join(taken.names) or 'none'}",
        )
    names = list(taken.names[: len(tensors) if taken.spread is None else taken.spread])
    names += [""] * (len(tensors) - len(names))
    spread = taken.spread if taken.spread is not None and len(tensors) > taken.spread else None
    count = next((i for i, name in enumerate(names) if name in taken.keywords), len(names))
    return Example(
        args=tuple(tensors[:count]),
        kwargs=dict(zip(names[count:], tensors[count:], strict=True)),
        names=tuple(names),
        spread=spread,
        notes=tuple(notes),
    )


def by_name(tensors: Mapping[str, Any], taken: Signature, notes: Sequence[str] = ()) -> Example:
    """An example of tensors by `forward`'s names for them.

    Raises
    ------
    inspector.errors.UsageError
        It has no such names.
    """
    unknown = [name for name in tensors if name not in taken.names]
    if unknown and not taken.takes_any_name:
        raise UsageError(
            f"forward() takes no input {unknown[0]!r}", hint=f"it takes {', '.join(taken.names)}"
        )
    order = [name for name in taken.names if name in tensors]
    if not unknown and tuple(order) == taken.names[: len(order)]:
        return ordered([tensors[name] for name in order], taken, notes)
    order += unknown
    return Example(
        args=(),
        kwargs={name: tensors[name] for name in order},
        names=tuple(order),
        notes=tuple(notes),
        gathers=bool(unknown),
    )


def from_attribute(found: Any, like: Any, taken: Signature, name: str) -> Example:
    """The `example_input_array` of a module, which is None where it has none.

    Raises
    ------
    inspector.errors.UsageError
        It is no tensor and no tuple of tensors.
    """
    import torch

    given = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    if found is None or not all(isinstance(each, torch.Tensor) for each in given):
        what = "no example input" if found is None else "an example_input_array that is no tensor"
        raise UsageError(
            f"the module has {what}",
            where=name,
            hint="give --input-shape or --example, or set the module's example_input_array to a "
            "tensor or a tuple of tensors",
        )
    device = "cpu" if like is None else like.device
    return ordered([each.detach().to(device) for each in given], taken)


def from_example(given: Given, like: Any, taken: Signature) -> Example:
    """An example as the user gives it.

    Arrays become tensors; those of floating point get the dtype of the model's weights.

    Raises
    ------
    inspector.errors.UsageError
        It holds something else than tensors and arrays, or does not fit `forward`.
    inspector.errors.UnreadableError
        The file cannot be read.
    """
    if isinstance(given, (str, Path)):
        found: Any = _loaded(Path(given))
        known = [name for name in found if name in taken.names]
        # Files that numpy.savez names itself (arr_0, …) are in forward's order.
        given = found if known else tuple(found.values())
    notes: list[str] = []
    if isinstance(given, Mapping):
        made = {name: _tensor(each, like, notes) for name, each in given.items()}
        return by_name(made, taken, notes)
    if not isinstance(given, Sequence):
        given = (given,)
    return ordered([_tensor(each, like, notes) for each in given], taken, notes)


def _tensor(given: Any, like: Any, notes: list[str]) -> Any:
    import torch

    device = "cpu" if like is None else like.device
    if isinstance(given, torch.Tensor):
        return given.detach().to(device)
    if not isinstance(given, (np.ndarray, np.generic)):
        raise UsageError(
            f"the example holds a {type(given).__qualname__}, which is neither a tensor nor an "
            "array",
            hint="give tensors alone, and wrap the module in one whose forward() takes them alone",
        )
    try:
        made = torch.from_numpy(np.array(given)).to(device)
    except TypeError as error:
        raise UsageError(f"the example has an array of {given.dtype}") from error
    if like is not None and made.is_floating_point() and made.dtype != like.dtype:
        note = f"the example's {given.dtype} was taken as the module's {str(like.dtype)[6:]}"
        if note not in notes:
            notes.append(note)
        made = made.to(like.dtype)
    return made


def _loaded(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            arrays = dict(found) if isinstance(found, np.lib.npyio.NpzFile) else {"": found}
    except FileNotFoundError as error:
        raise UnreadableError("there is no such file", where=str(path)) from error
    except Exception as error:  # zipfile's, numpy's and zlib's errors share no base
        raise UnreadableError(
            f"it is no .npz or .npy file of plain arrays ({type(error).__name__})",
            where=str(path),
            hint="write it with numpy.savez(path, name=array)",
        ) from error
    if not arrays:
        raise UnreadableError("it holds no array", where=str(path))
    return arrays
