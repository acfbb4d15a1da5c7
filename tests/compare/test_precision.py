"""What a model computes in, and how far that lets two models lie apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compare import nets
from inspector.compare.causes.differences import Differences
from inspector.compare.causes.precisions import precision_causes
from inspector.compare.feeding.feeds import Plan
from inspector.compare.measuring.floor import (
    FINE,
    FLOORS,
    FLOORS_COARSE,
    Grain,
    allowance,
    measure,
    neighbours,
)
from inspector.compare.measuring.measured import Measured
from inspector.compare.measuring.precision import (
    Coarser,
    Precision,
    coarser,
    perturbed,
    precision_of,
)
from inspector.compare.runtime.run import Array, Fed, Runner
from inspector.compare.verdict import Judgement, judge
from inspector.facts.comparison import (
    CauseKind,
    Difference,
    PairedOutput,
    ParameterMatch,
    Verdict,
)
from inspector.facts.model import Model
from inspector.read.open import open_model
from inspector.read.shapes import with_inferred_shapes
from inspector.write.dequantise import dequantised
from inspector.write.patch import patched

HEAD = '<ir_version: 8, opset_import: ["": 17]>'


def opened(model: onnx.ModelProto | str, tmp_path: Path, name: str = "m.onnx") -> Model:
    if isinstance(model, str):
        model = onnx.parser.parse_model(f"{HEAD} g {model}")
    onnx.save(model, tmp_path / name)
    return with_inferred_shapes(open_model(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "name", "unit"),
    [
        ("(float[2,2] x, float[2,2] w) => (float[2,2] y) { y = MatMul (x, w) }", "float32", 2**-23),
        ("(double[2,2] x) => (double[2,2] y) { y = MatMul (x, x) }", "float64", 2**-52),
        ("(float16[2,2] x) => (float16[2,2] y) { y = MatMul (x, x) }", "float16", 2**-10),
        ("(bfloat16[2,2] x) => (bfloat16[2,2] y) { y = MatMul (x, x) }", "bfloat16", 2**-7),
        ("(float16[2,2] x) => (float16[2,2] y) { y = Relu (x) }", "float16", 2**-10),
        # Only what comes from the inputs counts, and all of that.
        (
            "(float[2,2] x) => (float[2,2] y) <float16[2,2] w = {1, 2, 3, 4}> "
            "{ c = Cast <to: int = 1> (w) y = MatMul (x, c) }",
            "float32",
            2**-23,
        ),
        (
            "(float[2,2] x) => (float[2,2] y) "
            "{ h = Cast <to: int = 10> (x) m = MatMul (h, h) y = Cast <to: int = 1> (m) }",
            "float16",
            2**-10,
        ),
        (
            "(float[2,2] x) => (float[2,2] y) "
            "{ h = Cast <to: int = 10> (x) s = Cast <to: int = 1> (h) y = MatMul (s, s) }",
            "mixed",
            2**-10,
        ),
        (
            "(float[2,2] x) => (float[2,2] y) "
            "{ m = MatMul (x, x) h = Cast <to: int = 10> (m) k = MatMul (h, h) "
            "y = Cast <to: int = 1> (k) }",
            "mixed",
            2**-10,
        ),
        # What reaches no output does not count.
        (
            "(float[2,2] x) => (float[2,2] y) "
            "{ h = Cast <to: int = 10> (x) d = MatMul (h, h) y = MatMul (x, x) }",
            "float32",
            2**-23,
        ),
    ],
)
def test_what_computes_decides(text: str, name: str, unit: float, tmp_path: Path) -> None:
    found = precision_of(opened(text, tmp_path))
    assert (found.name, found.unit, found.quantised) == (name, unit, False)


def test_a_type_that_is_computed_in_a_finer_one(tmp_path: Path) -> None:
    model = opened("(float[2,2] x) => (float[2,2] y) { y = MatMul (x, x) }", tmp_path)
    found = precision_of(model, stands_for=2.0**-7)
    assert (found.name, found.unit) == ("bfloat16", 2.0**-7)


def of(name: str, unit: float, *, quantised: bool = False) -> Precision:
    return Precision(name=name, unit=unit, quantised=quantised, why="Conv 'c'")


SINGLE, HALF = of("float32", 2.0**-23), of("float16", 2.0**-10)
DOUBLE, BYTE = of("float64", 2.0**-52), of("int8 (QDQ)", 2.0**-23, quantised=True)


def test_the_coarser_side_decides() -> None:
    assert coarser(SINGLE, SINGLE).words == "rounding"
    assert not coarser(SINGLE, SINGLE).unlike
    for pair in ((SINGLE, HALF), (HALF, SINGLE)):
        assert coarser(*pair).words == "float16 rounding"
        assert coarser(*pair).grain == Grain(unit=2.0**-10)
        assert coarser(*pair).unlike
    assert coarser(HALF, BYTE).words == "int8 quantisation"
    assert coarser(DOUBLE, SINGLE).words == "rounding"
    assert coarser(DOUBLE, SINGLE).grain.floors == FINE.floors == FLOORS
    assert coarser(BYTE, BYTE).grain.floors == FLOORS_COARSE
    assert not coarser(BYTE, BYTE).unlike


def test_neighbours_of_a_coarser_type_are_neighbours_there() -> None:
    values = np.linspace(-5, 5, 101).astype(np.float16).astype(np.float32)
    moved = neighbours(values, np.random.default_rng(0), 2.0**-10)
    assert moved.dtype == np.float32
    there = values.astype(np.float16)
    steps = np.abs(moved.astype(np.float16).view(np.int16).astype(int) - there.view(np.int16))
    assert {*steps[there != 0]} <= {1, 2}  # two where a power of two halves the distance
    assert (moved[values != 0] != values[values != 0]).all()
    assert (moved[values == 0] == 0).all()


def quantised(model: onnx.ModelProto, tmp_path: Path, how: str = "QDQ") -> onnx.ModelProto:
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
        def __init__(self) -> None:
            rng = np.random.default_rng(7)
            self.left = [rng.standard_normal((16, 3, 12, 12)).astype(np.float32) for _ in range(4)]

        def get_next(self) -> dict[str, Array] | None:
            return {"x": self.left.pop()} if self.left else None

    source, target = tmp_path / "plain.onnx", tmp_path / "quantised.onnx"
    onnx.save(model, source)
    if how == "dynamic":
        q.quantize_dynamic(source, target, weight_type=q.QuantType.QUInt8)
    else:
        form = q.QuantFormat.QDQ if how == "QDQ" else q.QuantFormat.QOperator
        q.quantize_static(source, target, Reader(), quant_format=form, per_channel=how == "QDQ")
    return onnx.load(target)


def halved(model: onnx.ModelProto, _: Path) -> onnx.ModelProto:
    """float16 inside, with float32 ends."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    graph = made.graph
    for each in graph.initializer:
        values = numpy_helper.to_array(each).astype(np.float16)
        each.CopyFrom(numpy_helper.from_array(values, each.name))
    ends = {graph.input[0].name, graph.output[0].name}
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = f"{name}_half" if name in ends else name
    x, y = graph.input[0].name, graph.output[0].name
    graph.node.insert(0, helper.make_node("Cast", [x], [f"{x}_half"], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", [f"{y}_half"], [y], to=TensorProto.FLOAT))
    return made


def ratio(left: onnx.ModelProto, right: onnx.ModelProto, tmp_path: Path) -> float:
    """How much of what it may the worst element of the two outputs lies apart."""
    rng = np.random.default_rng(3)
    fed = [
        Fed(values={"x": rng.standard_normal((n, 3, 12, 12)).astype(np.float32)}) for n in (1, 32)
    ]
    results, deviations, precisions = [], [], []
    for at, proto in enumerate((left, right)):
        model = opened(proto, tmp_path, f"{at}.onnx")
        data, precision = proto.SerializeToString(), precision_of(model)
        first = Runner(data, name="m")
        plain = Runner(data, name="m", optimise=False)
        others = [
            Runner(data, name="m", optimise=False, instead=each)
            for each in perturbed(model, precision, seed=0)
        ]
        ran = [first.run(each) for each in fed]
        unit = precision.unit if precision.coarse else 0.0
        moved = measure(first, [plain, *others], fed, ran, seed=0, unit=unit)
        (name,) = moved
        results.append([each[name] for each in ran])
        deviations.append(moved[name])
        precisions.append(precision)
    grain = coarser(*precisions).grain
    assert grain.coarse
    allowed = allowance(*results, *deviations, grain=grain)
    apart = [np.abs(a - b) / c for a, b, c in zip(*results, allowed.bounds, strict=True)]
    return float(max(each.max() for each in apart))


@pytest.mark.parametrize("how", ["half", "QDQ", "QOperator", "dynamic"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_coarse_copy_agrees_and_a_wrong_one_does_not(how: str, seed: int, tmp_path: Path) -> None:
    def made(**changes: float) -> onnx.ModelProto:
        model = nets.deep(seed=seed, layers=4, folded=how != "half", **changes)
        return halved(model, tmp_path) if how == "half" else quantised(model, tmp_path, how)

    plain = nets.deep(seed=seed, layers=4, folded=how != "half")
    assert ratio(plain, made(), tmp_path) <= 1.0
    assert ratio(made(), plain, tmp_path) <= 1.0
    assert ratio(plain, made(epsilon=0.01 if how == "half" else 0.5), tmp_path) > 1.0


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("QDQ", "int8 (QDQ)"),
        ("QOperator", "int8 (QLinearConv)"),
        ("dynamic", "int8 (ConvInteger)"),
    ],
)
def test_quantised_models_say_so(how: str, name: str, tmp_path: Path) -> None:
    model = opened(quantised(nets.deep(layers=2, folded=True), tmp_path, how), tmp_path)
    found = precision_of(model)
    assert found.quantised
    assert found.name == name
    assert found.why


def test_a_difference_in_precision_is_one_candidate(tmp_path: Path) -> None:
    plain = opened(nets.deep(layers=2, folded=True), tmp_path, "a.onnx")
    byte = opened(quantised(nets.deep(layers=2, folded=True), tmp_path), tmp_path, "b.onnx")
    sides = precision_of(plain), precision_of(byte)
    (found,) = precision_causes(*sides)
    assert found.kind is CauseKind.QUANTISATION
    assert (found.left, found.right) == ("float32", "int8 (QDQ)")
    assert precision_causes(sides[1], sides[1]) == ()
    (found,) = precision_causes(SINGLE, HALF)
    assert found.kind is CauseKind.PRECISION
    assert found.reason


def test_without_its_grids_a_model_has_the_float_one_s_layers(tmp_path: Path) -> None:
    plain = nets.deep(layers=3, folded=True)
    found = dequantised(opened(quantised(plain, tmp_path), tmp_path))
    assert found is not None
    ops = sorted(n.op_type for n in found.model.graph.nodes if n.op_type != "Identity")
    assert ops == sorted(n.op_type for n in plain.graph.node)
    x = np.random.default_rng(1).standard_normal((8, 3, 12, 12)).astype(np.float32)
    fed = Fed(values={"x": x})
    (real,) = Runner(patched(found.model, ()), name="m").run(fed).values()
    (byte,) = Runner((tmp_path / "quantised.onnx").read_bytes(), name="m").run(fed).values()
    (want,) = Runner(plain.SerializeToString(), name="m").run(fed).values()
    # Nearer to the float model than the quantised one: weights alone are rounded.
    assert 0 < np.abs(real - want).max() < np.abs(byte - want).max() < 0.5 * want.std()


def test_weights_without_grids_are_what_onnx_runtime_makes_of_them(tmp_path: Path) -> None:
    text = """(float[3] x) => (float[2, 3] y) <
        int8[2, 3] w = {-128, 0, 127, 5, -7, 100}, float[3] s = {0.5, 0.25, 2.0},
        int8[3] z = {1, -2, 3}
    > { d = DequantizeLinear <axis: int = 1> (w, s, z) y = Add (x, d) }"""
    model = opened(text, tmp_path)
    found = dequantised(model)
    assert found is not None
    assert [n.op_type for n in found.model.graph.nodes] == ["Add"]
    np.testing.assert_array_equal(found.steps["d"], [[0.5, 0.25, 2.0]])
    fed = Fed(values={"x": np.zeros(3, np.float32)})
    (real,) = Runner(patched(found.model, ()), name="m").run(fed).values()
    (want,) = Runner((tmp_path / "m.onnx").read_bytes(), name="m").run(fed).values()
    np.testing.assert_array_equal(real, want)


def test_what_is_not_quantised_has_no_grids(tmp_path: Path) -> None:
    plain = nets.deep(layers=2, folded=True)
    assert dequantised(opened(plain, tmp_path)) is None


def verdict(
    words: Coarser, *, beyond: bool = False, accounted: bool = True, **far: float
) -> Judgement:
    apart = Difference(
        shape=(2, 2),
        **{"max_abs": 0.01, "scale": 1.0, "mean_abs": 0.0, "left_at": 0.0, "right_at": 0.0, **far},
        at=(0, 0),
        left_non_finite=0,
        right_non_finite=0,
        both_non_finite=0,
        top1=None,
    )
    output = PairedOutput(
        left="y",
        right="y",
        permutation=(0, 1),
        difference=apart,
        floor=0.01,
        tolerance=0.04,
        within=not beyond,
        finite_within=not beyond,
    )
    measured = Measured(
        outputs=(output,),
        orders=(),
        batches=(),
        plan=Plan(),
        left_results=[],
        right_results=[],
        left_deviations={},
    )
    match = ParameterMatch(bitwise=1, rounded=not accounted, differing=0, left_only=0, right_only=0)
    differences = Differences(candidates=(), information=(), norms=(), parameters=match)
    return judge(measured, differences, same_digest=False, asked=False, coarser=words)


class TestVerdict:
    def test_two_precisions_agree_and_no_more(self) -> None:
        found = verdict(coarser(SINGLE, HALF))
        assert found.verdict is Verdict.AGREES
        assert found.reason.startswith("outputs agree within float16 rounding, and no further")
        assert verdict(coarser(SINGLE, BYTE)).reason.startswith(
            "outputs agree within int8 quantisation, and no further"
        )

    def test_one_precision_on_both_sides_can_be_equivalent(self) -> None:
        found = verdict(coarser(HALF, HALF))
        assert found.verdict is Verdict.EQUIVALENT
        assert "within float16 rounding" in found.reason
        found = verdict(coarser(BYTE, BYTE), accounted=False)
        assert found.verdict is Verdict.AGREES
        assert "within int8 quantisation" in found.reason

    def test_beyond_it_the_limit_is_named(self) -> None:
        found = verdict(coarser(SINGLE, HALF), beyond=True)
        assert found.verdict is Verdict.DIFFERENT
        assert found.reason.endswith("beyond the 0.04 allowed for float16 rounding")

    def test_where_noise_dominates_nobody_can_tell(self) -> None:
        found = verdict(coarser(SINGLE, HALF), scale=0.2, max_abs=0.03)
        assert found.verdict is Verdict.UNDECIDED
        assert found.reason.startswith("float16 rounding alone moves output 'y'")
        # As close as this they would have passed a smaller tolerance.
        assert verdict(coarser(SINGLE, HALF), scale=0.2).verdict is Verdict.AGREES
        assert verdict(coarser(HALF, HALF), scale=0.2).verdict is Verdict.UNDECIDED
        assert verdict(coarser(SINGLE, BYTE), scale=0.2).verdict is Verdict.AGREES
        found = verdict(coarser(SINGLE, BYTE), scale=0.07)
        assert found.verdict is Verdict.UNDECIDED
        assert found.reason.startswith("int8 quantisation alone moves output 'y'")
