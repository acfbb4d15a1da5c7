"""A module in eval mode for a while, and then exactly as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
            module.eval()
            yield
        finally:
            for attributes in found:
                attributes.restore()
            for each in lazy:
                each.restore()
            for tensor, version, values in kept:
                if tensor._version != version:
                    tensor.copy_(values)


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

    def restore(self) -> None:
        if self._scripted:
            if self._training is not None:
                self._module.training = self._training
            return
        if type(self._module) is not self._kind:
            # A lazy layer's first call makes an ordinary one of it.
            self._module.__class__ = self._kind
        own = vars(self._module)
        own.clear()
        own.update(self._values)
        for each, values in self._inside:
            each.clear()
            each.update(values)


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
