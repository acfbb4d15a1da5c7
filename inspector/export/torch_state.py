"""A module in eval mode for a while, and then exactly as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inspector.errors import UnreadableError

if TYPE_CHECKING:
    import torch


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """The module in eval mode, without gradients, and then exactly as it was found.

    Every submodule's attributes (training flags, hooks, buffers that a forward pass replaces), the
    values of buffers, and the random generators' state are put back. Parameters' values are only
    where `eval()` or `train()` is the module's own: those may merge weights, as LoRA's do.
    """
    import torch

    submodules = list(module.modules())
    found = [_Attributes(each) for each in submodules]
    tensors = {id(each): each for each in (*module.buffers(), *_may_change(submodules))}
    kept = [
        (each, each._version, each.detach().clone())
        for each in tensors.values()
        # Nothing can change a tensor of torch.inference_mode from here.
        if not torch.nn.parameter.is_lazy(each) and not each.is_inference()
    ]
    lazy = [_Lazy(each) for each in (*module.parameters(), *module.buffers())]
    # Of the CPU alone: no other generator is used by a forward pass in eval mode on it.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            _evaluate(module)
            yield
        finally:
            for attributes in found:
                attributes.restore()
            for each in lazy:
                each.restore()
            for tensor, version, values in kept:
                if tensor._version != version:
                    tensor.copy_(values)


def _evaluate(module: torch.nn.Module) -> None:
    try:
        module.eval()
    except NotImplementedError as error:
        raise UnreadableError(
            "it is the module of a saved program (torch.export), whose mode is fixed",
            where=type(module).__qualname__,
            hint="give the program itself, or its .pt2 file",
        ) from error


@contextmanager
def one_pass(module: torch.nn.Module, changed: dict[str, None]) -> Iterator[None]:
    """Put back what a forward pass changes; the names of that go into `changed`.

    Those are buffers with other values, and attributes that are others. A file of ONNX keeps
    nothing from run to run: each begins with what is stored. Lazy layers keep what their first pass
    gives them.
    """
    import torch

    if any(torch.nn.parameter.is_lazy(e) for e in (*module.parameters(), *module.buffers())):
        yield
        return
    attributes = [(path, _Attributes(each)) for path, each in module.named_modules()]
    kept = [
        (name, each, each._version, each.detach().clone())
        for name, each in module.named_buffers()
        if not each.is_inference() and not each.is_meta
    ]
    try:
        yield
    finally:
        now = dict(module.named_buffers())
        for path, each in attributes:
            changed.update(dict.fromkeys(f"{path}.{name}".lstrip(".") for name in each.changed()))
            each.restore()
        for name, tensor, version, values in kept:
            if not _equal(now.get(name), values):
                changed[name] = None
            if tensor._version != version:
                tensor.copy_(values)
            if isinstance(module, torch.jit.ScriptModule) and now.get(name) is not tensor:
                path, _, last = name.rpartition(".")
                setattr(dict(module.named_modules())[path], last, tensor)


def _equal(one: Any, other: Any) -> bool:
    import torch

    if one is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or bool((one == other)[~one.isnan()].all() and one.isnan().any())


class _Attributes:
    """The attributes of one module, and what is in those of them that are dictionaries."""

    def __init__(self, module: Any) -> None:
        import torch

        self._module = module
        self._kind = type(module)
        # TorchScript keeps its attributes elsewhere, and its code cannot add any.
        self._scripted = isinstance(module, torch.jit.ScriptModule)
        self._training = getattr(module, "training", None)
        self._values = {} if self._scripted else dict(vars(module))
        self._inside = [(e, dict(e)) for e in self._values.values() if isinstance(e, dict)]

    def changed(self) -> list[str]:
        """Names of attributes that are others now; those in dictionaries are not among them."""
        now = {} if self._scripted else vars(self._module)
        return [name for name in {**self._values, **now} if not self._is_kept(name, now)]

    def _is_kept(self, name: str, now: dict[str, Any]) -> bool:
        return name in self._values and name in now and now[name] is self._values[name]

    def restore(self) -> None:
        if self._scripted:
            if self._training is not None:
                self._module.training = self._training
            return
        if type(self._module) is not self._kind:
            # A lazy layer's first call makes an ordinary one of it.
            self._module.__class__ = self._kind
        _set(vars(self._module), self._values)
        for each, values in self._inside:
            _set(each, values)


def _set(found: dict[Any, Any], values: dict[Any, Any]) -> None:
    # What has not changed is not touched: compiled code asks whether it has been.
    if len(found) != len(values) or any(
        found.get(name, _set) is not e for name, e in values.items()
    ):
        found.clear()
        found.update(values)


class _Lazy:
    """A parameter or buffer without a shape yet; a first call gives it one, in place."""

    def __init__(self, tensor: Any) -> None:
        import torch

        self._tensor = tensor if torch.nn.parameter.is_lazy(tensor) else None
        self._kind = type(tensor)

    def restore(self) -> None:
        import torch

        if self._tensor is None or type(self._tensor) is self._kind:
            return
        # The reverse of `materialize` (torch/nn/parameter.py).
        like = self._tensor
        self._tensor.data = torch.empty(0, dtype=like.dtype, device=like.device)
        self._tensor.__class__ = self._kind


def _may_change(modules: list[torch.nn.Module]) -> Iterator[Any]:
    import torch

    plain = torch.nn.Module
    for each in modules:
        kind = type(each)
        if isinstance(each, torch.jit.ScriptModule):
            continue
        if kind.train is not plain.train or kind.eval is not plain.eval:
            yield from each.parameters()


@contextmanager
def as_stored(module: torch.nn.Module) -> Iterator[list[str]]:
    """Give float64 normalisation layers the epsilon that ONNX can store; says of which it is not.

    ONNX has it as float32, and in float64 the difference stands far above any rounding.
    """
    import numpy as np
    import torch

    base = torch.nn.modules.batchnorm._NormBase
    changed = [
        (path, layer, layer.eps)
        for path, layer in module.named_modules()
        if isinstance(layer, base)
        and layer.running_var is not None
        and layer.running_var.dtype == torch.float64
        and float(np.float32(layer.eps)) != layer.eps
    ]
    try:
        for _, layer, epsilon in changed:
            layer.eps = float(np.float32(epsilon))
        yield [path for path, _, _ in changed]
    finally:
        for _, layer, epsilon in changed:
            layer.eps = epsilon


@contextmanager
def without_checks() -> Iterator[None]:
    """Distributions that take their parameters unchecked: a trace has no values to look at."""
    from torch.distributions import Distribution

    # PyTorch has a setter for it, and no way to ask.
    found = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(found)
