"""What two graphs write alike and compute otherwise, where inputs show it and where they do not.

`hidden` runs an operator where a value is beyond what is fed: its result never reaches the output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare

ONE = (Verdict.IDENTICAL, Verdict.EQUIVALENT)
SQUARE = (4, 4)


def model(
    text: str,
    shape: tuple[int | str, ...] = SQUARE,
    dtype: int = TensorProto.FLOAT,
    opset: int = 17,
    **stored: Any,
) -> onnx.ModelProto:
    """Nodes in ONNX's text form from x to y."""
    made = onnx.parser.parse_graph(f"g (float[1] x) => (float[1] y) {{ {text} }}")
    kept = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()]
    graph = helper.make_graph(
        made.node,
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, None)],
        kept,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def hidden(text: str, shape: tuple[int | str, ...] = SQUARE, **options: Any) -> onnx.ModelProto:
    """`text` from x to b, which is taken only where x is beyond 1000."""
    around = f"c = Greater (x, far) {text} d = Mul (x, half) y = Where (c, b, d)"
    stored = {"far": np.float32(1000), "half": np.float32(0.5), **options}
    return model(around, shape, **stored)


def shown(text: str, shape: tuple[int | str, ...] = SQUARE, **options: Any) -> onnx.ModelProto:
    """`text` from x to b, which is the output."""
    return model(f"{text} y = Neg (b)", shape, **options)


def assert_listed(compare: Compare, left: Any, right: Any, what: str) -> None:
    for pair in ((left, right), (right, left)):
        found = compare(*pair)
        assert found.verdict is Verdict.AGREES
        assert what in [each.what for each in found.harmless]


def assert_cause(compare: Compare, left: Any, right: Any, what: str) -> None:
    for pair in ((left, right), (right, left)):
        found = compare(*pair)
        assert found.verdict is Verdict.DIFFERENT
        assert what in [each.what for each in found.causes]


def assert_one(compare: Compare, left: Any, right: Any) -> None:
    for pair in ((left, right), (right, left)):
        found = compare(*pair)
        assert found.verdict in ONE, (found.reason, found.causes, found.harmless)


class TestBounds:
    def clip(self, top: Any, dtype: int) -> onnx.ModelProto:
        return model("y = Clip (x, , top)", ("N", 4), dtype, top=top)

    @pytest.mark.parametrize(
        ("of", "dtype", "tops"),
        [
            (np.int64, TensorProto.INT64, (2**24, 2**24 + 1)),
            (np.int64, TensorProto.INT64, (2**62, 2**62 + 1)),
            (np.float64, TensorProto.DOUBLE, (2.0**24, 2.0**24 + 0.5)),
            (np.float64, TensorProto.DOUBLE, (1e40, 1e300)),
        ],
    )
    def test_they_are_compared_in_the_type_of_the_data(
        self, compare: Compare, of: Any, dtype: int, tops: tuple[float, float]
    ) -> None:
        one, other = (self.clip(of(top), dtype) for top in tops)
        assert_listed(compare, one, other, "bounds")
        assert_one(compare, one, one)

    @pytest.mark.parametrize(
        ("of", "dtype"),
        [
            (np.int32, TensorProto.INT32),
            (np.float64, TensorProto.DOUBLE),
            (np.float32, TensorProto.FLOAT),
        ],
    )
    def test_one_that_is_never_reached_is_none(self, compare: Compare, of: Any, dtype: int) -> None:
        top = (np.iinfo if issubclass(of, np.integer) else np.finfo)(of).max
        bounded = model("y = Clip (x, low, top)", ("N", 4), dtype, low=of(-2), top=of(top))
        open_ = model("y = Clip (x, low)", ("N", 4), dtype, low=of(-2))
        assert_one(compare, bounded, open_)

    def test_of_a_wider_format_they_are_one_rounded(self, compare: Compare) -> None:
        narrow = model("y = Clip (x, , top)", ("N", 4), top=np.float32(0.1))
        wide = model(
            "y = Clip (x, , top)", ("N", 4), TensorProto.DOUBLE, top=np.float64(np.float32(0.1))
        )
        assert not [e for e in compare(narrow, wide).harmless if e.what == "bounds"]


class TestOptionalInputs:
    LOW = "m = ReduceMax <keepdims = 0> (x) b = Clip (x, m, )"
    HIGH = "m = ReduceMax <keepdims = 0> (x) b = Clip (x, , m)"
    WHAT = "which inputs are given"

    def test_a_bound_on_the_other_side(self, compare: Compare) -> None:
        assert_listed(compare, hidden(self.LOW), hidden(self.HIGH), self.WHAT)
        assert_one(compare, hidden(self.LOW), hidden(self.LOW.replace("m, )", "m)")))

    def test_is_proved_by_putting_it_there(self, compare: Compare) -> None:
        low, high = (
            shown(each.replace("ReduceMax", "ReduceMean")) for each in (self.LOW, self.HIGH)
        )
        assert_cause(compare, low, high, self.WHAT)
        found = compare(low, high)
        assert [each.proof.value for each in found.causes] == ["proved"]

    def test_a_state_in_place_of_another(self, compare: Compare) -> None:
        def lstm(inputs: str) -> onnx.ModelProto:
            rng = np.random.default_rng(0)
            text = (
                "m = ReduceMean <axes = [0]> (x) h = Slice (m, st, en, ax)"
                f"y = LSTM <hidden_size = 3> (x, w, r, , , {inputs})"
            )
            return model(
                text,
                (5, 2, 4),
                w=rng.standard_normal((1, 12, 4)).astype(np.float32),
                r=rng.standard_normal((1, 12, 3)).astype(np.float32),
                **{name: np.int64([at]) for name, at in (("st", 0), ("en", 3), ("ax", 2))},
            )

        assert_cause(compare, lstm("h"), lstm(", h"), self.WHAT)

    @pytest.mark.parametrize("op", ["Add", "Max"])
    def test_the_sides_of_what_commutes_are_one(self, compare: Compare, op: str) -> None:
        c = np.arange(4, dtype=np.float32)
        one, other = (hidden(f"b = {op} ({each})", c4=c) for each in ("x, c4", "c4, x"))
        assert_one(compare, one, other)


class TestKeptAxes:
    def mean(self, kept: int, behind: str = "") -> str:
        return f"m = ReduceMean <axes = [1], keepdims = {kept}> (x) {behind}"

    def test_what_is_broadcast_behind_it(self, compare: Compare) -> None:
        kept, gone = (self.mean(each, "b = Sub (x, m)") for each in (1, 0))
        assert_listed(compare, hidden(kept), hidden(gone), "keepdims")
        assert_cause(compare, shown(kept), shown(gone), "keepdims")
        assert_one(compare, hidden(kept), hidden(kept))

    def test_ones_put_back_elsewhere(self, compare: Compare) -> None:
        shape = (4, 4, 4)
        kept = hidden(self.mean(1, "b = Sub (x, m)"), shape)
        back, other = (
            hidden(self.mean(0, "u = Unsqueeze (m, at) b = Sub (x, u)"), shape, at=np.int64([at]))
            for at in (1, 2)
        )
        assert_one(compare, kept, back)
        assert_listed(compare, kept, other, "keepdims")

    @pytest.mark.parametrize(
        "kept",
        [
            "m = GlobalAveragePool (x) f = Flatten (m) b = MatMul (f, w)",
            "m = ReduceMean <axes = [2, 3]> (x) r = Relu (m) f = Flatten (r) b = MatMul (f, w)",
            "m = ReduceMean <axes = [-1, -2]> (x) f = Squeeze (m, ends) b = MatMul (f, w)",
        ],
    )
    def test_ones_that_are_taken_away_are_none(self, compare: Compare, kept: str) -> None:
        relu = "r = Relu (m)" if "Relu" in kept else "r = Identity (m)"
        gone = f"m = ReduceMean <axes = [2, 3], keepdims = 0> (x) {relu} b = MatMul (r, w)"
        w = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
        stored = {"w": w, "ends": np.int64([2, 3])}
        shape = ("N", 3, 5, 6)
        assert_one(compare, shown(kept, shape, **stored), shown(gone, shape, **stored))

    def test_constants_in_between_lie_along_the_same_axes(self, compare: Compare) -> None:
        w = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
        shape = ("N", 3, 5, 6)

        def head(text: str, *dims: int) -> onnx.ModelProto:
            scale = np.float32([1, 2, 3]).reshape(dims)
            return shown(f"m = GlobalAveragePool (x) {text} b = MatMul (f, w)", shape, w=w, s=scale)

        before = head("t = Mul (m, s) f = Flatten (t)", 3, 1, 1)
        assert_one(compare, before, head("t = Flatten (m) f = Mul (t, s)", 3))

    def test_constants_that_spread_it_do_not_hide_them(self, compare: Compare) -> None:
        table = np.arange(16, dtype=np.float32).reshape(4, 4)
        behind = "s = Mul (m, t4) b = Sub (x, s)"
        kept, gone = (hidden(self.mean(each, behind), t4=table) for each in (1, 0))
        assert_listed(compare, kept, gone, "keepdims")

    def test_dense_layers_in_between_read_their_last_axis(self, compare: Compare) -> None:
        """The weights by channel of squeeze and excitation."""
        tail = "e = Sigmoid (d) {} b = Mul (x, g)"
        kept = (
            "p = Transpose <perm = [0, 2, 3, 1]> (x) m = ReduceMean <axes = [1, 2]> (p)"
            "d = MatMul (m, w)" + tail.format("g = Transpose <perm = [0, 3, 1, 2]> (e)")
        )
        gone = "m = ReduceMean <axes = [2, 3], keepdims = 0> (x) d = MatMul (m, w)" + tail.format(
            "g = Unsqueeze (e, ends)"
        )
        conv = "z = Conv (x, k)"
        rng = np.random.default_rng(0)
        stored = {
            "w": rng.standard_normal((3, 3)).astype(np.float32),
            "k": rng.standard_normal((3, 3, 1, 1)).astype(np.float32),
            "ends": np.int64([2, 3]),
        }
        one, other = (
            model(f"{conv} {each.replace('(x', '(z')} y = Neg (b)", ("N", 3, 5, 6), **stored)
            for each in (kept, gone)
        )
        assert_one(compare, one, other)


class TestAxesOfConstants:
    C = np.linspace(20, 60, 8).astype(np.float32)
    KERNEL = (np.random.default_rng(0).standard_normal((8, 3, 3, 3)) * 0.1).astype(np.float32)
    IMAGE = ("N", 3, 8, 8)

    def conv(self, op: str, dims: tuple[int, ...], scale: float = 1.0) -> onnx.ModelProto:
        text = f"z = Conv <pads = [1, 1, 1, 1]> (x, k) y = {op} (z, c)"
        return model(text, self.IMAGE, k=self.KERNEL, c=(self.C * scale).reshape(dims))

    def last(self, op: str, dims: tuple[int, ...]) -> onnx.ModelProto:
        """The same with channels last around the operator."""
        text = (
            "z = Conv <pads = [1, 1, 1, 1]> (x, k) t = Transpose <perm = [0, 2, 3, 1]> (z)"
            f"o = {op} (t, c) y = Transpose <perm = [0, 3, 1, 2]> (o)"
        )
        return model(text, self.IMAGE, k=self.KERNEL, c=self.C.reshape(dims))

    def test_another_axis_is_listed(self, compare: Compare) -> None:
        by_channel = self.conv("Min", (8, 1, 1))
        assert_listed(compare, by_channel, self.conv("Min", (8,)), "operand")
        assert_listed(compare, by_channel, self.conv("Min", (8, 1)), "operand")

    def test_and_proved_where_it_shows(self, compare: Compare) -> None:
        one, other = (self.conv("Mul", dims) for dims in ((8, 1, 1), (8,)))
        assert_cause(compare, one, other, "operand")
        (cause,) = compare(one, other).causes
        assert cause.proof.value == "proved"
        assert (cause.left, cause.right) == ("[8, 1, 1] along axis 1", "[8] along axis 3")

    def test_leading_ones_are_none(self, compare: Compare) -> None:
        for op in ("Min", "PRelu"):
            assert_one(compare, self.conv(op, (8, 1, 1)), self.conv(op, (1, 8, 1, 1)))

    def test_a_layout_moves_them(self, compare: Compare) -> None:
        by_channel = self.conv("Min", (8, 1, 1))
        assert_one(compare, by_channel, self.last("Min", (8,)))
        assert_one(compare, by_channel, self.last("Min", (1, 1, 1, 8)))
        assert_listed(compare, by_channel, self.last("Min", (8, 1)), "operand")
        assert_listed(compare, self.conv("Min", (8,)), self.last("Min", (8,)), "operand")

    def test_slopes(self, compare: Compare) -> None:
        """Where nothing is below zero."""
        text = "z = Abs (x) y = PRelu (z, c)"
        one, other = (
            model(text, (2, 8, 8, 8), c=self.C.reshape(dims)) for dims in ((8, 1, 1), (8,))
        )
        assert_listed(compare, one, other, "input 1")
        old = model("z = Abs (x) y = PRelu (z, c)", (2, 8, 8, 8), opset=6, c=self.C)
        new = compare(old, one)
        assert new.verdict in (*ONE, Verdict.UNDECIDED), new.harmless
        assert compare(old, other).verdict not in ONE

    def test_rows_and_columns(self, compare: Compare) -> None:
        c = self.C[:4]
        row, column = (hidden("b = Add (x, c4)", c4=c.reshape(dims)) for dims in ((4,), (4, 1)))
        assert_listed(compare, row, column, "operand")
        assert_one(compare, row, hidden("b = Add (x, c4)", c4=c.reshape(1, 4)))

    def test_the_bias_of_a_gemm(self, compare: Compare) -> None:
        c = self.C[:4]
        w = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
        row, one_row, column = (
            hidden("b = Gemm (x, w, c4)", w=w, c4=c.reshape(dims))
            for dims in ((4,), (1, 4), (4, 1))
        )
        assert_listed(compare, row, column, "bias")
        assert_one(compare, row, one_row)
        assert_one(compare, column, column)
        written = hidden("m = MatMul (x, w) b = Add (m, c4)", w=w, c4=c)
        assert_one(compare, row, written)
        assert_listed(compare, column, written, "bias")

    def test_a_matrix_in_a_cube_and_in_rows(self, compare: Compare) -> None:
        """The last axis is one whatever was put together in front of it."""
        c = self.C[:4]
        cube = model("z = Exp (x) y = Mul (z, c)", (2, 3, 4), c=c)
        rows = model(
            "f = Reshape (x, two) z = Exp (f) m = Mul (z, c) y = Reshape (m, three)",
            (2, 3, 4),
            c=c,
            two=np.int64([6, 4]),
            three=np.int64([2, 3, 4]),
        )
        assert_one(compare, cube, rows)

    def test_a_kernel_that_lies_the_other_way(self, compare: Compare) -> None:
        kernel = self.KERNEL[:, :, :, :1]

        def conv(k: np.ndarray[Any, Any]) -> onnx.ModelProto:
            text = "z = Conv (x, k) b = ReduceMax <keepdims = 0> (z)"
            around = f"c = Greater (x, far) {text} d = Mul (x, half) y = Where (c, b, d)"
            far = {"far": np.float32(1000), "half": np.float32(0.5)}
            return model(around, (2, 3, 8, 8), k=k, **far)

        assert_listed(compare, conv(kernel), conv(kernel.reshape(8, 3, 1, 3)), "kernel")

    def test_a_kernel_of_one_axis_written_in_two(self, compare: Compare) -> None:
        kernel = self.KERNEL[:, :, 0]
        one = model("y = Conv (x, k)", ("N", 3, 9), k=kernel)
        two = model(
            "u = Unsqueeze (x, at) z = Conv (u, k) y = Squeeze (z, at)",
            ("N", 3, 9),
            k=kernel[:, :, None],
            at=np.int64([2]),
        )
        assert_one(compare, one, two)


class TestOldSoftmax:
    @pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
    def test_runs_over_all_behind_its_axis(self, compare: Compare, op: str) -> None:
        text, shape = f"b = {op} <axis = 1> (x)", (2, 3, 4)
        old, new = (hidden(text, shape, opset=opset) for opset in (12, 13))
        assert_listed(compare, old, new, "over")
        old, new = (shown(text, shape, opset=opset) for opset in (12, 13))
        assert_cause(compare, old, new, "over")

    @pytest.mark.parametrize(
        ("axis", "shape"), [(2, (2, 3, 4)), (-1, (2, 3, 4)), (1, (2, 3)), (1, (2, 3, 1, 1))]
    )
    def test_is_one_where_nothing_is_behind(
        self, compare: Compare, axis: int, shape: tuple[int, ...]
    ) -> None:
        text = f"b = Softmax <axis: int = {axis}> (x)"
        old, new = (shown(text, shape, opset=opset) for opset in (12, 13))
        assert_one(compare, old, new)


def old(axes: str, epsilon: float = 1e-5) -> str:
    """IR 3, where onnx infers nothing of what an Unsqueeze makes of a tensor that is no input."""
    return f"""<ir_version: 3, opset_import: ["" : 7]>
    g (float[2, 3, 3, 3] x) => (float[2, 3, 3, 3] y)
    <float[3] s = {{1, 2, 3}}, float[3] b = {{0, 1, 0}}, float[3] m = {{0, 0, 1}},
     float[3] v = {{1, 2, 1}}, float[3] w = {{2, 3, 4}}>
    {{
        n = BatchNormalization <epsilon: float = {epsilon}> (x, s, b, m, v)
        u = Unsqueeze <axes: ints = {axes}> (w)
        y = Mul (n, u)
    }}"""


def test_where_a_constant_lies_before_ir_4(compare: Compare) -> None:
    assert compare(old("[1, 2]"), old("[1, 2]")).verdict is Verdict.IDENTICAL
    found = compare(old("[1, 2]"), old("[1, 2]", 0.01))
    assert [each.what for each in (*found.causes, *found.harmless)] == ["epsilon"]
    moved = compare(old("[1, 2]"), old("[0, 1]"))
    assert moved.verdict is Verdict.DIFFERENT
    assert [each.what for each in moved.causes] == ["operand"]
