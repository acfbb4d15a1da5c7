"""Integers of 32 and of 64 bits, and of other types, where that shows and where it does not."""

from __future__ import annotations

import pytest

from inspector.facts.comparison import Proof, Verdict
from tests.compare.conftest import Compare

ONE = (Verdict.IDENTICAL, Verdict.EQUIVALENT)
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'


def alike(target: str) -> str:
    """x as a type that a constant says, and back."""
    return f"""{HEAD} g (float[N, 4] x) => (float[N, 4] y)
        <{target} k = {{0}}, float s = {{0.5}}> {{
        b = Mul (x, s) a = CastLike (b, k) y = Cast <to = 1> (a) }}"""


def summed(dtype: str, start: int = 2_000_000_000, *, far: float = 1e6) -> str:
    """How often x is positive, times a large number, where s is beyond `far`."""
    return f"""{HEAD} g (float[4, 4] x, float[1] s) => (float y, float[4, 4] z)
        <float zero = {{0}}, {dtype} p = {{{start}}}, {dtype} q = {{0}}, float far = {{{far}}},
            float none = {{0}}> {{
        k = Greater (x, zero) a = Where (k, p, q) t = ReduceSum <keepdims = 0> (a)
        o = Cast <to = 1> (t) c = Greater (s, far) y = Where (c, o, none) z = Add (x, x) }}"""


def test_the_type_of_a_constant_is_listed_where_no_input_shows_it(compare: Compare) -> None:
    pairs = [
        (alike("int8"), alike("int32"), ("type of input 1", "int8", "int32")),
        (alike("int32"), alike("int64"), ("type of input 1", "int32", "int64")),
        (summed("int32"), summed("int64"), ("type of input 1 and input 2", "int32", "int64")),
    ]
    for left, right, said in pairs:
        found = compare(left, right)
        assert found.verdict is Verdict.AGREES
        assert [(each.what, each.left, each.right) for each in found.harmless] == [said]
        assert compare(right, left).verdict is Verdict.AGREES
        assert compare(left, left).verdict is Verdict.IDENTICAL


def test_it_is_the_cause_where_inputs_show_it(compare: Compare) -> None:
    for left, right, what in (
        (
            alike("int8").replace("{0.5}", "{300}"),
            alike("int32").replace("{0.5}", "{300}"),
            "input 1",
        ),
        (summed("int32", far=-1e9), summed("int64", far=-1e9), "input 1 and input 2"),
    ):
        found = compare(left, right)
        assert found.verdict is Verdict.DIFFERENT
        (cause,) = found.causes
        assert (cause.what, cause.proof) == (f"type of {what}", Proof.NECESSARY)


INDIFFERENT = [
    "a = Slice (x, one, two, axis, one)",
    "a = Unsqueeze (x, one)",
    "h = Tanh (x) p = ReduceSum (h, axis) a = Add (p, h)",
    "h = Tanh (x) a = Gather <axis = 1> (h, ids)",
    "e = Equal (count, two) n = Cast <to = 1> (e) a = Add (x, n)",
    "j = Concat <axis = 0> (one, two) a = Gather <axis = 1> (x, j)",
    "j = Range (zero, four, unit) a = Gather <axis = 1> (x, j)",
    "j = Where (yes, one, two) a = Gather <axis = 1> (x, j)",
    "p = Pow (x, two) a = Tanh (p)",
]


@pytest.mark.parametrize("text", INDIFFERENT)
def test_what_counts_and_points_has_either_width(compare: Compare, text: str) -> None:
    def model(dtype: str) -> str:
        # int64 alone is what some operators take.
        taken = "int64" if "Unsqueeze" in text or "Reduce" in text else dtype
        constants = {"one": "[1]", "two": "[1]", "axis": "[1]", "count": "[1]", "ids": "[3]"}
        values = {"one": "1", "two": "2", "axis": "1", "count": "2", "ids": "0, 3, 1"}
        scalars = {"zero": 0, "four": 4, "unit": 1}
        stored = [f"{taken}{constants[n]} {n} = {{{values[n]}}}" for n in constants]
        stored += [f"{taken} {n} = {{{v}}}" for n, v in scalars.items()]
        # Another order of operands: else the two were one in bits.
        return f"""{HEAD} g (float[N, 4] x) => (float[N, M] y)
            <{", ".join(stored)}, bool yes = {{1}}, float half = {{0.5}}> {{
            {text} y = Mul ({"a, half" if dtype == "int32" else "half, a"}) }}"""

    assert compare(model("int32"), model("int64")).verdict is Verdict.EQUIVALENT
    assert compare(model("int64"), model("int32")).verdict is Verdict.EQUIVALENT


def test_long_tables_of_indices_have_either_width(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What follows from constants stays in the graph, as where it would be too much.
    monkeypatch.setattr("inspector.write.constants.MOST_BYTES", 0)

    def model(dtype: str, last: int, text: str) -> str:
        ids = ", ".join(str(at % 4) for at in range(99))
        return f"""{HEAD} g (float[N, 4] x) => (float[N, M] y)
            <{dtype}[100] ids = {{{ids}, {last}}}> {{ {text} }}"""

    point = "h = Tanh (x) y = Gather <axis = 1> (h, ids)"
    assert compare(model("int32", 3, point), model("int64", 3, point)).verdict is Verdict.EQUIVALENT
    found = compare(model("int32", 3, point), model("int64", 2, point))
    assert found.verdict is Verdict.DIFFERENT
    left, right = (
        model(dtype, 3, "z = Mul (ids, ids) f = Cast <to = 1> (z) r = ReduceMax (f) y = Add (x, r)")
        for dtype in ("int32", "int64")
    )
    found = compare(left, right)
    assert found.verdict is Verdict.AGREES
    assert ("operand", "the same values in int64") in [(e.what, e.right) for e in found.harmless]


def fed(dtype: str, text: str) -> str:
    return f"""{HEAD} g ({dtype}[N, 4] x) => (float[N, M] y)
        <float[9, 2] table = {{{", ".join(str(at / 9) for at in range(18))}}}, float half = {{0.5}}>
        {{ {text} }}"""


POWER = "m = Mul (x, x) q = Mul (m, m) y = Cast <to = 1> (q)"


def test_types_of_inputs_are_listed_where_arithmetic_shows_them(compare: Compare) -> None:
    for types in (("int32", "int64"), ("int64", "int32")):
        found = compare(*(fed(each, POWER) for each in types))
        assert found.verdict is Verdict.AGREES
        assert [(each.what, each.left, each.right) for each in found.harmless] == [
            ("type of an input", *types)
        ]
    assert compare(fed("int64", POWER), fed("int64", POWER)).verdict is Verdict.IDENTICAL


def test_an_input_of_bytes_is_none_of_integers(compare: Compare) -> None:
    cast = "f = Cast <to = 1> (x) y = Mul (f, half)"
    for types in (("uint8", "int32"), ("int8", "uint8")):
        found = compare(*(fed(each, cast) for each in types))
        assert found.verdict is Verdict.AGREES
        assert [each.what for each in found.harmless] == ["type of an input"]


@pytest.mark.parametrize(
    "text",
    [
        "f = Cast <to = 1> (x) y = Mul (f, half)",
        "e = Gather (table, x) y = ReduceSum <keepdims = 0> (e, last)",
        "u = Unsqueeze (x, last) v = Cast <to = 7> (u) i = Identity (v) e = GatherND (table, i) "
        "y = ReduceSum <keepdims = 0> (e, last)",
    ],
)
def test_ids_and_masks_have_either_width(compare: Compare, text: str) -> None:
    pair = [
        fed(dtype, text).replace("float half", "int64[1] last = {-1}, float half")
        for dtype in ("int32", "int64")
    ]
    assert compare(*pair).verdict is Verdict.EQUIVALENT
    assert compare(*pair[::-1]).verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize(
    ("inner", "verdict"),
    [("Gather (table, x)", Verdict.EQUIVALENT), ("CastLike (two, x)", Verdict.AGREES)],
)
def test_so_have_those_that_a_subgraph_reads(
    compare: Compare, inner: str, verdict: Verdict
) -> None:
    def model(dtype: str) -> str:
        return f"""{HEAD} g ({dtype}[N] x, float s) => (float[M] y)
            <float[9] table = {{0, 1, 2, 3, 4, 5, 6, 7, 8}}, float two = {{2}}, float one = {{1}}>
            {{ c = Greater (s, one)
               t = If (c) <then_branch = a () => (u) {{ k = {inner} u = Cast <to = 1> (k) }},
                   else_branch = b () => (v) {{ v = Cast <to = 1> (x) }}>
               y = Neg (t) }}"""

    assert compare(model("int32"), model("int64")).verdict is verdict


def test_precisions_of_float_inputs_are_another_matter(compare: Compare) -> None:
    pair = [
        f"""{HEAD} g ({dtype}[N, 4] x) => (float[N, 4] y) <float half = {{0.5}}> {{
            f = Cast <to = 1> (x) y = Mul (f, half) }}"""
        for dtype in ("float", "float16")
    ]
    assert "type of an input" not in [each.what for each in compare(*pair).harmless]
