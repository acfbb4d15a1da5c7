"""What a PyTorch source holds: its tensors under their names, and its normalisation layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.errors import UnreadableError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Norm:
    """A normalisation layer; its tensors have the shape [C], None where there is none.

    `path` is where the framework has it, `kind` its class, `momentum` PyTorch's own. `calls` is
    how many nodes it has at least.
    """

    path: str
    kind: str
    weight: Any
    bias: Any
    mean: Any
    var: Any
    epsilon: float
    momentum: float | None
    calls: int
    is_instance: bool = False

    @property
    def name(self) -> str:
        """The path; the class for a module that is itself the layer."""
        return self.path or self.kind

    def values(self) -> tuple[Array, Array, Array, Array]:
        """Scale, bias, mean and variance as a node has them: ones and zeros for what is absent."""
        mean = array(self.mean)
        scale = np.ones_like(mean) if self.weight is None else array(self.weight)
        bias = np.zeros_like(mean) if self.bias is None else array(self.bias)
        return scale, bias, mean, array(self.var)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """All tensors of a source under each of their names, and its normalisation layers.

    `remarks` are what has to be said of it besides. `by_address` says how two names of one tensor
    are told: see `key`.
    """

    parameters: tuple[tuple[str, Any], ...]
    buffers: tuple[tuple[str, Any], ...]
    norms: tuple[Norm, ...]
    remarks: tuple[str, ...] = ()
    by_address: bool = False

    def named(self) -> tuple[tuple[str, Any], ...]:
        """Every parameter, then every buffer, under each of its names."""
        return (*self.parameters, *self.buffers)

    def key(self, tensor: Any) -> object:
        """What two names of one tensor share.

        Objects stand for modules, whose `parameters()` tells them apart so. TorchScript and
        saved programs make an object for each name; there the memory tells.
        """
        if self.by_address and tensor.numel():
            return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
        return id(tensor)

    def firsts(self) -> dict[str, str]:
        """For every name, the first name of the same tensor."""
        first: dict[object, str] = {}
        return {name: first.setdefault(self.key(each), name) for name, each in self.named()}

    def once(self, pairs: tuple[tuple[str, Any], ...]) -> Iterator[tuple[str, Any]]:
        """Each tensor of `pairs` under its first name."""
        seen = set()
        for name, each in pairs:
            if (key := self.key(each)) not in seen:
                seen.add(key)
                yield name, each


def layer_of(mean: str) -> str:
    """The path of the layer whose mean has this name; the name where it is no layer's."""
    path, _, last = mean.rpartition(".")
    return path if last == "running_mean" else mean


def array(tensor: Any) -> Array:
    """The values of a tensor in an array of the same dtype, bit for bit."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        bits: Array = tensor.contiguous().view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())


def _layers(module: torch.nn.Module) -> list[tuple[str, Any]]:
    """BatchNorm and InstanceNorm layers by path: PyTorch gives them one base."""
    import torch

    base = torch.nn.modules.batchnorm._NormBase
    return [(path, each) for path, each in module.named_modules() if isinstance(each, base)]


def of_module(module: torch.nn.Module, calls: dict[str, int]) -> Held:
    """What a module holds; `calls` are those of each layer in one forward pass."""
    import torch

    parameters = tuple(module.named_parameters(remove_duplicate=False))
    buffers = tuple(module.named_buffers(remove_duplicate=False))
    return Held(
        parameters=parameters,
        buffers=buffers,
        norms=tuple(
            Norm(
                path=path,
                kind=type(layer).__name__,
                weight=layer.weight,
                bias=layer.bias,
                mean=layer.running_mean,
                var=layer.running_var,
                epsilon=float(layer.eps),
                momentum=None if layer.momentum is None else float(layer.momentum),
                calls=calls.get(path, 0),
                is_instance=isinstance(layer, torch.nn.modules.instancenorm._InstanceNorm),
            )
            for path, layer in _layers(module)
        ),
    )


@contextmanager
def counted(module: torch.nn.Module) -> Iterator[dict[str, int]]:
    """Count the calls of each normalisation layer.

    Raises
    ------
    inspector.errors.UnreadableError
        A BatchNorm with running statistics is in training mode when it is called: the module's
        own code put it there, and a forward pass changes what would be exported. Or its scale or B
        is computed anew in each pass.
    """
    import torch

    layers = _layers(module)
    calls = {path: 0 for path, _ in layers}

    def counter(path: str) -> Any:
        def count(layer: Any, *_: Any) -> None:
            # torch.cond compiles its branches, and a branch must not have side effects.
            if torch.compiler.is_compiling():
                return
            calls[path] += 1
            _refuse_changing(layer, path, type(module).__qualname__)

        return count

    hooks = [layer.register_forward_pre_hook(counter(path)) for path, layer in layers]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def refuse_changed(module: torch.nn.Module, changed: Iterable[str]) -> None:
    """Refuse a BatchNorm whose statistics a pass in eval mode has changed.

    Raises
    ------
    inspector.errors.UnreadableError
        `changed`, names of buffers, has some: the code calls the function with training=True.
    """
    layers = dict(_layers(module))
    for name in changed:
        path = layer_of(name.replace("running_var", "running_mean"))
        if path in layers:
            raise UnreadableError(
                f"forward() normalises by the batch with the tensors of BatchNorm {path!r} and "
                "changes its statistics (batch_norm with training=True)",
                where=type(module).__qualname__,
                hint="export a module that stays in eval mode",
            )


def _refuse_changing(layer: Any, path: str, where: str) -> None:
    """Refuse a BatchNorm whose tensors are others in each pass."""
    if layer.training and layer.running_mean is not None:
        raise UnreadableError(
            f"the module's own code puts BatchNorm {path!r} into training mode, so that it "
            "normalises by the batch and changes its statistics",
            where=where,
            hint="export a module that stays in eval mode",
        )
    for name in ("weight", "bias"):
        stored = {**layer._parameters, **layer._buffers}
        if getattr(layer, name) is not None and name not in stored:
            raise UnreadableError(
                f"the {name} of BatchNorm {path!r} is computed anew in each pass (a "
                "parametrization, or pruning), so that there is no tensor to keep",
                where=where,
                hint="store what it gives: torch.nn.utils.parametrize.remove_parametrizations"
                f"(layer, {name!r}), or torch.nn.utils.prune.remove(layer, {name!r})",
            )
