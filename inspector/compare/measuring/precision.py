"""In what precision a model computes, and what it stores of that which rounding would move.

What counts is what lies on the way from inputs to outputs: weights that are kept in float16 and
cast back are float32 computing with rounded numbers (docs/decisions/0011-precision.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from inspector.compare.measuring.floor import FINE, Grain, neighbouring_weights
from inspector.compare.runtime.run import Array
from inspector.facts.graphs import captured
from inspector.facts.model import Model, Node, Tensor

_UNITS: Mapping[str, float] = {
    "bfloat16": 2.0**-7,
    "float16": 2.0**-10,
    "float32": 2.0**-23,
    "float64": 2.0**-52,
}

_COMPUTE = frozenset(
    "Conv ConvTranspose Gemm MatMul Einsum BatchNormalization InstanceNormalization LSTM GRU RNN "
    "LayerNormalization GroupNormalization FusedConv FusedMatMul FusedGemm Attention".split()
)

_QUANTISED = frozenset(
    "QLinearConv QLinearMatMul ConvInteger MatMulInteger DynamicQuantizeLinear QLinearAdd "
    "QLinearMul QLinearSigmoid QLinearLeakyRelu QLinearAveragePool QLinearGlobalAveragePool "
    "QLinearConcat QLinearSoftmax QGemm QAttention MatMulIntegerToFloat "
    "DynamicQuantizeMatMul DynamicQuantizeLSTM MatMulNBits GatherBlockQuantized".split()
)
"""Operators that compute with integers that stand for real numbers."""

_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"

_KERNEL_OF = {
    "DequantizeLinear": 0,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
    "QGemm": 3,
    "ConvInteger": 1,
    "MatMulInteger": 1,
}
"""Where an operator reads a stored tensor of quantised weights."""

_PACKED = frozenset({"MatMulNBits", "GatherBlockQuantized"})
"""Operators that say in an attribute how many bits their weights have; 4 where they do not."""

_NARROW = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
"""Types of weights that have fewer than 8."""

_SCALES_OF: Mapping[str, tuple[tuple[int, int | None], ...]] = {
    "QuantizeLinear": ((1, None),),
    "DequantizeLinear": ((1, 0),),
    "QLinearConv": ((1, None), (6, None)),
    "QLinearMatMul": ((1, 0), (4, 3), (6, None)),
    "QGemm": ((1, None), (7, None)),
    "QLinearAdd": ((1, 0), (4, 3), (6, None)),
    "QLinearMul": ((1, 0), (4, 3), (6, None)),
    "QLinearLeakyRelu": ((1, None), (3, None)),
    "QLinearSigmoid": ((1, None), (3, None)),
    "QLinearSoftmax": ((1, None), (3, None)),
    "QLinearAveragePool": ((1, None), (3, None)),
    "QLinearGlobalAveragePool": ((1, None), (3, None)),
}
"""Positions of scales, each with that of the value it belongs to where that may be stored."""

_BIAS_OF = {"QLinearConv": 8, "QGemm": 6}
"""An integer bias whose scale is that of the input times that of the weights, written nowhere."""

_STEP = 1 / 12
"""Share of quantised weights that move by one: the variance of rounding to a step is a twelfth."""

_STRETCHES = (17 / 16, 9 / 8)
"""By how much a grid is widened, so that every value falls anew: never clipped more than before."""

_MOST_MOVED = 2**28
"""Bytes of weights that are moved to measure rounding, of one model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What a model computes in.

    `unit` is the distance from 1 to the next number of the coarsest type that a value on the way
    from inputs to outputs has; `quantised` says that integers stand for real numbers there, the
    narrowest of `bits`; `why` is an operator that shows it, in words.
    """

    name: str
    unit: float
    quantised: bool
    why: str
    bits: int = 8

    @property
    def coarse(self) -> bool:
        return Grain(unit=self.unit, quantised=self.quantised).coarse


@dataclass(frozen=True, slots=True, kw_only=True)
class Coarser:
    """What the coarser of two precisions means for holding outputs together.

    `words` name what may move them: ``rounding``, ``float16 rounding``, ``int8 quantisation``.
    `unlike` says that the two sides compute in different precisions.
    """

    grain: Grain = FINE
    words: str = "rounding"
    unlike: bool = False


def coarser(left: Precision, right: Precision) -> Coarser:
    """The coarser of two precisions: a difference is measured in what that one can resolve."""
    quantised = left.quantised or right.quantised
    unit = max(left.unit, right.unit)
    grain = Grain(unit=unit, quantised=quantised)
    if quantised:
        bits = min(each.bits for each in (left, right) if each.quantised)
        words = f"int{bits} quantisation"
    elif grain.coarse:
        words = f"{next(n for n, u in _UNITS.items() if u == unit)} rounding"
    else:
        words = "rounding"
    unlike = (left.quantised, left.unit, left.name) != (right.quantised, right.unit, right.name)
    return Coarser(grain=grain, words=words, unlike=unlike)


def precision_of(model: Model, *, stands_for: float = 0.0) -> Precision:
    """The precision that a model computes in.

    Parameters
    ----------
    model
        With inferred shapes (`inspector.read.shapes`).
    stands_for
        The unit of a type that is computed in a finer one (`inspector.write.upgrade.Form.unit`).
    """
    found = _precision(model)
    if stands_for <= found.unit:
        return found
    name = next((n for n, unit in _UNITS.items() if unit == stands_for), found.name)
    return replace(found, name=name, unit=stands_for)


def _precision(model: Model) -> Precision:
    flow = _Flow(model)
    on_grids = [node for node in flow.nodes if flow.quantises(node)]
    # Where integers are computed with, that says more than how they are made.
    made = (_QUANTISE, _DEQUANTISE, "DynamicQuantizeLinear")
    quantised = next((n for n in on_grids if n.op_type in _QUANTISED - {*made}), None)
    quantised = quantised or next(iter(on_grids), None)
    dtypes = {each: flow.dtype(each) for each in flow.computing}
    known = sorted({d for d in dtypes.values() if d}, key=lambda each: _UNITS[each])
    units = [_UNITS[each] for each in (*known, *flow.passed)]
    unit = max(units, default=_UNITS["float32"])
    if quantised is not None:
        how = quantised.op_type if quantised.op_type in _QUANTISED else "QDQ"
        why = f"{quantised.op_type} {quantised.label!r}"
        bits = min(flow.bits(each) for each in on_grids)
        return Precision(name=f"int{bits} ({how})", unit=unit, quantised=True, why=why, bits=bits)
    if not known:
        unit = max((_UNITS[each] for each in flow.all_dtypes), default=unit)
        name = next((n for n, u in _UNITS.items() if u == unit), "float32")
        return Precision(name=name, unit=unit, quantised=False, why="")
    if len(known) > 1 or unit > _UNITS[known[0]]:
        names = " and ".join(dict.fromkeys((*known, *sorted(flow.passed - {"float64"}))))
        return Precision(name="mixed", unit=unit, quantised=False, why=f"it computes in {names}")
    label = next(n for n, d in dtypes.items() if d == known[0])
    return Precision(name=known[0], unit=unit, quantised=False, why=label)


class _Flow:
    """The nodes of the main graph on the way from inputs to outputs."""

    def __init__(self, model: Model) -> None:
        self._model = model
        graph = model.graph
        self._producer = {name: n for n in graph.nodes for name in n.outputs if name}
        dynamic = {v.name for v in graph.inputs if v.name not in graph.initializers}
        forward = []
        for node in graph.nodes:
            if any(name in dynamic for name in (*node.inputs, *captured(node))):
                dynamic.update(name for name in node.outputs if name)
                forward.append(node)
        wanted = {v.name for v in graph.outputs}
        found = []
        for node in reversed(forward):
            if any(name in wanted for name in node.outputs):
                wanted.update((*node.inputs, *captured(node)))
                found.append(node)
        self.dynamic = dynamic
        self.nodes = found[::-1]
        self._dtypes = self._known_dtypes()

    def _known_dtypes(self) -> dict[str, str]:
        graph = self._model.graph
        known = {name: v.dtype for name, v in graph.values.items() if v.dtype in _UNITS}
        known |= {v.name: v.dtype for v in graph.inputs if v.dtype in _UNITS}
        found = {name: dtype for name, dtype in known.items() if dtype is not None}
        found |= {name: t.dtype for name, t in graph.initializers.items() if t.dtype in _UNITS}
        return found

    @property
    def computing(self) -> dict[str, Node]:
        """Nodes that multiply and add, by what they are called in words."""
        return {f"{n.op_type} {n.label!r}": n for n in self.nodes if n.op_type in _COMPUTE}

    @property
    def passed(self) -> frozenset[str]:
        """Types that values on the way have, the inputs' and outputs' own apart."""
        ends = {v.name for v in (*self._model.graph.inputs, *self._model.graph.outputs)}
        names = {name for node in self.nodes for name in node.outputs if name not in ends}
        return frozenset(self._dtypes[name] for name in names if name in self._dtypes)

    @property
    def all_dtypes(self) -> frozenset[str]:
        """Types of all values on the way, the inputs' and outputs' own among them."""
        names = {name for node in self.nodes for name in (*node.inputs, *node.outputs)}
        return frozenset(self._dtypes[n] for n in names & self._dtypes.keys() if n in self.dynamic)

    def dtype(self, label: str) -> str | None:
        """The type that one of `computing` reads."""
        node = self.computing[label]
        return next((self._dtypes[name] for name in node.inputs if name in self._dtypes), None)

    def quantises(self, node: Node) -> bool:
        """Whether a node computes with integers, or with real numbers on the grid of them."""
        if node.op_type in _QUANTISED:
            return True
        if node.op_type == _QUANTISE:
            return True
        return node.op_type in _COMPUTE and any(
            name in self._producer and self._producer[name].op_type == _DEQUANTISE
            for name in node.inputs
        )

    def bits(self, node: Node) -> int:
        """How many bits the integers have that one of `quantises` reads."""
        if node.op_type in _PACKED:
            return node.int_attribute("bits", 4)
        sources = [self._producer[name] for name in node.inputs if name in self._producer]
        read = [each.input(0) for each in sources if each.op_type == _DEQUANTISE]
        stored = self._model.graph.initializers
        dtypes = [stored[name].dtype for name in (*read, *node.inputs) if name in stored]
        return min((_NARROW.get(each, 8) for each in dtypes), default=8)


def perturbed(model: Model, precision: Precision, *, seed: int) -> Iterator[dict[str, Array]]:
    """Initializers to measure a coarse model's floor with, one run of it for each; none otherwise.

    They go to `inspector.compare.runtime.host.Host.load` as `instead`, without graph optimisation.
    """
    if precision.quantised:
        yield from requantised(model, seed=seed)
    elif precision.coarse and (moved := moved_weights(model, precision.unit, seed=seed)):
        yield moved


_READ_EXACTLY = frozenset("Resize Upsample Range OneHot Pad Tile Clip Max Min".split())
"""Operators whose constants are sizes and bounds, which are not rounded."""


def moved_weights(model: Model, unit: float, *, seed: int) -> dict[str, Array]:
    """Float initializers, each element moved to a neighbour in the precision of `unit`.

    Empty where they take more than a model's measure is worth. What inputs alone move, a deep
    network forgets on the way: weights round in every layer.
    """
    rng = np.random.default_rng(seed)
    exact = {name for n in model.graph.nodes if n.op_type in _READ_EXACTLY for name in n.inputs}
    stored = [
        each
        for name, each in model.graph.initializers.items()
        if each.dtype in ("float16", "float32") and name not in exact
    ]
    if sum(4 * each.elements for each in stored) > _MOST_MOVED:
        return {}
    return {
        t.name: neighbouring_weights(model.weights.load(t), rng, unit)
        for t in stored
        if t.elements > 1
    }


def requantised(model: Model, *, seed: int) -> Iterator[dict[str, Array]]:
    """Initializers of a quantised model with which it is quantised anew, several times.

    Weights move by one step as often as rounding has it; the grids of all activations are a
    little wider, so that every value falls anew. What its outputs move by is its own noise.
    """
    for at, stretch in enumerate(_STRETCHES):
        rng = np.random.default_rng([seed, at])
        grids = _Grids(model)
        yield {**grids.weights(rng), **grids.stretched(stretch)}


class _Grids:
    """What a quantised model stores of weights, scales and biases."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._stored = model.graph.initializers
        flow = _Flow(model)
        self._dynamic = flow.dynamic
        self._nodes = [n for n in model.graph.nodes if n.op_type in {*_KERNEL_OF, *_SCALES_OF}]

    def weights(self, rng: np.random.Generator) -> dict[str, Array]:
        found = {}
        for node in self._nodes:
            tensor = self._at(node, _KERNEL_OF.get(node.op_type))
            if tensor is None or tensor.dtype not in ("int8", "uint8"):
                continue
            values = self._model.weights.load(tensor)
            limits = np.iinfo(values.dtype)
            step = (rng.random(values.shape) < _STEP) * rng.choice((-1, 1), values.shape)
            moved = np.clip(values.astype(np.int32) + step, limits.min, limits.max)
            found[tensor.name] = np.asarray(moved, values.dtype)
        return found

    def stretched(self, by: float) -> dict[str, Array]:
        """Scales of activations, `by` times as wide; none if one of them is a weight's as well."""
        wide: dict[str, Tensor] = {}
        kept: set[str] = set()
        for node in self._nodes:
            for at, of in _SCALES_OF.get(node.op_type, ()):
                tensor = self._at(node, at)
                if tensor is None:
                    continue
                if of is not None and node.input(of) not in self._dynamic:
                    kept.add(tensor.name)
                else:
                    wide[tensor.name] = tensor
        biases = {
            t.name: t
            for n in self._nodes
            if (t := self._at(n, _BIAS_OF.get(n.op_type))) is not None
        }
        if kept & wide.keys():
            return {}
        load = self._model.weights.load
        # asarray: a scale is a number without dimensions, which NumPy gives back as no array.
        found = {name: np.asarray(load(t) * by, load(t).dtype) for name, t in wide.items()}
        found |= {
            name: np.asarray(np.rint(load(t) / by), load(t).dtype) for name, t in biases.items()
        }
        return found

    def _at(self, node: Node, position: int | None) -> Tensor | None:
        return None if position is None else self._stored.get(node.input(position))
