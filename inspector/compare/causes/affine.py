"""What a layer and the per-channel affine operators behind it come down to together.

One exporter keeps a BatchNorm, another folds it into the layer in front, a third writes Mul and
Add, a fourth splits it: y = s · (W ∗ x + b) + t is one function of each channel however it is
written, and that is what is compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from inspector.compare.graphs.correspondence import Correspondence
from inspector.compare.graphs.grids import Steps, half_steps
from inspector.compare.graphs.moves import axis_behind, in_words, way
from inspector.compare.graphs.parameters import normal
from inspector.compare.graphs.structure import Layer, Network, Stored
from inspector.compare.runtime.run import Array
from inspector.facts.batchnorm import DEFAULT_EPSILON, is_training

_ARITHMETIC = frozenset({"Mul", "Add", "Sub", "Div"})
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Dense"})
NO_STEPS: Steps = MappingProxyType({})

_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Channels:
    """y = slope · x + intercept per channel, float64 [C] or [1]; `size` is what was added up."""

    slope: Array
    intercept: Array
    size: Array

    def then(self, other: Channels) -> Channels:
        """What this and another one behind it do together."""
        with np.errstate(invalid="ignore", over="ignore"):
            return Channels(
                slope=other.slope * self.slope,
                intercept=other.slope * self.intercept + other.intercept,
                size=np.abs(other.slope) * self.size + other.size,
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A layer, or a graph input, and the affine operators in a row behind it.

    `value` is what comes out at the end. `channel` says along what the operators work where the
    anchor does not: how its value is moved, and which axis it is then.
    """

    anchor: Layer | None
    layers: tuple[Layer, ...]
    value: str
    affine: Channels
    channel: str = ""

    @property
    def shown(self) -> str:
        """How messages name it."""
        first = [self.anchor] if self.anchor is not None else []
        return " + ".join(each.shown for each in (*first, *self.layers))

    @property
    def operators(self) -> tuple[str, ...]:
        """What it is written in."""
        return tuple(each.op for each in self.layers)

    @property
    def nodes(self) -> frozenset[str]:
        """First outputs of the nodes that its parameters are made of.

        An anchor without weights of its own (a Relu, a Gather) stands in front of the run: what it
        does is in no number of the run, and what differs there is not decided by it.
        """
        own = {self.anchor.node} if self.anchor is not None and is_weighted(self.anchor) else set()
        return frozenset(own | {each.node for each in self.layers})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Effective:
    """A run's parameters: weights [C, k] where its anchor has any, and offsets [C].

    `kernel` are the anchor's own weights, which the slopes of the run come on top of, `window` the
    dims of one output's: three in a row are no three in a column. `grid` is how far rounding to a
    grid can have moved each of them, `offset_grid` the same of offsets.
    """

    kernel: Array | None
    offset: Array
    slope: Array
    size: Array
    window: tuple[int, ...] = ()
    grid: Array | None = None
    offset_grid: Array | None = None

    @property
    def weights(self) -> Array | None:
        """Those of the whole run, in float64."""
        return None if self.kernel is None else self.rows(0, len(self.kernel))

    def rows(self, start: int, end: int) -> Array:
        """Some rows of `weights`: a kernel takes several times its size as a whole."""
        assert self.kernel is not None  # asked of weighted runs alone
        some: Array = self.kernel[start:end].astype(np.float64)
        some *= np.broadcast_to(self.slope, len(self.kernel))[start:end, None]
        return some

    def is_shaped_as(self, other: Effective) -> bool:
        """Whether kernels have their weights along the same axes; more dims may be ones more."""
        windows = self.window, other.window
        if len(windows[0]) == len(windows[1]):
            return windows[0] == windows[1]
        long = [[dim for dim in each if dim != 1] for each in windows]
        return long[0] == long[1]

    def moved(self, start: int, end: int) -> Array | float:
        """How far rounding to a grid can have moved `rows`."""
        if self.grid is None or self.kernel is None:
            return 0.0
        slope = np.abs(np.broadcast_to(self.slope, len(self.kernel)))
        return np.asarray(self.grid[start:end] * slope[start:end, None])


class Runs:
    """Finds the runs of one network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._readers: dict[str, list[Layer]] = defaultdict(list)
        for layer in network.layers:
            for name in dict.fromkeys(layer.inputs):
                self._readers[name].append(layer)
        nodes = network.model.graph.nodes
        self._producer = {name: each for each in nodes for name in each.outputs if name}
        ends = (each.name for each in network.model.graph.outputs)
        self._outputs = {network.sources.get(name, name) for name in ends}

    def behind(self, value: str, anchor: Layer | None) -> Run:
        """The run that begins with what computes `value`.

        It ends where an operator works along another axis than those in front of it: a scale behind
        a Transpose may be one for each row.
        """
        affine = Channels(slope=np.ones(1), intercept=np.zeros(1), size=np.zeros(1))
        layers: list[Layer] = []
        axis = self._channel_axis(value, anchor)
        undecided, channel, moves = axis is None and not is_weighted(anchor), "", ""
        graph = self._network.model.graph
        while value not in self._outputs and len(readers := self._readers[value]) == 1:
            layer = readers[0]
            found = affine_of(layer, self._network)
            if found is None or not _fits(affine, found):
                break
            read = _name_read(layer)
            nodes = way(self._producer, value, read)
            if nodes is None:
                break
            axis = axis if axis is None else axis_behind(graph, nodes, axis)
            moves += in_words(graph, nodes)
            if found.slope.size > 1 or found.intercept.size > 1:
                own = _channel_axis(layer, self._network)
                if undecided:
                    undecided, channel, axis = False, f"axis {own} behind {moves}", own
                elif axis is None or axis != own:
                    break
            axis = None if axis is None else self._lengthened(layer, read, axis)
            layers.append(layer)
            affine = affine.then(found)
            value = layer.value
        return Run(anchor=anchor, layers=tuple(layers), value=value, affine=affine, channel=channel)

    def _channel_axis(self, value: str, anchor: Layer | None) -> int | None:
        """The axis of channels of what an anchor gives; None where nothing tells it."""
        known = self._network.model.graph.values.get(value)
        rank = None if known is None or known.dims is None else len(known.dims)
        if is_weighted(anchor) and anchor is not None:
            dense = anchor.op == "Dense" and anchor.node_fact.op_type != "Gemm"
            return (None if rank is None else rank - 1) if dense else 1
        axes = self._network.layouts.axes.get(value)
        return axes.index(1) if axes is not None else 1 if rank == 2 else None

    def _lengthened(self, layer: Layer, read: str, axis: int) -> int | None:
        """`axis` in what an operator gives, which a number with many dims may make longer."""
        values = self._network.model.graph.values
        before, after = (values.get(name) for name in (read, layer.value))
        if before is None or after is None or before.dims is None or after.dims is None:
            return axis if all(len(each.dims or (1, 1)) <= 1 for each in layer.stored) else None
        return axis + len(after.dims) - len(before.dims)


def _name_read(layer: Layer) -> str:
    """Under which name an affine operator reads what it changes."""
    if layer.op == "BatchNormalization":
        return layer.node_fact.input(0)
    return layer.node_fact.input(1 - layer.stored[0].position)


def _channel_axis(layer: Layer, network: Network) -> int:
    """The axis along which an affine operator with a vector works."""
    if layer.op == "BatchNormalization":
        return 1
    read = network.model.graph.values[_name_read(layer)].dims or ()
    dims = layer.stored[0].dims or ()
    return len(read) - len(dims) + next(at for at, dim in enumerate(dims) if dim != 1)


def _fits(affine: Channels, behind: Channels) -> bool:
    """Whether two are of one number of channels; one number is of any."""
    return 1 in (affine.slope.size, behind.slope.size) or affine.slope.size == behind.slope.size


def paired_runs(found: Correspondence) -> Iterator[tuple[Run, Run]]:
    """Runs that begin with layers that are paired, or with paired inputs, and are not empty."""
    lefts, rights = Runs(found.left), Runs(found.right)
    inside: set[str] = set()
    starts: list[tuple[str, str, Layer | None, Layer | None]] = [
        (a, b, None, None) for a, b in found.inputs.items()
    ]
    starts += [(a.value, b.value, a, b) for a, b in found.alignment.pairs]
    for left, right, a, b in starts:
        if left in inside:
            continue
        runs = lefts.behind(left, a), rights.behind(right, b)
        # What begins in the middle of another run is a part of it.
        inside |= {each.value for each in runs[0].layers}
        if runs[0].layers or runs[1].layers:
            yield runs


def affine_of(layer: Layer, network: Network) -> Channels | None:
    """What an inference BatchNorm, or arithmetic with a stored vector, does to each channel."""
    if layer.domain or len(layer.inputs) != 1:
        return None
    if layer.op == "BatchNormalization":
        return _of_norm(layer, network)
    if layer.op in _ARITHMETIC and len(layer.stored) == 1:
        return _of_arithmetic(layer, layer.stored[0], network)
    return None


def effective(run: Run, network: Network, steps: Steps = NO_STEPS) -> Effective | None:
    """A run's parameters; None where its anchor's cannot be taken apart by channel."""
    with np.errstate(invalid="ignore", over="ignore"):
        return _effective(run, network, steps)


def _effective(run: Run, network: Network, steps: Steps) -> Effective | None:
    affine = run.affine
    plain = Effective(kernel=None, offset=affine.intercept, slope=affine.slope, size=affine.size)
    if run.anchor is None or run.anchor.op not in _WEIGHTED:
        return plain
    roles = {each.role: each for each in run.anchor.stored}
    if "kernel" not in roles or roles.keys() - {"kernel", "bias"}:
        return None
    if roles["kernel"].tensor.dtype not in _FLOATS:
        return None
    read = normal(roles["kernel"], network.model.weights)
    kernel = _by_output(run.anchor, read)
    if kernel is None or affine.slope.size not in (1, len(kernel)):
        return None
    bias = np.zeros(1)
    if "bias" in roles:
        bias = np.ravel(network.model.weights.load(roles["bias"].tensor)).astype(np.float64)
    if bias.size not in (1, len(kernel)):
        return None
    grid = half_steps(roles["kernel"], steps)
    offset_grid = half_steps(roles["bias"], steps) if "bias" in roles else None
    for layer in run.layers:  # a bias that is added behind the anchor
        for each in layer.stored if layer.op in ("Add", "Sub") else ():
            own = half_steps(each, steps)
            if own is not None:
                offset_grid = np.ravel(own) + (0.0 if offset_grid is None else offset_grid.ravel())
    return Effective(
        kernel=kernel,
        offset=np.broadcast_to(affine.slope * bias + affine.intercept, len(kernel)),
        slope=affine.slope,
        size=np.broadcast_to(np.abs(affine.slope * bias) + affine.size, len(kernel)),
        window=read.shape[2:],
        grid=None if grid is None else _by_output(run.anchor, grid),
        offset_grid=None if offset_grid is None else np.ravel(offset_grid) * np.abs(affine.slope),
    )


def is_weighted(layer: Layer | None) -> bool:
    return layer is not None and layer.op in _WEIGHTED and not layer.domain


def _of_norm(layer: Layer, network: Network) -> Channels | None:
    if is_training(layer.node_fact, network.model.opset):
        return None
    roles = {each.role: each for each in layer.stored}
    if roles.keys() != {"scale", "B", "mean", "var"}:
        return None
    scale, bias, mean, var = (
        network.model.weights.load(roles[name].tensor).astype(np.float64).ravel()
        for name in ("scale", "B", "mean", "var")
    )
    epsilon = np.float32(layer.node_fact.float_attribute("epsilon", DEFAULT_EPSILON))
    if len({each.size for each in (scale, bias, mean, var)}) != 1 or (var + epsilon <= 0).any():
        return None
    slope = scale / np.sqrt(var + np.float64(epsilon))
    return Channels(
        slope=slope, intercept=bias - mean * slope, size=np.abs(bias) + np.abs(mean * slope)
    )


def _of_arithmetic(layer: Layer, stored: Stored, network: Network) -> Channels | None:
    if stored.tensor.dtype not in _FLOATS or not _is_by_channel(layer, stored, network):
        return None
    values = network.model.weights.load(stored.tensor).astype(np.float64).ravel()
    zeros, ones = np.zeros_like(values), np.ones_like(values)
    match layer.op, stored.position:
        case "Mul", _:
            return Channels(slope=values, intercept=zeros, size=zeros)
        case "Add", _:
            return Channels(slope=ones, intercept=values, size=np.abs(values))
        case "Sub", 1:
            return Channels(slope=ones, intercept=-values, size=np.abs(values))
        case "Sub", 0:
            return Channels(slope=-ones, intercept=values, size=np.abs(values))
        case "Div", 1 if (values != 0).all():
            return Channels(slope=1.0 / values, intercept=zeros, size=zeros)
    return None


def _is_by_channel(layer: Layer, stored: Stored, network: Network) -> bool:
    """Whether a stored operand is one number, or one for each channel of what it is put to."""
    if stored.tensor.elements == 1:
        return True
    node = layer.node_fact
    value = node.input(1 - stored.position)
    known = network.model.graph.values.get(value)
    dims = stored.dims
    if dims is None or known is None or known.dims is None or len(dims) > len(known.dims):
        return False
    rank = len(known.dims)
    long = [rank - len(dims) + at for at, dim in enumerate(dims) if dim != 1]
    if len(long) != 1 or value in network.layouts.flat:
        return False
    axes = network.layouts.axes.get(value)
    if axes is not None and len(axes) == rank:
        return axes[long[0]] == 1
    return rank == 2 and long[0] == 1


def _by_output(layer: Layer, kernel: Array) -> Array | None:
    """A kernel as [outputs, weights of each]."""
    if layer.op == "Conv":
        return kernel.reshape(kernel.shape[0], -1)
    if layer.op == "Dense":
        return np.ascontiguousarray(kernel.T)
    groups = layer.node_fact.int_attribute("group", 1)
    inputs, outputs = kernel.shape[:2]
    if groups < 1 or inputs % groups:
        return None
    split = kernel.reshape(groups, inputs // groups, outputs, -1).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(split).reshape(groups * outputs, -1)


def from_output(layer: Layer, weights: Array, like: Array) -> Array:
    """Weights [outputs, weights of each] as a kernel in common form; undoes `_by_output`."""
    if layer.op == "Conv":
        return weights.reshape(like.shape)
    if layer.op == "Dense":
        return weights.T.reshape(like.shape)
    groups = layer.node_fact.int_attribute("group", 1)
    inputs, outputs = like.shape[:2]
    split = weights.reshape(groups, outputs, inputs // groups, -1).transpose(0, 2, 1, 3)
    return split.reshape(like.shape)
