"""Weights in 2, 4 and 8 bits with a scale for each block, as language models are stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)
from onnxruntime.quantization.quant_utils import QuantFormat

from inspector.facts.comparison import CauseKind, Verdict
from inspector.read.open import open_model
from inspector.read.shapes import with_inferred_shapes
from inspector.write.dequantise import dequantised
from tests.compare.conftest import Compare

MICROSOFT = "com.microsoft"
RNG = np.random.default_rng

FORMS = {
    f"{form}, {bits} bits{', symmetric' if symmetric else ''}": (form, bits, symmetric)
    for form, bits in (("QOperator", 4), ("QOperator", 8), ("QDQ", 4))
    for symmetric in (True, False)
}


def one_product(
    *,
    bits: int = 4,
    rows: int = 10,
    columns: int = 40,
    block: int = 16,
    points: str = "",
    order: bool = False,
    bias: bool = False,
    half: bool = False,
) -> ModelProto:
    """MatMulNBits alone, everything in it drawn."""
    rng = RNG([bits, rows, columns, block, order, bias])
    blocks, dtype = -(-columns // block), np.float16 if half else np.float32
    stored = {
        "b": rng.integers(0, 256, (rows, blocks, block * bits // 8), np.uint8),
        "s": rng.uniform(0.01, 0.1, rows * blocks).astype(dtype),
    }
    names = ["x", "b", "s", "", "", ""]
    if points == "packed":
        names[3] = "z"
        stored["z"] = rng.integers(0, 256, rows * -(-blocks * bits // 8), np.uint8)
    elif points == "real":
        names[3] = "z"
        stored["z"] = rng.uniform(0, 2**bits, (rows, blocks)).astype(dtype)
    if order:
        names[4] = "g"
        stored["g"] = rng.permutation(np.arange(columns) // block).astype(np.int32)
    if bias:
        names[5] = "c"
        stored["c"] = rng.standard_normal(rows).astype(dtype)
    node = helper.make_node(
        "MatMulNBits", names, ["y"], domain=MICROSOFT, K=columns, N=rows, bits=bits,
        block_size=block,
    )  # fmt: skip  # a call of many numbers
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    return _model([node], stored, ([3, columns], kind), ([3, rows], kind))


def _model(
    nodes: list[NodeProto],
    stored: dict[str, Any],
    fed: tuple[list[int], int],
    made: tuple[list[int], int],
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", fed[1], fed[0])],
        [helper.make_tensor_value_info("y", made[1], made[0])],
        [numpy_helper.from_array(each, name) for name, each in stored.items()],
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def view_of(model: ModelProto, folder: Path) -> ModelProto | None:
    path = folder / "model.onnx"
    onnx.save(model, path)
    found = dequantised(with_inferred_shapes(open_model(path)))
    return None if found is None else found.model.weights.proto


def ran(model: ModelProto, values: Any) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": values})[0]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"points": "packed"},
        {"points": "packed", "bits": 8},
        {"bits": 8},
        {"bits": 2, "columns": 32},
        {"points": "real"},
        {"columns": 50},
        {"columns": 50, "points": "packed"},
        {"order": True},
        {"bias": True, "block": 32},
        {"half": True},
    ],
    ids=str,
)
def test_a_product_of_packed_weights_is_what_the_runtime_computes(
    how: dict[str, Any], tmp_path: Path
) -> None:
    model = one_product(**how)
    view = view_of(model, tmp_path)
    assert view is not None
    assert {each.op_type for each in view.graph.node} <= {"MatMul", "Add"}
    columns = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    values = RNG(1).standard_normal((3, columns)).astype(np.float16 if how.get("half") else "f4")
    wide = 2e-2 if how.get("half") else 1e-4
    np.testing.assert_allclose(ran(model, values), ran(view, values), rtol=wide, atol=wide)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("dtype", [TensorProto.UINT4, TensorProto.INT4])
def test_rows_of_a_table_in_blocks_are_what_the_runtime_gives(
    axis: int, points: bool, dtype: int, tmp_path: Path
) -> None:
    rng = RNG(5)
    low = 0 if dtype == TensorProto.UINT4 else -8
    dims = (32, 48)
    blocks = tuple(-(-size // 16) if at == axis else size for at, size in enumerate(dims))
    names = ["t", "x", "s", "z"][: 4 if points else 3]
    node = helper.make_node(
        "GatherBlockQuantized", names, ["y"], domain=MICROSOFT, gather_axis=0, quantize_axis=axis,
        block_size=16,
    )  # fmt: skip  # a call of many numbers
    scales = {"s": rng.uniform(0.01, 0.1, blocks).astype("f4")}
    model = _model([node], scales, ([3], TensorProto.INT64), ([3, 48], TensorProto.FLOAT))
    for name, shape in (("t", dims), ("z", blocks))[: 2 if points else 1]:
        values = rng.integers(low, low + 16, shape).reshape(-1)
        model.graph.initializer.append(helper.make_tensor(name, dtype, shape, values))
    view = view_of(model, tmp_path)
    assert view is not None
    assert [each.op_type for each in view.graph.node] == ["Gather"]
    places = np.array([0, 31, 7])
    np.testing.assert_allclose(ran(model, places), ran(view, places), rtol=1e-6)


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_so_are_those_of_a_table_that_is_packed_in_bytes(
    bits: int, points: bool, tmp_path: Path
) -> None:
    rng = RNG(bits)
    in_a_byte = 8 // bits
    stored = {
        "t": rng.integers(0, 256, (32, 48 // in_a_byte), np.uint8),
        "s": rng.uniform(0.01, 0.1, (32, 3)).astype("f4"),
        "z": rng.integers(0, 256, (32, -(-3 // in_a_byte)), np.uint8),
    }
    names = ["t", "x", "s", "z"][: 4 if points else 3]
    node = helper.make_node(
        "GatherBlockQuantized", names, ["y"], domain=MICROSOFT, gather_axis=0, quantize_axis=1,
        block_size=16, bits=bits,
    )  # fmt: skip  # a call of many numbers
    model = _model([node], stored, ([3], TensorProto.INT64), ([3, 48], TensorProto.FLOAT))
    view = view_of(model, tmp_path)
    assert view is not None
    places = np.array([0, 31, 7])
    np.testing.assert_allclose(ran(model, places), ran(view, places), rtol=1e-6)


def _smaller(name: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        (tensor,) = (each for each in model.graph.initializer if each.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:-1], name))

    return change


def _attribute(name: str, value: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        (found,) = (each for each in model.graph.node[0].attribute if each.name == name)
        found.i = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _smaller("b"),
        _smaller("s"),
        _smaller("z"),
        _attribute("K", 0),
        _attribute("K", 2**60),
        _attribute("N", -1),
        _attribute("bits", 3),
        _attribute("bits", 0),
        _attribute("block_size", 0),
        _attribute("block_size", 2**62),
    ],
)
def test_sizes_that_lie_are_left_as_they_are(
    change: Callable[[ModelProto], None], tmp_path: Path
) -> None:
    model = one_product(points="packed")
    assert view_of(model, tmp_path) is not None
    change(model)
    assert view_of(model, tmp_path) is None


def test_an_order_that_names_no_block_is_left_as_it_is(tmp_path: Path) -> None:
    model = one_product(order=True)
    (order,) = (each for each in model.graph.initializer if each.name == "g")
    order.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(order) + 1, "g"))
    assert view_of(model, tmp_path) is None


def layers(change: Callable[[dict[str, Any], list[NodeProto]], None] | None = None) -> ModelProto:
    """Three dense layers, the first with a BatchNormalization behind it."""
    rng = RNG(3)
    sizes = (64, 96, 96, 10)
    stored: dict[str, Any] = {}
    nodes: list[NodeProto] = []
    value = "x"
    for at, (few, many) in enumerate(pairwise(sizes)):
        stored[f"w{at}"] = (rng.standard_normal((few, many)) * np.sqrt(2 / few)).astype("f4")
        stored[f"b{at}"] = (0.3 * rng.standard_normal(many)).astype("f4")
        nodes.append(helper.make_node("MatMul", [value, f"w{at}"], [f"m{at}"], f"dense{at}"))
        nodes.append(helper.make_node("Add", [f"m{at}", f"b{at}"], [f"a{at}"], f"bias{at}"))
        value = f"a{at}"
        if at == 0:
            for name in ("scale", "B", "mean", "var"):
                drawn = rng.standard_normal(many)
                stored[name] = (0.5 + np.abs(drawn) if name in ("scale", "var") else drawn).astype(
                    "f4"
                )
            given = [value, "scale", "B", "mean", "var"]
            nodes.append(helper.make_node("BatchNormalization", given, ["n"], "bn", epsilon=1e-3))
            value = "n"
        if at < 2:
            nodes.append(helper.make_node("Relu", [value], [f"r{at}"], f"relu{at}"))
            value = f"r{at}"
    if change is not None:
        change(stored, nodes)
    nodes[-1].output[0] = "y"
    return _model(nodes, stored, (["N", 64], TensorProto.FLOAT), (["N", 10], TensorProto.FLOAT))


def in_blocks(model: ModelProto, form: str) -> ModelProto:
    how, bits, symmetric = FORMS[form]
    config = DefaultWeightOnlyQuantConfig(
        block_size=32, is_symmetric=symmetric, bits=bits, quant_format=QuantFormat[how]
    )
    copy = ModelProto.FromString(model.SerializeToString())
    tool = MatMulNBitsQuantizer(copy, algo_config=config)
    tool.process()
    return tool.model.model


@cache
def plain() -> ModelProto:
    return layers()


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_in_blocks_agrees_on_either_side(form: str, compare: Compare) -> None:
    bits = FORMS[form][1]
    for seed in (0, 1):
        copy = in_blocks(plain(), form)
        for found in (compare(plain(), copy, seed=seed), compare(copy, plain(), seed=seed)):
            assert found.verdict is Verdict.AGREES, found.reason
            assert f"within int{bits} quantisation" in found.reason
            assert not found.causes
            assert {each.kind for each in found.harmless} <= {CauseKind.QUANTISATION}


def _no_relu(stored: dict[str, Any], nodes: list[NodeProto]) -> None:
    (relu,) = (each for each in nodes if each.name == "relu1")
    relu.op_type = "Identity"


def _bias(stored: dict[str, Any], nodes: list[NodeProto]) -> None:
    stored["b2"][3] += 5.0


def _epsilon(stored: dict[str, Any], nodes: list[NodeProto]) -> None:
    (norm,) = (each for each in nodes if each.op_type == "BatchNormalization")
    norm.attribute[0].f = 5.0


def _turned(stored: dict[str, Any], nodes: list[NodeProto]) -> None:
    stored["w1"] = np.ascontiguousarray(stored["w1"].T)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (_no_relu, CauseKind.MISSING),
        (_bias, CauseKind.PARAMETER),
        (_epsilon, CauseKind.EPSILON),
        (_turned, CauseKind.PARAMETER),
    ],
)
def test_a_fault_in_such_a_copy_is_named(
    fault: Callable[[dict[str, Any], list[NodeProto]], None],
    kind: CauseKind,
    form: str,
    compare: Compare,
) -> None:
    found = compare(plain(), in_blocks(layers(fault), form))
    assert found.verdict is Verdict.DIFFERENT, found.reason
    assert found.causes[0].kind is kind, found.causes


def test_names_of_real_weights_may_be_there_already(compare: Compare) -> None:
    """Of two tensors of one name, the wrong one would be held against the other side's."""
    rng = np.random.default_rng(7)
    stored = {
        "b": rng.integers(0, 255, (16, 1, 16)).astype(np.uint8),
        "b_real": rng.standard_normal((32, 16)).astype(np.float32),
        "s": rng.uniform(0.1, 1, 16).astype(np.float32),
        "r": rng.uniform(0.1, 1, 16).astype(np.float32),
        "t": rng.uniform(0.1, 1, 16).astype(np.float32),
    }

    def net(**other: np.ndarray) -> ModelProto:
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 17, "{MICROSOFT}" : 1]>
            g (float[N, 32] x) => (float[N, 16] y) {{
                l = MatMul(x, b_real)
                m = {MICROSOFT}.MatMulNBits<K = 32, N = 16, bits = 4, block_size = 32>(x, b, s)
                n = {MICROSOFT}.MatMulNBits<K = 32, N = 16, bits = 4, block_size = 32>(x, b, r)
                o = {MICROSOFT}.MatMulNBits<K = 32, N = 16, bits = 4, block_size = 32>(x, b, t)
                p = Relu(m)
                q = Abs(n)
                y = Sum(l, p, q, o)
            }}"""
        )
        for name, values in {**stored, **other}.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        return model

    found = compare(net(), net(r=stored["r"] * 4))
    assert found.verdict is Verdict.DIFFERENT
    assert [(each.what, each.left_where) for each in found.causes] == [("kernel", "Dense 'n'")]
    assert not found.harmless
