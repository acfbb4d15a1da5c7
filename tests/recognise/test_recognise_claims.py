"""Whatever is claimed is true: of arithmetic, of what is no BatchNorm, and of what was folded.

A claim says ``y = slope · x + intercept``, channel by channel. Each is put to onnx's own evaluator
on random data, so that no test here repeats what the code under test thinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from forms import reference
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx_text import parsed

from inspector.facts.batchnorm import Affine, BatchNorm, Confidence, Form, Norms, Origin
from inspector.facts.model import Model
from inspector.facts.traced import Fate
from inspector.flows import inspect_file
from inspector.read.open import open_model
from inspector.recognise import find_batchnorms, load_affine, load_values

Array = NDArray[Any]

HEADER = '<ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]>\n'
# Two scales and a mean are negative, and variances are more than 1 and no integers: a root of a
# square and a Cast to an integer then change what they are applied to.
STORED = {
    "s": [-1.3, 0.7, 1.9, -0.4],
    "b": [0.1, -0.2, 0.3, 0.9],
    "m": [1.2, -2.7, 0.6, 0.4],
    "v": [1.5, 2.7, 4.2, 9.9],
    "e": 1e-3,
    "s2": [-1.9, 1.1, 2.8, -0.6],
    "b2": [-0.2, -0.5, 0.7, 0.6],
    "m2": [1.4, -2.5, 0.8, 0.3],
    "v2": [3.0, 0.4, 5.8, 0.7],
    "one": 1.0,
    "zero": 0.0,
    "two": 2.0,
    "half": 0.5,
    "ones": np.ones(4),
    "zeros": np.zeros(4),
    "last": np.array([-1]),
}
ROUNDINGS = 3
"""Units in the last place of the largest numbers that were summed; 1.3 were the most seen."""


def stored(values: Any) -> Array:
    """As it is put into a file: floats become float32, what has another type keeps it."""
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def net(
    body: str, *, x: str = "N, 3, 3, 4", y: str = "float[] y", header: str = HEADER, **own: Any
) -> onnx.ModelProto:
    """A graph from x to y: its nodes as text, and the arrays of STORED and its own with them."""
    proto = parsed(f"{header} agraph (float[{x}] x) => ({y}) {{ {body} }}")
    proto.graph.initializer.extend(
        numpy_helper.from_array(stored(values), name) for name, values in (STORED | own).items()
    )
    return proto


def wide(name: str, *dims: int) -> Array:
    """A stored vector in another shape."""
    return np.reshape(STORED[name], dims)


ROOT = "ve = Add (v, e) r = Sqrt (ve) "
ROOT2 = "ve2 = Add (v2, e) r2 = Sqrt (ve2) "


def norm(
    x: str = "x", y: str = "y", *, m: str = "m", r: str = "r", s: str = "s", b: str = "b"
) -> str:
    """A BatchNorm as four nodes; what the first three give is called after `y`."""
    return (
        f"{y}_off = Sub ({x}, {m}) {y}_unit = Div ({y}_off, {r}) "
        f"{y}_wide = Mul ({y}_unit, {s}) {y} = Add ({y}_wide, {b}) "
    )


# Claims, and what the model computes


class Line(NamedTuple):
    slope: Array
    intercept: Array
    reach: Callable[[Array], Array]
    """For each x, at least as much as the largest number that is summed on the way to y."""


def column(values: Array, rank: int, axis: int) -> Array:
    dims = [1] * rank
    dims[axis] = -1
    return values.reshape(dims)


def line(claim: BatchNorm | Affine, model: Model, rank: int) -> Line:
    if isinstance(claim, BatchNorm) and not claim.steps:
        loaded = load_values(claim, model)
        slope, mean, bias = (
            column(np.abs(np.asarray(each, float)), rank, claim.axis)
            for each in (loaded.slope, loaded.mean, loaded.bias)
        )
        return Line(loaded.slope, loaded.intercept, lambda x: slope * (np.abs(x) + mean) + bias)

    def reach(x: Array) -> Array:
        most = np.abs(x)
        for step in claim.steps:
            values = np.abs(model.weights.load(step.tensor).astype(float).reshape(-1))
            by = column(values, rank, claim.axis)
            match step.op_type:
                case "Add" | "Sub":
                    most = most + by
                case "Mul":
                    most = most * by
                case _:
                    most = most / by
        return most

    return Line(*load_affine(claim.steps, claim.channels, model), reach)


def fed(proto: onnx.ModelProto) -> dict[str, Array]:
    """Random data, where a length that is not told is 2."""
    (x,) = proto.graph.input
    dims = [each.dim_value or 2 for each in x.type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(x.type.tensor_type.elem_type)
    return {x.name: np.random.default_rng(0).uniform(-3, 3, dims).astype(dtype)}


def assert_true(
    claim: BatchNorm | Affine, model: Model, proto: onnx.ModelProto, rounding: Any
) -> None:
    feeds = fed(proto)
    names = [claim.entered, claim.output]
    x, y = (each.astype(float) for each in reference(proto).run(names, feeds))
    assert y.shape == x.shape, f"{claim.name}: it changes the shape of what it takes"
    slope, intercept, reach = line(claim, model, x.ndim)
    assert len(slope) in (1, x.shape[claim.axis]), f"{claim.name}: axis {claim.axis} is another"
    told = column(slope, x.ndim, claim.axis) * x + column(intercept, x.ndim, claim.axis)
    assert np.isfinite(told).all()
    room = ROUNDINGS * np.finfo(rounding).eps * reach(x)
    assert (np.abs(y - told) <= room).all(), f"{claim.name}: off by {np.abs(y - told).max()}"


class Seen(NamedTuple):
    model: Model
    norms: Norms

    @property
    def outputs(self) -> list[tuple[str, Form]]:
        return [(each.output, each.form) for each in self.norms.batchnorms]

    @property
    def kinds(self) -> list[str]:
        return [each.kind for each in self.norms.lookalikes]

    @property
    def count(self) -> int:
        return len(self.norms.batchnorms) + len(self.norms.affines)


See = Callable[..., Seen]


@pytest.fixture
def seen(onnx_file) -> See:
    """What is found in a model, once every claim about it has been shown to be true."""

    def see(proto: onnx.ModelProto, *, rounding: Any = np.float32) -> Seen:
        model = open_model(onnx_file(proto))
        norms = find_batchnorms(model)
        for each in (*norms.batchnorms, *norms.affines):
            if not (isinstance(each, BatchNorm) and (each.training or each.form is Form.RUNTIME)):
                assert_true(each, model, proto, rounding)
        return Seen(model, norms)

    return see


def test_a_lie_is_caught(seen):
    """The check above, on claims with one number changed."""
    proto = net(ROOT + norm())
    model, norms = seen(proto)
    (truth,) = norms.batchnorms
    for lie in (
        {"epsilon": 1.1e-3},
        {"mean": truth.bias},
        {"axis": 2},
        {"output": "y_wide"},
        {"entered": "y_off"},
    ):
        with pytest.raises(AssertionError):
            assert_true(replace(truth, **lie), model, proto, np.float32)


# Constants that are not what they are made of

ROOTS_OF_SQUARES = {
    "scale, Mul": "ss = Mul (s, s) t = Sqrt (ss) " + ROOT + norm(s="t"),
    "scale, Pow": "ss = Pow (s, two) t = Sqrt (ss) " + ROOT + norm(s="t"),
    "scale, Pow twice": "ss = Pow (s, two) t = Pow (ss, half) " + ROOT + norm(s="t"),
    "mean": "mm = Mul (m, m) t = Sqrt (mm) " + ROOT + norm(m="t"),
    "bias": "bb = Mul (b, b) t = Sqrt (bb) " + ROOT + norm(b="t"),
    "scale, as a divisor": "ss = Mul (s, s) i = Reciprocal (ss) t = Sqrt (i) "
    + ROOT
    + "o = Sub (x, m) u = Div (o, r) w = Div (u, t) y = Add (w, b)",
}


@pytest.mark.parametrize("body", ROOTS_OF_SQUARES.values(), ids=ROOTS_OF_SQUARES)
def test_the_root_of_a_square_is_the_absolute_value(body, seen):
    found = seen(net(body))
    assert found.count
    for each in found.norms.batchnorms:
        values = load_values(each, found.model)
        assert not any(
            np.array_equal(getattr(values, role), stored(STORED[name]))
            for role, name in (("scale", "s"), ("mean", "m"), ("bias", "b"))
            if f"Mul ({name}, {name})" in body or f"Pow ({name}, " in body
        )


INTEGER, BOOL, HALF = 7, 9, 10


def cast(value: str, to: int) -> str:
    return f"i = Cast <to = {to}> ({value}) t = Cast <to = 1> (i) "


CAST_CONSTANTS = {
    "mean to an integer": ("mean", "m", INTEGER, ROOT + norm(m="t")),
    "var to an integer": ("var", "v", INTEGER, "ve = Add (t, e) r = Sqrt (ve) " + norm()),
    "scale to bool": ("scale", "s", BOOL, ROOT + norm(s="t")),
    "bias to an integer": ("bias", "b", INTEGER, ROOT + norm(b="t")),
    "scale to float16": ("scale", "s", HALF, ROOT + norm(s="t")),
    "scale of a node": (
        "scale",
        "s",
        INTEGER,
        "n = Transpose <perm = [0, 3, 1, 2]> (x) y = BatchNormalization (n, t, b, m, v)",
    ),
}
TYPES = {INTEGER: np.int64, BOOL: np.bool_, HALF: np.float16}


@pytest.mark.parametrize(
    ("role", "name", "to", "body"), CAST_CONSTANTS.values(), ids=CAST_CONSTANTS
)
def test_a_parameter_is_what_a_cast_leaves_of_it(role, name, to, body, seen):
    found = seen(net(cast(name, to) + body))
    (one,) = found.norms.batchnorms
    left = stored(STORED[name]).astype(TYPES[to]).astype(np.float32)
    assert not np.array_equal(left, stored(STORED[name]))
    assert np.array_equal(getattr(load_values(one, found.model), role), left)


@pytest.mark.parametrize("value", ["ve", "r"])
def test_what_is_under_a_root_may_be_cast(value, seen):
    """The sum of var and epsilon, or its root, to an integer: then neither is in the output."""
    body = {
        "ve": "vf = Add (v, e) " + cast("vf", INTEGER) + "r = Sqrt (t) " + norm(),
        "r": "ve = Add (v, e) rf = Sqrt (ve) " + cast("rf", INTEGER) + norm(r="t"),
    }[value]
    found = seen(net(body))
    assert found.count == 1
    assert all(each.epsilon != pytest.approx(1e-3) for each in found.norms.batchnorms)


CAST_DATA = {
    "affine": "q = Mul (x, s) " + cast("q", INTEGER) + "y = Add (t, b)",
    "centred to bool": ROOT + "o = Sub (x, m) " + cast("o", BOOL) + "u = Div (t, r) "
    "w = Mul (u, s) y = Add (w, b)",
    "centred to an integer": ROOT + "o = Sub (x, m) " + cast("o", 6) + "u = Div (t, r) "
    "w = Mul (u, s) y = Add (w, b)",
    "scaled to an integer": ROOT
    + "o = Sub (x, m) u = Div (o, r) w = Mul (u, s) "
    + cast("w", INTEGER)
    + "y = Add (t, b)",
}


@pytest.mark.parametrize("body", CAST_DATA.values(), ids=CAST_DATA)
def test_no_claim_reaches_over_a_cast_of_the_data(body, seen):
    found = seen(net(body))
    assert "y" not in [output for output, _ in found.outputs]


def test_a_cast_of_the_data_to_other_floats_only_rounds(seen):
    body = "q = Mul (x, s) i = Cast <to = 10> (q) t = Cast <to = 1> (i) y = Add (t, b)"
    (one,) = seen(net(body), rounding=np.float16).norms.affines
    assert one.output == "y"


# Two BatchNorms, one behind the other


def assert_whole(found: Seen, at: int, scale: str, bias: str, mean: str, var: str) -> None:
    """One of those found has these stored parameters, in every bit."""
    values = load_values(found.norms.batchnorms[at], found.model)
    for role, name in (("scale", scale), ("bias", bias), ("mean", mean), ("var", var)):
        assert np.array_equal(getattr(values, role), stored(STORED[name])), role


IN_A_ROW = {
    "distinct": (
        norm(y="w") + norm("w", r="r2", s="s2", b="b2", m="m2"),
        [("s", "b", "m", "v"), ("s2", "b2", "m2", "v2")],
    ),
    "a mean that is the bias before it": (
        norm(y="w") + norm("w", r="r2", s="s2", b="b2", m="b"),
        [("s", "b", "m", "v"), ("s2", "b2", "b", "v2")],
    ),
    "fresh: one tensor of zeros is both": (
        norm(y="w", b="zeros") + norm("w", r="r2", s="s2", b="b2", m="zeros"),
        [("s", "zeros", "m", "v"), ("s2", "b2", "zeros", "v2")],
    ),
    "the first without scale and bias": (
        "o = Sub (x, m) w = Div (o, r) " + norm("w", r="r2", s="s2", b="b2", m="m2"),
        [("ones", "zeros", "m", "v"), ("s2", "b2", "m2", "v2")],
    ),
    "the first without bias": (
        "o = Sub (x, m) u = Div (o, r) w = Mul (u, s) " + norm("w", r="r2", s="s2", b="b2", m="m2"),
        [("s", "zeros", "m", "v"), ("s2", "b2", "m2", "v2")],
    ),
    "one variance for both": (
        norm(y="w") + norm("w", s="b", b="m", m="s"),
        [("s", "b", "m", "v"), ("b", "m", "s", "v")],
    ),
}


@pytest.mark.parametrize(("body", "expected"), IN_A_ROW.values(), ids=IN_A_ROW)
def test_two_in_a_row_are_found_whole(body, expected, seen):
    found = seen(net(ROOT + ROOT2 + body))
    assert found.outputs == [("w", Form.DECOMPOSED), ("y", Form.DECOMPOSED)]
    assert found.norms.affines == ()
    for at, names in enumerate(expected):
        assert_whole(found, at, *names)


def test_what_is_added_behind_a_whole_one_is_not_its_own(seen):
    found = seen(net(ROOT + norm(y="w") + "y = Add (w, m)"))
    assert found.outputs == [("w", Form.DECOMPOSED)]
    assert_whole(found, 0, "s", "b", "m", "v")


def test_the_bias_of_a_product_in_front_is_not_its_own(seen):
    body = "p = MatMul (x, eye) w = Add (p, b2) " + ROOT + norm("w")
    found = seen(net(body, eye=np.eye(4)))
    assert found.outputs == [("y", Form.DECOMPOSED)]
    assert_whole(found, 0, "s", "b", "m", "v")


# Which axis the channels are on


def shaped(*dims: int) -> dict[str, Array]:
    """All four parameters in a shape, of as many elements as that has."""
    return {name: np.resize(STORED[name], dims) for name in "sbmv"}


OTHER_AXES = {
    "on the batch": ("2, 3, 3, 4", shaped(2, 1, 1, 1)),
    "on the height": ("N, 3, 3, 4", shaped(1, 1, 3, 1)),
    "on the height, where every axis is of one length": ("N, 4, 4, 4", shaped(4, 1)),
    "the data is stretched": ("N, 3, 3, 1", shaped(4)),
    "the data is stretched over channels first": ("N, 1, 3, 3", shaped(4, 1, 1)),
    "the rank grows": ("N, 4", shaped(4, 1, 1)),
}


@pytest.mark.parametrize(("x", "own"), OTHER_AXES.values(), ids=OTHER_AXES)
@pytest.mark.parametrize("body", [ROOT + norm(), "q = Mul (x, s) y = Add (q, b)"])
def test_no_channels_on_other_axes(body, x, own, seen):
    assert seen(net(body, x=x, **own)).count == 0


@pytest.mark.parametrize(
    ("x", "dims", "axis"),
    [("N, 4, 4, 4", (4,), 3), ("N, 4, 4, 4", (4, 1, 1), 1), ("N, 4, 4", (4, 1), 1)],
)
def test_channels_are_the_second_axis_or_the_last(x, dims, axis, seen):
    (one,) = seen(net(ROOT + norm(), x=x, **shaped(*dims))).norms.batchnorms
    assert one.axis in (axis, axis - len(x.split(",")))


MIXED_AXES = {
    "outer product": "w = Mul (s, m41) q = Mul (x, w) y = Add (q, b)",
    "the slope is a matrix": ROOT + "w = Div (s41, r) q = Mul (x, w) y = Sub (q, m)",
}


@pytest.mark.parametrize("body", MIXED_AXES.values(), ids=MIXED_AXES)
def test_constants_of_two_axes_are_no_map_of_channels(body, seen):
    found = seen(net(body, x="N, 4, 4, 4", m41=wide("m", 4, 1), s41=wide("s", 4, 1)))
    assert found.outputs == []
    assert "y" not in [each.output for each in found.norms.affines]


def test_a_scale_of_another_axis_is_none_of_this_batchnorm(seen):
    body = ROOT + "o = Sub (x, m) u = Div (o, r) w = Mul (u, first) y = Add (w, b)"
    found = seen(net(body, x="N, 4, 4, 4", first=wide("s", 4, 1, 1)))
    assert found.outputs == [("u", Form.DECOMPOSED)]


# Which of two is epsilon

AMBIGUOUS = {
    "of one channel": ([0.001], [0.01], "N, 1, 3, 3"),
    "both filled": ([0.001] * 4, [0.01] * 4, "N, 3, 3, 4"),
    "more than any epsilon": ([0.001, 0.002, 0.003, 0.004], [1.0] * 4, "N, 3, 3, 4"),
}


@pytest.mark.parametrize(("var", "added", "x"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_epsilon_that_its_value_alone_tells_is_remarked_on(var, added, x, seen):
    body = "ve = Add (p, q) r = Sqrt (ve) o = Sub (x, mean) y = Div (o, r)"
    (one,) = seen(net(body, x=x, p=var, q=added, mean=[0.3] * len(var))).norms.batchnorms
    (remark,) = one.remarks
    number = f"{float(np.float32(added[0])):g}"
    assert one.epsilon == float(np.float32(added[0]))
    assert remark == (
        f"of the two that are added under the root, {number} is taken for epsilon: "
        "nothing but its value tells"
    )


@pytest.mark.parametrize(
    ("var", "x"), [([0.001], "N, 1, 3, 3"), ([0.001, 0.002, 0.003, 0.004], "N, 3, 3, 4")]
)
def test_epsilon_without_axes_needs_no_remark(var, x, seen):
    body = "ve = Add (q, p) r = Sqrt (ve) o = Sub (x, mean) y = Div (o, r)"
    (one,) = seen(net(body, x=x, p=var, q=0.01, mean=[0.3] * len(var))).norms.batchnorms
    assert one.remarks == ()
    assert one.epsilon == float(np.float32(0.01))


# What is no BatchNorm

CENTRED = "mu = ReduceMean (x, last) d = Sub (x, mu) "
SPREAD = "dd = Mul (d, d) va = ReduceMean (dd, last) "
TAIL = "ve = Add (va, e) sd = Sqrt (ve) z = Div (d, sd) q = Mul (z, s) y = Add (q, b)"
SQUARED = "xx = Mul (x, x) ms = ReduceMean (xx, last) me = Add (ms, e) r = Sqrt (me) "
GAINED = "q = Mul (z, s) y = Add (q, b)"
GAINED_FIRST = "q = Mul (z, sc) y = Add (q, bc)"
FIRST = {"sc": wide("s", 4, 1, 1), "bc": wide("b", 4, 1, 1)}
SCORES = "p = MatMul (x, w) a = Add (p, s) r = Sqrt (dk) y = Div (a, r)"
CHANNELS_FIRST = {"x": "N, 4, 3, 3", **FIRST}
PIXELS = {"x": "N, 3, 8, 8", "mean": np.reshape([0.5, 0.4, 0.3], (3, 1, 1))}

LOOKALIKES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "LayerNorm, Pow": (
        "LayerNorm",
        CENTRED + "dd = Pow (d, two) va = ReduceMean (dd, last) " + TAIL,
        {},
    ),
    "LayerNorm, Mul": ("LayerNorm", CENTRED + SPREAD + TAIL, {}),
    "LayerNorm, mean of squares": (
        "LayerNorm",
        CENTRED + "xx = Mul (x, x) ex = ReduceMean (xx, last) mm = Mul (mu, mu) "
        "va = Sub (ex, mm) " + TAIL,
        {},
    ),
    "LayerNorm, as TensorFlow orders it": (
        "LayerNorm",
        CENTRED + SPREAD + "ve = Add (va, e) sd = Sqrt (ve) i = Reciprocal (sd) f = Mul (i, s) "
        "q = Mul (x, f) k = Mul (mu, f) t = Sub (b, k) y = Add (q, t)",
        {},
    ),
    "LayerNormalization": ("LayerNorm", "z = LayerNormalization (x, ones) " + GAINED, {}),
    "LayerNormalization, Dropout": (
        "LayerNorm",
        "n = LayerNormalization (x, ones) z = Dropout (n) " + GAINED,
        {},
    ),
    "LayerNorm, then the scale of an attention": (
        "LayerNorm",
        CENTRED + SPREAD + TAIL.replace("y =", "w =") + " r = Sqrt (dk) y = Div (w, r)",
        {"dk": 64.0},
    ),
    "RMSNorm": ("RMSNorm", SQUARED + "z = Div (x, r) y = Mul (z, s)", {}),
    "RMSNorm, Reciprocal": (
        "RMSNorm",
        SQUARED + "i = Reciprocal (r) z = Mul (x, i) y = Mul (s, z)",
        {},
    ),
    "RMSNorm, sum over count, bias": (
        "RMSNorm",
        "xx = Mul (x, x) su = ReduceSum (xx, last) ms = Div (su, k) me = Add (ms, e) "
        "r = Sqrt (me) z = Div (x, r) " + GAINED,
        {"k": 4.0},
    ),
    "GroupNorm of InstanceNormalization": (
        "InstanceNorm or GroupNorm",
        "g = Reshape (x, groups) i = InstanceNormalization (g, one2, zero2) dims = Shape (x) "
        "z = Reshape (i, dims) " + GAINED_FIRST,
        {
            **CHANNELS_FIRST,
            "groups": np.array([0, 2, -1]),
            "one2": [1.0, 1.0],
            "zero2": [0.0, 0.0],
        },
    ),
    "GroupNormalization": (
        "GroupNorm",
        "z = GroupNormalization <num_groups = 2> (x, one2, zero2) " + GAINED_FIRST,
        {**CHANNELS_FIRST, "one2": [1.0, 1.0], "zero2": [0.0, 0.0]},
    ),
    "InstanceNormalization": (
        "InstanceNorm or GroupNorm",
        "z = InstanceNormalization (x, ones, zeros) " + GAINED_FIRST,
        CHANNELS_FIRST,
    ),
    "InstanceNorm, written out": (
        "InstanceNorm or GroupNorm",
        "mu = ReduceMean (x, hw) d = Sub (x, mu) dd = Mul (d, d) va = ReduceMean (dd, hw) "
        "ve = Add (va, e) sd = Sqrt (ve) z = Div (d, sd) " + GAINED_FIRST,
        {**CHANNELS_FIRST, "hw": np.array([2, 3])},
    ),
    "MeanVarianceNormalization": (
        "mean-variance normalisation",
        "z = MeanVarianceNormalization (x) " + GAINED_FIRST,
        CHANNELS_FIRST,
    ),
    "L2": (
        "L2 normalisation",
        "l = ReduceL2 (x, last) most = Max (l, e) z = Div (x, most) " + GAINED,
        {},
    ),
    "integers of a ConvInteger": (
        "quantisation scale",
        "i = Cast <to = 3> (x) c = ConvInteger (i, w) z = Cast <to = 1> (c) " + GAINED_FIRST,
        {**CHANNELS_FIRST, "w": np.ones((4, 4, 1, 1), np.int8)},
    ),
    "integers of a MatMulInteger, then the scale of an attention": (
        "quantisation scale",
        "i = Cast <to = 3> (x) c = MatMulInteger (i, w) z = Cast <to = 1> (c) q = Mul (z, s) "
        "a = Add (q, b) r = Sqrt (dk) y = Div (a, r)",
        {"w": np.ones((4, 4), np.int8), "dk": 64.0},
    ),
}


@pytest.mark.parametrize(("kind", "body", "own"), LOOKALIKES.values(), ids=LOOKALIKES)
def test_what_is_named_as_another_normalisation(kind, body, own, seen):
    found = seen(net(body, **own))
    assert found.outputs == []
    assert found.kinds == [kind]


def test_the_batchs_own_statistics_are_no_stored_ones(seen):
    over_batch = (CENTRED + SPREAD).replace("last", "nhw")
    found = seen(net(over_batch + TAIL, nhw=np.array([0, 1, 2])))
    assert found.outputs == []
    (kind,) = found.kinds
    assert "batch" in kind.lower()


NOTHING: dict[str, tuple[str, dict[str, Any]]] = {
    "attention, bias added": (SCORES, {"dk": 64.0, "w": np.eye(4)}),
    "attention, bias taken off": (SCORES.replace("Add", "Sub"), {"dk": 64.0, "w": np.eye(4)}),
    "attention, no product": ("a = Add (x, s) r = Sqrt (dk) y = Div (a, r)", {"dk": 64.0}),
    "attention, bias behind": ("r = Sqrt (dk) a = Div (x, r) y = Add (a, s)", {"dk": 64.0}),
    "attention behind an activation": (
        "h = Relu (x) a = Add (h, s) r = Sqrt (dk) y = Div (a, r)",
        {"dk": 64.0},
    ),
    "half off, over the root of two": ("o = Sub (x, half) r = Sqrt (two) y = Div (o, r)", {}),
    "image, numbers": (
        "sd = Sqrt (var) o = Sub (x, mean) y = Div (o, sd)",
        {"x": "N, 3, 8, 8", "mean": 0.5, "var": 0.25},
    ),
    "image, one element": (
        "sd = Sqrt (var) o = Sub (x, mean) y = Div (o, sd)",
        {"x": "N, 3, 8, 8", "mean": [0.5], "var": [0.25]},
    ),
    "image, channels": (
        "sd = Sqrt (var) o = Sub (x, mean) y = Div (o, sd)",
        {**PIXELS, "var": np.reshape([0.25, 0.24, 0.3], (3, 1, 1))},
    ),
    "image, stored deviations": (
        "o = Sub (x, mean) y = Div (o, sd)",
        {**PIXELS, "sd": np.reshape([0.5, 0.49, 0.55], (3, 1, 1))},
    ),
    "Keras' Normalization": (
        "sd = Sqrt (v) most = Max (sd, e) o = Sub (x, m) y = Div (o, most)",
        {"x": "N, 4"},
    ),
    "gelu": (
        "r = Sqrt (two) a = Div (x, r) f = Erf (a) g = Add (f, one) h = Mul (x, g) "
        "y = Mul (h, half)",
        {},
    ),
    "gelu behind a bias": (
        "c = Conv (x, w) h = Add (c, bc) r = Sqrt (two) a = Div (h, r) y = Erf (a)",
        {**CHANNELS_FIRST, "w": np.ones((4, 4, 1, 1))},
    ),
    "gelu behind a shift": (
        "h = Sub (x, m) r = Sqrt (two) a = Div (h, r) f = Erf (a) y = Mul (h, f)",
        {},
    ),
    "radial basis": (
        "r = Sqrt (v) o = Sub (x, m) z = Div (o, r) zz = Mul (z, z) n = Neg (zz) y = Exp (n)",
        {},
    ),
    "radial basis, of twice the variance": (
        "t = Mul (two, v) r = Sqrt (t) o = Sub (x, m) z = Div (o, r) zz = Mul (z, z) "
        "n = Neg (zz) y = Exp (n)",
        {},
    ),
    "layer scale": ("h = Relu (x) y = Mul (h, s)", {}),
    "gate": ("p = GlobalAveragePool (x) g = Sigmoid (p) y = Mul (x, g)", {"x": "N, 4, 3, 3"}),
}


@pytest.mark.parametrize(("body", "own"), NOTHING.values(), ids=NOTHING)
def test_what_is_no_batchnorm(body, own, seen):
    found = seen(net(body, **own))
    assert found.outputs == []
    assert found.kinds == []


def test_a_batchnorm_behind_a_layernorm_is_one(seen):
    found = seen(net("n = LayerNormalization (x, ones) " + ROOT + norm("n")))
    assert found.outputs == [("y", Form.DECOMPOSED)]


# Names do not overrule what is computed


def renamed(proto: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    for tensor in proto.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in proto.graph.node:
        node.input[:] = [names.get(each, each) for each in node.input]
    return proto


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("LayerNorm", CENTRED + SPREAD + TAIL),
        ("LayerNorm", "z = LayerNormalization (x, ones) " + GAINED),
        ("RMSNorm", SQUARED + "z = Div (x, r) y = Mul (z, s)"),
    ],
)
@pytest.mark.parametrize("place", ["parameters", "nodes"])
def test_a_layernorm_called_bn_is_a_layernorm(kind, body, place, seen):
    proto = net(body)
    if place == "parameters":
        proto = renamed(proto, {"s": "bn.weight", "b": "bn.bias"})
    else:
        for node in proto.graph.node:
            node.name = f"bn1/{node.output[0]}"
    found = seen(proto)
    assert found.outputs == []
    assert found.kinds == [kind]


def test_a_gate_called_bn_is_no_batchnorm(seen):
    proto = net("p = GlobalAveragePool (x) g = Sigmoid (p) y = Mul (x, g)", x="N, 4, 3, 3")
    proto.graph.node[2].name = "bn/mul"
    assert seen(proto).count == 0


def test_a_map_called_bn_is_one_no_more_than_likely(seen):
    """The names do count where nothing that is computed speaks against them."""
    proto = net("q = Mul (x, s) y = Add (q, b)")
    assert seen(proto).outputs == []
    for node in proto.graph.node:
        node.name = f"bn1/{node.output[0]}"
    found = seen(proto)
    assert found.outputs == [("y", Form.AFFINE)]
    assert found.norms.batchnorms[0].confidence is Confidence.LIKELY


# A BatchNormalization between two Reshapes


def between_reshapes(x: str, there: Iterable[int], back: Iterable[int], **four: Array):
    """The node over reshaped data; `four` are its parameters by their names in STORED."""
    return net(
        "n = Reshape (x, there) o = BatchNormalization (n, s, b, m, v) y = Reshape (o, back)",
        x=x,
        there=np.array(there),
        back=np.array(back),
        **four,
    )


FRESH = {"s": np.ones(16), "b": np.zeros(16), "m": np.zeros(16), "v": np.ones(16)}


@pytest.mark.parametrize(
    "four",
    [FRESH, FRESH | {"s": np.arange(16.0), "b": np.arange(16.0)}],
    ids=["fresh", "fresh statistics"],
)
def test_between_reshapes_it_stays_a_batchnorm(four, seen):
    found = seen(between_reshapes("1, 4, 8, 8", [1, 16, 4, 4], [1, 4, 8, 8], **four))
    assert found.outputs == [("o", Form.NATIVE)]
    assert found.kinds == []


# torch.nn.InstanceNorm2d(2, track_running_stats=True), exported with dims that may vary.
TILED = """dims = Shape (x) batch = Slice (dims, nought, first)
mt = Tile (m, batch) vt = Tile (v, batch)
n = Reshape (x, there) o = BatchNormalization (n, st, bt, mt, vt) y = Reshape (o, dims)"""


@pytest.mark.parametrize("affine", [False, True])
def test_tiled_statistics_are_an_instancenorm(affine, seen):
    own = {"m": [0.5, -0.25], "v": [1.5, 2.5], "s": [1.0, 2.0], "b": [0.5, 1.0]}
    body = "st = Tile (s, batch) bt = Tile (b, batch) n =".join(TILED.split("n =", 1))
    if not affine:
        own |= {"st": np.ones(4), "bt": np.zeros(4)}
        body = TILED
    found = seen(
        net(
            body,
            x="2, 2, 3, 3",
            nought=np.array([0]),
            first=np.array([1]),
            there=np.array([1, -1, 3, 3]),
            **own,
        )
    )
    assert found.outputs == []
    assert found.kinds == ["InstanceNorm"]


def repeated(*values: float) -> Array:
    return np.tile(values, 2)


def test_repeated_statistics_are_an_instancenorm(seen):
    """The same with the batch fixed to 2: nothing but constants are left of the Tiles."""
    found = seen(
        between_reshapes(
            "2, 2, 3, 3",
            [1, 4, 3, 3],
            [2, 2, 3, 3],
            s=repeated(1.0, 2.0),
            b=repeated(0.5, 1.0),
            m=repeated(0.5, -0.25),
            v=repeated(1.5, 2.5),
        )
    )
    assert found.outputs == []
    assert found.kinds == ["InstanceNorm"]


def test_statistics_that_do_not_repeat_are_a_batchnorms(seen):
    found = seen(between_reshapes("2, 2, 3, 3", [1, 4, 3, 3], [2, 2, 3, 3]))
    assert found.outputs == [("o", Form.NATIVE)]


# Parameters that a caller may feed


@pytest.mark.parametrize("form", [Form.NATIVE, Form.DECOMPOSED])
def test_parameters_that_may_be_fed_are_not_to_be_folded(form, onnx_file):
    body, dims = {
        Form.NATIVE: ("y = BatchNormalization (c, s, b, m, v)", (4,)),
        Form.DECOMPOSED: (ROOT + norm("c"), (4, 1, 1)),
    }[form]
    proto = net("c = Conv (x, w) " + body, x="N, 4, 3, 3", w=np.ones((4, 4, 1, 1)), **shaped(*dims))
    (fixed,) = find_batchnorms(open_model(onnx_file(proto))).batchnorms
    assert (fixed.form, fixed.foldable_into, fixed.obstacle) == (form, "c", "")
    # An input of the same name: since IR version 4 the value in the file is only its default.
    proto.graph.input.append(helper.make_tensor_value_info("v", onnx.TensorProto.FLOAT, dims))
    (open_to_others,) = find_batchnorms(open_model(onnx_file(proto))).batchnorms
    assert open_to_others.form is form
    assert open_to_others.var.origin is Origin.OVERRIDABLE
    assert open_to_others.foldable_into is None
    assert open_to_others.obstacle == "its parameters may be fed as inputs"


# What became of the BatchNorms of a reference

RNG = np.random.default_rng(1)
EPSILON = 1e-5


class Four(NamedTuple):
    s: Array
    b: Array
    m: Array
    v: Array

    @property
    def slope(self) -> Array:
        return self.s / np.sqrt(self.v + EPSILON)

    @property
    def intercept(self) -> Array:
        return self.b - self.m * self.slope

    def under(self, mark: str) -> dict[str, Array]:
        return {f"{name}{mark}": values for name, values in self._asdict().items()}


def four(channels: int = 4) -> Four:
    # No slope is near another, nor near 1: each wrong map is told from the right one.
    slopes = RNG.permutation(np.linspace(0.3, 3, channels)) * RNG.choice([-1, 1], channels)
    var = RNG.uniform(0.1, 3, channels)
    return Four(slopes * np.sqrt(var), RNG.normal(size=channels), RNG.normal(size=channels), var)


def batchnorm(x: str, y: str, mark: str = "") -> str:
    four_names = ", ".join(f"{each}{mark}" for each in "sbmv")
    return f"[BN{mark}] {y} = BatchNormalization ({x}, {four_names}) "


def output(proto: onnx.ModelProto) -> Array:
    """By onnxruntime: onnx's evaluator has no FusedMatMul and no ConvTranspose of groups."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    source = proto.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(["y"], fed(proto))[0]


Folds = tuple[onnx.ModelProto, onnx.ModelProto, str]
"""A reference, a model, and where in it the reference's one BatchNorm is; empty for nowhere."""


def conv_folds() -> Iterable[tuple[str, Folds]]:
    p, w = four(), RNG.normal(size=(4, 4, 1, 1))
    x = "N, 4, 3, 3"
    kept = net("c = Conv (x, w) " + batchnorm("c", "y"), x=x, w=w, **p.under(""))
    a = p.slope[:, None, None, None]
    told = {"x": x, "w": w * a, "c": p.intercept}
    yield "Conv", (kept, net("[L] y = Conv (x, w, c)", **told), "Conv L")
    added = told | {"c": p.intercept.reshape(1, 4, 1, 1)}
    yield "Conv + Add", (kept, net("[L] d = Conv (x, w) y = Add (d, c)", **added), "Conv L")
    turned = told | {"w": (w * a).transpose(1, 0, 2, 3)}
    body = "wt = Transpose <perm = [1, 0, 2, 3]> (w) [L] y = Conv (x, wt, c)"
    yield "Conv of moved weights", (kept, net(body, **turned), "Conv L")
    yield (
        "Conv, the other axis",
        (
            kept,
            net("y = Conv (x, w, c)", **(told | {"w": w * a.transpose(1, 0, 2, 3)})),
            "",
        ),
    )
    yield "Conv, no bias", (kept, net("y = Conv (x, w)", x=x, w=w * a), "")
    yield (
        "Conv, one channel off",
        (
            kept,
            net("y = Conv (x, w, c)", **(told | {"c": p.intercept + np.array([0, 0, 0, 1e-3])})),
            "",
        ),
    )
    yield "Conv, nothing folded", (kept, net("y = Conv (x, w)", x=x, w=w), "")


def grouped_folds() -> Iterable[tuple[str, Folds]]:
    x, two = "N, 4, 3, 3", "<group = 2> "
    p, w = four(), RNG.normal(size=(4, 2, 1, 1))
    kept = net(f"c = Conv {two} (x, w) " + batchnorm("c", "y"), x=x, w=w, **p.under(""))
    told = {"x": x, "w": w * p.slope[:, None, None, None], "c": p.intercept}
    yield "Conv of groups", (kept, net(f"[L] y = Conv {two} (x, w, c)", **told), "Conv L")
    # [inputs, channels / group, 1, 1]: the first two inputs make the first two channels.
    kept = net(f"c = ConvTranspose {two} (x, w) " + batchnorm("c", "y"), x=x, w=w, **p.under(""))
    rows = np.repeat(p.slope.reshape(2, 2), 2, axis=0)[:, :, None, None]
    body = f"[L] y = ConvTranspose {two} (x, w, c)"
    told = {"x": x, "c": p.intercept}
    yield "ConvTranspose of groups", (kept, net(body, w=w * rows, **told), "ConvTranspose L")
    for name, wrong in (
        ("channels alternate", np.tile(p.slope.reshape(2, 2), (2, 1))[:, :, None, None]),
        ("channels of inputs", p.slope[:, None, None, None]),
    ):
        yield f"ConvTranspose of groups, {name}", (kept, net(body, w=w * wrong, **told), "")
    p, w = four(6), RNG.normal(size=(4, 6, 1, 1))
    kept = net("c = ConvTranspose (x, w) " + batchnorm("c", "y"), x=x, w=w, **p.under(""))
    told = {"x": x, "w": w * p.slope[None, :, None, None], "c": p.intercept}
    body = "[L] y = ConvTranspose (x, w, c)"
    yield "ConvTranspose", (kept, net(body, **told), "ConvTranspose L")


def product_folds() -> Iterable[tuple[str, Folds]]:
    x = "N, 4"
    p, w, bias = four(), RNG.normal(size=(4, 4)), RNG.normal(size=4)
    body = "p = MatMul (x, w) c = Add (f, p) " + batchnorm("c", "y")
    kept = net(body, x=x, w=w, f=bias, **p.under(""))
    right, c = w * p.slope, bias * p.slope + p.intercept
    told = {"x": x, "c": c}
    gemm, fused = "[L] y = Gemm", "[L] p = com.microsoft.FusedMatMul"
    for name, body, weights, where in (
        ("MatMul + Add", "[L] p = MatMul (x, w) y = Add (p, c)", right, "MatMul L"),
        ("MatMul + Add, swapped", "[L] p = MatMul (x, w) y = Add (c, p)", right, "MatMul L"),
        ("MatMul, turned", "p = MatMul (x, w) y = Add (p, c)", right.T, ""),
        ("Gemm", f"{gemm} (x, w, c)", right, "Gemm L"),
        ("Gemm, transB", f"{gemm} <transB = 1> (x, w, c)", right.T, "Gemm L"),
        ("Gemm, transB wrong", f"{gemm} <transB = 1> (x, w, c)", right, ""),
        ("Gemm, no transB wrong", f"{gemm} (x, w, c)", right.T, ""),
        ("Gemm, alpha", f"{gemm} <alpha = 2.0> (x, w, c)", right / 2, "Gemm L"),
        ("Gemm, alpha wrong", f"{gemm} <alpha = 2.0> (x, w, c)", right, ""),
        ("Gemm, beta wrong", f"{gemm} <beta = 2.0> (x, w, c)", right, ""),
        ("FusedMatMul", f"{fused} (x, w) y = Add (p, c)", right, "FusedMatMul L"),
        (
            "FusedMatMul, transB",
            f"{fused} <transB = 1> (x, w) y = Add (p, c)",
            right.T,
            "FusedMatMul L",
        ),
        ("FusedMatMul, transB wrong", f"{fused} <transB = 1> (x, w) y = Add (p, c)", right, ""),
        (
            "FusedMatMul, alpha",
            f"{fused} <alpha = 2.0> (x, w) y = Add (p, c)",
            right / 2,
            "FusedMatMul L",
        ),
        ("FusedMatMul, alpha wrong", f"{fused} <alpha = 2.0> (x, w) y = Add (p, c)", right, ""),
    ):
        yield name, (kept, net(body, w=weights, **told), where)


FOLDS = dict([*conv_folds(), *grouped_folds(), *product_folds()])


@pytest.mark.parametrize(("kept", "model", "where"), FOLDS.values(), ids=FOLDS)
def test_folded_is_what_computes_the_same(kept, model, where, onnx_file):
    same = np.allclose(output(kept), output(model), rtol=1e-4, atol=1e-4)
    assert same == bool(where)  # the case is what its name says
    found = inspect_file(onnx_file(model), against=onnx_file(kept, "kept.onnx")).reference
    (traced,) = found.traced
    assert traced.fate is (Fate.FOLDED if where else Fate.MISSING)
    # A bias of its own is the other half of the place.
    added = ", Add y" if where and model.graph.node[-1].op_type == "Add" else ""
    assert traced.where == where + added


def fates(model: onnx.ModelProto, kept: onnx.ModelProto, onnx_file) -> dict[str, tuple[Fate, str]]:
    found = inspect_file(onnx_file(model), against=onnx_file(kept, "kept.onnx")).reference
    return {each.name: (each.fate, each.where) for each in found.traced}


TWO_BRANCHES = {"x": "N, 4, 3, 3", "wa": RNG.normal(size=(4, 4, 1, 1))}
TWO_BRANCHES["wb"] = RNG.normal(size=(4, 4, 1, 1))


def test_equal_maps_go_by_their_places(onnx_file):
    """Two BatchNorms of the same parameters, in the file in the other order, under other names."""
    p = four()
    told = TWO_BRANCHES | p.under("1") | p.under("2")
    first = "[A] c = Conv (x, wa) " + batchnorm("c", "d", "1")
    second = "[B] f = Conv (x, wb) " + batchnorm("f", "g", "2")
    kept = net(first + second + "y = Add (d, g)", **told)
    others = second.replace("BN2", "q") + first.replace("BN1", "r")
    model = net(others + "y = Add (d, g)", **told)
    assert fates(model, kept, onnx_file) == {"BN1": (Fate.KEPT, "r"), "BN2": (Fate.KEPT, "q")}


def test_of_equal_maps_one_is_folded_and_one_is_kept(onnx_file):
    p = four()
    told = TWO_BRANCHES | p.under("1") | p.under("2")
    body = "[A] c = Conv (x, wa) {} h = Relu (d) [B] f = Conv (h, wb) "
    behind = batchnorm("f", "y", "2")
    kept = net(body.format(batchnorm("c", "d", "1")) + behind, **told)
    folded = told | {"wa": told["wa"] * p.slope[:, None, None, None], "ba": p.intercept}
    body = "[A] d = Conv (x, wa, ba) h = Relu (d) [B] f = Conv (h, wb) "
    model = net(body + behind.replace("BN2", "other"), **folded)
    assert fates(model, kept, onnx_file) == {
        "BN1": (Fate.FOLDED, "Conv A"),
        "BN2": (Fate.KEPT, "other"),
    }


@pytest.mark.parametrize("entered", ["x", "d"], ids=["siamese", "in a row"])
def test_shared_weights_take_in_a_batchnorm_each(entered, onnx_file):
    """One weight before two BatchNorms becomes two weights."""
    one, two = four(), four()
    told = TWO_BRANCHES | one.under("1") | two.under("2")
    body = "c = Conv (x, wa) " + batchnorm("c", "d", "1")
    body += f"f = Conv ({entered}, wa) " + batchnorm("f", "g", "2")
    kept = net(body + "y = Add (d, g)", **told)
    model = net(
        f"[P] d = Conv (x, wp, bp) [Q] g = Conv ({entered}, wq, bq) y = Add (d, g)",
        x=told["x"],
        wp=told["wa"] * one.slope[:, None, None, None],
        bp=one.intercept,
        wq=told["wa"] * two.slope[:, None, None, None],
        bq=two.intercept,
    )
    assert np.allclose(output(kept), output(model), rtol=1e-4, atol=1e-4)
    expected = {"BN1": (Fate.FOLDED, "Conv P"), "BN2": (Fate.FOLDED, "Conv Q")}
    assert fates(model, kept, onnx_file) == expected


TWO = """agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
<float[2, 2, 1, 1] w = {1.0, -2.0, 0.5, 1.5}, float[2] c = {0.25, -0.25}, float[2] s = {1.0, 2.0},
 float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0}, float[2] v = {0.75, 8.75},
 float[2] s2 = {3.0, -0.5}, float[2] b2 = {1.5, 2.5}>
{ [conv] h = Conv (x, w, c)
  [first] f = BatchNormalization <epsilon = 0.25> (h, s, b, m, v)
  d = Dropout (f)
  [second] y = BatchNormalization <epsilon = 0.25> (d, s2, b2, m, v) }"""


def both_folded(scale: float = 1.0) -> onnx.ModelProto:
    first, second = np.array([1.0, 2 / 3]), np.array([3.0, -0.5 / 3]) * scale
    mean = np.array([0.25, -4.0])
    shift = np.array([0.5, -0.5]) - mean * first
    other = np.array([1.5, 2.5]) - mean * second
    slope, intercept = first * second, shift * second + other
    weights = np.array([[1.0, -2.0], [0.5, 1.5]]) * slope[:, None]
    bias = np.array([0.25, -0.25]) * slope + intercept
    proto = parsed(
        """agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
        <float[2, 2, 1, 1] w, float[2] c> { [one] y = Conv (x, w, c) }"""
    )
    for stored, values in zip(proto.graph.initializer, (weights, bias), strict=True):
        dims = list(stored.dims)
        made = numpy_helper.from_array(values.astype(np.float32).reshape(dims), stored.name)
        stored.CopyFrom(made)
    return proto


def test_two_batchnorms_that_went_into_one_operator(onnx_file):
    found = fates(both_folded(), parsed(TWO), onnx_file)
    assert found == {"first": (Fate.FOLDED, "Conv one"), "second": (Fate.FOLDED, "Conv one")}
    other = fates(both_folded(1.01), parsed(TWO), onnx_file)
    assert other == {"first": (Fate.MISSING, ""), "second": (Fate.MISSING, "")}


def test_weights_in_blocks_are_not_looked_into(onnx_file):
    """As ONNX Runtime writes them for one kind of processor at its highest level."""
    proto = both_folded()
    proto.graph.node[0].domain = "com.microsoft.nchwc"
    proto.opset_import.append(helper.make_opsetid("com.microsoft.nchwc", 1))
    inspection = inspect_file(onnx_file(proto), against=onnx_file(parsed(TWO), "kept.onnx"))
    assert {each.fate for each in inspection.reference.traced} == {Fate.UNTOLD}
    assert any("com.microsoft.nchwc" in note for note in inspection.notes)


def test_a_constant_of_no_elements_is_no_step_of_a_map(onnx_file):
    proto = parsed(
        """agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[1, 2, 1, 1] f = {1.5, 0.5}, float[0] g = {}>
{ ["a/batch_normalization/mul_1"] h = Mul(x, f)
  ["a/batch_normalization/add_1"] y = Add(h, g) }"""
    )
    inspection = inspect_file(onnx_file(proto))
    assert [len(each.norm.steps) for each in inspection.norms] == [1]
