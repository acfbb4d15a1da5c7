"""Models that ONNX Runtime does not take, in a form that it takes: by the operators' old words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from inspector.compare.runtime.evaluated import Evaluated
from inspector.compare.runtime.run import Array, Fed, Runner
from inspector.errors import RunError
from inspector.read.open import open_model
from inspector.write.modern import CannotRewriteError, modern
from inspector.write.upgrade import Form, runnable_form

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
ROW = RNG.random((3, 4, 5)).astype(np.float32) + 0.5
SCALE, BIAS, MEAN, VAR = (RNG.random(3).astype(np.float32) + 0.5 for _ in range(4))
FEW = {"s": SCALE, "b": BIAS, "m": MEAN, "v": VAR}
NO_KERNEL = "Could not find an implementation for {}({}) node with name ''"


def old(
    nodes: list[onnx.NodeProto],
    *,
    stored: dict[str, Array],
    opset: int = 6,
    outputs: tuple[str, ...] = ("y",),
    x: Array = X,
) -> onnx.ModelProto:
    helper = onnx.helper
    dtype = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, x.shape)],
        [helper.make_tensor_value_info(each, dtype, None) for each in outputs],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)


def node(op: str, *inputs: str, **attributes: object) -> onnx.NodeProto:
    return onnx.helper.make_node(op, list(inputs), ["y"], **attributes)


def ran(model: onnx.ModelProto, x: Array = X) -> dict[str, Array]:
    copy, _ = modern(model)
    runner = Runner(copy.SerializeToString(), name="m", optimise=False)
    return runner.run(Fed(values={"x": x}))


def wide(values: Array, rank: int = 4) -> Array:
    return values.reshape(-1, *(1,) * (rank - 2))


def normalised(mean: Array = MEAN, var: Array = VAR, epsilon: float = 1e-3) -> Array:
    return wide(SCALE) * (X - wide(mean)) / np.sqrt(wide(var) + epsilon) + wide(BIAS)


@pytest.mark.parametrize("opset", [1, 2, 5, 6])
def test_a_batchnorm_of_inference_keeps_its_numbers(opset: int) -> None:
    made = node("BatchNormalization", "x", *FEW, is_test=1, epsilon=1e-3, spatial=1)
    if opset < 6:
        made.attribute.append(onnx.helper.make_attribute("consumed_inputs", [0, 0, 0, 1, 1]))
    (found,) = ran(old([made], stored=FEW, opset=opset)).values()
    np.testing.assert_allclose(found, normalised(), rtol=1e-5, atol=1e-6)


def test_a_batchnorm_without_is_test_trains() -> None:
    """Its default is 0: onnx's docs/Changelog.md, BatchNormalization-6."""
    outputs = ("y", "m2", "v2", "sm", "sv")
    made = onnx.helper.make_node(
        "BatchNormalization", ["x", *FEW], list(outputs), epsilon=1e-3, momentum=0.75
    )
    found = ran(old([made], stored=FEW, outputs=outputs))
    mean, var = X.mean((0, 2, 3)), X.var((0, 2, 3))
    expected = {
        "y": normalised(mean, var),
        "m2": 0.75 * MEAN + 0.25 * mean,
        "v2": 0.75 * VAR + 0.25 * var,
        "sm": mean,
        "sv": var,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
    assert np.abs(found["y"] - normalised()).max() > 0.1


def test_the_draft_of_opset_14_trains_too() -> None:
    outputs = ("y", "m2", "v2", "sm", "sv")
    made = onnx.helper.make_node(
        "BatchNormalization", ["x", *FEW], list(outputs), epsilon=1e-3, training_mode=1
    )
    model = old([made], stored=FEW, opset=14, outputs=outputs)
    found = ran(model)
    mean, var = X.mean((0, 2, 3)), X.var((0, 2, 3))
    np.testing.assert_allclose(found["y"], normalised(mean, var), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["sv"], var, rtol=1e-4)
    np.testing.assert_allclose(found["m2"], 0.9 * MEAN + 0.1 * mean, rtol=1e-4, atol=1e-6)
    assert "draft" in modern(model)[1]


def test_a_parameter_for_each_place() -> None:
    rows = {name: ROW * (n + 1) for n, name in enumerate(FEW)}
    made = node("BatchNormalization", "x", *FEW, is_test=1, spatial=0, epsilon=1e-3)
    (found,) = ran(old([made], stored=rows)).values()
    expected = rows["s"] * (X - rows["m"]) / np.sqrt(rows["v"] + 1e-3) + rows["b"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


FOUR = {"c": SCALE}


def case(op: str, want: Array, stored: dict[str, Array], **attributes: object) -> object:
    return pytest.param(op, want, stored, attributes, id=f"{op} {attributes}")


@pytest.mark.parametrize(
    ("op", "want", "stored", "attributes"),
    [
        case("Add", X + wide(SCALE), FOUR, broadcast=1, axis=1),
        case("Mul", X * wide(SCALE), FOUR, broadcast=1, axis=-3),
        case("Sub", X - ROW[0], {"c": ROW[0]}, broadcast=1),
        case("Div", X / ROW[0, 0], {"c": ROW[0, 0]}, broadcast=1),
        case("Add", X + ROW[..., 0, None], {"c": ROW[..., 0]}, broadcast=1, axis=1),
        case("Add", X + X, {"c": X}),
        case("Pow", np.abs(X) ** 2, {"c": np.full(3, 2, np.float32)}, broadcast=1, axis=1),
        case("PRelu", np.where(X < 0, X * wide(SCALE), X), FOUR),
        case("PRelu", np.where(X < 0, X * SCALE[0], X), {"c": SCALE[:1]}),
        case("Concat", np.concatenate([X, X], 1), {"c": X}),
        case("Sum", X + X, {"c": X}, consumed_inputs=[0, 0]),
    ],
)
def test_two_inputs(
    op: str, want: Array, stored: dict[str, Array], attributes: dict[str, object]
) -> None:
    x = np.abs(X) if op == "Pow" else X
    opset = 3 if op == "Concat" else 5
    (found,) = ran(old([node(op, "x", "c", **attributes)], stored=stored, opset=opset), x).values()
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


SELU = np.where(X > 0, 1.0507 * X, 1.0507 * (1.6732 * np.exp(X) - 1.6732))


@pytest.mark.parametrize(
    ("op", "want", "attributes"),
    [
        ("Selu", SELU, {"consumed_inputs": [0]}),
        ("Elu", np.where(X > 0, X, np.exp(X) - 1), {}),
        ("LeakyRelu", np.where(X > 0, X, 0.01 * X), {}),
        ("HardSigmoid", np.clip(0.2 * X + 0.5, 0, 1), {}),
        ("Clip", np.clip(X, -0.5, 0.25), {"min": -0.5, "max": 0.25}),
        ("Dropout", X, {"is_test": 1, "ratio": 0.9}),
        ("Reshape", X.reshape(2, 12, 5), {"shape": [0, -1, 5]}),
        (
            "Pad",
            np.pad(X, ((0, 0), (0, 0), (1, 3), (2, 4))),
            {"paddings": [0, 0, 1, 2, 0, 0, 3, 4]},
        ),
        ("Upsample", X.repeat(2, 2).repeat(3, 3), {"height_scale": 2.0, "width_scale": 3.0}),
        ("Cast", X.astype(np.int32).astype(np.float32), {"to": "INT32"}),
    ],
)
def test_one_input(op: str, want: Array, attributes: dict[str, object]) -> None:
    nodes = [node(op, "x", **attributes)]
    if op == "Cast":
        nodes[0].output[0] = "i"
        nodes.append(onnx.helper.make_node("Cast", ["i"], ["y"], to="FLOAT"))
    (found,) = ran(old(nodes, stored={}, opset=1)).values()
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    if op == "Selu":
        # The default of today is another number, if only in the fifth place.
        now = np.where(X > 0, 1.050701 * X, 1.050701 * 1.6732632 * np.expm1(X))
        assert np.abs(found - want).max() < np.abs(found - now).max()


def test_gemm_with_a_bias() -> None:
    x = X.reshape(6, 20)
    stored = {"w": ROW.reshape(3, 20).T.copy(), "c": SCALE}
    model = old([node("Gemm", "x", "w", "c", broadcast=1)], stored=stored, x=x)
    (found,) = ran(model, x).values()
    np.testing.assert_allclose(found, x @ stored["w"] + SCALE, rtol=1e-4)


@pytest.mark.parametrize(
    ("made", "stored", "why"),
    [
        (node("Dropout", "x", is_test=0), {}, "training"),
        (node("Split", "x", "c"), {"c": SCALE}, "Split"),
        (node("Tile", "x", "c", "c"), {"c": SCALE}, "Tile"),
        (node("Cast", "x", to="NUMBER"), {}, "Cast"),
        (node("LpPool", "x", p=2.5), {}, "LpPool"),
    ],
)
def test_what_is_not_sure_is_refused(
    made: onnx.NodeProto, stored: dict[str, Array], why: str
) -> None:
    with pytest.raises(CannotRewriteError, match=why):
        modern(old([made], stored=stored, opset=1))


def test_an_unknown_rank_is_refused() -> None:
    model = old([node("Add", "x", "c", broadcast=1, axis=1)], stored={"c": SCALE})
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(CannotRewriteError, match="rank of 'x'"):
        modern(model)


def form_of(model: onnx.ModelProto, tmp_path: Path, reason: str = "") -> Form | None:
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    return runnable_form(open_model(path), reason)


def test_a_form_says_what_was_done(tmp_path: Path) -> None:
    form = form_of(old([node("Add", "x", "c", broadcast=1, axis=1)], stored=FOUR), tmp_path)
    assert form is not None
    assert form.note == "rewritten from opset 6 to 8"
    assert form.model.opset == 8
    result = Runner(form.source, name="m").run(Fed(values={"x": X}))
    np.testing.assert_allclose(result["y"], X + wide(SCALE), rtol=1e-6)


def test_no_import_is_opset_1(tmp_path: Path) -> None:
    model = old([node("Abs", "x", consumed_inputs=[0])], stored={})
    del model.opset_import[:]
    form = form_of(model, tmp_path)
    assert form is not None
    assert form.note == "rewritten from opset 1 to 8"
    np.testing.assert_array_equal(
        Runner(form.source, name="m").run(Fed(values={"x": X}))["y"], np.abs(X)
    )


def conv(dtype: type, kernel: Array) -> onnx.ModelProto:
    model = old(
        [node("Conv", "x", "w", pads=[1, 1, 1, 1])],
        stored={"w": kernel},
        opset=17,
        x=X.astype(dtype),
    )
    model.ir_version = 8
    return model


KERNEL = RNG.standard_normal((4, 3, 3, 3))


def test_a_double_conv_is_run_in_double(tmp_path: Path) -> None:
    model = conv(np.float64, KERNEL)
    with pytest.raises(RunError) as refused:
        Runner(model.SerializeToString(), name="m")
    form = form_of(model, tmp_path, str(refused.value))
    assert form is not None
    assert form.evaluated
    assert form.note == ("run by onnx's reference evaluator: ONNX Runtime has no Conv of float64")
    found = Evaluated(form.source, name="m").run(Fed(values={"x": X.astype(np.float64)}))["y"]
    assert found.dtype == np.float64
    padded = np.pad(X.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    expected = np.einsum("nchwij,ocij->nohw", windows, KERNEL)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_model_that_is_too_large_is_not_run_for_hours(tmp_path: Path) -> None:
    large = np.zeros((1, 3, 2000, 2000), np.float64)
    model = old([node("Conv", "x", "w")], stored={"w": KERNEL}, opset=17, x=large)
    model.ir_version = 8
    assert form_of(model, tmp_path, NO_KERNEL.format("Conv", 11)) is None


def test_bfloat16_is_computed_in_float32_with_the_same_weights(tmp_path: Path) -> None:
    import ml_dtypes

    kernel = KERNEL.astype(ml_dtypes.bfloat16)
    model = conv(np.float32, KERNEL.astype(np.float32))
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(kernel, "w"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    form = form_of(model, tmp_path, NO_KERNEL.format("Conv", 11))
    assert form is not None
    assert form.unit == 2.0**-7 == float(ml_dtypes.finfo(ml_dtypes.bfloat16).eps)
    assert "bfloat16" in form.note
    assert form.model.graph.inputs[0].dtype == "float32"
    found = Runner(form.source, name="m").run(Fed(values={"x": X}))["y"]
    expected = Runner(conv(np.float32, kernel.astype(np.float32)).SerializeToString(), name="r")
    np.testing.assert_array_equal(found, expected.run(Fed(values={"x": X}))["y"])


def test_functions_are_written_out(tmp_path: Path) -> None:
    """A call that leaves out a result: ONNX Runtime takes none (1.31)."""
    text = """<ir_version: 8, opset_import: ["": 17, "l": 1]>
    g (float[2, 3, 4, 5] x) => (float[2, 3, 4, 5] y) { y = l.f (x) }
    <domain: "l", opset_import: ["": 17]> f (x) => (a, b) { a = Neg (x) b = Abs (x) }"""
    model = onnx.parser.parse_model(text)
    with pytest.raises(RunError):
        Runner(model.SerializeToString(), name="m")
    form = form_of(model, tmp_path)
    assert form is not None
    assert form.note == "its functions written out"
    np.testing.assert_array_equal(Runner(form.source, name="m").run(Fed(values={"x": X}))["y"], -X)


def test_a_model_of_today_has_no_other_form(tmp_path: Path) -> None:
    assert (
        form_of(conv(np.float32, KERNEL.astype(np.float32)), tmp_path, "some other reason") is None
    )


class TestEvaluated:
    @pytest.mark.parametrize("opset", [7, 9, 13, 14, 15])
    def test_a_batchnorm_normalises_by_what_is_stored(self, opset: int) -> None:
        made = node("BatchNormalization", "x", *FEW, epsilon=1e-3)
        model = old([made], stored=FEW, opset=opset)
        found = Evaluated(model.SerializeToString(), name="m").run(Fed(values={"x": X}))["y"]
        np.testing.assert_allclose(found, normalised(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("opset", [11, 13])
    @pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
    @pytest.mark.parametrize("given", [{}, {"axis": 2}, {"axis": -1}])
    def test_a_softmax_runs_over_what_its_opset_says(
        self, op: str, opset: int, given: dict[str, int]
    ) -> None:
        data = old([node(op, "x", **given)], stored={}, opset=opset).SerializeToString()
        fed = Fed(values={"x": X})
        found, expected = (
            each.run(fed)["y"] for each in (Evaluated(data, name="m"), Runner(data, name="m"))
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        "made",
        [
            node("BatchNormalization", "x", *FEW, spatial=0),
            onnx.helper.make_node("BatchNormalization", ["x", *FEW], ["y", "m2", "v2"]),
            node("Nothing", "x"),
            node("Hardmax", "x"),
        ],
        ids=["no channels", "training", "unknown", "several axes"],
    )
    def test_what_it_cannot_run_is_an_error(self, made: onnx.NodeProto) -> None:
        with pytest.raises(RunError, match="reference evaluator does not load it: "):
            Evaluated(old([made], stored=FEW, opset=8).SerializeToString(), name="m")

    def test_a_failing_run_is_an_error_in_one_line(self) -> None:
        model = old([node("Reshape", "x", "c")], stored={"c": np.array([7])}, opset=8)
        with pytest.raises(RunError, match="fails while running it") as found:
            Evaluated(model.SerializeToString(), name="m").run(Fed(values={"x": X}))
        assert "\n" not in str(found.value)
