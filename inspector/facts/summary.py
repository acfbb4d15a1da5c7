"""The layer table of a model: what each framework's own summary would list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from inspector.facts.fact import fact

if TYPE_CHECKING:
    from inspector.facts.count import Count, CountedTensor, Role
    from inspector.facts.manifest import NotExported
    from inspector.facts.model import Dim


class Layout(StrEnum):
    """Where the channels of a value lie, as the operators around it tell."""

    FIRST = "channels first"
    LAST = "channels last"
    NONE = "no channels"


class Source(StrEnum):
    """What told which nodes are one layer."""

    MANIFEST = "the export's manifest"
    NOTES = "the exporter's notes on its nodes"
    NAMES = "the names of its nodes"
    GRAPH = "the graph alone"


@fact(frozen=True, slots=True, kw_only=True)
class Part:
    """A tensor, or one role of it, at the operator that is the first to use it.

    `position` is that of the operator's input; -1 where it gets there by other operators.
    `stored` is False where an exporter merged it with an equal one that is stored elsewhere.
    """

    tensor: CountedTensor
    role: Role
    op_type: str
    position: int
    stored: bool = True


@fact(frozen=True, slots=True, kw_only=True)
class Row:
    """One layer, or one that the framework would show as such.

    Attributes
    ----------
    name
        As the framework calls it; empty where nothing tells.
    kind
        What it computes, by its main operator: ``Conv``, ``Linear``, ``Flatten`` …
    keras, torch
        Its class as each framework has it.
    nodes
        Labels of its nodes, in the file's order; empty for a layer that left none.
    dims, layout
        Of what it gives; None where it is not known.
    learned, statistics
        Elements that it is the first to use.
    unknown
        Elements that it uses and whose role nothing tells; they are in no total.
    fused
        Whether it is the activation of the layer before it, which Keras has in one.
    container
        Whether it only contains others.
    written_out
        Whether it is an operation in a module's own code, and no module by itself.
    shares
        Elements of each tensor that it uses and that was counted with a layer before it.
    parts
        What it is the first to use, apart from constants.
    """

    name: str
    kind: str
    keras: str
    torch: str
    nodes: tuple[str, ...]
    dims: tuple[Dim, ...] | None
    layout: Layout
    learned: int = 0
    statistics: int = 0
    unknown: int = 0
    fused: bool = False
    container: bool = False
    written_out: bool = False
    shares: tuple[int, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether it uses what was counted with a layer before it."""
        return bool(self.shares)


@fact(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node, as ONNX has it; `elements` are those of the tensors that it is the first to use."""

    name: str
    op_type: str
    domain: str
    output: str
    dims: tuple[Dim, ...] | None
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A value that is fed."""

    name: str
    dtype: str | None
    dims: tuple[Dim, ...] | None
    layout: Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The layer table of a model.

    The rows' columns add up to `count`: what no row holds stands in a last one.

    Attributes
    ----------
    framework
        ``keras`` or ``torch`` where the file tells it; else empty.
    source
        What told which nodes are one layer.
    rows
        Layers, in the order of the file.
    listed
        The layers that Keras itself lists, where the export's manifest has them.
    nodes
        One row for each node.
    foldable
        The operator that each BatchNorm which can be folded would go into, both by their labels.
    folded
        Channels of each BatchNorm that an operator has probably swallowed, where they are known.
    affine
        Channels of each BatchNorm of which slope and intercept alone are left.
    """

    path: str
    producer: str
    framework: str
    source: Source
    inputs: tuple[Input, ...]
    rows: tuple[Row, ...]
    nodes: tuple[NodeRow, ...]
    count: Count
    foldable: Mapping[str, str] = field(default_factory=dict)
    folded: tuple[int, ...] = ()
    affine: tuple[int, ...] = ()
    listed: tuple[Row, ...] = ()
    not_exported: tuple[NotExported, ...] = ()
    notes: tuple[str, ...] = ()
