"""Small changes to a model, as data: what an experiment does to a copy of it.

Nodes are addressed by their first output and values by name, both of the main graph: names of
values are unique there, names of nodes are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from inspector.facts.model import Attribute

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runnable:
    """A serialised model; the locations of its data files, if it has any, are below `folder`.

    `evaluated` says that onnx's reference evaluator runs it and not ONNX Runtime.
    """

    data: bytes
    folder: str = ""
    evaluated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAttribute:
    """Give the node that computes `node` another attribute; None removes it.

    An array is written as a tensor.
    """

    node: str
    name: str
    value: Attribute | NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetInput:
    """Feed input `position` of the node that computes `node` from a new initializer."""

    node: str
    position: int
    values: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InsertAfter:
    """Put an operator behind `value`; everything that read `value` reads its result instead.

    `constants` are its further inputs by position; position 0 is `value`. Where `readers` are
    given, by their first outputs, those nodes alone read the result.
    """

    value: str
    op_type: str
    domain: str
    attributes: Mapping[str, Attribute]
    constants: Mapping[int, NDArray[Any]]
    readers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bypass:
    """Let the node that computes `node` pass on the value it reads as input `keep`."""

    node: str
    keep: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetOperator:
    """Let the node that computes `node` be another operator on the values it reads at `keep`.

    `constants` are further inputs by position, behind them.
    """

    node: str
    op_type: str
    domain: str
    attributes: Mapping[str, Attribute]
    keep: tuple[int, ...]
    constants: Mapping[int, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder:
    """Let the node that computes `node` read its inputs in another order.

    `order` is where each new input is among the old ones.
    """

    node: str
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOutputCount:
    """Ask the node that computes `node` for `count` outputs; the ones behind go, or are new."""

    node: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose:
    """Give out `value` as a further output of the graph."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Let what reads `value` read a new graph input `name` of `dtype` (NumPy's name) instead.

    All that reads it, or only the node that computes `node`, at `position`.
    """

    value: str
    name: str
    dtype: str
    node: str = ""
    position: int = 0


Patch: TypeAlias = (
    SetAttribute
    | SetInput
    | SetOperator
    | InsertAfter
    | Bypass
    | Reorder
    | SetOutputCount
    | Expose
    | Feed
)
