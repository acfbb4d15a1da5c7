"""Quantised models against the float ones that they were made of, and against wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from inspector.compare.feeding.ranges import find_ranges
from inspector.facts.comparison import CauseKind, Comparison, Proof, Verdict
from inspector.read.open import open_model
from inspector.read.shapes import with_inferred_shapes
from inspector.write.dequantise import dequantised
from inspector.write.patch import patched
from tests.compare import branches, nets
from tests.compare.branches import (
    attribute,
    changed,
    element,
    exchanged,
    operator,
    swapped,
    tensor,
    without,
)
from tests.compare.conftest import Compare
from tests.compare.quantising import FORMS, prepared, quantised

DATA = Path(__file__).parents[1] / "data"

NETS: dict[str, Callable[[], onnx.ModelProto]] = {
    "branches": branches.network,
    "other branches": lambda: branches.network(5),
    "deep": lambda: nets.deep(layers=6),
    "deep and folded": lambda: nets.deep(layers=4, folded=True, seed=3),
    "torch": lambda: onnx.load(DATA / "torch_small_matched.onnx"),
    "keras": lambda: prepared(onnx.load(DATA / "keras_small.onnx")),
    "torch by hand": nets.torch_like,
    "keras by hand": nets.keras_like,
}

FAULTS: dict[str, tuple[branches.Change, frozenset[CauseKind]]] = {
    # What was folded before it was quantised can only be told by what it comes to.
    "epsilon": (attribute("bn3", "epsilon", 0.5), frozenset({CauseKind.EPSILON})),
    "one mean": (
        element("bn3.mean", (3,), 1.0),
        frozenset({CauseKind.FOLDING, CauseKind.PARAMETER}),
    ),
    "no Relu": (without("relu3"), frozenset({CauseKind.MISSING})),
    "no first Relu": (without("relu1"), frozenset({CauseKind.MISSING})),
    "no BatchNorm": (without("bn2"), frozenset({CauseKind.MISSING})),
    "Concat swapped": (swapped("concat"), frozenset({CauseKind.ORDER})),
    "Sub swapped": (swapped("sub"), frozenset({CauseKind.ORDER})),
    "filters reversed": (
        tensor("conv3.kernel", lambda a: a[::-1]),
        frozenset({CauseKind.FOLDING, CauseKind.PARAMETER}),
    ),
    "kernel transposed": (tensor("dense1.kernel", np.transpose), frozenset({CauseKind.PARAMETER})),
    "bias": (element("dense2.bias", (1,), 0.5), frozenset({CauseKind.PARAMETER})),
    "Sigmoid for Tanh": (operator("tanh", "Sigmoid"), frozenset({CauseKind.OPERATOR})),
    "mean and B": (
        exchanged("bn3.mean", "bn3.B"),
        frozenset({CauseKind.FOLDING, CauseKind.PARAMETER}),
    ),
}


@cache
def made(net: str, form: str, fault: str = "", seed: int = 0) -> onnx.ModelProto:
    model = NETS[net]()
    if fault:
        model = changed(model, FAULTS[fault][0])
    return quantised(model, form, seed=seed)


def says_only_quantisation(found: Comparison) -> None:
    assert found.verdict is Verdict.AGREES, found.reason
    assert "within int8 quantisation" in found.reason
    assert not found.causes
    assert {each.kind for each in found.harmless} <= {CauseKind.QUANTISATION}, found.harmless


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("net", NETS)
def test_a_quantised_copy_agrees(net: str, form: str, compare: Compare) -> None:
    plain = NETS[net]()
    says_only_quantisation(compare(plain, made(net, form)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [1, 2])
def test_so_it_does_on_either_side_and_for_other_inputs(
    seed: int, form: str, compare: Compare
) -> None:
    for net in ("branches", "keras"):
        says_only_quantisation(compare(made(net, form), NETS[net](), seed=seed))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_nothing_else(fault: str, form: str, compare: Compare) -> None:
    found = compare(NETS["branches"](), made("branches", form, fault))
    assert found.verdict is Verdict.DIFFERENT, found.reason
    assert found.causes[0].kind in FAULTS[fault][1], found.causes
    assert {each.kind for each in found.causes} <= FAULTS[fault][1]
    assert found.causes[0].proof in (Proof.NECESSARY, Proof.LOCATED)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("fault", ["epsilon", "no Relu", "Concat swapped", "bias"])
def test_so_it_is_on_either_side(fault: str, seed: int, compare: Compare) -> None:
    for form in ("QDQ", "QOperator"):
        found = compare(made("branches", form, fault), NETS["branches"](), seed=seed)
        assert found.verdict is Verdict.DIFFERENT, found.reason
        assert found.causes[0].kind in FAULTS[fault][1], found.causes


def test_two_quantised_models(compare: Compare) -> None:
    one = made("branches", "QDQ")
    assert compare(one, one).verdict is Verdict.IDENTICAL
    found = compare(one, made("branches", "QDQ", seed=1))
    assert found.verdict in (Verdict.AGREES, Verdict.EQUIVALENT), found.reason
    found = compare(one, made("branches", "QOperator"))
    assert found.verdict is Verdict.AGREES, found.reason
    found = compare(one, made("branches", "QOperator", "no Relu"))
    assert found.verdict is Verdict.DIFFERENT
    assert found.causes[0].kind is CauseKind.MISSING


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("activations", "weights", "extra"),
    [
        ("QInt8", "QInt8", {}),
        ("QUInt8", "QUInt8", {}),
        ("QInt8", "QInt8", {"ActivationSymmetric": True}),
        ("QUInt16", "QInt8", {}),
        ("QInt16", "QInt8", {"UseQDQContribOps": True}),
    ],
)
def test_types_of_numbers(
    activations: str, weights: str, extra: dict[str, bool], folded: bool, compare: Compare
) -> None:
    from onnxruntime.quantization import QuantType

    model = quantised(
        branches.network(),
        "QDQ",
        fold=folded,
        activation_type=QuantType[activations],
        weight_type=QuantType[weights],
        extra_options=extra,
    )
    says_only_quantisation(compare(branches.network(), model))


def test_a_grid_that_cuts_off_too_much_is_the_one_cause(compare: Compare) -> None:
    model = onnx.ModelProto.FromString(made("deep", "QDQ").SerializeToString())
    name = next(
        each.input[1]
        for each in model.graph.node
        if each.op_type == "QuantizeLinear" and each.input[0] not in ("x",)
    )
    tensor(name, lambda a: np.asarray(a / 8, np.float32))(model)
    found = compare(NETS["deep"](), model)
    assert found.verdict is Verdict.DIFFERENT
    (cause,) = found.causes
    assert cause.kind is CauseKind.QUANTISATION
    assert cause.proof is Proof.NECESSARY
    assert cause.share is not None
    assert cause.share > 0.8
    assert found.explained


def test_inputs_lie_within_the_grid_of_what_reads_them(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[2, 3] x) => (float[2, 3] y) <
        float s = {0.5}, int8 z = {28}
    > { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    (found,) = find_ranges(["x"], open_model(tmp_path / "m.onnx"))
    assert found.grid == (-78.0, 49.5)
    assert found.mild


def one_of(op: str, given: list[str], stored: dict[str, object], **more: object) -> onnx.ModelProto:
    """A model of one such operator between float ends, on an input `x` [4, 8, 6, 6] or [4, 8]."""
    dims = more.pop("dims", (4, 8))
    domain = "" if op in ("QLinearConv", "QLinearMatMul") else "com.microsoft"
    stored |= {"xs": np.float32(0.03), "xz": np.uint8(120)}
    stored |= {"ys": np.float32(more.pop("step", 0.04)), "yz": np.uint8(110)}
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
            helper.make_node(op, given, ["r"], domain=domain, **more),
            helper.make_node("DequantizeLinear", ["r", "ys", "yz"], ["y"]),
        ],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


RNG = np.random.default_rng(11)
X, W, Y = ["q", "xs", "xz"], ["w", "ws", "wz"], ["ys", "yz"]
CHANNELS = {
    "ws": RNG.uniform(0.01, 0.02, 5).astype(np.float32),
    "wz": np.zeros(5, np.int8),
}
IMAGE = (4, 8, 6, 6)

OPERATORS = {
    "QLinearConv": one_of(
        "QLinearConv",
        [*X, *W, *Y, "b"],
        {
            "w": RNG.integers(-127, 128, (5, 8, 3, 3), np.int8),
            "b": RNG.integers(-900, 900, 5, np.int32),
            **CHANNELS,
        },
        dims=IMAGE,
        pads=[1, 1, 1, 1],
        step=0.15,
    ),
    "QLinearMatMul": one_of(
        "QLinearMatMul",
        [*X, *W, *Y],
        {"w": RNG.integers(-127, 128, (8, 5), np.int8), **CHANNELS},
    ),
    "QGemm": one_of(
        "QGemm",
        [*X, *W, "b", *Y],
        {
            "w": RNG.integers(-127, 128, (5, 8), np.int8),
            "b": RNG.integers(-900, 900, 5, np.int32),
            **CHANNELS,
        },
        transB=1,
        alpha=0.5,
    ),
    **{
        op: one_of(
            op,
            [*X, *W, *Y],
            {
                "w": RNG.integers(0, 256, (8,), np.uint8),
                "ws": np.float32(0.02),
                "wz": np.uint8(100),
            },
        )
        for op in ("QLinearAdd", "QLinearMul")
    },
    "QLinearLeakyRelu": one_of("QLinearLeakyRelu", [*X, *Y], {}, alpha=0.2),
    "QLinearSigmoid": one_of("QLinearSigmoid", [*X, *Y], {}, step=0.01),
    "QLinearSoftmax": one_of("QLinearSoftmax", [*X, *Y], {}, step=0.01, opset=17, axis=-1),
    "QLinearAveragePool": one_of(
        "QLinearAveragePool",
        [*X, *Y],
        {},
        dims=IMAGE,
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        count_include_pad=1,
    ),
    "QLinearGlobalAveragePool": one_of("QLinearGlobalAveragePool", [*X, *Y], {}, dims=IMAGE),
    "QLinearConcat": one_of(
        "QLinearConcat",
        [*Y, *X, *W],
        {
            "w": RNG.integers(0, 256, (4, 2), np.uint8),
            "ws": np.float32(0.02),
            "wz": np.uint8(100),
        },
        axis=1,
    ),
    "QLinearWhere": one_of(
        "QLinearWhere",
        ["c", *X, *W, *Y],
        {
            "c": RNG.random((4, 8)) < 0.5,
            "w": RNG.integers(0, 256, (8,), np.uint8),
            "ws": np.float32(0.02),
            "wz": np.uint8(100),
        },
    ),
}


@pytest.mark.parametrize("op", OPERATORS)
def test_an_operator_on_integers_is_the_float_one_between_grids(op: str, tmp_path: Path) -> None:
    model = OPERATORS[op]
    onnx.save(model, tmp_path / "m.onnx")
    found = dequantised(with_inferred_shapes(open_model(tmp_path / "m.onnx")))
    assert found is not None
    assert not any("Linear" in each.op_type for each in found.model.graph.nodes)
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    dims = [each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim]
    # On the grid, so that what differs is what the operator itself rounds.
    points = np.random.default_rng(1).integers(0, 256, dims)
    x = ((points - 120) * stored["xs"]).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    (real,) = onnxruntime.InferenceSession(patched(found.model, ()).data).run(None, {"x": x})
    step, zero = float(stored["ys"]), 110
    ends = step * (0 - zero), step * (255 - zero)
    assert np.abs(np.clip(real, *ends) - want).max() <= 1.01 * step
    inside = (want > ends[0]) & (want < ends[1])
    assert inside.mean() > 0.5


def test_an_operator_that_is_not_known_is_left_alone(tmp_path: Path) -> None:
    model = one_of("QLinearReduceMax", [*X, *Y], {})
    onnx.save(model, tmp_path / "m.onnx")
    assert dequantised(open_model(tmp_path / "m.onnx")) is None
