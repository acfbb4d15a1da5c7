"""A pair's truth, shown by plain ONNX Runtime and by onnx's evaluator in float64, not by us.

A harmful pair counts where its outputs lie at least `HARMFUL` rounding floors apart on some batch
of random inputs; a harmless one where they stay within `HARMLESS` floors on all of them, and
within `IN_DOUBLE` of the output's scale in float64 arithmetic. The floor is measured by running
the unchanged model with graph optimisation on and off, and on inputs one unit in the last place
away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .edit import subgraphs
from .kinds import Perms

Array = NDArray[Any]

SAMPLES, BATCH = 256, 16
HARMFUL, HARMLESS = 50, 60
LEAST = 2**-22
"""Of an output's scale: the smallest rounding floor that is believed."""

IN_DOUBLE = 2e-5
"""Constants stay rounded to float32 in a folded model, whatever the arithmetic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One model of a pair, and how its axes lie to those of the network it was made from."""

    model: onnx.ModelProto
    inputs: Perms
    outputs: Perms
    external: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What running a pair showed: `apart` in rounding floors, and in float64 by scale."""

    harmful: bool
    harmless: bool
    apart: float
    floor: float
    in_double: float | None
    why: str = ""


def show(left: Side, right: Side, bounds: Sequence[int], seed: int) -> Shown:
    """Run both sides on the same random inputs.

    Raises
    ------
    ValueError, RuntimeError
        A side does not run, or outputs have other shapes: such a pair has no truth.
    """
    rng = np.random.default_rng([seed, 77])
    runs = [_session(left.model, True), _session(left.model, False), _session(right.model, False)]
    apart = floor = 0.0
    for feeds in _batches(left, right, bounds, rng):
        mine, theirs = (_arranged(feeds, side, left) for side in (left, right))
        moved = [
            np.nextafter(each, np.float32(np.inf)) if each.dtype == np.float32 else each
            for each in mine
        ]
        plain, other = _run(runs[1], mine), _run(runs[2], theirs)
        checks = [_run(runs[0], mine), _run(runs[1], moved)]
        for at, base in enumerate(plain):
            scale = float(base.std()) or float(np.abs(base).max()) or 1.0
            if not np.isfinite(base).all():
                raise ValueError("outputs are not finite")
            there = _undone(other[at], right.outputs.get(at), left.outputs.get(at))
            if there.shape != base.shape:
                raise ValueError(f"outputs of {base.shape} and {there.shape}")
            apart = max(apart, _gap(base, there, scale))
            floor = max(floor, *(_gap(base, each[at], scale) for each in checks))
    floor = max(floor, LEAST)
    # What a Relu's edge or a ranking decides, float32 rounds either way: there, float64 speaks.
    in_double = _apart_in_double(left, right, bounds, rng) if apart < HARMFUL * floor else None
    exact = in_double is None or in_double <= IN_DOUBLE
    return Shown(
        harmful=apart >= HARMFUL * floor,
        harmless=apart <= HARMLESS * floor and exact,
        apart=apart / floor,
        floor=floor,
        in_double=in_double,
    )


def _gap(one: Array, other: Array, scale: float) -> float:
    if not np.isfinite(other).all():
        return float("inf")
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(np.abs(a - b).max(initial=0.0)) / scale


def _session(model: onnx.ModelProto, optimised: bool) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    data = model.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _run(session: Any, feeds: Sequence[Array]) -> list[Array]:
    names = [each.name for each in session.get_inputs()]
    fed = dict(zip(names, feeds, strict=True))
    return [np.asarray(each) for each in session.run(None, fed)]


def fed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in stored]


def _fixed(*models: onnx.ModelProto) -> int | None:
    """The batch that a model insists on."""
    for model in models:
        for each in fed(model):
            dims = each.type.tensor_type.shape.dim
            if dims and dims[0].HasField("dim_value"):
                return int(dims[0].dim_value)
    return None


def _batches(
    left: Side, right: Side, bounds: Sequence[int], rng: np.random.Generator
) -> Iterator[list[Array]]:
    """Inputs as the left side takes them, of several ranges."""
    size = _fixed(left.model, right.model) or BATCH
    for at in range(max(1, SAMPLES // size)):
        yield _drawn(left.model, bounds, rng, size, at)


def _drawn(
    model: onnx.ModelProto, bounds: Sequence[int], rng: np.random.Generator, size: int, at: int
) -> list[Array]:
    found = []
    for place, each in enumerate(fed(model)):
        kind = each.type.tensor_type
        shape = [
            dim.dim_value or (size if axis == 0 else 6) for axis, dim in enumerate(kind.shape.dim)
        ]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if np.issubdtype(dtype, np.integer):
            high = bounds[place] if place < len(bounds) else 2
            found.append(rng.integers(0, high, shape).astype(dtype))
            continue
        drawn = rng.standard_normal(shape)
        ranges = (drawn, drawn, drawn * 0.1, rng.random(shape), drawn * 10, rng.random(shape) * 255)
        found.append(ranges[at % len(ranges)].astype(dtype))
    return found


def _arranged(feeds: Sequence[Array], side: Side, left: Side) -> list[Array]:
    """The left side's inputs with their axes as a side wants them."""
    return [
        np.ascontiguousarray(_moved(_undo(each, left.inputs.get(at)), side.inputs.get(at)))
        for at, each in enumerate(feeds)
    ]


def _moved(values: Array, perm: tuple[int, ...] | None) -> Array:
    return values if perm is None else values.transpose(perm)


def _undo(values: Array, perm: tuple[int, ...] | None) -> Array:
    return values if perm is None else values.transpose(np.argsort(perm))


def _undone(values: Array, own: tuple[int, ...] | None, wanted: tuple[int, ...] | None) -> Array:
    return _moved(_undo(values, own), wanted)


# --- float64


def _apart_in_double(
    left: Side, right: Side, bounds: Sequence[int], rng: np.random.Generator
) -> float | None:
    """The largest difference by scale where both compute in float64; None where one cannot."""
    from onnx.reference import ReferenceEvaluator

    try:
        runs = [ReferenceEvaluator(_in_double(side.model)) for side in (left, right)]
        size = _fixed(left.model, right.model) or 4
        feeds = [
            each.astype(np.float64) if each.dtype == np.float32 else each
            for each in _drawn(left.model, bounds, rng, size, 0)
        ]
        given = []
        for run, side in zip(runs, (left, right), strict=True):
            names = [each.name for each in fed(side.model)]
            made = run.run(None, dict(zip(names, _arranged(feeds, side, left), strict=True)))
            given.append([np.asarray(each) for each in made])
    except Exception:  # noqa: BLE001  # what the evaluator cannot do is said by the None
        return None
    worst = 0.0
    for at, base in enumerate(given[0]):
        there = _undone(given[1][at], right.outputs.get(at), left.outputs.get(at))
        scale = float(base.std()) or float(np.abs(base).max()) or 1.0
        worst = max(worst, _gap(base, there, scale))
    return worst


def _in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with every float32 a float64; for an evaluator that checks no types."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _widen(made.graph)
    for function in made.functions:
        for node in function.node:
            _widen_node(node)
    return made


def _widen(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: onnx.NodeProto) -> None:
    for each in node.attribute:
        if each.HasField("t"):
            _widen_tensor(each.t)
        if node.op_type == "Cast" and each.name == "to" and each.i == TensorProto.FLOAT:
            each.i = TensorProto.DOUBLE
    for body in subgraphs(node):
        _widen(body)


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        values = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
