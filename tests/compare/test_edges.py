"""Comparisons at the edges: odd types and shapes, layouts, broken models, what cannot be run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compare import nets
from compare.conftest import Compare
from compare.nets import Net, Size, keras_like, torch_like
from inspector.errors import InspectorError, UnreadableError, UsageError
from inspector.facts.comparison import CauseKind, Verdict

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.nowhere" : 1, "com.microsoft" : 1]>'


def graph(body: str, inputs: str, outputs: str, stored: str = "") -> str:
    return f"{HEAD} g ({inputs}) => ({outputs}) {stored} {{ {body} }}"


IMAGE = "float[N, 4, 6, 6] x"


def conv(body: str, *, inputs: str = IMAGE, outputs: str = "y") -> onnx.ModelProto:
    """A graph with a 4-channel 3×3 kernel `w` at hand."""
    made = onnx.parser.parse_model(graph(body, inputs, outputs))
    values = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32)
    made.graph.initializer.append(numpy_helper.from_array(values, "w"))
    return made


class TestLayouts:
    CONV = "y = Conv <pads: ints = [1, 1, 1, 1]> (x, w)"

    def test_a_transposed_output_agrees_and_is_listed(self, compare: Compare) -> None:
        plain = conv(self.CONV)
        turned = conv(self.CONV.replace("y =", "t =") + "y = Transpose <perm=[0, 2, 3, 1]> (t)")
        for pair in ((plain, turned), (turned, plain)):
            found = compare(*pair)
            assert found.verdict is Verdict.AGREES
            assert [(each.kind, each.what) for each in found.harmless] == [
                (CauseKind.STRUCTURE, "layout")
            ]

    def test_layouts_of_input_and_output_move_together(self, compare: Compare) -> None:
        last = conv(
            "a = Transpose <perm=[0, 3, 1, 2]> (x)"
            + self.CONV.replace("y =", "t =").replace("(x", "(a")
            + "y = Transpose <perm=[0, 2, 3, 1]> (t)",
            inputs="float[N, 6, 6, 4] x",
        )
        found = compare(conv(self.CONV), last)
        assert found.verdict is Verdict.EQUIVALENT
        assert found.inputs[0].permutation == (0, 2, 3, 1)
        assert found.outputs[0].permutation == (0, 2, 3, 1)
        assert "Conv" in found.inputs[0].told_by

    @pytest.mark.parametrize("side", ["x", "y"])
    def test_height_and_width_swapped_are_no_layout(self, compare: Compare, side: str) -> None:
        turn = "Transpose <perm=[0, 1, 3, 2]>"
        if side == "x":
            swapped = f"a = {turn} (x)" + self.CONV.replace("(x", "(a")
        else:
            swapped = self.CONV.replace("y =", "t =") + f"y = {turn} (t)"
        for pair in ((conv(self.CONV), conv(swapped)), (conv(swapped), conv(self.CONV))):
            assert compare(*pair).verdict is Verdict.DIFFERENT

    def test_a_reshape_is_no_transpose(self, compare: Compare) -> None:
        size = Size(channels=3)
        net = Net(weights=nets.weights(size), size=size)
        wrong = keras_like(net, reshape=True)
        for pair in ((wrong, torch_like(net)), (wrong, keras_like(net))):
            assert compare(*pair).verdict is Verdict.DIFFERENT

    def test_a_transpose_that_no_operator_explains_is_not_reconciled(
        self, compare: Compare
    ) -> None:
        rng = np.random.default_rng(0)
        stored = numpy_helper.from_array(rng.standard_normal((64, 5)).astype(np.float32), "w")

        def dense(front: str) -> onnx.ModelProto:
            body = f"{front} f = Flatten(t) y = MatMul(f, w)"
            made = onnx.parser.parse_model(graph(body, "float[N, 4, 4, 4] x", "float[N, 5] y"))
            made.graph.initializer.append(stored)
            return made

        plain = dense("t = Identity(x)")
        turned = dense("t = Transpose <perm=[0, 3, 1, 2]> (x)")
        assert compare(plain, plain).verdict is Verdict.IDENTICAL
        found = compare(plain, turned)
        assert found.verdict is Verdict.UNDECIDED
        assert "--layout" in found.reason
        assert compare(plain, turned, layout="same").verdict is Verdict.DIFFERENT
        assert compare(plain, turned, layout="NCHW:NHWC").verdict is Verdict.EQUIVALENT

    def test_a_square_output_transposed_is_different(self, compare: Compare) -> None:
        attention = "a = MatMul(x, x) s = Softmax(a)"
        plain = graph(attention + "y = Identity(s)", "float[N, 5, 5] x", "float[N, 5, 5] y")
        turned = graph(
            attention + "y = Transpose <perm=[0, 2, 1]> (s)", "float[N, 5, 5] x", "float[N, 5, 5] y"
        )
        assert compare(plain, turned).verdict is Verdict.DIFFERENT

    @pytest.mark.parametrize("layout", ["NHWC", "ABCD:NCHW", "", "NLC:NCL"])
    def test_a_layout_that_is_none_is_wrong_usage(self, compare: Compare, layout: str) -> None:
        model = torch_like(Net())
        with pytest.raises(UsageError, match="--layout"):
            compare(model, model, layout=layout)


class TestTypes:
    @pytest.mark.parametrize(
        ("body", "outputs"),
        [
            ("z = Constant <value = float {0.0}> () y = Greater(x, z)", "bool[N, 4] y"),
            ("y = ArgMax <axis: int = 1> (x)", "int64[N, 1] y"),
            ("y = Cast <to: int = 3> (x)", "int8[N, 4] y"),
            ("y = Cast <to: int = 10> (x)", "float16[N, 4] y"),
            ("y = Cast <to: int = 11> (x)", "double[N, 4] y"),
            ("y = ReduceSum <keepdims: int = 0> (x)", "float y"),
            ("y = Relu(x) z = ArgMax(x)", "float[N, 4] y, int64[1, 4] z"),
        ],
    )
    def test_every_type_of_output_is_compared(
        self, compare: Compare, body: str, outputs: str
    ) -> None:
        model = graph(body, "float[N, 4] x", outputs)
        assert compare(model, model).verdict is Verdict.IDENTICAL
        other = graph(f"n = Neg(x) {body.replace('(x', '(n')}", "float[N, 4] x", outputs)
        assert compare(model, other).verdict is Verdict.DIFFERENT

    def test_large_integers_one_apart_are_different(self, compare: Compare) -> None:
        def model(n: int) -> str:
            return graph(
                f"c = Constant <value = int64[1] {{{n}}}> () y = Add(x, c)",
                "int64[N] x",
                "int64[N] y",
            )

        assert compare(model(2**60), model(2**60 + 1)).verdict is Verdict.DIFFERENT

    def test_ids_stay_within_their_table(self, compare: Compare) -> None:
        model = graph(
            "y = Gather(t, x)",
            "int64[N, 7] x",
            "float[N, 7, 2] y",
            "<float[3, 2] t = {1, 2, 3, 4, 5, 6}>",
        )
        assert compare(model, model).verdict is Verdict.IDENTICAL
        other = graph(
            "y = Gather(t, x)",
            "int64[N, 7] x",
            "float[N, 7, 2] y",
            "<float[3, 2] t = {1, 2, 3, 4, 5, 7}>",
        )
        assert compare(model, other).verdict is Verdict.DIFFERENT

    def test_strings_are_drawn(self, compare: Compare) -> None:
        model = graph("y = Identity(x)", "string[N] x", "string[N] y")
        assert compare(model, model).verdict is Verdict.IDENTICAL

    def test_sequences_are_not_compared(self, compare: Compare) -> None:
        model = graph("y = SequenceConstruct(x)", "float[N] x", "seq(float[N]) y")
        found = compare(model, model)
        assert found.verdict is Verdict.UNDECIDED
        assert "not a dense tensor" in found.reason
        assert "\n" not in found.reason

    def test_empty_outputs_are_no_evidence(self, compare: Compare) -> None:
        def model(op: str) -> str:
            return graph(
                f"a = {op}(x) y = Slice(a, z, z)",
                "float[N, 4] x",
                "float[M, 4] y",
                "<int64[1] z = {0}>",
            )

        assert compare(model("Relu"), model("Relu")).verdict is Verdict.IDENTICAL
        found = compare(model("Relu"), model("Exp"))
        assert found.verdict is Verdict.UNDECIDED
        assert "empty" in found.reason

    def test_small_elements_count_beside_large_ones(self, compare: Compare) -> None:
        def model(alpha: float) -> str:
            return graph(
                f"b = Mul(x, k) s = LeakyRelu <alpha: float = {alpha}> (x)"
                "y = Concat <axis: int = 1> (b, s)",
                "float[N, 2] x",
                "float[N, 4] y",
                "<float k = {1e9}>",
            )

        assert compare(model(0.1), model(0.1001)).verdict is Verdict.DIFFERENT

    def test_a_model_without_inputs(self, compare: Compare) -> None:
        def model(value: float) -> str:
            return graph(f"y = Constant <value = float[2] {{1.0, {value}}}> ()", "", "float[2] y")

        assert compare(model(2.0), model(2.0)).verdict is Verdict.IDENTICAL
        assert compare(model(2.0), model(2.5)).verdict is Verdict.DIFFERENT

    def test_a_logarithm_is_compared_on_what_it_is_defined_for(self, compare: Compare) -> None:
        model, other = (
            graph(f"t = Sin(x) l = {op} y = Sub(l, x)", "float[N, 4] x", "float[N, 4] y")
            for op in ("Log(t)", "Sqrt(t)")
        )
        found = compare(model, model)
        assert found.verdict is Verdict.IDENTICAL
        assert "between 0 and 1" in found.information[0]
        assert compare(model, other).verdict is Verdict.DIFFERENT

    def test_finite_elements_tell_beside_nan(self, compare: Compare) -> None:
        def model(bias: float) -> str:
            return graph(
                "n = Div(z, z) a = Add(x, b) y = Concat <axis: int = 1> (a, n)",
                "float[2, 2] x",
                "float[2, 3] y",
                f"<float[2, 1] z = {{0, 0}}, float b = {{{bias}}}>",
            )

        assert compare(model(1.0), model(1.0)).verdict is Verdict.UNDECIDED
        assert compare(model(1.0), model(1.5)).verdict is Verdict.DIFFERENT


class TestInterfaces:
    def test_counts_of_inputs_that_differ(self, compare: Compare) -> None:
        one = graph("y = Relu(x)", "float[N, 4] x", "float[N, 4] y")
        two = graph("y = Add(x, z)", "float[N, 4] x, float[N, 4] z", "float[N, 4] y")
        found = compare(one, two)
        assert found.verdict is Verdict.UNDECIDED
        assert "1 input and the right one 2" in found.reason

    def test_counts_of_outputs_that_differ(self, compare: Compare) -> None:
        one = graph("y = Relu(x)", "float[N, 4] x", "float[N, 4] y")
        two = graph("y = Relu(x) z = Exp(x)", "float[N, 4] x", "float[N, 4] y, float[N, 4] z")
        for pair in ((one, two), (two, one)):
            assert compare(*pair).verdict is Verdict.DIFFERENT

    def test_one_of_several_outputs_tells(self, compare: Compare) -> None:
        def model(alpha: float) -> str:
            return graph(
                f"y = Relu(x) z = Elu <alpha: float = {alpha}> (x)",
                "float[N, 4] x",
                "float[N, 4] y, float[N, 4] z",
            )

        found = compare(model(1.0), model(1.1))
        assert found.verdict is Verdict.DIFFERENT
        assert [each.within for each in found.outputs] == [True, False]
        assert [(each.kind, each.what) for each in found.causes] == [(CauseKind.ATTRIBUTE, "alpha")]

    def test_an_input_whose_rank_one_side_leaves_open(self, compare: Compare) -> None:
        known = graph("y = Relu(x)", "float[N, 4] x", "float[N, 4] y")
        made = onnx.parser.parse_model(known)
        made.graph.input[0].type.tensor_type.ClearField("shape")
        assert compare(known, made).verdict in (Verdict.EQUIVALENT, Verdict.IDENTICAL)
        found = compare(made, made)
        assert found.verdict is Verdict.UNDECIDED
        assert "declares no rank" in found.reason

    def test_lengths_of_minus_one_are_open(self, compare: Compare) -> None:
        model = torch_like(Net())
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
        assert compare(model, keras_like(Net())).verdict is Verdict.EQUIVALENT

    def test_one_name_is_one_length(self, compare: Compare) -> None:
        model = graph("y = MatMul(a, b)", "float[N, K] a, float[K, 3] b", "float[N, 3] y")
        assert compare(model, model).verdict is Verdict.IDENTICAL

    def test_a_batch_that_does_not_run_is_said(self, compare: Compare) -> None:
        def model(batch: int) -> str:
            return graph(
                "y = Reshape(x, s)",
                "float[N, 4] x",
                "float[N, 2, 2] y",
                f"<int64[3] s = {{{batch}, 2, 2}}>",
            )

        found = compare(model(1), model(-1))
        assert found.verdict is Verdict.AGREES
        assert "batches of more than one row do not run" in found.reason

    def test_free_lengths_that_a_stored_tensor_fixes(self, compare: Compare) -> None:
        model = graph(
            "y = Add(x, c)",
            "float[N, M] x",
            "float[N, M] y",
            f"<float[64] c = {{{', '.join(['1'] * 64)}}}>",
        )
        assert compare(model, model).verdict is Verdict.IDENTICAL

    def test_no_outputs_at_all(self, compare: Compare) -> None:
        made = onnx.parser.parse_model(graph("y = Relu(x)", "float[N] x", "float[N] y"))
        del made.graph.output[:]
        assert compare(made, made).verdict is Verdict.UNDECIDED


class TestBroken:
    def test_an_operator_that_the_runtime_lacks(self, compare: Compare) -> None:
        model = graph("y = com.nowhere.Mystery(x)", "float[N] x", "float[N] y")
        found = compare(model, model)
        assert found.verdict is Verdict.UNDECIDED
        assert "Mystery" in found.reason
        assert "\n" not in found.reason

    def test_a_circle(self, compare: Compare) -> None:
        model = graph("a = Add(x, b) b = Relu(a) y = Identity(b)", "float[N] x", "float[N] y")
        proto = onnx.parser.parse_model(model)
        assert compare(proto, proto).verdict is Verdict.UNDECIDED

    def test_a_tensor_that_is_cut_off_is_unreadable(self, compare: Compare) -> None:
        model = torch_like(Net())
        kernel = next(each for each in model.graph.initializer if each.name == "kernel")
        kernel.raw_data = kernel.raw_data[:-3]
        for pair in ((model, torch_like(Net())), (torch_like(Net()), model), (model, model)):
            with pytest.raises(UnreadableError, match="kernel"):
                compare(*pair)

    @pytest.mark.parametrize("keep", [1, 50, 400])
    def test_a_file_that_is_cut_off_raises_our_own_error(self, compare: Compare, keep: int) -> None:
        data = torch_like(Net()).SerializeToString()
        try:
            found = compare(data[:keep], torch_like(Net()))
        except InspectorError:
            return
        assert found.verdict in (Verdict.UNDECIDED, Verdict.DIFFERENT)

    def test_damage_anywhere_is_never_an_equal_and_never_another_error(
        self, compare: Compare
    ) -> None:
        whole = torch_like(Net())
        data = bytearray(whole.SerializeToString())
        rng = np.random.default_rng(0)
        for _ in range(60):
            bad = bytearray(data)
            at = int(rng.integers(0, len(bad)))
            bad[at] ^= 1 << int(rng.integers(0, 8))
            try:
                found = compare(bytes(bad), whole)
            except InspectorError:
                continue
            if found.verdict in (Verdict.IDENTICAL, Verdict.EQUIVALENT):
                read = onnx.ModelProto.FromString(bytes(bad))
                weights = [
                    {t.name: numpy_helper.to_array(t).tobytes() for t in each.graph.initializer}
                    for each in (whole, read)
                ]
                assert sorted(weights[0].values()) == sorted(weights[1].values())

    def test_external_data_is_read_and_patched(self, compare: Compare, tmp_path: Path) -> None:
        path = tmp_path / "outside.onnx"
        onnx.save(torch_like(Net(epsilon=1e-5)), path, save_as_external_data=True, size_threshold=0)
        found = compare(keras_like(Net()), path)
        assert found.verdict is Verdict.DIFFERENT
        assert [(each.kind, str(each.proof)) for each in found.causes] == [
            (CauseKind.EPSILON, "proved")
        ]
        assert compare(torch_like(Net(epsilon=1e-5)), path).verdict is Verdict.IDENTICAL
        (
            tmp_path
            / onnx.load(path, load_external_data=False).graph.initializer[0].external_data[0].value
        ).unlink()
        with pytest.raises(UnreadableError, match="missing"):
            compare(torch_like(Net()), path)


class TestSharedData:
    def test_two_models_that_read_the_same_data_are_told_so(
        self, compare: Compare, tmp_path: Path
    ) -> None:
        paths = [tmp_path / name / "m.onnx" for name in ("left", "right")]
        for path in paths:
            path.parent.mkdir()
            onnx.save(
                torch_like(Net()), path, save_as_external_data=True, location="d", size_threshold=0
            )
        found = compare(*paths)
        assert not any("same data files" in each for each in found.information)
        (tmp_path / "left" / "d").unlink()
        found = compare(*paths, external_dirs=[tmp_path / "right"])
        assert any("both models read the same data files" in each for each in found.information)
        assert compare(paths[1], paths[1]).information == ()


class TestFunctions:
    @staticmethod
    def calling(*bodies: list[str]) -> onnx.ModelProto:
        """A model that calls function 0; each function calls the others that it names."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        made = helper.make_model(
            helper.make_graph([helper.make_node("F0", ["x"], ["y"], domain="f")], "g", [x], [y]),
            opset_imports=opsets,
        )
        for at, body in enumerate(bodies):
            names = ["x", *(f"v{each}" for each in range(len(body) - 1)), "y"]
            nodes = [
                helper.make_node(
                    name, [names[i]], [names[i + 1]], domain="f" if "F" in name else ""
                )
                for i, name in enumerate(body)
            ]
            made.functions.append(helper.make_function("f", f"F{at}", ["x"], ["y"], nodes, opsets))
        return made

    def test_functions_are_compared(self, compare: Compare) -> None:
        made = self.calling(["F1", "F1"], ["Relu"])
        assert compare(made, made).verdict is not Verdict.DIFFERENT

    @pytest.mark.parametrize(
        ("bodies", "words"),
        [
            ([["F0"]], "in a circle"),
            ([["F1"], ["F0", "Relu"]], "in a circle"),
            ([*([f"F{at}", f"F{at}"] for at in range(1, 31)), ["Relu"]], "unfold into more than"),
        ],
        ids=["itself", "each other", "a billion times"],
    )
    def test_functions_that_unfold_without_end(self, bodies, words, compare: Compare) -> None:
        made = self.calling(*bodies)
        with pytest.raises(UnreadableError, match=words):
            compare(made, made)


class TestStructure:
    def test_a_sum_of_equal_looking_branches_in_another_order(self, compare: Compare) -> None:
        def model(first: str, second: str) -> onnx.ModelProto:
            rng = np.random.default_rng(0)
            body = (
                f"a = MatMul(x, {first}) b = Relu(a) c = MatMul(x, {second}) d = Relu(c)"
                "y = Add(b, d)"
            )
            made = onnx.parser.parse_model(graph(body, "float[N, 6] x", "float[N, 6] y"))
            for name in ("v", "w"):
                values = rng.standard_normal((6, 6)).astype(np.float32)
                made.graph.initializer.append(numpy_helper.from_array(values, name))
            return made

        assert compare(model("v", "w"), model("w", "v")).verdict is Verdict.EQUIVALENT

    def test_operands_of_a_difference_swapped(self, compare: Compare) -> None:
        left, right = (
            graph(f"a = Relu(x) b = Tanh(x) y = Sub({operands})", "float[N, 4] x", "float[N, 4] y")
            for operands in ("a, b", "b, a")
        )
        found = compare(left, right)
        assert found.verdict is Verdict.DIFFERENT
        assert [each.kind for each in found.causes] == [CauseKind.ORDER]

    def test_parts_of_a_split_swapped(self, compare: Compare) -> None:
        def model(operands: str) -> str:
            return graph(
                "a, b = Split <axis: int = 1> (x) t = Tanh(a)"
                f"y = Concat <axis: int = 1> ({operands})",
                "float[N, 4] x",
                "float[N, 4] y",
            )

        assert compare(model("t, b"), model("t, b")).verdict is Verdict.IDENTICAL
        assert compare(model("t, b"), model("b, t")).verdict is Verdict.DIFFERENT

    def test_a_second_output_is_followed(self, compare: Compare) -> None:
        def model(names: str) -> str:
            first, second = names.split()
            return graph(
                f"{first}, {second} = Split <axis: int = 1> (x) r = Relu({second}) t = Identity(r)"
                "u = Gemm(t, w) y = Identity(u)",
                "float[N, 4] x",
                "float[N, 2] y",
                "<float[2, 2] w = {1, 2, 3, 4}>",
            )

        def matmul(names: str) -> str:
            return model(names).replace("Gemm", "MatMul")

        found = compare(model("a b"), matmul("c d"))
        assert found.verdict is Verdict.EQUIVALENT

    def test_two_operators_missing_behind_the_input(self, compare: Compare) -> None:
        stored = "<float[4, 1, 1] m = {1, 2, 3, 4}, float[4, 1, 1] s = {2, 2, 3, 3}>"

        def model(front: str, last: str) -> onnx.ModelProto:
            made = onnx.parser.parse_model(
                graph(f"{front} y = Conv({last}, w)", IMAGE, "float[N, 4, 4, 4] y", stored)
            )
            values = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32)
            made.graph.initializer.append(numpy_helper.from_array(values, "w"))
            return made

        full = model("a = Sub(x, m) b = Div(a, s)", "b")
        bare = model("", "x")
        for pair, word in (((full, bare), "right"), ((bare, full), "left")):
            found = compare(*pair)
            assert found.verdict is Verdict.DIFFERENT
            assert [each.what for each in found.causes] == ["Sub", "Div"]
            assert all(str(each.proof) == "proved" for each in found.causes), word

    @pytest.mark.parametrize(
        ("left", "right", "what"),
        [
            (
                "MaxPool <kernel_shape=[2,2]>",
                "MaxPool <kernel_shape=[3,3], pads=[0,0,1,1]>",
                {"kernel_shape", "pads"},
            ),
            (
                "AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad: int = 1>",
                "AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]>",
                {"count_include_pad"},
            ),
            ("LeakyRelu <alpha: float = 0.1>", "LeakyRelu <alpha: float = 0.2>", {"alpha"}),
            (
                "MaxPool <kernel_shape=[2,2], strides=[2,2]>",
                "AveragePool <kernel_shape=[2,2], strides=[2,2]>",
                {"MaxPool against AveragePool"},
            ),
        ],
    )
    def test_attributes_that_differ_are_causes(
        self, compare: Compare, left: str, right: str, what: set[str]
    ) -> None:
        found = compare(
            conv(f"c = Conv(x, w) y = {left} (c)"), conv(f"c = Conv(x, w) y = {right} (c)")
        )
        assert found.verdict is Verdict.DIFFERENT
        assert {each.what for each in found.causes} == what


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"atol": -1.0}, {"rtol": float("nan")}, {"atol": float("nan")}]
)
def test_options_that_make_no_sense_are_wrong_usage(
    compare: Compare, options: dict[str, float]
) -> None:
    with pytest.raises(UsageError):
        compare(torch_like(Net()), torch_like(Net()), **options)


def test_tolerances_that_are_asked_for_decide(compare: Compare) -> None:
    left, right = keras_like(Net()), torch_like(Net(epsilon=1e-5))
    assert compare(left, right, atol=0.1).verdict is Verdict.AGREES
    found = compare(left, right, atol=1e-6)
    assert found.verdict is Verdict.DIFFERENT
    assert [each.kind for each in found.causes] == [CauseKind.EPSILON]
    strict = compare(left, torch_like(Net()), atol=0.0, rtol=0.0)
    assert strict.verdict in (Verdict.DIFFERENT, Verdict.EQUIVALENT)
    loose = compare(left, torch_like(Net()), rtol=0.5)
    assert loose.verdict is Verdict.EQUIVALENT


def test_type_of_stored_tensors(compare: Compare) -> None:
    """bfloat16 is stored and read; what runs in its place is said."""
    made = torch_like(Net(dtype=TensorProto.BFLOAT16))
    found = compare(made, made)
    assert found.verdict is Verdict.IDENTICAL
    assert sum("bfloat16" in each for each in found.information) == 2
    assert helper.tensor_dtype_to_string(TensorProto.BFLOAT16)
