"""Quantised models that are broken: left as they are, so that the runtime says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from inspector.errors import UnreadableError
from inspector.facts.comparison import Verdict
from inspector.read.open import open_model
from inspector.write.dequantise import dequantised
from inspector.write.patch import patched
from tests.compare.conftest import Compare
from tests.compare.test_quantised import OPERATORS, RNG

DYNAMIC = """
    <ir_version: 8, opset_import: ["" : 17]> g (float[N, 8] x) => (float[N, 5] y)
    <float ws = {0.01}, uint8 wz = {120}> {
        q, s, z = DynamicQuantizeLinear(x)
        h = MatMulInteger(q, w, z, wz)
        f = Cast<to = 1>(h)
        ss = Mul(s, ws)
        y = Mul(f, ss)
    }"""
WEIGHTS = """
    <ir_version: 8, opset_import: ["" : 17]> g (float[N, 8] x) => (float[N, 5] y)
    <float xs = {0.05}, uint8 xz = {0}> {
        q = QuantizeLinear(x, xs, xz)
        d = DequantizeLinear(q, xs, xz)
        r = Relu(d)
        m = MaxPool<kernel_shape = [1]>(r)
        a = Add(m, r)
        v = DequantizeLinear<axis = 1>(w, ws, wz)
        y = MatMul(a, v)
    }"""


def _text(source: str, **stored: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(source)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in stored.items()
    )
    return model


def weights() -> onnx.ModelProto:
    return _text(
        WEIGHTS,
        w=RNG.integers(-127, 128, (8, 5), np.int8),
        ws=np.full(5, 0.01, np.float32),
        wz=np.zeros(5, np.int8),
    )


MODELS = {
    **OPERATORS,
    "dynamic": _text(DYNAMIC, w=RNG.integers(0, 256, (8, 5), np.uint8)),
    "weights": weights(),
}


def _broken_nodes(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Every node without its last inputs or outputs, and with each of them left empty."""
    for at, node in enumerate(model.graph.node):
        for field in ("input", "output"):
            for place in range(len(getattr(node, field))):
                for rest in ([], ["", *getattr(node, field)[place + 1 :]]):
                    copy = onnx.ModelProto()
                    copy.CopyFrom(model)
                    names = getattr(copy.graph.node[at], field)
                    names[:] = [*names[:place], *rest]
                    yield copy


def _broken_attributes(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    made = [
        AttributeProto(name="axis", i=9, type=AttributeProto.INT),
        AttributeProto(name="axis", i=-(2**63), type=AttributeProto.INT),
        AttributeProto(name="alpha", s=b"no", type=AttributeProto.STRING),
        AttributeProto(name="pads", type=AttributeProto.INTS),
    ]
    for at, node in enumerate(model.graph.node):
        for each in made:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            kept = [own for own in node.attribute if own.name != each.name]
            del copy.graph.node[at].attribute[:]
            copy.graph.node[at].attribute.extend([*kept, each])
            yield copy


def _broken_tensors(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Every stored tensor of another type, other dims, or with less data than it has."""
    strange = [
        numpy_helper.from_array(np.zeros((3, 2), np.float32)),
        numpy_helper.from_array(np.zeros((0,), np.float32)),
        numpy_helper.from_array(np.zeros((7,), np.int64)),
        helper.make_tensor("t", TensorProto.STRING, [2], [b"a", b"b"]),
        helper.make_tensor("t", TensorProto.INT4, [2], [1, 2]),
        helper.make_tensor("t", TensorProto.FLOAT8E4M3FN, [2], [1.0, 2.0]),
        TensorProto(data_type=TensorProto.FLOAT, dims=[5]),
        TensorProto(data_type=99, dims=[1], raw_data=b"abcd"),
        TensorProto(data_type=TensorProto.FLOAT, dims=[-1], raw_data=b"abcd"),
    ]
    for at, tensor in enumerate(model.graph.initializer):
        for each in strange:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            copy.graph.initializer[at].CopyFrom(each)
            copy.graph.initializer[at].name = tensor.name
            yield copy


@pytest.mark.parametrize("broken", [_broken_nodes, _broken_attributes, _broken_tensors])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_left_as_it_is_or_one_line_says_why(
    name: str, broken: Callable[[onnx.ModelProto], Iterator[onnx.ModelProto]], tmp_path: Path
) -> None:
    assert dequantised(_opened(MODELS[name], tmp_path)) is not None
    for copy in broken(MODELS[name]):
        with suppress(UnreadableError):  # which is one line, and exit 3
            dequantised(_opened(copy, tmp_path))


def _opened(model: onnx.ModelProto, folder: Path) -> object:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return open_model(path)


def _without_inputs(node: NodeProto) -> None:
    del node.input[:]


def _far_axis(node: NodeProto) -> None:
    if node.op_type == "DequantizeLinear" and node.input[0] == "w":
        node.attribute[0].i = 9


@pytest.mark.parametrize(
    ("at", "change"),
    [*((at, _without_inputs) for at in range(6)), (5, _far_axis)],
)
def test_it_is_undecided_for_the_runtimes_reason(
    at: int, change: Callable[[NodeProto], None], compare: Compare
) -> None:
    wrong = weights()
    change(wrong.graph.node[at])
    for found in (compare(weights(), wrong), compare(wrong, weights())):
        assert found.verdict is Verdict.UNDECIDED
        assert "ONNX Runtime" in found.reason


def test_numbers_of_four_bits_have_zero_points(tmp_path: Path) -> None:
    """What is stored in four bits is an integer, though NumPy does not know its kind."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]> g (float[N, 4] x) => (float[N, 4] y)
        <float s = {0.5}> {
            v = DequantizeLinear(w, s, z)
            y = Mul(x, v)
        }"""
    )
    for name, dims, values in (("w", [4], [0, 3, 8, 15]), ("z", [], [8])):
        made = helper.make_tensor(name, TensorProto.UINT4, dims, values)
        model.graph.initializer.append(made)
    found = dequantised(_opened(model, tmp_path))
    assert found is not None
    (real,) = (each for each in found.model.weights.proto.graph.initializer if each.name == "v")
    assert numpy_helper.to_array(real).tolist() == [-4.0, -2.5, 0.0, 3.5]
    # What lies at the ends of four bits may have been cut off there, by up to a whole step.
    assert found.steps["v"].tolist() == [1.0, 0.5, 0.5, 1.0]


def test_what_a_subgraph_reads_stays(tmp_path: Path) -> None:
    inner = [
        helper.make_graph(
            [helper.make_node("Mul", ["d", "k"], ["o"])],
            "branch",
            [],
            [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
        )
        for _ in range(2)
    ]
    model = _text(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x, bool c) => (float[N, 4] y)
        <float xs = {0.05}, uint8 xz = {128}, float k = {2}> {
            q = QuantizeLinear(x, xs, xz)
            d = DequantizeLinear(q, xs, xz)
        }"""
    )
    model.graph.node.append(
        helper.make_node("If", ["c"], ["y"], then_branch=inner[0], else_branch=inner[1])
    )
    found = dequantised(_opened(model, tmp_path))
    assert found is not None
    onnx.checker.check_model(onnx.load_from_string(patched(found.model, ()).data))
