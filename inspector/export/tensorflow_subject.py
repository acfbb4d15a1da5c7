"""What is exported, whoever built it: a function of flat tensors, and its variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inspector.export.axes import Order
from inspector.export.feeds import Input


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A model as TensorFlow sees it.

    Attributes
    ----------
    inputs
        In the model's own layout, `dims` as it declares them, None where it takes any length.
    call
        From flat inputs to flat outputs, by inference.
    output_names
        Asked after a call; empty where the model has no names for its outputs.
    variables
        By the id of TensorFlow's handle.
    owner
        What keeps tables and other resources.
    notes
        What the user should know of how it is called.
    version
        Of the TensorFlow that wrote it, where a file says so.
    """

    name: str
    inputs: tuple[Input, ...]
    call: Callable[[Sequence[Any]], list[Any]]
    output_names: Callable[[], tuple[str, ...]]
    variables: Mapping[int, Any]
    owner: Any
    order: Order
    notes: tuple[str, ...] = ()
    version: str = ""

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"model {self.name!r}"
