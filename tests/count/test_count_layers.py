"""Nodes put together again into layers: whose they are, what they are, and what they give."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_text import FEW, parsed

from inspector.errors import InspectorError
from inspector.facts.count import Role
from inspector.facts.manifest import (
    KEY,
    FrameworkTotals,
    Manifest,
    NotExported,
    SourceLayer,
    SourceTensor,
)
from inspector.facts.summary import Layout, Source, Summary
from inspector.flows import summarise_file, summary_table

STYLES = ("keras", "torch", "onnx")


@pytest.fixture
def summary(onnx_file) -> Callable[..., Summary]:
    def run(model) -> Summary:
        return holds(summarise_file(onnx_file(model)))

    return run


def holds(found: Summary) -> Summary:
    """Rows and nodes add up to the one count, in every style."""
    count = found.count
    assert sum(row.learned for row in found.rows) == count.torch.parameters
    assert sum(row.statistics for row in found.rows) == count.torch.buffers
    assert sum(row.unknown for row in found.rows) == count.unknown
    for style in STYLES:
        made = summary_table(found, style)
        total = made.totals[0][1]
        assert sum(row[-1] for row in made.rows) == total, style
        assert all(len(row) == len(made.columns) for row in made.rows)
    labels = [label for row in found.rows for label in row.nodes]
    assert len(labels) == len(set(labels)), "a node is in two rows"
    return found


def kinds(found: Summary) -> list[tuple[str, str]]:
    return [(row.name, row.kind) for row in found.rows]


def sizes(found: Summary) -> list[int]:
    return [row.learned + row.statistics for row in found.rows]


def slashed(text: str) -> onnx.ModelProto:
    """A model whose names have ``_S_`` for slashes, ``_D_`` for dots and ``_C_`` for colons."""

    def real(name: str) -> str:
        return name.replace("_S_", "/").replace("_D_", ".").replace("_C_", ":")

    proto = parsed(text)
    for node in proto.graph.node:
        node.name = real(node.name)
        node.input[:] = map(real, node.input)
        node.output[:] = map(real, node.output)
    for named in (*proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        named.name = real(named.name)
    return proto


def shapes(found: Summary, style: str) -> list[object]:
    return [row[2] for row in summary_table(found, style).rows]


# From the graph alone.

DENSE = "<float[3, 4] w, float[4] b = {1, 2, 3, 4}>"


@pytest.mark.parametrize("add", ["Add (h, b)", "Add (b, h)"])
def test_a_bias_added_to_a_matmul_is_part_of_it(add, summary):
    found = summary(
        f"agraph (float[N, 3] x) => (float[N, 4] y) {DENSE} {{ h = MatMul (x, w) y = {add} }}"
    )
    assert kinds(found) == [("", "Linear")]
    assert sizes(found) == [16]
    assert found.source is Source.GRAPH


def test_a_bias_added_to_a_conv_is_part_of_it_even_behind_moves(summary):
    found = summary(
        """agraph (float[N, 2, 8, 8] x) => (float[N, 8, 8, 4] y)
        <float[4, 2, 1, 1] w, float[4] b = {1, 2, 3, 4}>
        { c = Conv (x, w) t = Transpose <perm = [0, 2, 3, 1]> (c) y = Add (t, b) }"""
    )
    assert kinds(found) == [("", "Conv")]
    assert sizes(found) == [12]
    assert found.rows[0].layout is Layout.LAST


def test_an_addition_that_two_nodes_read_from_is_no_bias(summary):
    found = summary(
        """agraph (float[N, 2, 8, 8] x) => (float[N, 4, 8, 8] y)
        <float[4, 2, 1, 1] w, float[4, 1, 1] b = {1, 2, 3, 4}>
        { c = Conv (x, w) a = Add (c, b) y = Mul (a, c) }"""
    )
    assert [kind for _, kind in kinds(found)] == ["Conv", "Add", "Mul"]


@pytest.mark.parametrize("mul", ["Mul (x, s)", "Mul (s, x)"])
def test_a_gate_is_one_activation(mul, summary):
    found = summary(f"agraph (float[N, 4] x) => (float[N, 4] y) {{ s = Sigmoid (x) y = {mul} }}")
    assert [(row.kind, row.keras, row.torch) for row in found.rows] == [
        ("Silu", "Activation", "SiLU")
    ]


def test_a_hard_gate_is_hard_swish(summary):
    found = summary(
        "agraph (float[N, 4] x) => (float[N, 4] y) { s = HardSigmoid (x) y = Mul (s, x) }"
    )
    assert [row.torch for row in found.rows] == ["Hardswish"]


def test_a_gate_on_something_else_is_two_layers(summary):
    found = summary(
        "agraph (float[N, 4] x, float[N, 4] z) => (float[N, 4] y) "
        "{ s = Sigmoid (x) y = Mul (s, z) }"
    )
    assert [row.kind for row in found.rows] == ["Sigmoid", "Mul"]


ARITHMETIC = """agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
<float[2, 1, 1] s = {1, 2}, float[2, 1, 1] b = {3, 4}, float[2, 1, 1] m = {5, 6},
 float[2, 1, 1] v = {7, 8}, float e = {0.001}>
{ d = Sub (x, m) u = Add (v, e) q = Sqrt (u) i = Div (d, q) k = Mul (i, s) n = Add (k, b)
  y = Relu (n) }"""


def test_a_batchnorm_in_arithmetic_is_one_row(summary):
    found = summary(ARITHMETIC)
    assert [row.kind for row in found.rows] == ["BatchNormalization", "Relu"]
    norm = found.rows[0]
    assert (norm.learned, norm.statistics, norm.torch) == (4, 4, "BatchNorm2d")
    assert set(norm.nodes) >= {"d", "i", "k", "n"}


FLATTENED = """agraph (float[N, 4, 3, 5] x) => (float[N, 60] y)
<int64[1] zero = {0}, int64[1] rest = {-1}>
{ t = Transpose <perm = [0, 2, 3, 1]> (r)
  r = Relu (x)
  s = Shape (t)
  g = Gather <axis = 0> (s, zero)
  c = Concat <axis = 0> (g, rest)
  y = Reshape (t, c) }"""


def test_a_flatten_in_five_nodes_is_one_row(summary):
    found = summary(FLATTENED)
    assert [(row.kind, row.keras) for row in found.rows] == [
        ("Relu", "ReLU"), ("Flatten", "Flatten")
    ]  # fmt: skip
    assert sum(row[-1] for row in summary_table(found, "keras").rows) == 0


def test_a_flatten_by_its_own_operator_and_by_a_reshape(summary):
    graph = "agraph (float[N, 2, 3] x) => (float[N, 6] y)"
    for text in ("{ y = Flatten (x) }", "<int64[2] s = {0, -1}> { y = Reshape (x, s) }"):
        found = summary(f"{graph} {text}")
        assert [row.kind for row in found.rows] == ["Flatten"]


def test_a_reshape_to_more_axes_is_a_reshape(summary):
    found = summary(
        """agraph (float[N, 6] x) => (float[N, 2, 3] y) <int64[3] s = {0, 2, 3}>
        { y = Reshape (x, s) }"""
    )
    assert [(row.kind, row.torch) for row in found.rows] == [("Reshape", "Unflatten")]


def test_moves_that_change_the_layout_alone_are_hidden(summary):
    found = summary(
        """agraph (float[N, 8, 8, 2] x) => (float[N, 8, 8, 4] y) <float[4, 2, 1, 1] w>
        { a = Transpose <perm = [0, 3, 1, 2]> (x)
          c = Conv (a, w)
          r = Relu (c)
          y = Transpose <perm = [0, 2, 3, 1]> (r) }"""
    )
    assert [row.kind for row in found.rows] == ["Conv", "Relu"]
    assert shapes(found, "keras") == [(None, 8, 8, 2), (None, 8, 8, 4), (None, 8, 8, 4)]
    assert shapes(found, "torch") == [(-1, 4, 8, 8), (-1, 4, 8, 8)]


FIRST = """agraph (float[N, 2, 8, 6] x) => (float[N, 4] y) <float[4, 2, 1, 1] w>
{ c = Conv (x, w) r = Relu (c) p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
  g = GlobalAveragePool (p) y = Flatten (g) }"""


def test_channels_last_from_a_graph_that_has_them_first(summary):
    found = summary(FIRST)
    assert shapes(found, "keras") == [
        (None, 8, 6, 2), (None, 8, 6, 4), (None, 8, 6, 4), (None, 4, 3, 4), (None, 1, 1, 4),
        (None, 4),
    ]  # fmt: skip
    assert shapes(found, "torch") == [
        (-1, 4, 8, 6), (-1, 4, 8, 6), (-1, 4, 4, 3), (-1, 4, 1, 1), (-1, 4)
    ]  # fmt: skip
    assert found.inputs[0].layout is Layout.FIRST


def test_channels_first_from_a_graph_that_has_them_last(summary):
    found = summary(
        """agraph (float[N, 8, 6, 2] x) => (float[N, 8, 6, 4] y)
        <float[4, 2, 1, 1] w, float[4] slope = {1, 2, 3, 4}>
        { a = Transpose <perm = [0, 3, 1, 2]> (x)
          c = Conv (a, w)
          l = Transpose <perm = [0, 2, 3, 1]> (c)
          p = PRelu (l, slope)
          y = Sigmoid (p) }"""
    )
    assert found.inputs[0].layout is Layout.LAST
    assert shapes(found, "torch") == [(-1, 4, 8, 6)] * 3
    assert shapes(found, "keras") == [(None, 8, 6, 2), *[(None, 8, 6, 4)] * 3]
    assert dict(summary_table(found, "torch").totals)["Input size (MB)"] == 96 * 4 / 1024**2


@pytest.mark.parametrize(("dims", "spatial"), [("8", 1), ("8, 8", 2), ("8, 8, 8", 3)])
def test_classes_have_as_many_axes_as_the_data(dims, spatial, summary):
    ones = ", ".join("1" * spatial)
    found = summary(
        f"""agraph (float[N, 2, {dims}] x) => (float[N, 2, {dims}] y)
        <float[2, 2, {ones}] w, {FEW[1:]} {{ c = Conv (x, w)
        y = BatchNormalization (c, s, b, m, v) }}"""
    )
    assert [row.torch for row in found.rows] == [f"Conv{spatial}d", f"BatchNorm{spatial}d"]
    assert [row.keras for row in found.rows] == [f"Conv{spatial}D", "BatchNormalization"]


def test_classes_of_special_convolutions_and_lookups(summary):
    found = summary(
        """agraph (int64[N, 5] x, float[N, 4, 8, 8] z) => (float[N, 5, 3] y, float[N, 2, 8, 8] u)
        <float[7, 3] table, float[4, 1, 1, 1] depth, float[4, 2, 1, 1] up>
        { y = Gather (table, x)
          d = Conv <group = 4> (z, depth)
          u = ConvTranspose (d, up) }"""
    )
    assert [(row.keras, row.torch) for row in found.rows] == [
        ("Embedding", "Embedding"),
        ("DepthwiseConv2D", "Conv2d"),
        ("Conv2DTranspose", "ConvTranspose2d"),
    ]


def test_a_product_of_data_is_no_dense(summary):
    found = summary(
        """agraph (float[N, 3, 4] x, float[N, 4, 3] z) => (float[N, 3, 3] y)
        { y = MatMul (x, z) }"""
    )
    assert [(row.kind, row.keras) for row in found.rows] == [("MatMul", "Dot")]


def test_names_are_made_up_as_keras_does(summary):
    found = summary(
        """agraph (float[N, 3] x) => (float[N, 3] y)
        <float[3, 3] a, float[3, 3] b, float[3, 3] c>
        { h = MatMul (x, a) i = MatMul (h, b) j = Relu (i) y = MatMul (j, c) }"""
    )
    names = [row[0] for row in summary_table(found, "keras").rows]
    assert names == ["x", "dense", "dense_1", "re_lu", "dense_2"]


# By names.

TENSORFLOW = """<ir_version: 8, opset_import: ["": 17], producer_name: "tf2onnx">
agraph (float[N, 8, 8, 2] x) => (float[N, 3] y)
<float[4, 2, 1, 1] w, float[4] wb = {1, 2, 3, 4}, float[4] s = {1, 2, 3, 4},
 float[4] b = {1, 2, 3, 4}, float[4] m = {1, 2, 3, 4}, float[4] v = {1, 2, 3, 4},
 int64[2] flat = {-1, 256}, float[256, 3] d, float[3] db = {1, 2, 3}>
{ [net_S_conv_S_Conv2D__6] t = Transpose <perm = [0, 3, 1, 2]> (x)
  [net_S_conv_S_Conv2D] c = Conv (t, w, wb)
  [net_S_conv_S_Relu] r = Relu (c)
  [net_S_norm_S_FusedBatchNormV3] n = BatchNormalization (r, s, b, m, v)
  [net_S_flat_S_Reshape__9] u = Transpose <perm = [0, 2, 3, 1]> (n)
  [net_S_flat_S_Reshape] f = Reshape (u, flat)
  [net_S_head_S_MatMul] h = MatMul (f, d)
  [net_S_head_S_BiasAdd] g = Add (h, db)
  [net_S_head_S_Softmax] y = Softmax (g) }"""


def test_scopes_of_tensorflow(summary):
    found = summary(slashed(TENSORFLOW))
    assert found.source is Source.NAMES
    assert found.framework == "keras"
    assert kinds(found) == [
        ("conv", "Conv"), ("", "Relu"), ("norm", "BatchNormalization"), ("flat", "Flatten"),
        ("head", "Linear"), ("", "Softmax"),
    ]  # fmt: skip
    assert [row.fused for row in found.rows] == [False, True, False, False, False, True]
    assert [row[:2] for row in summary_table(found, "keras").rows] == [
        ("x", "InputLayer"), ("conv", "Conv2D"), ("norm", "BatchNormalization"),
        ("flat", "Flatten"), ("head", "Dense"),
    ]  # fmt: skip
    assert [row[0] for row in summary_table(found, "torch").rows] == [
        "Conv2d-1", "ReLU-2", "BatchNorm2d-3", "Flatten-4", "Linear-5", "Softmax-6"
    ]  # fmt: skip
    assert [row[2] for row in summary_table(found, "keras").rows][1] == (None, 8, 8, 4)


def test_scopes_that_tensorflow_has_numbered_anew(summary):
    text = TENSORFLOW
    for name in ("conv", "norm", "flat", "head"):
        text = text.replace(f"net_S_{name}_S_", f"net_1_S_{name}_1_S_")
    named = [row.name for row in summary(slashed(text)).rows if row.name]
    assert named == ["conv", "norm", "flat", "head"]


def test_a_partitioned_call_is_no_layer(summary):
    text = TENSORFLOW.replace("[net_S_", "[StatefulPartitionedCall_S_net_S_")
    named = [row.name for row in summary(slashed(text)).rows if row.name]
    assert named == ["conv", "norm", "flat", "head"]


TORCHSCRIPT = """<ir_version: 8, opset_import: ["": 17], producer_name: "pytorch">
agraph (float[N, 2, 8, 8] x) => (float[N, 3] y)
<float[4, 2, 1, 1] layer1_D_0_D_conv_D_weight, float[4, 4, 1, 1] layer1_D_1_D_conv_D_weight,
 float[4, 3] onnx_C__C_MatMul_9, float[3] fc_D_bias = {1, 2, 3}>
{ [_S_layer1_S_layer1_D_0_S_conv_S_Conv] c = Conv (x, layer1_D_0_D_conv_D_weight)
  [_S_layer1_S_layer1_D_0_S_act_S_Relu] r = Relu (c)
  [_S_layer1_S_layer1_D_1_S_conv_S_Conv] d = Conv (r, layer1_D_1_D_conv_D_weight)
  [_S_layer1_S_layer1_D_1_S_act_S_Sigmoid] q = Sigmoid (d)
  [_S_layer1_S_layer1_D_1_S_act_S_Mul] e = Mul (d, q)
  [_S_Add] a = Add (r, e)
  [_S_pool_S_GlobalAveragePool] p = GlobalAveragePool (a)
  [_S_Flatten] f = Flatten (p)
  [_S_fc_S_MatMul] m = MatMul (f, onnx_C__C_MatMul_9)
  [_S_fc_S_Add] y = Add (fc_D_bias, m) }"""


def test_scopes_of_torchscript(summary):
    found = summary(slashed(TORCHSCRIPT))
    assert (found.source, found.framework) == (Source.NAMES, "torch")
    assert [(row.name, row.torch) for row in found.rows] == [
        ("layer1.0.conv", "Conv2d"), ("layer1.0.act", "ReLU"), ("layer1.1.conv", "Conv2d"),
        ("layer1.1.act", "SiLU"), ("", "Add"), ("pool", "AdaptiveAvgPool2d"), ("", "Flatten"),
        ("fc", "Linear"),
    ]  # fmt: skip
    assert not any(row.fused for row in found.rows), "modules of PyTorch hold no activations"
    assert sizes(found)[-1] == 15


BLOCKS = """<ir_version: 8, opset_import: ["": 17], producer_name: "pytorch">
agraph (float[N, 2, 8, 8] x) => (float[N, 2, 8, 8] y)
<float[2, 2, 1, 1] w0 = {1, 2, 3, 4}, float[2, 2, 1, 1] w1 = {1, 2, 3, 5}, float[2] s = {1, 2},
 float[2] b = {3, 4}, float[2] m = {5, 6}, float[2] v = {7, 8}, float[2] s1 = {2, 2.5}>
{ [_S_layer1_S_layer1_D_0_S_conv_S_Conv] c = Conv (x, w0)
  [_S_layer1_S_layer1_D_0_S_bn_S_BatchNormalization] n = BatchNormalization (c, s, b, m, v)
  [_S_layer1_S_layer1_D_0_S_act_S_Relu] r = Relu (n)
  [_S_layer1_S_layer1_D_1_S_conv_S_Conv] d = Conv (r, w1)
  [_S_layer1_S_layer1_D_1_S_bn_S_BatchNormalization] e = BatchNormalization (d, s1, b, m, v)
  [_S_layer1_S_layer1_D_1_S_Add] a = Add (e, x)
  [_S_layer1_S_layer1_D_1_S_act_S_Relu] y = Relu (a) }"""


def test_containers_of_torchscript_are_part_of_the_path(summary):
    found = summary(slashed(BLOCKS))
    assert [(row.name, row.torch) for row in found.rows] == [
        ("layer1.0.conv", "Conv2d"), ("layer1.0.bn", "BatchNorm2d"), ("layer1.0.act", "ReLU"),
        ("layer1.1.conv", "Conv2d"), ("layer1.1.bn", "BatchNorm2d"), ("", "Add"),
        ("layer1.1.act", "ReLU"),
    ]  # fmt: skip


# By torch's notes.

CLASSES, SCOPES = "pkg.torch.onnx.class_hierarchy", "pkg.torch.onnx.name_scopes"
KIND = "pkg.torch.export.graph_signature.InputSpec.kind"


def noted(node: onnx.NodeProto, classes: str, paths: str) -> None:
    operation = node.op_type.lower()
    for key, words in ((CLASSES, classes), (SCOPES, paths)):
        entry = node.metadata_props.add()
        last = "aten.op" if key == CLASSES else operation
        entry.key, entry.value = key, repr([*words.split(","), last])


def from_torch() -> onnx.ModelProto:
    proto = parsed(
        """<ir_version: 10, opset_import: ["": 18], producer_name: "pytorch">
        agraph (float[1, 2, 8, 8] x) => (float[1, 4, 8, 8] y)
        <float[4, 2, 1, 1] w, float[4] s = {1, 2, 3, 4}, float[4] b = {1, 2, 3, 4},
         float[4] m = {1, 2, 3, 4}, float[4] v = {1, 2, 3, 4}>
        { c = Conv (x, w)
          n = BatchNormalization (c, s, b, m, v)
          g = Sigmoid (n)
          k = Mul (n, g)
          y = Add (k, c) }"""
    )
    conv, norm, gate, mul, add = proto.graph.node
    noted(conv, "net.Net,net.Block,torch.nn.modules.conv.Conv2d", ",block,block.conv")
    noted(norm, "net.Net,net.Block,torch.nn.modules.batchnorm.BatchNorm2d", ",block,block.bn")
    for node in (gate, mul):
        noted(node, "net.Net,net.Block,torch.nn.modules.activation.SiLU", ",block,block.act")
    noted(add, "net.Net", "")
    for name, kind in {"w": "PARAMETER", "s": "PARAMETER", "b": "PARAMETER", "m": "BUFFER",
                       "v": "BUFFER"}.items():  # fmt: skip
        value = proto.graph.value_info.add(name=name)
        value.metadata_props.add(key=KIND, value=kind)
    return proto


def test_torchs_notes(summary):
    found = summary(from_torch())
    assert (found.source, found.framework) == (Source.NOTES, "torch")
    assert [(row.name, row.torch) for row in found.rows] == [
        ("block.conv", "Conv2d"), ("block.bn", "BatchNorm2d"), ("block.act", "SiLU"),
        ("block", "Block"), ("", "Add"),
    ]  # fmt: skip
    assert [row.container for row in found.rows] == [False, False, False, True, False]
    assert found.rows[3].dims == (1, 4, 8, 8)
    assert found.rows[4].written_out
    rows = [(row[0], row[1], row[3]) for row in summary_table(found, "torch").rows]
    assert rows == [
        ("Conv2d-1", "block.conv", 8), ("BatchNorm2d-2", "block.bn", 8),
        ("SiLU-3", "block.act", 0), ("Block-4", "block", 0),
    ]  # fmt: skip
    assert [row[1] for row in summary_table(found, "keras").rows] == [
        "InputLayer", "Conv2D", "BatchNormalization", "Activation", "Add"
    ]  # fmt: skip


def test_classes_of_ones_own_are_kept(summary):
    proto = from_torch()
    for entry in proto.graph.node[0].metadata_props:
        entry.value = entry.value.replace("torch.nn.modules.conv.Conv2d", "my.SpecialConv")
    found = summary(proto)
    assert found.rows[0].torch == "SpecialConv"
    assert found.rows[0].keras == "Conv2D"


def test_a_weight_in_a_modules_own_code_is_listed(summary):
    proto = from_torch()
    proto.graph.initializer.append(
        onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32).reshape(4, 1, 1), "own")
    )
    value = proto.graph.value_info.add(name="own")
    value.metadata_props.add(key=KIND, value="PARAMETER")
    proto.graph.node[-1].input[1] = "own"
    found = summary(proto)
    assert found.rows[-1].learned == 4
    assert summary_table(found, "torch").rows[-1][-1] == 4


@pytest.mark.parametrize(
    ("classes", "paths"),
    [("", ""), ("[", "["), ("[]", "[]"), ("['a']", "['a']")],
)
def test_notes_that_make_no_sense_are_no_notes(classes, paths, summary):
    proto = from_torch()
    for node in proto.graph.node:
        for entry in node.metadata_props:
            entry.value = classes if entry.key == CLASSES else paths
    found = summary(proto)
    assert found.source is not Source.NOTES
    assert [row.kind for row in found.rows] == ["Conv", "BatchNormalization", "Silu", "Add"]


# By the manifest.


def manifest_of(proto: onnx.ModelProto, **fields: object) -> Manifest:
    statistics = {"m", "v"}
    made = Manifest(
        tool="bninspect", framework="keras", framework_version="3", exporter="keras",
        tensors=tuple(
            SourceTensor(
                name=each.name, source=each.name,
                role=Role.STATISTIC if each.name in statistics else Role.LEARNED,
            )
            for each in proto.graph.initializer if each.data_type == onnx.TensorProto.FLOAT
        ),
        batchnorms=(), not_exported=(), verification=None,
        totals=FrameworkTotals(trainable=8 + 4 + 8 + 771, other=8),
        layers=(
            SourceLayer(name="entry", kind="InputLayer", dims=(None, 8, 8, 2)),
            SourceLayer(name="first", kind="Conv2D", scopes=("net/conv",), weights=("w", "wb")),
            SourceLayer(name="drop", kind="Dropout", dims=(None, 8, 8, 4)),
            SourceLayer(
                name="second", kind="BatchNormalization", scopes=("net/norm",),
                weights=("s", "b", "m", "v"),
            ),
            SourceLayer(name="third", kind="Flatten", scopes=("net/flat",)),
            SourceLayer(name="last", kind="Dense", scopes=("net/head",), weights=("d", "db")),
        ),
    )  # fmt: skip
    return replace(made, **fields)


def with_manifest(**fields: object) -> onnx.ModelProto:
    proto = slashed(TENSORFLOW)
    helper.set_model_props(proto, {KEY: manifest_of(proto, **fields).to_json()})
    return proto


def test_the_manifest_lists_the_layers(summary):
    found = summary(with_manifest())
    assert (found.source, found.framework) == (Source.MANIFEST, "keras")
    assert list(summary_table(found, "keras").rows) == [
        ("entry", "InputLayer", (None, 8, 8, 2), 0),
        ("first", "Conv2D", (None, 8, 8, 4), 12),
        ("drop", "Dropout", (None, 8, 8, 4), 0),
        ("second", "BatchNormalization", (None, 8, 8, 4), 16),
        ("third", "Flatten", (None, 256), 0),
        ("last", "Dense", (None, 3), 771),
    ]
    assert [row.fused for row in found.rows].count(True) == 2
    assert "entry" not in [row[1] for row in summary_table(found, "torch").rows]


def test_what_the_framework_counted_beyond_the_file_is_a_row(summary):
    found = summary(
        with_manifest(
            totals=FrameworkTotals(trainable=791 + 30, other=8),
            not_exported=(NotExported(source="seed", elements=30, why="unused"),),
        )
    )
    assert [row[-1] for row in summary_table(found, "keras").rows] == [0, 12, 0, 16, 0, 771, 30]
    assert found.not_exported[0].source == "seed"


def test_frozen_layers_are_what_keras_says(summary):
    found = summary(with_manifest(totals=FrameworkTotals(trainable=20, other=779)))
    totals = dict(summary_table(found, "keras").totals)
    assert (totals["Trainable params"], totals["Non-trainable params"]) == (20, 779)


def test_weights_behind_an_activation_of_one_layer(summary):
    """A layer of one's own: a product, an activation, and a scale that is learned."""
    proto = slashed(
        """<ir_version: 8, opset_import: ["": 17]>
        agraph (float[N, 3] x) => (float[N, 4] y) <float[3, 4] w, float[4] s = {1, 2, 3, 4}>
        { [net_S_own_S_MatMul] h = MatMul (x, w)
          [net_S_own_S_Relu] r = Relu (h)
          [net_S_own_S_mul] y = Mul (r, s) }"""
    )
    layers = (SourceLayer(name="own", kind="Own", scopes=("net/own",), weights=("w", "s")),)
    made = manifest_of(proto, layers=layers, totals=FrameworkTotals(trainable=16, other=0))
    helper.set_model_props(proto, {KEY: made.to_json()})
    found = summary(proto)
    assert summary_table(found, "keras").rows[-1][:2] == ("own", "Own")
    assert summary_table(found, "keras").rows[-1][-1] == 16


@pytest.mark.parametrize(
    "scopes", [(), ("",), ("nowhere",), ("net",), ("net/conv", "net/norm")], ids=str
)
def test_manifests_that_name_other_scopes_lose_nothing(scopes, summary):
    layers = (SourceLayer(name="a", kind="A", scopes=scopes),)
    found = summary(with_manifest(layers=layers))
    assert sum(sizes(found)) == 799


# Where weights are.


def test_weights_inside_a_function_belong_to_its_call(summary):
    found = summary(
        """<ir_version: 8, opset_import: ["": 17, "own": 1]>
        agraph (float[N, 3] x) => (float[N, 3] y) <float[3, 3] w>
        { h = own.Twice (x, w) y = Relu (h) }
        <opset_import: ["": 17], domain: "own">
        Twice (a, b) => (c)
        { k = Constant <value = float[3] {1.0, 2.0, 3.0}> ()
          d = MatMul (a, b) c = Add (d, k) }"""
    )
    assert sizes(found)[-2:] == [12, 0]
    assert found.rows[-1].kind == "Relu"


def test_weights_in_the_branches_of_an_if_belong_to_it(summary):
    found = summary(
        f"""agraph (float[N, 2] x, bool k) => (float[N, 2] y) {FEW}
        {{ r = Relu (x)
          y = If (k) <
          then_branch = yes () => (float[N, 2] t) {{ t = BatchNormalization (r, s, b, m, v) }},
          else_branch = no () => (float[N, 2] e)
            {{ w = Constant <value = float[2, 2] {{1.0, 2.0, 3.0, 4.0}}> ()
               e = MatMul (r, w) }} > }}"""
    )
    assert [row.kind for row in found.rows] == ["Relu", "If"]
    assert (found.rows[1].learned, found.rows[1].statistics) == (8, 4)


def test_a_network_that_only_a_branch_reads_is_listed(summary):
    """What a branch takes from around it flows through the If as well."""
    found = summary(
        """agraph (float[N, 3] x, bool k) => (float[N, 4] y) <float[3, 4] w>
        { h = MatMul (x, w)
          y = If (k) <
          then_branch = yes () => (float[N, 4] t) { t = Relu (h) },
          else_branch = no () => (float[N, 4] e) { e = Tanh (h) } > }"""
    )
    assert [(row.kind, row.learned) for row in found.rows] == [("Linear", 12), ("If", 0)]


def test_weights_in_the_body_of_a_loop_belong_to_it(summary):
    found = summary(
        """agraph (int64 n, bool k, float[2, 2] x) => (float[2, 2] y)
        { y = Loop (n, k, x) <body = step (int64 i, bool c, float[2, 2] h) =>
            (bool d, float[2, 2] g)
            { d = Identity (c)
              w = Constant <value = float[2, 2] {1.0, 2.0, 3.0, 4.0}> ()
              g = MatMul (h, w) }> }"""
    )
    assert [(row.kind, row.learned) for row in found.rows] == [("Loop", 4)]


def test_a_layer_that_shares_weights_says_so(summary):
    found = summary(
        """agraph (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}>
        { h = MatMul (x, w) r = Relu (h) y = MatMul (r, w) }"""
    )
    assert sizes(found) == [4, 0, 0]
    assert [row.shared for row in found.rows] == [False, False, True]
    assert any("shares weights" in each for each in summary_table(found, "keras").notes)


def test_tensors_that_an_exporter_merged_count_at_each_layer(summary):
    found = summary(
        """agraph (float[N, 4] x) => (float[N, 4] y) <float[4] o = {1, 1, 1, 1}, float[4] z>
        { n = BatchNormalization (x, o, z, z, o) y = BatchNormalization (n, o, z, z, o) }"""
    )
    assert [(row.learned, row.statistics) for row in found.rows] == [(8, 8), (8, 8)]
    assert found.count.merged == 24
    assert sum(row.elements for row in found.nodes) == 8


# Graphs that are odd.


@pytest.mark.parametrize(
    "text",
    ["agraph () => () {}", "agraph (float[N, 2] x) => (float[N, 2] x) {}"],
    ids=["nothing", "an output that is an input"],
)
def test_a_graph_without_nodes(text, summary):
    found = summary(text)
    assert found.rows == ()
    assert found.nodes == ()


def test_an_initializer_that_is_the_output(summary):
    found = summary("agraph (float[2] x) => (float[2] w) <float[2] w = {1, 2}> {}")
    assert [row.keras for row in found.rows] == ["(in no layer)"]
    assert found.rows[0].unknown == 2
    assert summary_table(found, "onnx").rows == (("(read by no node)", "", None, 2),)


def test_two_outputs(summary):
    found = summary(
        f"""agraph (float[N, 2] x) => (float[N, 2] y, float[N, 2] z) {FEW}
        {{ y = BatchNormalization (x, s, b, m, v) z = Softmax (y) }}"""
    )
    assert [row.kind for row in found.rows] == ["BatchNormalization", "Softmax"]
    assert [row.dims for row in found.rows] == [("N", 2), ("N", 2)]


def test_dead_nodes_are_no_layers_and_their_weights_are_listed(summary):
    found = summary(
        """agraph (float[N, 2] x) => (float[N, 2] y)
        <float[2, 2] w = {1, 2, 3, 4}, float[2, 5] dead>
        { y = MatMul (x, w) z = MatMul (x, dead) }"""
    )
    assert [row.kind for row in found.rows] == ["Linear", ""]
    assert sizes(found) == [4, 10]
    assert [each.elements for each in found.nodes] == [4, 10]


@pytest.mark.parametrize("text", [TENSORFLOW, TORCHSCRIPT, FIRST, FLATTENED, ARITHMETIC])
def test_the_order_of_nodes_changes_no_sizes(text, summary):
    proto = slashed(text)
    before = summary(proto)
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    after = summary(proto)
    assert after.count.keras == before.count.keras

    def rows(found: Summary) -> list[object]:
        return sorted((row.name, row.kind, row.learned, row.statistics, str(row.dims))
                      for row in found.rows)  # fmt: skip

    assert rows(after) == rows(before)


def test_a_circle_of_nodes_ends(summary):
    found = summary(
        """agraph (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
        { a = Add (b, x) b = Mul (a, w) y = Relu (b) }"""
    )
    assert found.nodes[-1].op_type == "Relu"


def test_shape_arithmetic_is_no_layer(summary):
    found = summary(
        """agraph (float[N, 4, 8, 8] x) => (float[N, 4, P, Q] y)
        <float[2] factor = {2, 2}, int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}>
        { s = Shape (x) h = Slice (s, two, four, zero) f = Cast <to = 1> (h)
          m = Mul (f, factor) i = Cast <to = 7> (m) n = Slice (s, zero, two, zero)
          t = Concat <axis = 0> (n, i) y = Resize (x, , , t) }"""
    )
    assert [row.kind for row in found.rows] == ["Resize"]


# Real files.


def test_every_file_of_the_corpus(corpus: Path, corpus_rows):
    rows = [row for row in corpus_rows if row["load"] == "ok"]
    done = 0
    for row in rows:
        try:
            found = summarise_file(corpus / row["file"])
        except InspectorError:
            continue
        try:
            holds(found)
        except AssertionError as error:
            raise AssertionError(f"{row['file']}: {error}") from error
        done += 1
    assert done > len(rows) * 0.9


def test_the_notes_name_the_manifest_that_cannot_be_read(summary):
    proto = slashed(TENSORFLOW)
    helper.set_model_props(proto, {KEY: json.dumps({"version": 2})})
    found = summary(proto)
    assert found.source is Source.NAMES
    assert any("manifest is not readable" in each for each in found.notes)


def test_what_each_call_of_a_function_is_given_is_its_own(summary):
    found = summary("""<ir_version: 8, opset_import: ["": 17, "local": 1]>
agraph (float[N, 4] x) => (float[N, 2] z)
<float[4, 3] a, float[3] p = {1, 2, 3}, float[3, 2] b, float[2] q = {1, 2}>
{ [one] y = local.Dense (x, a, p)
  [two] z = local.Dense (y, b, q) }
<opset_import: ["": 17], domain: "local"> Dense (v, w, c) => (r)
{ t = MatMul (v, w)
  r = Add (t, c) }""")
    assert sizes(found) == [15, 8]


def test_the_layer_of_a_product_of_integers_is_one(summary):
    found = summary("""<ir_version: 8, opset_import: ["": 17]>
agraph (float[N, 4] x) => (float[N, 3] y)
<uint8[4, 3] w, uint8 zero, float scale = {0.5}, float[3] bias = {1, 2, 3}>
{ q, s, z = DynamicQuantizeLinear (x)
  p = MatMulInteger (q, w, z, zero)
  f = Cast <to: int = 1> (p)
  t = Mul (s, scale)
  r = Mul (f, t)
  y = Add (r, bias) }""")
    (row,) = [row for row in found.rows if row.learned]
    assert (row.kind, row.learned) == ("Linear", 15)


def test_a_weight_whose_dims_are_read_belongs_to_what_computes_with_it(summary):
    """PyTorch's unoptimised export makes a bias of zeros from the shape of the weight."""
    found = summary("""<ir_version: 8, opset_import: ["": 17]>
agraph (float[N, 2, 8, 8] x) => (float[N, 4, 6, 6] y) <float[4, 2, 3, 3] w, float val_0 = {0}>
{ s = Shape <start: int = 0, end: int = 1> (w)
  b = Expand (val_0, s)
  y = Conv (x, w, b) }""")
    (row,) = [row for row in found.rows if row.learned]
    assert row.kind == "Conv"
    assert [(part.op_type, part.position) for part in row.parts if part.role is Role.LEARNED] == [
        ("Conv", 1)
    ]
