"""When two models may be called identical: every way to differ that a digest could overlook.

Each pair is one function by everything but what the case is about, in ONNX's text form.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compare.conftest import Compare
from inspector.compare.graphs.digest import digest
from inspector.compare.graphs.order import in_order
from inspector.facts.comparison import Verdict
from inspector.facts.model import Model
from inspector.read.open import open_model
from inspector.read.schema import with_default_attributes

HEAD = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>'


def digest_of(text: str | onnx.ModelProto, tmp_path: object) -> tuple[str, ...]:
    proto = onnx.parser.parse_model(text) if isinstance(text, str) else text
    path = f"{tmp_path}/m.onnx"
    onnx.save(proto, path)
    model: Model = in_order(with_default_attributes(open_model(path)))
    return digest(
        model,
        inputs=[v.name for v in model.graph.inputs if v.name not in model.graph.initializers],
        outputs=[v.name for v in model.graph.outputs],
    )


def graph(body: str, *, inputs: str = "float[N, 4] x", outputs: str = "float[N, 4] y") -> str:
    return f"{HEAD} g ({inputs}) => ({outputs}) {{ {body} }}"


SAME = {
    "default written out": (
        graph("y = LeakyRelu(x)"),
        graph("y = LeakyRelu <alpha: float = 0.01> (x)"),
    ),
    "order of nodes": (
        graph("a = Relu(x) b = Tanh(x) y = Add(a, b)"),
        graph("b = Tanh(x) a = Relu(x) y = Add(a, b)"),
    ),
    "Constant for initializer": (
        f"{HEAD} g (float[N, 4] x) => (float[N, 4] y) <float[1] c = {{2.0}}> {{ y = Mul(x, c) }}",
        graph("c = Constant <value_floats: floats = [2.0]> () y = Mul(x, c)"),
    ),
    "trailing empty input": (
        graph("y = Clip(x)"),
        graph('y = Clip(x, "", "")'),
    ),
    "function's default written at the call": (
        graph("y = local.f(x)")
        + '<opset_import: ["" : 17], domain: "local"> f <alpha: float = 0.1> (x) => (y)'
        + " { y = LeakyRelu <alpha: float = @alpha> (x) }",
        graph("y = local.f <alpha: float = 0.1> (x)")
        + '<opset_import: ["" : 17], domain: "local"> f <alpha: float = 0.1> (x) => (y)'
        + " { y = LeakyRelu <alpha: float = @alpha> (x) }",
    ),
}

OTHER = {
    "attribute": (
        graph("y = LeakyRelu <alpha: float = 0.1> (x)"),
        graph("y = LeakyRelu <alpha: float = 0.10000001> (x)"),
    ),
    "order of operands": (graph("a = Relu(x) y = Sub(a, x)"), graph("a = Relu(x) y = Sub(x, a)")),
    "absent optional input": (
        f"{HEAD} g (float[N, 4] x) => (float[N, 4] y) <float c = {{1.0}}> {{ y = Clip(x, c) }}",
        f'{HEAD} g (float[N, 4] x) => (float[N, 4] y) <float c = {{1.0}}> {{ y = Clip(x, "", c) }}',
    ),
    "negative zero": (
        f"{HEAD} g (float[N, 4] x) => (float[N, 4] y) <float[1] c = {{0.0}}> {{ y = Div(x, c) }}",
        f"{HEAD} g (float[N, 4] x) => (float[N, 4] y) <float[1] c = {{-0.0}}> {{ y = Div(x, c) }}",
    ),
    "shape of a constant": (
        f"{HEAD} g (float[N, 4] x) => (y) <float[1] c = {{2.0}}> {{ y = Mul(x, c) }}",
        f"{HEAD} g (float[N, 4] x) => (y) <float[1, 1, 1] c = {{2.0}}> {{ y = Mul(x, c) }}",
    ),
    "dtype of a constant": (
        graph("s = Constant <value_ints: ints = [4]> () y = Expand(x, s)"),
        graph("s = Constant <value_floats: floats = [4.0]> () y = Expand(x, s)"),
    ),
    "how a Split without lengths is cut": (
        graph("y, b = Split <axis: int = 0> (x)", inputs="float[12, 4] x", outputs="y"),
        graph("y, b, c = Split <axis: int = 0> (x)", inputs="float[12, 4] x", outputs="y"),
    ),
    "a body's own input or the one around it": (
        graph(
            """y, s = Scan <num_scan_inputs: int = 1, body = b (float[4] h, float[4] e)
                 => (float[4] o, float[4] p) { o = Add(h, e) p = Identity(h) }> (z, x)""",
            inputs="float[4] z, float[N, 4] x",
            outputs="float[4] y, float[N, 4] s",
        ),
        graph(
            """y, s = Scan <num_scan_inputs: int = 1, body = b (float[4] h, float[4] e)
                 => (float[4] o, float[4] p) { o = Add(h, e) p = Identity(z) }> (z, x)""",
            inputs="float[4] z, float[N, 4] x",
            outputs="float[4] y, float[N, 4] s",
        ),
    ),
    "body of an If": (
        graph(
            """y = If (c) <then_branch = t () => (float[N, 4] o) { o = Relu(x) },
                 else_branch = e () => (float[N, 4] p) { p = Exp(x) }>""",
            inputs="bool c, float[N, 4] x",
        ),
        graph(
            """y = If (c) <then_branch = t () => (float[N, 4] o) { o = Relu(x) },
                 else_branch = e () => (float[N, 4] p) { p = Tanh(x) }>""",
            inputs="bool c, float[N, 4] x",
        ),
    ),
    "body of a function of one name": (
        graph("y = local.f(x)")
        + '<opset_import: ["" : 17], domain: "local"> f (x) => (y) { y = Relu(x) }',
        graph("y = local.f(x)")
        + '<opset_import: ["" : 17], domain: "local"> f (x) => (y) { y = Exp(x) }',
    ),
    "opset of a function": (
        graph("y = local.f(x)")
        + '<opset_import: ["" : 17], domain: "local"> f (x) => (y) { y = Softmax<axis: int=1>(x) }',
        graph("y = local.f(x)")
        + '<opset_import: ["" : 12], domain: "local"> f (x) => (y) { y = Softmax<axis: int=1>(x) }',
    ),
    "default of a function's attribute": (
        graph("y = local.f(x)")
        + '<opset_import: ["" : 17], domain: "local"> f <alpha: float = 0.1> (x) => (y)'
        + " { y = LeakyRelu <alpha: float = @alpha> (x) }",
        graph("y = local.f(x)")
        + '<opset_import: ["" : 17], domain: "local"> f <alpha: float = 0.2> (x) => (y)'
        + " { y = LeakyRelu <alpha: float = @alpha> (x) }",
    ),
    "opset that changes what Softmax does": (
        '<ir_version: 8, opset_import: ["" : 12]> g (float[2, 3, 4] x) => (float[2, 3, 4] y)'
        " { y = Softmax <axis: int = 1> (x) }",
        '<ir_version: 8, opset_import: ["" : 13]> g (float[2, 3, 4] x) => (float[2, 3, 4] y)'
        " { y = Softmax <axis: int = 1> (x) }",
    ),
    "domain": (
        graph("y = Gelu(x)").replace("local", "com.microsoft"),
        graph("y = com.microsoft.Gelu(x)").replace('"local"', '"com.microsoft"'),
    ),
    "which output": (
        graph("a, b = TopK(x, k)", inputs="float[N, 4] x, int64[1] k", outputs="float[N, 2] a"),
        graph("a, b = TopK(x, k)", inputs="float[N, 4] x, int64[1] k", outputs="int64[N, 2] b"),
    ),
    "a batch that is fixed": (
        graph("y = Relu(x)", inputs="float[1, 4] x"),
        graph("y = Relu(x)", inputs="float[N, 4] x"),
    ),
    "dtype of an input": (
        graph("y = Relu(x)", inputs="float[N, 4] x"),
        graph("y = Relu(x)", inputs="float16[N, 4] x", outputs="float16[N, 4] y"),
    ),
}


@pytest.mark.parametrize(("left", "right"), SAME.values(), ids=SAME)
def test_one_function_has_one_digest(left: str, right: str, tmp_path: object) -> None:
    assert digest_of(left, tmp_path) == digest_of(right, tmp_path)


@pytest.mark.parametrize(("left", "right"), OTHER.values(), ids=OTHER)
def test_another_function_has_another_digest(left: str, right: str, tmp_path: object) -> None:
    assert digest_of(left, tmp_path) != digest_of(right, tmp_path)
    assert digest_of(left, tmp_path) == digest_of(left, tmp_path)


@pytest.mark.parametrize(("left", "right"), OTHER.values(), ids=OTHER)
def test_another_function_is_never_identical(left: str, right: str, compare: Compare) -> None:
    for a, b in ((left, right), (right, left)):
        assert compare(a, b).verdict is not Verdict.IDENTICAL


def test_a_name_that_nothing_computes_equals_no_other(tmp_path: object) -> None:
    model = onnx.parser.parse_model(graph("y = Relu(x)"))
    model.graph.node[0].input[0] = "nowhere"
    assert digest_of(model, tmp_path) != digest_of(model, tmp_path)


def batchnorm(**changes: object) -> onnx.ModelProto:
    """One BatchNormalization at opset 15, or as changed."""
    settings = {"outputs": ["y"], "opset": 15, "momentum": 0.9, "training_mode": 0, **changes}
    stored = [
        numpy_helper.from_array(np.linspace(0.5, 1.5, 4, dtype=np.float32), name)
        for name in ("scale", "B", "mean", "var")
    ]
    attributes = {"momentum": settings["momentum"]}
    if settings["opset"] >= 14:
        attributes["training_mode"] = settings["training_mode"]
    node = helper.make_node(
        "BatchNormalization",
        ["x", "scale", "B", "mean", "var"],
        settings["outputs"],
        **attributes,
    )
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 4, 3, 3))],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in settings["outputs"]][
            : settings.get("shown", 1)
        ],
        stored,
    )
    opset = helper.make_opsetid("", settings["opset"])
    return helper.make_model(made, opset_imports=[opset], ir_version=8)


def test_momentum_of_an_inference_batchnorm_leaves_no_trace(tmp_path: object) -> None:
    assert digest_of(batchnorm(), tmp_path) == digest_of(batchnorm(momentum=0.5), tmp_path)


def test_momentum_counts_where_running_statistics_are_given(
    tmp_path: object, compare: Compare
) -> None:
    pair = [
        batchnorm(outputs=["y", "m", "v"], training_mode=1, momentum=m, shown=3) for m in (0.9, 0.5)
    ]
    assert digest_of(pair[0], tmp_path) != digest_of(pair[1], tmp_path)
    assert compare(*pair).verdict is Verdict.DIFFERENT
    assert compare(pair[0], pair[0]).verdict is Verdict.IDENTICAL


def test_training_mode_counts(tmp_path: object, compare: Compare) -> None:
    training = batchnorm(outputs=["y", "m", "v"], training_mode=1)
    assert digest_of(batchnorm(), tmp_path) != digest_of(training, tmp_path)
    assert compare(batchnorm(), training).verdict is Verdict.DIFFERENT


def test_asking_for_statistics_is_training_before_opset_14(tmp_path: object) -> None:
    plain, training = (
        batchnorm(opset=9, outputs=outputs)
        for outputs in (["y"], ["y", "m", "v", "saved_m", "saved_v"])
    )
    assert digest_of(plain, tmp_path) != digest_of(training, tmp_path)


@pytest.mark.parametrize(
    "dtype",
    [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int64, np.uint64, np.bool_],
)
def test_one_bit_of_a_tensor_counts(dtype: type, tmp_path: object) -> None:
    def model(values: np.ndarray) -> onnx.ModelProto:
        node = helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(values))
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        value = helper.make_tensor_value_info("y", kind, values.shape)
        return helper.make_model(helper.make_graph([node], "g", [], [value]))

    values = np.zeros((2, 3), dtype)
    other = values.copy()
    other.view(np.uint8)[0, 0] = 1
    assert digest_of(model(values), tmp_path) != digest_of(model(other), tmp_path)
    assert digest_of(model(values), tmp_path) == digest_of(model(values.copy()), tmp_path)
    assert digest_of(model(values), tmp_path) != digest_of(model(values.T), tmp_path)


class TestPairing:
    """Identity speaks of inputs and outputs as they are paired: by name, then by order."""

    def test_inputs_in_another_order_are_paired_by_name(self, compare: Compare) -> None:
        left = graph("y = Sub(a, b)", inputs="float[N, 4] a, float[N, 4] b")
        moved = graph("y = Sub(a, b)", inputs="float[N, 4] b, float[N, 4] a")
        meaning = graph("y = Sub(b, a)", inputs="float[N, 4] b, float[N, 4] a")
        assert compare(left, moved).verdict is Verdict.IDENTICAL
        assert compare(left, meaning).verdict is Verdict.DIFFERENT

    def test_other_names_are_paired_by_order(self, compare: Compare) -> None:
        left = graph("y = Sub(a, b)", inputs="float[N, 4] a, float[N, 4] b")
        assert (
            compare(left, graph("y = Sub(c, d)", inputs="float[N, 4] c, float[N, 4] d")).verdict
            is Verdict.IDENTICAL
        )
        assert (
            compare(left, graph("y = Sub(d, c)", inputs="float[N, 4] c, float[N, 4] d")).verdict
            is Verdict.DIFFERENT
        )

    def test_outputs_in_another_order_are_paired_by_name(self, compare: Compare) -> None:
        body = "y = Relu(x) z = Tanh(x)"
        left = graph(body, outputs="float[N, 4] y, float[N, 4] z")
        moved = graph(body, outputs="float[N, 4] z, float[N, 4] y")
        renamed = graph("z = Relu(x) y = Tanh(x)", outputs="float[N, 4] y, float[N, 4] z")
        assert compare(left, moved).verdict is Verdict.IDENTICAL
        assert compare(left, renamed).verdict is Verdict.DIFFERENT

    def test_names_that_do_not_fit_give_way_to_the_order(self, compare: Compare) -> None:
        left = graph(
            "t = Tanh(b) y = Add(a, t)",
            inputs="float[N, 3, 4] a, float[4] b",
            outputs="float[N, 3, 4] y",
        )
        right = graph(
            "t = Tanh(a) y = Add(b, t)",
            inputs="float[N, 3, 4] b, float[4] a",
            outputs="float[N, 3, 4] y",
        )
        assert compare(left, right).verdict is Verdict.IDENTICAL

    def test_kinds_tell_where_names_and_order_do_not(self, compare: Compare) -> None:
        left = graph("i = Gather(a, b) y = Relu(i)", inputs="float[9, 4] a, int64[N] b")
        right = graph("i = Gather(q, p) y = Relu(i)", inputs="int64[N] p, float[9, 4] q")
        assert compare(left, right).verdict is Verdict.IDENTICAL

    def test_overridable_initializers_are_not_fed(self, compare: Compare) -> None:
        head = f"{HEAD} g (float[N, 4] x) => (float[N, 4] y) "
        plain = head + "<float[1] c = {2.0}> { y = Mul(x, c) }"
        fed = onnx.parser.parse_model(plain)
        fed.graph.input.insert(0, helper.make_tensor_value_info("c", TensorProto.FLOAT, [1]))
        found = compare(plain, fed)
        # The same for its default, and for no other.
        assert found.verdict is Verdict.EQUIVALENT
        assert found.information[0].startswith("inputs with a default on the right alone")
        fed.ir_version = 3
        assert compare(plain, fed).verdict is Verdict.IDENTICAL

    def test_axes_the_user_moves_are_not_identical(self, compare: Compare) -> None:
        model = graph(
            "y = Softmax <axis: int = 1> (x)",
            inputs="float[N, 4, 4, 4] x",
            outputs="float[N, 4, 4, 4] y",
        )
        found = compare(model, model, layout="NHWC:NCHW")
        assert found.verdict is not Verdict.IDENTICAL


def test_what_is_random_is_the_same_as_itself_alone(compare: Compare) -> None:
    noisy, louder = (
        graph(f"n = RandomNormalLike <scale: float = {scale}> (x) y = Add(x, n)")
        for scale in (1.0, 1.5)
    )
    assert compare(noisy, noisy).verdict in (Verdict.IDENTICAL, Verdict.UNDECIDED)
    found = compare(noisy, louder)
    assert found.verdict in (Verdict.DIFFERENT, Verdict.UNDECIDED)


def test_untaken_branches_that_differ(compare: Compare) -> None:
    """What is never taken is dead code; what may be taken is not."""

    def model(alpha: float, condition: str) -> str:
        return graph(
            f"""{condition}
            y = If (c) <then_branch = t () => (float[N, 4] o) {{ o = Relu(x) }},
            else_branch = e () => (float[N, 4] p)
            {{ p = LeakyRelu <alpha: float = {alpha}> (x) }}>"""
        )

    stored = "c = Constant <value = bool {1}> ()"
    assert compare(model(0.1, stored), model(0.2, stored)).verdict is Verdict.IDENTICAL
    always = """s = ReduceSum <keepdims: int = 0> (x) n = Abs(s)
        low = Constant <value = float {-1.0}> () c = Greater(n, low)"""
    assert compare(model(0.1, always), model(0.1, always)).verdict is Verdict.IDENTICAL
    found = compare(model(0.1, always), model(0.2, always))
    assert found.verdict is Verdict.AGREES
    assert [each.what for each in found.harmless] == ["else_branch"]


def test_functions_that_call_each_other_in_a_long_row_end(tmp_path: object) -> None:
    calls = "".join(
        f' <opset_import: ["" : 17, "local" : 1], domain: "local"> f{at} (x) => (y)'
        f" {{ y = local.f{at + 1}(x) }}"
        for at in range(600)
    )
    last = ' <opset_import: ["" : 17], domain: "local"> f600 (x) => (y) { y = Relu(x) }'
    deep = graph("y = local.f0(x)") + calls + last
    assert digest_of(deep, tmp_path) != digest_of(deep, tmp_path)
    shallow = graph("y = local.f550(x)") + calls + last
    assert digest_of(shallow, tmp_path) == digest_of(shallow, tmp_path)
