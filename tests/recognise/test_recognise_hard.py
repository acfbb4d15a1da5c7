"""Damaged and monstrous models are answered: no crash, and no work out of proportion to the file.

No test here looks at a clock. What was exponential does not end at all; of what was quadratic the
lines of Python that run are counted, for a model and for one twice as large.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_text import FEW, parsed

import inspector
from inspector.errors import UnreadableError
from inspector.facts.batchnorm import Certainty, Form, Norms
from inspector.facts.traced import Fate, Traced
from inspector.flows import inspect_file
from inspector.read.open import open_model
from inspector.recognise import find_batchnorms

HEADER = '<ir_version: 8, opset_import: ["": {opset}, "com.microsoft": 1]>\n'
STORED = (
    "float[4] s = {1.0, 2.0, 3.0, 4.0}, float[4] b = {0.0, 1.0, 2.0, 3.0}, "
    "float[4] m = {0.0, 0.5, 1.0, 1.5}, float[4] v = {0.5, 1.5, 2.5, 3.5}, float e = {0.001}"
)
LAST, FIRST = "N, 3, 3, 4", "N, 4, 3, 3"


def net(
    body: str, own: str = "", *, x: str = FIRST, of: str = "float", opset: int = 18, **arrays: Any
) -> onnx.ModelProto:
    """A graph from x to y: nodes and what is stored beside the four parameters, as text.

    Of another type than float no parameters are there but its own.
    """
    held = ", ".join(each for each in (STORED if of == "float" else "", own) if each)
    proto = parsed(
        HEADER.format(opset=opset) + f"agraph ({of}[{x}] x) => ({of}[] y) <{held}> {{ {body} }}"
    )
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(values, np.float32), name)
        for name, values in arrays.items()
    )
    return proto


def floats(name: str, *numbers: str) -> str:
    return f"float[{len(numbers)}] {name} = {{{', '.join(numbers)}}}"


def ints(name: str, *numbers: int) -> str:
    return f"int64[{len(numbers)}] {name} = {{{', '.join(map(str, numbers))}}}"


WORDS = 'string[1] w = {"abc"}'

# A scale that comes out of a node which is damaged

SCALES: dict[str, tuple[str, str]] = {
    "Expand, no input": ("z = Expand ()", ""),
    "Expand, one input": ("z = Expand (s)", ""),
    "Expand, empty inputs": ("z = Expand (, )", ""),
    "Expand to NaN": ("z = Expand (s, q)", floats("q", "nan")),
    "Expand to infinity": ("z = Expand (s, q)", floats("q", "inf")),
    "Expand to a string": ("z = Expand (s, w)", WORDS),
    "ConstantOfShape, no input": ("z = ConstantOfShape ()", ""),
    "ConstantOfShape, empty input": ('z = ConstantOfShape ("")', ""),
    "ConstantOfShape, NaN": ("z = ConstantOfShape (q)", floats("q", "nan")),
    "ConstantOfShape, infinity": ("z = ConstantOfShape (q)", floats("q", "inf")),
    "ConstantOfShape, a string": ("z = ConstantOfShape (w)", WORDS),
    "ConstantOfShape, a negative length": ("z = ConstantOfShape (q)", ints("q", -4)),
    "ConstantOfShape, too long": ("z = ConstantOfShape (q)", ints("q", 2**40, 2**40)),
    "Tile, one input": ("z = Tile (s)", ""),
    "Tile, three inputs": ("z = Tile (s, q, q)", ints("q", 1)),
    "Tile by NaN": ("z = Tile (s, q)", floats("q", "nan")),
    "Tile by a string": ("z = Tile (s, w)", WORDS),
    "Gather, no input": ("z = Gather ()", ""),
    "Gather, one input": ("z = Gather (s)", ""),
    "Gather out of bounds": ("z = Gather (s, q)", ints("q", 100)),
    "Gather, no such axis": ("z = Gather <axis = 7> (s, q)", ints("q", 0)),
    "Slice by nothing": (
        "z = Slice (s, q, p, q, q)",
        ints("q", 0) + ", " + ints("p", 9),
    ),
    "Concat of nothing": ("z = Concat <axis = 0> ()", ""),
    "Concat, no axis": ("z = Concat (s, s)", ""),
    "Concat, axis of a fraction": ("z = Concat <axis = 1.5> (s)", ""),
    "Transpose, no such axis": ("z = Transpose <perm = [3]> (s)", ""),
    "Transpose, axes of fractions": ("z = Transpose <perm = [0.0]> (s)", ""),
    "Transpose, a word for axes": ('z = Transpose <perm = "abc"> (s)', ""),
    "Unsqueeze, no such axis": ("z = Unsqueeze (s, q)", ints("q", -99)),
    "Unsqueeze, one axis often": ("z = Unsqueeze (s, q)", ints("q", *[0] * 100)),
    "Squeeze, no such axis": ("z = Squeeze (s, q)", ints("q", 99)),
    "Reshape, two lengths left open": ("z = Reshape (s, q)", ints("q", -1, -1)),
    "Cast to nothing": ("z = Cast (s)", ""),
    "Cast to no type": ("z = Cast <to = 99> (s)", ""),
    "Cast to strings": ("z = Cast <to = 8> (s)", ""),
    "CastLike, one input": ("z = CastLike (s)", ""),
    "Constant of nothing": ("z = Constant ()", ""),
    "Constant of words": ('z = Constant <value_strings = ["a", "b"]> ()', ""),
    "a second output that is not there": ("u, z = Sqrt (s)", ""),
    "DequantizeLinear, no such axis": (
        "z = DequantizeLinear <axis = 9> (q, s, q)",
        "uint8[4] q = {1, 2, 3, 4}",
    ),
    "itself": ("z = Add (z, z)", ""),
    "in a circle": ("a = Add (z, s) z = Mul (a, s)", ""),
    "in a circle of Identity": ("a = Identity (z) z = Identity (a)", ""),
}


@pytest.mark.parametrize(("body", "own"), SCALES.values(), ids=SCALES)
def test_a_damaged_scale_is_lost_and_the_norm_is_found(body, own, onnx_file):
    proto = net(f"{body} y = BatchNormalization (x, z, b, m, v)", own)
    (found,) = inspect_file(onnx_file(proto)).norms
    assert found.norm.output == "y"
    assert found.norm.scale.certainty is Certainty.LOST
    assert found.norm.scale.reason
    assert found.values.slope is None


SOUND: dict[str, tuple[str, str, list[float]]] = {
    "Where": ("z = Where (q, s, b)", "bool[4] q = {1, 0, 1, 1}", [1, 1, 3, 4]),
    "Clip, a minimum left out": ("z = Clip (s, , e)", "", [0.001] * 4),
    "Concat of one": ("z = Concat <axis = 0> (s)", "", [1, 2, 3, 4]),
}


@pytest.mark.parametrize(("body", "own", "scale"), SOUND.values(), ids=SOUND)
def test_what_is_only_odd_is_computed(body, own, scale, onnx_file):
    """Beside the damaged ones above: a guard against their damage must not refuse these."""
    proto = net(f"{body} y = BatchNormalization (x, z, b, m, v)", own)
    model = open_model(onnx_file(proto))
    (norm,) = find_batchnorms(model).batchnorms
    assert norm.scale.tensor is not None
    assert model.weights.load(norm.scale.tensor) == pytest.approx(scale)


# Everything else that is damaged

CENTRED = "o = Sub (x, m) y = Div (o, r)"
ROOT = "ve = Add (v, e) r = Sqrt (ve) "
NORM = ROOT + "o = Sub (x, m) u = Div (o, r) t = Mul (u, s) y = Add (t, b)"
NODE = "y = BatchNormalization {} (x, s, b, m, v)"
CONVS = {"10": np.ones((4, 4, 1, 1)), "11": np.ones(4)}
ONES = "1" * 5000


def of_type(dtype: str, dims: tuple[int, ...]) -> onnx.ModelProto:
    """A BatchNorm as arithmetic, of parameters in this type and shape."""
    number = TensorProto.DataType.Value(dtype)
    arrays = {"s": [1, 2, 3, 4], "b": [0, 1, 2, 3], "m": [1, 1, 2, 3], "v": [0.5, 1, 2, 4]}
    proto = net(NORM, x=f"N, 3, 3, {np.prod(dims)}", of=dtype.lower())
    proto.graph.initializer.extend(
        helper.make_tensor(name, number, dims, values[: int(np.prod(dims))])
        for name, values in arrays.items()
    )
    proto.graph.initializer.append(helper.make_tensor("e", number, [], [0.001]))
    return proto


def damaged() -> Iterable[tuple[str, onnx.ModelProto]]:
    for power in ("nan", "inf", "-inf", "0.0"):
        body = "ve = Add (v, e) r = Pow (ve, p) y = Mul (x, r)"
        yield f"Pow by {power}", net(body, f"float p = {{{power}}}", x=LAST)
    for name, root in {
        "Sum of three": "ve = Sum (v, e, e) r = Sqrt (ve)",
        "Sum of one": "ve = Sum (v) r = Sqrt (ve)",
        "Sum of none": "ve = Sum () r = Sqrt (ve)",
        "Sum of floats and integers": "ve = Sum (v, i) r = Sqrt (ve)",
        "Add of one": "ve = Add (v) r = Sqrt (ve)",
        "Add of three": "ve = Add (v, e, e) r = Sqrt (ve)",
        "Sqrt of none": "r = Sqrt ()",
        "Sqrt of an empty name": 'r = Sqrt ("")',
        "Pow of one": "ve = Add (v, e) r = Pow (ve)",
        "Div of one": "ve = Add (v, e) q = Sqrt (ve) r = Div (q)",
        "a root of negatives": "n = Neg (v) r = Sqrt (n)",
        "a root of NaN": "n = Div (b, b) r = Sqrt (n)",
    }.items():
        yield name, net(f"{root} {CENTRED}", ints("i", 1, 2, 3, 4), x=LAST)
    for attributes in (
        "epsilon = 1",
        'epsilon = "q", momentum = [1, 2], training_mode = 0.5',
        "epsilon = nan, momentum = nan",
        "epsilon = inf, momentum = -inf",
    ):
        yield attributes, net(NODE.format(f"<{attributes}>"))
    for name, body in {
        "norm of no input": "y = BatchNormalization ()",
        "norm of no inputs and outputs": " = BatchNormalization ()",
        "norm of no output": " = BatchNormalization (x, s, b, m, v)",
        "norm of an empty output": '"" = BatchNormalization (x, s, b, m, v)',
        "Mul of empty outputs": '"" = Mul (x, s) "" = Mul (x, s) y = Add ("", s)',
        "Mul of no output": " = Mul (x, s) o = Sub (x, m) y = Add (o, b)",
        "a row in a circle": "z = Mul (y, s) y = Add (z, s)",
        "data in a circle": "a = Identity (c) c = Identity (a) q = Mul (a, s) "
        "y = BatchNormalization (q, s, b, m, v)",
        "Transpose that is none": "a = Mul (x, s) c = Transpose <perm = [0, 0, 1, 9]> (a) "
        "y = Add (c, b)",
        "Split into none": "z = Split <num_outputs = 0> (s) y = BatchNormalization (x, z, b, m, v)",
        "Split into very many": "z = Split <num_outputs = 1099511627776> (s) "
        "y = BatchNormalization (x, z, b, m, v)",
    }.items():
        yield name, net(body, x=LAST)
    far = "<axis = 4611686018427387904, broadcast = 1>"
    yield (
        "axes far away",
        net(f"a = Mul {far} (x, s) y = Add {far.replace('= 4', '= -4')} (a, b)", opset=6),
    )
    for name, body in {
        "Conv of no output": ' = Conv (x, "10", "11") y = Conv (x, "10", "11")',
        "Conv of no output, norm": ' = Conv (x, "10") y = BatchNormalization (x, s, b, m, v)',
        "Conv of no input": "y = Conv ()",
        "an output of 5,000 digits": f'"{ONES}" = Conv (x, "10", "11") y = Relu ("{ONES}")',
        "an output of 900,000 digits": f'"{"1" * 900_000}x" = Conv (x, "10", "11") y = Relu (x)',
    }.items():
        yield name, net(body, **CONVS)
    yield (
        "weights of 5,000 digits",
        net(f'y = Conv (x, "{ONES}", "11")', **{ONES: CONVS["10"], "11": CONVS["11"]}),
    )
    # Superscript two is a digit and no number, the Arabic three is both.
    unicode = net('y = Conv (x, "two", "three")', **{"two": CONVS["10"], "\u0662": CONVS["11"]})
    unicode.graph.node[0].input[1:] = ["\u00b2", "\u0663"]
    yield "digits that are no ASCII", unicode
    for dims in ((0,), (0, 1, 1), (1, 0)):
        shape = "x".join(map(str, dims))
        zeros = np.zeros(dims)
        body = "a = Sub (x, z) ze = Add (z, e) r = Sqrt (ze) y = Div (a, r)"
        yield f"arithmetic of {shape}", net(body, x="N, 0, 3, 0", z=zeros)
        yield f"a map of {shape}", net("a = Mul (x, z) y = Add (a, z)", x="N, 0, 3, 0", z=zeros)
    for name, own in {
        "integers": "int64[4] z = {1, 2, 3, 4}",
        "strings": WORDS.replace(" w ", " z "),
        "no elements": "float[0] z = {}",
        "no axes": "float z = {1.0}",
    }.items():
        yield f"a node of {name}", net("y = BatchNormalization (x, z, z, z, z)", own)
    for dtype in ("FLOAT16", "BFLOAT16", "DOUBLE", "FLOAT8E4M3FN"):
        yield f"{dtype}, 4 channels", of_type(dtype, (4,))
        yield f"{dtype}, 1 channel", of_type(dtype, (1,))


def numbered(name: str, kind: str, weights: Any, *, x: str = FIRST, **more: Any) -> onnx.ModelProto:
    """One linear operator, as in a model that a BatchNorm was folded into."""
    attributes = f"<{more.pop('attributes')}>" if "attributes" in more else ""
    bias = ", bias" if more else ""
    return net(f"[{name}] y = {kind} {attributes} (x, w{bias})", x=x, w=weights, **more)


def damaged_weights() -> Iterable[tuple[str, onnx.ModelProto]]:
    square = np.arange(16.0).reshape(4, 4, 1, 1)
    yield "Conv of no channels", numbered("L", "Conv", np.zeros((0, 4, 1, 1)))
    yield "Conv of no inputs", numbered("L", "Conv", np.zeros((4, 0, 1, 1)))
    yield "Conv of NaN", numbered("L", "Conv", np.full((4, 4, 1, 1), np.nan))
    yield "Conv, bias of another length", numbered("L", "Conv", square, bias=np.ones(7))
    for group in (3, 10**9, 10**12, 0, -1):
        for kind in ("Conv", "ConvTranspose"):
            attributes = f"group = {group}"
            yield f"{kind}, group {group}", numbered("L", kind, square, attributes=attributes)
    yield "MatMul of 4x0", numbered("L", "MatMul", np.zeros((4, 0)))
    yield "MatMul of 0x4", numbered("L", "MatMul", np.zeros((0, 4)))
    yield "MatMul of one number", numbered("L", "MatMul", np.float32(2))
    for attributes in ("transB = 1", "transB = 0"):
        for shape in ((4, 4, 2), (0, 0), (4,)):
            name = f"Gemm of {shape}, {attributes}"
            yield name, numbered("L", "Gemm", np.ones(shape), x="N, 4", attributes=attributes)
    zeros = {each: np.zeros(0) for each in ("zs", "zb", "zm", "zv")}
    yield (
        "reference of no channels",
        net(
            "c = Conv (x, w) y = BatchNormalization (c, zs, zb, zm, zv)",
            w=np.zeros((0, 4, 1, 1)),
            **zeros,
        ),
    )
    yield (
        "reference of NaN",
        net(
            "c = Conv (x, w) y = BatchNormalization (c, s, b, m, nan)",
            w=square,
            nan=np.full(4, np.nan),
        ),
    )
    yield (
        "reference of bad groups",
        net(
            "c = ConvTranspose <group = 3> (x, w) y = BatchNormalization (c, s, b, m, v)", w=square
        ),
    )


GOOD = net(
    "c = Conv (x, w) y = BatchNormalization (c, s, b, m, v)",
    w=np.random.default_rng(0).normal(size=(4, 4, 1, 1)),
)
DAMAGED = dict([*damaged(), *damaged_weights()])


def inspected(path: Path, against: Path | None = None) -> tuple[Traced, ...] | None:
    """What became of a reference's norms; any error but UnreadableError goes through."""
    try:
        found = inspect_file(path, against=against)
    except UnreadableError:
        return None
    return () if found.reference is None else found.reference.traced


@pytest.mark.parametrize("proto", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_no_crash(proto, onnx_file):
    bad, good = onnx_file(proto, "bad.onnx"), onnx_file(GOOD, "good.onnx")
    inspected(bad)
    # Neither holds what the other one has.
    for each in (*(inspected(bad, good) or ()), *(inspected(good, bad) or ())):
        assert each.fate is not Fate.FOLDED


# Work that was out of proportion


class Counting:
    """An evaluator that counts what it is asked."""

    def __init__(self, evaluator: Any) -> None:
        self.evaluator = evaluator
        self.runs = 0

    def run(self, *args: Any) -> Any:
        self.runs += 1
        return self.evaluator.run(*args)


def found_counting(path: Path) -> tuple[Norms, int]:
    model = open_model(path)
    counting = Counting(model.evaluator)
    return find_batchnorms(replace(model, evaluator=counting)), counting.runs


def doubling(op_type: str, times: int) -> str:
    """c0, c1, … where each is made of the one before it, twice."""
    return " ".join(f"c{at + 1} = {op_type} (c{at}, c{at})" for at in range(times))


DEPTH = 60
SHARED = {
    "Add under a root": f"c0 = Sqrt (v) {doubling('Add', DEPTH)} o = Sub (x, m) y = Mul (o, c60)",
    "Mul under a root": f"c0 = Sqrt (v) {doubling('Mul', DEPTH)} o = Sub (x, m) y = Mul (o, c60)",
    "Div by a root": f"c0 = Sqrt (v) {doubling('Add', DEPTH)} o = Sub (x, m) y = Div (o, c60)",
    "inside a root": f"c0 = Identity (v) {doubling('Add', DEPTH)} r = Sqrt (c60) "
    "o = Sub (x, m) y = Div (o, r)",
    "a scale": f"c0 = Identity (s) {doubling('Add', DEPTH)} "
    "y = BatchNormalization (x, c60, b, m, v)",
    "each of the two before": "c0 = Sqrt (v) c1 = Sqrt (s) "
    + " ".join(f"c{at} = Add (c{at - 1}, c{at - 2})" for at in range(2, 300))
    + " o = Sub (x, m) y = Mul (o, c299)",
    "each of all before": "c0 = Sqrt (v) "
    + " ".join(f"c{at} = Sum ({', '.join(f'c{of}' for of in range(at))})" for at in range(1, 120))
    + " o = Sub (x, m) y = Mul (o, c119)",
}


@pytest.mark.parametrize("body", SHARED.values(), ids=SHARED)
def test_what_is_shared_is_computed_once(body, onnx_file):
    """The paths through these are more than 2 to the power of 60: without sharing it never ends."""
    proto = net(body, x=FIRST if "BatchNormalization" in body else LAST)
    norms, runs = found_counting(onnx_file(proto))
    assert len(norms.batchnorms) + len(norms.affines) == 1
    assert 0 < runs <= len(proto.graph.node)


def test_a_function_of_constants_is_computed_no_more_than_it_is_called(onnx_file):
    text = HEADER.format(opset=18).replace("]>", ', "my": 1]>')
    calls = " ".join(f"y{at} = my.f (x, s, b, m, v)" for at in range(50))
    chain = "c0 = Neg (s) " + " ".join(f"c{at + 1} = Neg (c{at})" for at in range(20))
    text += f"agraph (float[{FIRST}] x) => (float[] y49) <{STORED}> {{ {calls} }}"
    text += f"""<domain: "my", opset_import: ["": 18]> f (x, s, b, m, v) => (y)
    {{ {chain} y = BatchNormalization (x, c20, b, m, v) }}"""
    norms, runs = found_counting(onnx_file(text))
    assert len(norms.batchnorms) == 50
    assert runs <= 50 * 21


def test_functions_that_unfold_without_bound_are_refused(onnx_file):
    """Twenty functions, each of which calls the next one four times."""
    text = HEADER.format(opset=18).replace("]>", ', "my": 1]>')
    text += f"agraph (float[{FIRST}] x) => (float[] y) {{ y = my.f0 (x) }}"
    for at in range(20):
        calls = f"a = my.f{at + 1} (x) b = my.f{at + 1} (a) c = my.f{at + 1} (b)"
        text += f'<domain: "my", opset_import: ["": 18, "my": 1]> f{at} (x) => (y)'
        text += f"{{ {calls} y = my.f{at + 1} (c) }}"
    text += '<domain: "my", opset_import: ["": 18]> f20 (x) => (y) { y = Relu (x) }'
    with pytest.raises(UnreadableError, match="unfold into more than"):
        inspect_file(onnx_file(text))


BIG = 2**20
LARGE: dict[str, tuple[str, str]] = {
    "sum of many": (f"w = Expand (o, q) z = Sum ({', '.join(['w'] * 3000)})", "Sum"),
    "largest of many": (f"w = Expand (o, q) z = Max ({', '.join(['w'] * 3000)})", "Max"),
    "one number, spread": ("z = Expand (o, q)", "Expand"),
    "doubles": ("z = ConstantOfShape <value = double[1] {1.0}> (q)", "ConstantOfShape"),
    "powers": (
        "c0 = ConstantOfShape <value = double[1] {1.25}> (q) "
        + doubling("Pow", DEPTH)
        + " z = Identity (c60)",
        "ConstantOfShape",
    ),
    "in halves": ("w = ConstantOfShape (q) z, u = Split <num_outputs = 2> (w)", "ConstantOfShape"),
}


@pytest.mark.parametrize(("body", "refused"), LARGE.values(), ids=LARGE)
def test_what_a_few_bytes_ask_for_is_not_computed(body, refused, onnx_file):
    """No layer has a million channels: the first value of that size is not made."""
    own = f"{ints('q', BIG)}, {floats('o', '1.0')}"
    proto = net(f"{body} y = BatchNormalization (x, z, b, m, v)", own)
    norms, runs = found_counting(onnx_file(proto))
    (norm,) = norms.batchnorms
    assert norm.scale.certainty is Certainty.LOST
    assert runs == 0
    assert "elements" in norm.scale.reason


# How the work grows with the file

Rows = Callable[[int], onnx.ModelProto]


def row(first: str, each: str, *, x: str = LAST, last: str = "", opset: int = 18) -> Rows:
    """A builder of `each` some times over; {at} is its number, {before} the one before it."""

    def build(times: int) -> onnx.ModelProto:
        nodes = " ".join(each.format(at=at, before=at - 1) for at in range(1, times + 1))
        return net(f"{first} {nodes} {last.format(at=times)}", x=x, opset=opset)

    return build


START = "a0 = Relu (x)"
GROWING: dict[str, Rows] = {
    "Mul beside Mul": row(START, "y{at} = Mul (a0, s)"),
    "Add beside Add": row(START, "y{at} = Add (a0, s)"),
    "nodes side by side": row(START, "y{at} = BatchNormalization (a0, s, b, m, v)", x=FIRST),
    "Conv beside Conv": row(START, "y{at} = Conv (a0, w)", x=FIRST),
    "Mul beside Mul, named": row(START, "[bn{at}] y{at} = Mul (a0, s)"),
    "Mul beside Mul, one output": row(START, "[q] y = Mul (a0, s)"),
    "norms side by side": row(
        START + ROOT,
        "o{at} = Sub (a0, m) u{at} = Div (o{at}, r) t{at} = Mul (u{at}, s) y{at} = Add (t{at}, b)",
    ),
    "nodes of one name": row("", "[q] y = BatchNormalization (x, s, b, m, v)", x=FIRST),
    "Add behind Add": row(START, "a{at} = Add (a{before}, s)"),
    "Mul and Add in a row": row(START, "u{at} = Mul (a{before}, s) a{at} = Add (u{at}, b)"),
    "Div and Add in a row": row(START + ROOT, "u{at} = Div (a{before}, r) a{at} = Add (u{at}, b)"),
    "norms in a row": row(
        START + ROOT,
        "o{at} = Sub (a{before}, m) u{at} = Div (o{at}, r) t{at} = Mul (u{at}, s) "
        "a{at} = Add (t{at}, b)",
    ),
    "nodes in a row": row(START, "a{at} = BatchNormalization (a{before}, s, b, m, v)", x=FIRST),
    "Identity in a row": row(
        START,
        "a{at} = Identity (a{before})",
        last="y = BatchNormalization (a{at}, s, b, m, v)",
        x=FIRST,
    ),
    "Identity and a node in a row": row(
        START,
        "a{at} = Identity (a{before}) y{at} = BatchNormalization (a{at}, s, b, m, v)",
        x=FIRST,
    ),
    "Transpose in a row": row(
        START,
        "a{at} = Transpose <perm = [0, 2, 3, 1]> (a{before})",
        last="u = Mul (a{at}, s) y = Add (u, b)",
    ),
    "Cast in a row": row(
        "a0 = Mul (x, s)", "a{at} = Cast <to = 1> (a{before})", last="y = Add (a{at}, b)"
    ),
    "Reshape and a node side by side": row(
        "q = Constant <value_ints = [1, 4, 3, 3]> ()",
        "a{at} = Reshape (x, q) y{at} = BatchNormalization (a{at}, s, b, m, v)",
        x=FIRST,
    ),
    "a chain of constants": row(
        "c0 = Neg (s)",
        "c{at} = Neg (c{before})",
        last="y = BatchNormalization (x, c{at}, b, m, v)",
        x=FIRST,
    ),
    "a chain of Identity": row(
        "c0 = Identity (s)",
        "c{at} = Identity (c{before})",
        last="y = BatchNormalization (x, c{at}, b, m, v)",
        x=FIRST,
    ),
    "If beside If": row(
        START + " k = Constant <value = bool {1}> ()",
        "y{at} = If (k) <then_branch = g () => (float[] t{at}) { t{at} = Mul (a0, s) }, "
        "else_branch = h () => (float[] e{at}) { e{at} = Mul (a0, b) }>".replace(
            "{ ", "{{ "
        ).replace(" }", " }}"),
    ),
}


def lines_run(path: Path) -> int:
    """Lines of the package that run while a model is inspected."""
    home = str(Path(inspector.__file__).parent)
    count = 0

    def within(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return within

    def entering(frame: FrameType, *_: Any) -> Any:
        return within if frame.f_code.co_filename.startswith(home) else None

    before = sys.gettrace()
    sys.settrace(entering)
    try:
        inspect_file(path)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("build", GROWING.values(), ids=GROWING)
def test_twice_the_file_is_twice_the_work(build, onnx_file):
    """What grows with the square takes four times as many lines."""
    once, twice = (lines_run(onnx_file(build(times))) for times in (150, 300))
    assert once > 150
    assert twice < 2.3 * once


MANY = 20_000
WIDE = ["Mul beside Mul", "Add beside Add", "Identity in a row"]


@pytest.mark.parametrize("name", WIDE)
def test_very_many_end(name, onnx_file):
    """What is quadratic inside of one line, as looking through a list is, shows only here."""
    norms, _ = found_counting(onnx_file(GROWING[name](MANY)))
    if name == "Identity in a row":
        assert [each.form for each in norms.batchnorms] == [Form.NATIVE]
    else:
        assert norms.batchnorms == ()


def test_many_layers_of_equal_weights_are_told_apart(onnx_file):
    """Each BatchNorm is in the layer of its own name, and none is sought in all of them."""
    layers, weights = range(200), np.eye(4).reshape(4, 4, 1, 1)
    own = "float[4] one = {1.0, 1.0, 1.0, 1.0}, float[4] two = {2.0, 2.0, 2.0, 2.0}"
    kept = " ".join(
        f"[L{at}] c{at} = Conv (a{at}, w) "
        f"[BN{at}] a{at + 1} = BatchNormalization <epsilon = 0.0> (c{at}, two, b, zero, one)"
        for at in layers
    )
    folded = " ".join(f"[L{at}] a{at + 1} = Conv (a{at}, w, b)" for at in layers)
    start, end = "a0 = Relu (x)", "y = Relu (a200)"
    reference = net(f"{start} {kept} {end}", own, w=weights, zero=np.zeros(4))
    model = net(f"{start} {folded} {end}", w=2 * weights)
    traced = inspected(onnx_file(model), onnx_file(reference, "reference.onnx"))
    assert traced is not None
    assert [(each.name, each.fate, each.where) for each in traced] == [
        (f"BN{at}", Fate.FOLDED, f"Conv L{at}") for at in layers
    ]


def test_a_scalar_has_no_axis(onnx_file):
    """Found by fuzzing."""
    text = f"agraph (float x) => (float[2] y) {FEW} {{ p = Mul (x, s) y = Add (p, b) }}"
    norms = find_batchnorms(open_model(onnx_file(text)))
    assert norms.batchnorms == ()
    assert norms.affines == ()


def test_two_ranks_of_one_value(onnx_file):
    """What is moved as if it had four axes, and is declared to have two."""
    proto = parsed(
        f"""agraph (float[N, H, W, 2] x) => (float[N, 2, H, W] z) {FEW}
        {{ p = Mul (x, s)
           t = Transpose <perm = [0, 3, 1, 2]> (p)
           shape = Constant <value_ints = [2, 1, 1]> ()
           k = Reshape (b, shape)
           y = Add (t, k)
           u = Mul (y, k)
           z = Add (u, k) }}"""
    )
    whole = find_batchnorms(open_model(onnx_file(proto)))
    assert [(each.axis, len(each.nodes)) for each in whole.affines] == [(3, 2), (1, 2)]
    for name in ("t", "y"):
        proto.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]))
    assert len(find_batchnorms(open_model(onnx_file(proto))).affines) == 1
