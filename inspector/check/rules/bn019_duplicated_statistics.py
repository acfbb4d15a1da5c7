"""BN019: statistics that are another layer's, or another role's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.subject import Layer, Subject
from inspector.check.together import MOST_NAMES, divisible, named
from inspector.check.values import doubles, is_all, is_constant
from inspector.check.words import in_channels, listed, number
from inspector.facts.arrays import Vector
from inspector.facts.batchnorm import BatchNorm, Confidence, Parameter
from inspector.facts.finding import RuleInfo, Severity
from inspector.facts.model import Scope, Storage

_INFO = RuleInfo(
    code="BN019",
    name="duplicated-statistics",
    severity=Severity.WARNING,
    confidence=Confidence.LIKELY,
    summary="Mean and variance are bit for bit another layer's, or one tensor has two roles.",
    why="Two layers do not see the same data unless they read the same value: equal statistics "
    "are a copy under a wrong name, or initializers that were merged by mistake. One tensor as "
    "mean and variance, or as scale and variance, is the same accident within a layer; whoever "
    "trains the file on changes both. Constants are not compared across layers, nor are "
    "layers that read the same value, or stand in different branches of an If. Where all four "
    "parameters are the same tensors, one module may have been called twice on purpose: then it "
    "is info. Of a new layer the exporter may merge scale with var (ones) and B with mean (zeros); "
    "BN015 says that.",
    remedy="compare with the checkpoint's tensors of these names, and export again without merging "
    "initializers",
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}, float[2] s2 = {0.5, 3.0}, float[2] b2 = {0.0, 1.0}>
{ [bn1] h = BatchNormalization(x, s, b, m, v)
  [bn2] y = BatchNormalization(h, s2, b2, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}, float[2] s2 = {0.5, 3.0}, float[2] b2 = {0.0, 1.0},
 float[2] m2 = {0.5, -1.0}, float[2] v2 = {0.75, 1.25}>
{ [bn1] h = BatchNormalization(x, s, b, m, v)
  [bn2] y = BatchNormalization(h, s2, b2, m2, v2) }
""",
)

_BEGIN = {"scale": (0.0, 1.0), "B": (0.0,), "mean": (0.0,), "var": (1.0,)}
"""What layers begin with: scales of zero are those of residual blocks."""

_MOST_COMPARED = 64
"""Equal layers whose places are compared; a function may be called ten thousand times."""


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    groups: dict[tuple[object, ...], list[Layer]] = {}
    for layer in subject.layers():
        yield from _two_roles(layer)
        key = _statistics(layer)
        if key is not None:
            groups.setdefault(key, []).append(layer)
    for group in groups.values():
        told = _apart(group)
        yield from divisible(told, [layer.norm.name for layer in told], _same)


def _values(layer: Layer) -> Iterator[tuple[str, Parameter, Vector]]:
    arrays = layer.arrays
    four = arrays.scale, arrays.bias, arrays.mean, arrays.var
    for (name, parameter), values in zip(layer.norm.parameters, four, strict=True):
        if values is not None and values.size:
            yield name, parameter, values


def _two_roles(layer: Layer) -> Iterator[Found]:
    """One tensor, or the same values, in two roles of a layer."""
    for (one, first, values), (other, second, others) in combinations(_values(layer), 2):
        if values.dtype != others.dtype or values.shape != others.shape:
            continue
        shared = _stored(first) is not None and _stored(first) == _stored(second)
        # Equal constants that are stored twice say nothing.
        if not shared and (values.tobytes() != others.tobytes() or not _tells(values)):
            continue
        if shared and _is_as_new(one, values) and _is_as_new(other, values):
            continue
        tensor = (first.stored or first.tensor) if shared else None
        what = f"are one tensor ({tensor.name})" if tensor is not None else "hold the same values"
        channels = range(values.size)
        low, high = float(doubles(values).min()), float(doubles(values).max())
        yield found(
            layer.norm,
            f"{one} and {other} {what} {in_channels(channels, values.size)}, "
            f"from {number(low)} to {number(high)}",
            channels=channels,
            confidence=Confidence.CERTAIN if tensor is not None else None,
            roles=f"{one}, {other}",
            tensor="" if tensor is None else tensor.name,
        )


def _tells(values: Vector) -> bool:
    """Whether no two roles have these values by chance."""
    return bool(np.isfinite(doubles(values)).all()) and not is_constant(values)


def _stored(parameter: Parameter) -> int | None:
    """The tensor of the file that a parameter is, if it is one and not computed from some."""
    tensor = parameter.stored or parameter.tensor
    return None if tensor is None or tensor.storage is Storage.NOWHERE else tensor.key


def _is_as_new(role: str, values: Vector) -> bool:
    return any(is_all(values, each) for each in _BEGIN[role])


def _statistics(layer: Layer) -> tuple[object, ...] | None:
    """Mean and variance, to be compared bit for bit; None for constants and what is not known."""
    mean, var = layer.arrays.mean, layer.arrays.var
    if mean is None or var is None or (is_constant(mean) and is_constant(var)):
        return None
    # Damaged values are alike, and have a rule of their own.
    if not (np.isfinite(doubles(mean)).all() and np.isfinite(doubles(var)).all()):
        return None
    return str(mean.dtype), mean.tobytes(), str(var.dtype), var.tobytes()


def _apart(layers: Sequence[Layer]) -> list[Layer]:
    """Those of some layers that might each have had statistics of their own."""
    found: list[Layer] = []
    for layer in layers:
        norm = layer.norm
        if not any(
            (norm.scope, norm.entered) == (each.norm.scope, each.norm.entered)
            or _are_alternatives(norm.scope, each.norm.scope)
            for each in found[:_MOST_COMPARED]
        ):
            found.append(layer)
    return found


def _are_alternatives(one: Scope, other: Scope) -> bool:
    """Whether two scopes lie in the two branches of one If."""
    for part, against in zip(one, other, strict=False):
        if part != against:
            ends = {part.rpartition(".")[2], against.rpartition(".")[2]}
            same = part.rpartition(".")[0] == against.rpartition(".")[0]
            return same and ends == {"then_branch", "else_branch"}
    return False


def _same(layers: Sequence[Layer]) -> Found | None:
    if len(layers) < 2:
        return None
    norms = [layer.norm for layer in layers]
    first, *others = norms
    four = _all_four(layers[0])
    whole = len(four) == 4 and all(_all_four(layer) == four for layer in layers)
    shared = whole and _are_shared(norms)
    names = [norm.name for norm in others]
    equal = "all four of its parameters" if whole else "its mean and var"
    mean = layers[0].arrays.mean
    size = 0 if mean is None else mean.size
    return found(
        first,
        f"{equal} are bit for bit those of {_listed(names)} in all {size} channels",
        channels=range(size),
        severity=Severity.INFO if shared else None,
        # Some exporters write a module's constants once for each call of it.
        confidence=Confidence.POSSIBLE if whole else None,
        layers=len(norms),
        others=", ".join(names[:MOST_NAMES]),
    )


def _listed(names: Sequence[str]) -> str:
    return listed(names) if len(names) < 4 else f"{len(names)} others ({named(names)})"


def _all_four(layer: Layer) -> list[bytes]:
    return [doubles(values).tobytes() for _, _, values in _values(layer)]


def _are_shared(norms: Sequence[BatchNorm]) -> bool:
    """Whether all four parameters are the same tensors of the file, as of a module called twice."""
    keys = {tuple(_stored(each) for _, each in norm.parameters) for norm in norms}
    return len(keys) == 1 and None not in next(iter(keys))


RULE = Rule(info=_INFO, find=_find)
