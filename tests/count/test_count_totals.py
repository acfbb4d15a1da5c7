"""Counts with answers known beforehand, and the identities that always hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_text import FEW, parsed

from inspector.count import count_parameters
from inspector.facts.count import Count, Role
from inspector.facts.manifest import (
    FrameworkTotals,
    Manifest,
    SourceTensor,
)
from inspector.read.open import open_model
from inspector.recognise import find_batchnorms


@pytest.fixture
def count(onnx_file):
    def run(model, manifest: Manifest | None = None) -> Count:
        opened = open_model(onnx_file(model))
        return holds(count_parameters(opened, find_batchnorms(opened), manifest))

    return run


def holds(count: Count) -> Count:
    """The identities that tie one count to every convention."""
    parts = count.learned, count.statistics, count.constants, count.unknown
    assert sum(parts) == count.onnx.elements + count.merged
    assert count.merged == sum(len(each.again) * each.tensor.elements for each in count.tensors)
    assert count.onnx.elements == sum(each.tensor.elements for each in count.tensors)
    assert count.onnx.tensors == len(count.tensors)
    assert count.onnx.float_initializer_elements <= count.onnx.elements
    assert count.keras.total == count.keras.trainable + count.keras.non_trainable
    assert count.keras.total == count.torch.parameters + count.torch.buffers
    assert count.torch.parameters == count.learned + count.beyond.learned
    assert count.torch.buffers == count.statistics + count.beyond.statistics
    assert all(each.why for each in count.tensors)
    return count


def role(count: Count, name: str) -> Role:
    (found,) = {each.role for each in count.tensors if each.tensor.name == name}
    return found


# Conv2D(3, 3×3) on 2 channels, BatchNorm, Dense(4) on 5: Keras says 57 + 12 + 24.
NET = """agraph (float[N, 2, 3, 3] x) => (float[N, 4] y)
<float[3, 2, 3, 3] w, float[3] wb, float[3] s, float[3] b, float[3] m, float[3] v,
 float[5, 4] d, float[4] db, int64[2] shape>
{ c = Conv (x, w, wb)
  n = BatchNormalization (c, s, b, m, v)
  f = Reshape (n, shape)
  p = MatMul (f, d)
  y = Add (p, db) }"""


def test_a_network_of_three_layers(count):
    found = count(NET)
    assert (found.keras.total, found.keras.trainable, found.keras.non_trainable) == (93, 87, 6)
    assert (found.torch.parameters, found.torch.buffers) == (87, 6)
    assert found.torch.num_batches_tracked == 1
    assert found.constants == 2
    assert found.unknown == 0
    assert found.onnx.float_initializer_elements == 93
    assert found.onnx.elements == 95


def test_gemm_instead_of_matmul_and_add_counts_the_same(count):
    other = NET.replace("p = MatMul (f, d)\n  y = Add (p, db)", "y = Gemm (f, d, db)")
    assert other != NET
    assert count(other).keras == count(NET).keras


def test_constants_instead_of_initializers_count_the_same(count):
    proto = parsed(NET)
    stored = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    for tensor in reversed(stored):
        proto.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    found = count(proto)
    assert found.keras == count(NET).keras
    assert found.torch == count(NET).torch
    assert found.onnx.float_initializer_elements == 0


def test_a_layer_called_twice_is_one_layer(count):
    found = count(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
        {{ h = BatchNormalization (x, s, b, m, v)
           y = BatchNormalization (h, s, b, m, v) }}"""
    )
    assert found.torch.num_batches_tracked == 1
    assert found.keras.total == 8


def test_a_tensor_in_several_roles_counts_in_each_and_the_exporter_is_named(count):
    found = count(
        """agraph (float[N, 2] x) => (float[N, 2] y) <float[2] one, float[2] zero>
        { y = BatchNormalization (x, one, zero, zero, one) }"""
    )
    assert (found.keras.total, found.onnx.elements, found.merged) == (8, 4, 4)
    assert (found.learned, found.statistics) == (4, 4)
    assert any("the exporter merged equal tensors: 2 tensors" in each for each in found.notes)


@pytest.mark.parametrize(
    "through",
    [
        "u = Identity (w)",
        "u = Cast <to = 1> (w)",
        "u = Transpose <perm = [1, 0]> (w)",
        "k = Cast <to = 10> (w) u = Cast <to = 1> (k)",
        "u = Concat <axis = 0> (x, w)",
    ],
)
def test_weights_are_followed_through_operators_that_move_them(through, count):
    found = count(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w>
        {{ {through}
           y = MatMul (x, u) }}"""
    )
    assert role(found, "w") is Role.LEARNED


QUANTISED = """agraph (float[N, 2, H, W] x) => (float[N, 3, H, W] y)
<int8[3, 2, 1, 1] w, float[3] ws, int8[3] wz, int32[3] bias, float[3] bs, int64[1] axes>
{ u = DequantizeLinear <axis = 0> (w, ws, wz)
  k = DequantizeLinear <axis = 0> (bias, bs)
  c = Conv (x, u, k)
  y = Unsqueeze (c, axes) }"""


def test_quantised_weights_are_learned_and_their_scales_are_not(count):
    found = count(QUANTISED)
    assert role(found, "w") is role(found, "bias") is Role.LEARNED
    for name in ("ws", "wz", "bs", "axes"):
        assert role(found, name) is Role.CONSTANT, name
    assert (found.learned, found.constants) == (9, 10)


def test_shapes_and_sizes_are_constants(count):
    found = count(
        """agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
        <float[0] roi, float[4] scales, float one = {1.0}, float[1] value>
        { r = Resize (x, roi, scales)
          y = Mul (r, one) }"""
    )
    assert role(found, "scales") is role(found, "one") is Role.CONSTANT
    assert (found.learned, found.statistics) == (0, 0)
    assert {each.why for each in found.tensors if each.tensor.name == "value"} == {
        "no operator uses it"
    }


def test_what_is_multiplied_in_has_no_role_that_is_known(count):
    found = count(
        """agraph (float[N, 2] x) => (float[N, 2] y) <float[2] a>
        { y = Mul (x, a) }"""
    )
    assert (found.unknown, found.keras.total) == (2, 0)


def test_a_tensor_that_is_an_output_says_so(count):
    found = count("agraph (float[N, 2] x) => (float[2] a) <float[2] a> {}")
    assert [each.why for each in found.tensors] == ["it is an output"]


def test_the_attribute_of_an_operator_is_a_constant(count):
    found = count(
        """agraph (int64[1] n) => (float[N] y)
        { y = ConstantOfShape <value = float[1] {0.5}> (n) }"""
    )
    assert [each.why for each in found.tensors] == ["attribute value of ConstantOfShape"]
    assert found.constants == 1


FUNCTION = """<ir_version: 8, opset_import: ["": 17, "my": 1]>
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2, 2] w, float[2] s, float[2] b, float[2] m, float[2] v>
{ h = my.layer (x, w, s, b, m, v)
  y = my.layer (h, w, s, b, m, v) }
<domain: "my", opset_import: ["": 17, "my": 1]>
layer (x, w, s, b, m, v) => (y)
{ y = my.inner (x, w, s, b, m, v) }
<domain: "my", opset_import: ["": 17]>
inner (x, w, s, b, m, v) => (y)
{ half = Constant <value = float[2] {0.5, 0.5}> ()
  p = MatMul (x, w)
  q = Mul (p, half)
  y = BatchNormalization (q, s, b, m, v) }
"""


def test_arguments_are_followed_into_functions(count):
    found = count(FUNCTION)
    assert (found.learned, found.statistics, found.unknown) == (8, 4, 2)
    assert found.torch.num_batches_tracked == 1


def test_a_function_that_calls_itself_is_followed_once(onnx_file):
    proto = parsed(FUNCTION)
    proto.functions[1].node.append(
        helper.make_node("layer", list("xwsbmv"), ["again"], domain="my")
    )
    model = open_model(onnx_file(proto))
    from inspector.facts.batchnorm import Norms

    found = holds(count_parameters(model, Norms(batchnorms=())))
    assert found.learned == 8


def test_tensors_of_subgraphs_count_too(count):
    found = count(
        f"""agraph (float[N, 2] x, bool c) => (float[N, 2] y) {FEW}
        {{ y = If (c) <
             then_branch = yes () => (float[N, 2] t) <float[2] v2 = {{4.0, 4.0}}>
               {{ t = BatchNormalization (x, s, b, m, v2) }},
             else_branch = no () => (float[N, 2] e)
               {{ e = BatchNormalization (x, s, b, m, v) }}
           > }}"""
    )
    assert (found.learned, found.statistics) == (4, 6)
    assert found.torch.num_batches_tracked == 2
    assert {each.scope for each in found.tensors} == {(), ("y.then_branch",)}


def manifest(*tensors: SourceTensor, trainable: int = 87, other: int = 6) -> Manifest:
    return Manifest(
        tool="bninspect 0",
        framework="keras",
        framework_version="3",
        exporter="tf2onnx",
        tensors=tensors,
        batchnorms=(),
        not_exported=(),
        totals=FrameworkTotals(trainable=trainable, other=other),
        verification=None,
    )


def test_a_manifest_names_the_roles_and_is_held_against_the_graph(count):
    right = SourceTensor(name="w", source="conv/kernel", role=Role.LEARNED)
    found = count(NET, manifest(right))
    assert found.notes == ()
    assert {each.why for each in found.tensors if each.tensor.name == "w"} == {
        "conv/kernel in the framework"
    }
    wrong = SourceTensor(name="m", source="bn/gamma", role=Role.LEARNED)
    found = count(NET, manifest(wrong, trainable=90, other=3))
    assert len(found.notes) == 1
    assert "'m' learned, but it is statistic by its use" in found.notes[0]
    found = count(NET, manifest(trainable=100, other=0))
    assert found.notes == (
        "Keras counted 100 when this was exported, and the file holds 93 of them",
    )
    assert (found.keras.total, found.keras.trainable) == (100, 100)


def test_a_tensor_the_export_had_to_write_is_no_parameter(count):
    written = SourceTensor(name="s", source="", role=Role.LEARNED, synthetic=True)
    found = count(NET, manifest(written, trainable=84))
    assert found.notes == ()
    assert found.keras.total == 90


def test_a_single_bias_and_a_single_number(count):
    found = count(
        """agraph (float[N, 2] x) => (float[N, 1] y)
        <float[2, 1] w, float[1] bias, float half = {0.5}>
        { p = MatMul (x, w)
          q = Add (p, bias)
          y = Mul (q, half) }"""
    )
    assert role(found, "bias") is Role.LEARNED
    assert role(found, "half") is Role.CONSTANT


def test_large_dims_are_counted_without_their_values(count):
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**62, 2**62])
    huge.data_location = TensorProto.EXTERNAL
    huge.external_data.add(key="location", value="not_there.bin")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [], [], initializer=[huge])
    assert count(helper.make_model(graph)).learned == 2**124


def test_the_corpus(corpus: Path, corpus_rows):
    seen = 0
    for row in corpus_rows:
        if row["load"] == "ok":
            model = open_model(corpus / row["file"])
            holds(count_parameters(model, find_batchnorms(model)))
            seen += 1
    assert seen > 200


def test_types_are_counted_by_elements(count):
    proto = parsed(NET)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = np.zeros(tuple(tensor.dims), np.float16)
            tensor.CopyFrom(helper.make_tensor(tensor.name, 10, tensor.dims, values))
    assert count(proto).keras == count(NET).keras


TIED = """agraph (int64[N, 4] ids) => (float[N, 4, 3] y)
<float[3, 2] table = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, float[2, 3] COPY = {VALUES}>
{ e = Gather (table, ids)
  y = MatMul (e, COPY) }"""


@pytest.mark.parametrize(
    ("name", "values", "total"),
    [
        ("val_7", "1.0, 3.0, 5.0, 2.0, 4.0, 6.0", 6),
        ("val_7", "1.0, 3.0, 5.0, 2.0, 4.0, 6.5", 12),
        ("val_7", "1.0, 2.0, 3.0, 4.0, 5.0, 6.0", 12),
        ("head.weight", "1.0, 3.0, 5.0, 2.0, 4.0, 6.0", 12),
    ],
    ids=["the same, transposed", "one value off", "not transposed", "a parameter of its own"],
)
def test_tied_weights_that_are_stored_again_count_once(count, name, values, total):
    safe = name.replace(".", "_")
    found = count(TIED.replace("COPY", safe).replace("VALUES", values))
    assert found.keras.total == total
    told = any("tied weights that the exporter stores again" in each for each in found.notes)
    assert told is (total == 6)


def recurrent(op: str, gates: int, second: str, *attributes: str, producer: str) -> str:
    """A recurrent layer of 2 units over 3 features, whose second bias begins with `second`."""
    size = 2 * gates
    rest = ", ".join(["0"] * (size - 1))
    first = ", ".join(map(str, range(1, size + 1)))
    kept = ", ".join(("hidden_size: int = 2", *attributes))
    return f"""<ir_version: 8, opset_import: ["": 17], producer_name: "{producer}">
agraph (float[5, N, 3] x) => (float[5, 1, N, 2] y)
<float[1, {size}, 3] w, float[1, {size}, 2] r,
 float[1, {2 * size}] b = {{{first}, {second}, {rest}}}>
{{ y = {op} <{kept}> (x, w, r, b) }}"""


@pytest.mark.parametrize(
    ("model", "biases"),
    [
        (recurrent("LSTM", 4, "0", producer="tf2onnx"), 8),
        (recurrent("RNN", 1, "0", producer="tf2onnx"), 2),
        (recurrent("GRU", 3, "0", producer="tf2onnx"), 6),
        # reset_after: Keras itself has two.
        (recurrent("GRU", 3, "0", "linear_before_reset: int = 1", producer="tf2onnx"), 12),
        # What is not zero somebody has learned, and PyTorch always has two.
        (recurrent("LSTM", 4, "1", producer="tf2onnx"), 16),
        (recurrent("LSTM", 4, "0", producer="pytorch"), 16),
    ],
    ids=["LSTM", "RNN", "GRU", "GRU reset_after", "learned", "PyTorch"],
)
def test_the_second_bias_of_a_recurrent_layer(count, model, biases):
    """ONNX asks for two biases in a row; Keras' layers have one, and zeros stand for the other."""
    found = count(model)
    (bias,) = [each for each in found.tensors if each.value == "b"]
    assert bias.elements == biases
    assert bias.elements + bias.padding == bias.tensor.elements
    others = sum(each.tensor.elements for each in found.tensors if each.value in ("w", "r"))
    assert found.learned == found.keras.total == others + biases
    assert found.constants == bias.padding


def test_the_bias_behind_a_product_of_integers(count):
    """As dynamic quantisation writes it: scaled between the product and the bias."""
    found = count("""<ir_version: 8, opset_import: ["": 17]>
agraph (float[N, 4] x) => (float[N, 3] y)
<uint8[4, 3] w, uint8 zero, float scale = {0.5}, float[3] bias = {1, 2, 3}>
{ q, s, z = DynamicQuantizeLinear (x)
  p = MatMulInteger (q, w, z, zero)
  f = Cast <to: int = 1> (p)
  t = Mul (s, scale)
  r = Mul (f, t)
  y = Add (bias, r) }""")
    assert role(found, "bias") is Role.LEARNED
    assert found.learned == 12 + 3
