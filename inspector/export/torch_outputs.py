"""What a forward pass gives, as the named tensors that ONNX has outputs for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inspector.errors import UnreadableError
from inspector.export import protos

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto


def plain(given: Any) -> Any:
    """The same with dataclasses and others' mappings as dictionaries; `given` if it has none.

    PyTorch takes those that were registered with it apart itself, and no others.
    """
    from torch.utils import _pytree as pytree

    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        fields = [each.name for each in dataclasses.fields(given)]
        return plain({name: getattr(given, name, None) for name in fields})
    if isinstance(given, Mapping) and type(given) not in pytree.SUPPORTED_NODES:
        return plain(dict(given))
    if type(given) is dict:
        made: Any = {name: plain(each) for name, each in given.items()}
        changed = any(made[name] is not each for name, each in given.items())
    elif type(given) in (list, tuple):
        made = type(given)(plain(each) for each in given)
        changed = any(one is not other for one, other in zip(made, given, strict=True))
    else:
        return given
    return made if changed else given


@contextmanager
def giving_plain(module: torch.nn.Module) -> Iterator[None]:
    """The module with `plain` outputs; registering their classes would last longer than this."""
    hook = module.register_forward_hook(lambda _, __, given: plain(given))
    try:
        yield
    finally:
        hook.remove()


def refuse_what_is_no_tensor(given: Any, name: str) -> None:
    """Say so where a forward pass gives something that ONNX has no outputs for.

    Raises
    ------
    inspector.errors.UnreadableError
        It does, or it gives nothing.
    """
    import torch
    from torch.utils import _pytree as pytree

    leaves = [each for each in pytree.tree_leaves(given) if each is not None]
    for each in leaves:
        if not isinstance(each, torch.Tensor):
            raise UnreadableError(
                f"forward() gives {_with_article(type(each).__name__)} among its outputs, and "
                "ONNX has tensors alone",
                where=name,
                hint="export a module that returns tensors, in tuples, lists, dicts or "
                "dataclasses; nothing was written",
            )
        if each.is_complex():
            raise UnreadableError(
                "forward() gives a complex tensor among its outputs, and ONNX Runtime has none",
                where=name,
                hint="return torch.view_as_real(output); nothing was written",
            )
    if not leaves:
        raise UnreadableError(
            "forward() gives no tensor",
            where=name,
            hint="export a module that returns its outputs; nothing was written",
        )


def _with_article(word: str) -> str:
    return f"an {word}" if word[:1].lower() in "aeiou" else f"a {word}"


def output_names(given: Any) -> tuple[str, ...]:
    """What the source calls each tensor that it gives: keys and fields; empty where by place."""
    import torch
    from torch.utils import _pytree as pytree

    found, _ = pytree.tree_flatten_with_path(given)
    return tuple(_called(path) for path, each in found if isinstance(each, torch.Tensor))


def _called(path: Sequence[Any]) -> str:
    """A path of keys as one name, if any of them is a word."""
    parts = [getattr(each, "key", getattr(each, "name", getattr(each, "idx", ""))) for each in path]
    return ".".join(map(str, parts)) if any(isinstance(each, str) for each in parts) else ""


def name_outputs(proto: ModelProto, names: Sequence[str]) -> None:
    """Call the model's outputs as the source calls them, where it does."""
    if len(names) != len(proto.graph.output) or not any(names):
        return
    # An output that is an input, or a weight, as it came has that one's name.
    kept = {each.name for each in (*proto.graph.input, *proto.graph.initializer)}
    taken = protos.value_names(proto)
    renamed = {
        each.name: protos.unique(name, taken)
        for each, name in zip(proto.graph.output, names, strict=True)
        if name and name != each.name and each.name not in kept
    }
    protos.rename_values(proto, renamed)


def are_equal(one: Any, other: Any) -> bool:
    """Whether two passes gave the same, as far as rounding tells."""
    import torch
    from torch.utils import _pytree as pytree

    pairs = list(
        zip(pytree.tree_leaves(plain(one)), pytree.tree_leaves(plain(other)), strict=False)
    )
    return all(
        not isinstance(left, torch.Tensor)
        or (left.shape == right.shape and torch.allclose(left, right, equal_nan=True))
        for left, right in pairs
    )
