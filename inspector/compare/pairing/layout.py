"""Which axis is the channel: what the graph itself says of each value's layout.

ONNX's convolutions, pools and normalisations take channels first. A value's layout is told by
the way from it to such an operator: a Transpose on that way permutes the axes, and so does a
Reshape that only moves axes of length 1 (tf2onnx writes NHWC to NCHW so when there is one
channel). Shapes alone tell nothing: (1, 8, 8, 8) is its own transpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.facts.model import Dim, Model, Node

Axes: TypeAlias = tuple[int, ...]
"""Entry i is the channel-first axis (0 batch, 1 channel, 2… spatial) that dimension i holds."""

Dims: TypeAlias = tuple[Dim, ...]

_CHANNEL_FIRST = frozenset(
    "Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool "
    "BatchNormalization InstanceNormalization LRN DepthToSpace SpaceToDepth".split()
)
_SAME_AXES = frozenset(
    "Identity Cast Dropout Relu LeakyRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Swish Mish "
    "Softplus Softsign Tanh Erf Gelu Exp Log Sqrt Reciprocal Abs Neg Ceil Floor Round Sign Clip "
    "ThresholdedRelu PRelu Softmax LogSoftmax Hardmax Pad Resize Upsample Slice Concat Sum Mean "
    "Max Min Add Sub Mul Div Pow Where Not".split()
)

_KEEPS_FEATURES = _SAME_AXES | {"Reshape", "Flatten", "BatchNormalization"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """A value [N, features] that was flattened from dims in an order of axes."""

    axes: Axes
    dims: tuple[int, ...]

    def order(self) -> NDArray[np.intp]:
        """For each feature in channel-first order, its index in this value. Shape [features]."""
        indices = np.arange(int(np.prod(self.dims))).reshape(self.dims)
        return np.asarray(indices.transpose(np.argsort(self.axes[1:])).reshape(-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layouts:
    """The layouts that a graph tells. `told_by` names the operator that told an input's."""

    axes: Mapping[str, Axes]
    flat: Mapping[str, Flat]
    told_by: Mapping[str, str]


def find_layouts(model: Model) -> Layouts:
    """Layouts of the main graph's values, by propagation from channel-first operators."""
    return _Propagation(model).run()


def channel_first(rank: int) -> Axes:
    """NCHW, and the like of other ranks."""
    return tuple(range(rank))


def channel_last(rank: int) -> Axes:
    """NHWC, and the like of other ranks."""
    return (0, *range(2, rank), 1)


def permutation(left: Axes, right: Axes) -> Axes:
    """The left dimension that each right dimension corresponds to."""
    return tuple(left.index(axis) for axis in right)


def name_of(axes: Axes) -> str:
    """The usual name of a layout: NCHW, NHWC, and the like of other ranks."""
    letters = "NC" + {3: "L", 4: "HW", 5: "DHW"}.get(len(axes), "".join(map(str, axes[2:])))
    return "".join(letters[axis] for axis in axes) if len(letters) == len(axes) else str(axes)


class _Propagation:
    def __init__(self, model: Model) -> None:
        self._nodes = model.graph.nodes
        self._dims: dict[str, Dims | None] = {
            name: value.dims for name, value in model.graph.values.items()
        }
        self._stored = frozenset(model.graph.initializers) | {
            name for node in self._nodes if node.op_type == "Constant" for name in node.outputs
        }
        self._axes: dict[str, Axes] = {}
        self._flat: dict[str, Flat] = {}
        self._told: dict[str, str] = {}
        self._changed = False

    def run(self) -> Layouts:
        for node in self._nodes:
            self._seed(node)
        # Each round carries what is known one way down and one way up; real graphs settle in two.
        for _ in range(len(self._nodes) + 1):
            self._changed = False
            for node in self._nodes:
                self._carry(node)
            for node in reversed(self._nodes):
                self._carry(node)
            if not self._changed:
                break
        for node in self._nodes:
            self._flatten(node)
        return Layouts(axes=self._axes, flat=self._flat, told_by=self._told)

    def _rank(self, value: str) -> int | None:
        dims = self._dims.get(value)
        return None if dims is None else len(dims)

    def _set(self, value: str, axes: Axes, told_by: str) -> None:
        if value and value not in self._axes and value not in self._stored:
            self._axes[value] = axes
            self._told[value] = told_by
            self._changed = True

    def _seed(self, node: Node) -> None:
        if not node.is_standard or node.op_type not in _CHANNEL_FIRST or not node.outputs:
            return
        rank = self._rank(node.input(0)) or self._rank(node.outputs[0])
        if rank is not None and rank >= 3:
            for value in (node.input(0), node.outputs[0]):
                self._set(value, tuple(range(rank)), f"{node.op_type} {node.label!r}")

    def _carry(self, node: Node) -> None:
        if not node.is_standard or not node.outputs:
            return
        if node.op_type == "Transpose":
            self._carry_transpose(node)
        elif node.op_type in ("Reshape", "Squeeze", "Unsqueeze"):
            self._carry_reshape(node)
        elif node.op_type in _SAME_AXES:
            self._carry_same(node)

    def _carry_transpose(self, node: Node) -> None:
        source, target = node.input(0), node.outputs[0]
        known = self._axes.get(source) or self._axes.get(target)
        if known is None:
            return
        perm = node.ints_attribute("perm") or tuple(reversed(range(len(known))))
        if sorted(perm) != list(range(len(known))):
            return
        if source in self._axes:
            self._set(target, tuple(known[i] for i in perm), self._told[source])
        else:
            self._set(source, tuple(known[perm.index(i)] for i in range(len(perm))), node.op_type)

    def _carry_reshape(self, node: Node) -> None:
        source, target = node.input(0), node.outputs[0]
        for known, other in ((source, target), (target, source)):
            if known in self._axes and other not in self._axes:
                axes = _moved_ones(self._axes[known], self._dims.get(known), self._dims.get(other))
                if axes is not None:
                    self._set(other, axes, node.op_type if other == source else self._told[known])

    def _carry_same(self, node: Node) -> None:
        values = [name for name in (*node.inputs, node.outputs[0]) if name]
        known = next((name for name in values if name in self._axes), None)
        if known is None:
            return
        for name in values:
            if self._rank(name) == len(self._axes[known]):
                self._set(name, self._axes[known], self._told[known])

    def _flatten(self, node: Node) -> None:
        if not node.outputs or not node.is_standard:
            return
        source, target = node.input(0), node.outputs[0]
        if source in self._flat and node.op_type in _KEEPS_FEATURES:
            if self._rank(target) == 2:
                self._flat[target] = self._flat[source]
        elif node.op_type in ("Reshape", "Flatten") and source in self._axes:
            dims, flat = self._dims.get(source), self._dims.get(target)
            if dims is None or flat is None or len(flat) != 2 or self._axes[source][0] != 0:
                return
            features = _known(dims[1:])
            if features is not None and flat[1] in (None, int(np.prod(features))):
                self._flat[target] = Flat(axes=self._axes[source], dims=features)


def _known(dims: Iterable[Any]) -> tuple[int, ...] | None:
    found = tuple(dims)
    return found if all(isinstance(dim, int) for dim in found) else None


def _moved_ones(axes: Axes, dims: Dims | None, other: Dims | None) -> Axes | None:
    """Axes of a reshaped value that differs from `dims` only in where its ones stand."""
    if dims is None or other is None or len(dims) != len(other):
        return None
    long = [i for i, dim in enumerate(dims) if dim != 1]
    other_long = [i for i, dim in enumerate(other) if dim != 1]
    if [_length(dims[i]) for i in long] != [_length(other[i]) for i in other_long]:
        return None
    found: dict[int, int] = {
        there: axes[here] for here, there in zip(long, other_long, strict=True)
    }
    rest = iter(sorted(axes[i] for i in range(len(dims)) if i not in long))
    return tuple(found[i] if i in found else next(rest) for i in range(len(other)))


def _length(dim: Dim) -> int | None:
    """A dimension's length; inference gives one unknown batch many names."""
    return dim if isinstance(dim, int) else None
