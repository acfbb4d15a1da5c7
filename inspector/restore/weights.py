"""A reference made of tensors alone: which layer each BatchNorm stands behind, and its epsilon.

A file of weights tells neither. Both are found in the stock export, and hold only if its numbers
are what they say, channel by channel, within what rounding explains.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inspector.facts.batchnorm import Affine, BatchNorm, Form, Norms
from inspector.facts.model import Model
from inspector.recognise.folded import Traces
from inspector.recognise.folding import EPSILONS, ROUNDINGS, Sought, as_folded, same_map
from inspector.recognise.layers import Layer, layer_of
from inspector.recognise.scopes import places
from inspector.recognise.values import load_affine, load_values
from inspector.restore.tensors import Array, Group, Weight, groups, matrices, weights

COMMON = (1e-5, 1e-3, 1.001e-5, 1e-6, 1e-4, 2e-5, 1e-12, 1e-7, 1e-8, 1e-2)
"""What frameworks and their model zoos use: torch, Keras, keras.applications' ResNets, timm …"""

_DIGITS = 9
"""Digits that tell one float32 from all others, and one."""

_CLOSE = 1e-3
"""How far a slope may be off for a layer to be looked at more closely."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """A BatchNorm with the epsilons that fit; the layer before it, where it is folded into one.

    `slope` is what the stock export has of it, and `matrix` are that layer's weights [C, inputs].
    """

    group: Group
    epsilons: tuple[float, ...]
    slope: Array
    weight: Weight | None = None
    matrix: Array | None = None


def placed(model: Model, norms: Norms, tensors: Mapping[str, Array]) -> list[Placed]:
    """Where each BatchNorm of some tensors is in a model; without an epsilon where it is nowhere.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    found: dict[int, Placed] = {}
    all_groups = groups(tensors)
    for slope, one in _scaled(model, list(weights(tensors))):
        for group in all_groups:
            if id(group) not in found and group.channels == slope.size:
                fitting = tuple(one.fitting(group, slope))
                if fitting:
                    found[id(group)] = Placed(
                        group=group,
                        epsilons=fitting,
                        slope=slope,
                        weight=one.weight,
                        matrix=one.matrix,
                    )
    maps = list(_maps(model, norms))
    for group in all_groups:
        if id(group) not in found:
            found[id(group)] = _among(maps, group)
    return _settled([found[id(each)] for each in all_groups])


def _settled(found: Sequence[Placed]) -> list[Placed]:
    """Each with its epsilons in order: the one first that most layers bear out, and best.

    In one layer, 1e-5 and 1.001e-5 can be the same within rounding. Rounding goes either way, and
    over all channels of all layers the wrong one shows: by least squares.
    """
    times: Counter[float] = Counter()
    squares: dict[float, float] = defaultdict(float)
    for one in found:
        for epsilon in one.epsilons:
            slope = _sought(one.group, epsilon).slope
            times[epsilon] += 1
            with np.errstate(all="ignore"):
                off = one.slope / slope - 1
            squares[epsilon] += float(np.square(off[np.isfinite(off)]).sum())
    return [
        replace(
            one,
            epsilons=tuple(sorted(one.epsilons, key=lambda each: (-times[each], squares[each]))),
        )
        for one in found
    ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scaled:
    """An operator whose weights are a framework's, scaled channel by channel."""

    layer: Layer
    weight: Weight
    matrix: Array

    def fitting(self, group: Group, slope: Array) -> Iterator[float]:
        """The epsilons with which a BatchNorm makes the operator's weights and bias."""
        bias = np.zeros(slope.size) if self.weight.bias is None else self.weight.bias
        if bias.size != slope.size:
            return
        original = Layer(
            weights=self.matrix,
            biases=(bias.astype(np.float64),),
            dtype=self.matrix.dtype.name,
        )

        def holds(sought: Sought) -> bool:
            near = _near(slope, sought.slope)
            return near and as_folded(self.layer, original, sought) is not None

        yield from _epsilons(group, slope, holds)


def _scaled(model: Model, found: Sequence[Weight]) -> Iterator[tuple[Array, _Scaled]]:
    """Operators whose weights are a framework's but for a number for each channel: its slope."""
    for place in places(model):
        for node in Traces(place).nodes:
            layer = layer_of(node, place)
            tensor = place.binding(node.input(1)).tensor
            if layer is None or tensor is None:
                continue
            channels, group = layer.weights.shape[0], node.int_attribute("group", 1)
            for weight in found:
                if weight.values.size != layer.weights.size:
                    continue
                for matrix in matrices(weight.values, node.op_type, tensor.dims, channels, group):
                    slope = _slope(layer.weights, matrix)
                    if slope is not None:
                        yield slope, _Scaled(layer=layer, weight=weight, matrix=matrix)


def _slope(scaled: Array, matrix: Array) -> Array | None:
    """What one matrix is multiplied by in each row to be the other, if it is."""
    if scaled.shape != matrix.shape or not matrix.size:
        return None
    rows = np.arange(matrix.shape[0])
    at = np.abs(matrix).argmax(axis=1)
    with np.errstate(all="ignore"):
        slope = scaled[rows, at].astype(np.float64) / matrix[rows, at].astype(np.float64)
        expected = slope[:, None] * matrix.astype(np.float64)
        room = ROUNDINGS * EPSILONS.get(matrix.dtype.name, 2**-23)
        most = np.abs(expected).max(axis=1, keepdims=True)
        fits = np.abs(scaled.astype(np.float64) - expected) <= 2 * room * most
    return slope if bool(fits.all()) and bool(np.isfinite(slope).all()) else None


def _epsilons(group: Group, slope: Array, holds: Callable[[Sought], bool]) -> Iterator[float]:
    """The epsilons in use that fit; if none does, the shortest number that the slopes bear out."""
    fitting = [each for each in COMMON if holds(_sought(group, each))]
    if fitting:
        yield from fitting
        return
    scale, var = group.four[0].astype(np.float64), group.four[3].astype(np.float64)
    with np.errstate(all="ignore"):
        told = np.square(scale / slope) - var
    # Where the variance is small, epsilon weighs most.
    solved = float(told[int(var.argmin())]) if var.size else 0.0
    if not np.isfinite(solved) or solved <= 0:
        return
    for digits in range(1, _DIGITS):
        short = float(f"{solved:.{digits}g}")
        if holds(_sought(group, short)):
            yield short
            return


def _near(slope: Array, wanted: Array) -> bool:
    with np.errstate(all="ignore"):
        return bool((np.abs(slope - wanted) <= _CLOSE * np.abs(wanted)).all())


def _sought(group: Group, epsilon: float) -> Sought:
    """A BatchNorm's map under an epsilon, which nodes hold as float32."""
    scale, bias, mean, var = (each.astype(np.float64) for each in group.four)
    with np.errstate(all="ignore"):
        slope = scale / np.sqrt(var + np.float64(np.float32(epsilon)))
    return Sought(
        norm=None,  # type: ignore[arg-type]  # there is no node: what is asked for are numbers
        slope=slope,
        intercept=bias - mean * slope,
        terms=np.abs(bias) + np.abs(mean * slope),
        dtype=group.four[3].dtype.name,
        before=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Map:
    """What could be a BatchNorm; `epsilon` is None where it does not tell its own."""

    slope: Array
    intercept: Array
    dtype: str
    epsilon: float | None = None


def _maps(model: Model, norms: Norms) -> Iterator[_Map]:
    """Slopes and intercepts of all that could be a BatchNorm and is not folded."""
    all_of_them: list[BatchNorm | Affine] = [*norms.batchnorms, *norms.affines]
    for each in all_of_them:
        if isinstance(each, BatchNorm) and not each.steps:
            if each.form is Form.RUNTIME or each.training or each.var.tensor is None:
                continue
            loaded = load_values(each, model)
            if loaded.slope is not None and loaded.intercept is not None:
                dtype = each.var.tensor.dtype
                yield _Map(
                    slope=loaded.slope,
                    intercept=loaded.intercept,
                    dtype=dtype,
                    epsilon=each.epsilon,
                )
            continue
        # An addition in front may be the bias of the layer before.
        for steps in (each.steps, each.steps[1:] if each.steps[0].op_type == "Add" else ()):
            if steps:
                slope, intercept = load_affine(steps, each.channels or 1, model)
                if slope is not None and intercept is not None:
                    dtype = steps[0].tensor.dtype
                    yield _Map(slope=slope, intercept=intercept, dtype=dtype)


def _among(maps: Sequence[_Map], group: Group) -> Placed:
    """A BatchNorm with the epsilons with which it is one of the maps."""
    for each in maps:
        if each.slope.size != group.channels:
            continue

        def holds(sought: Sought, each: _Map = each) -> bool:
            return same_map(each.slope, each.intercept, each.dtype, sought) is not None

        if each.epsilon is not None and holds(_sought(group, each.epsilon)):
            # What a node says is not to be guessed.
            return Placed(group=group, epsilons=(each.epsilon,), slope=each.slope)
        found = tuple(_epsilons(group, each.slope, holds))
        if found:
            return Placed(group=group, epsilons=found, slope=each.slope)
    return Placed(group=group, epsilons=(), slope=np.zeros(0))
