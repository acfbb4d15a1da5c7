"""What ONNX Runtime's optimiser has fused is held together operator by operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from inspector.facts.comparison import CauseKind, Proof, Verdict
from inspector.read.open import open_model
from inspector.write.fused import with_fused_apart
from tests.compare.conftest import Compare

RNG = np.random.default_rng(3)
STORED = {
    "k": RNG.standard_normal((4, 3, 3, 3), np.float32),
    "b": RNG.standard_normal(4, np.float32),
    "j": RNG.standard_normal((4, 4, 3, 3), np.float32),
    "lo": np.float32(-0.5),
    "hi": np.float32(2),
    "w": RNG.standard_normal((4, 5), np.float32),
    "c": RNG.standard_normal(5, np.float32),
    "s": np.float32(0.3),
}
NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, 6, 6] x) => (float[N, 6, 6] y) {{
    d = Conv<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, k, b)
    e = {activation}
    f = Conv<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(e, j, b)
    g0 = Add(f, e)
    g = Relu(g0)
    h = Transpose<perm = [0, 2, 3, 1]>(g)
    i = MatMul(h, w)
    l = Add(i, c)
    m = Tanh(l)
    n = ReduceMean<axes = [2], keepdims = 0>(m)
    o = Transpose<perm = [0, 2, 1]>(n)
    p = MatMul(n, o)
    y = Mul(p, s)
}}"""


def net(activation: str = "Relu(d)", **other: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(NET.format(activation=activation))
    for name, values in {**STORED, **other}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return model


def fused(model: onnx.ModelProto, tmp_path: Path, *operators: str) -> onnx.ModelProto:
    """A model as ONNX Runtime's optimiser leaves it."""
    import onnxruntime

    path = tmp_path / "fused.onnx"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    data = model.SerializeToString()
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    made = onnx.load(path)
    wanted = set(operators or ("FusedConv", "FusedMatMul"))
    assert wanted <= {each.op_type for each in made.graph.node}
    return made


ACTIVATIONS = ["Relu(d)", "Tanh(d)", "Sigmoid(d)", "LeakyRelu<alpha = 0.2>(d)", "Clip(d, lo, hi)"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_fused_copy_is_the_same_function_part_by_part(
    compare: Compare, tmp_path: Path, activation: str
) -> None:
    model = net(activation)
    found = compare(model, fused(model, tmp_path))
    assert found.verdict is Verdict.EQUIVALENT
    assert not found.harmless


def test_a_fault_beside_fused_operators_is_named_where_it_is(
    compare: Compare, tmp_path: Path
) -> None:
    kernel = STORED["k"].copy()
    kernel[1] *= np.float32(1.5)
    found = compare(fused(net(), tmp_path), net(k=kernel))
    assert found.verdict is Verdict.DIFFERENT
    assert [(each.kind, each.what, each.proof) for each in found.causes] == [
        (CauseKind.PARAMETER, "kernel", Proof.NECESSARY)
    ]
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert found.localisation.first.right == "d"


def test_another_activation_that_is_fused_is_named(compare: Compare, tmp_path: Path) -> None:
    found = compare(net("LeakyRelu<alpha = 0.1>(d)"), fused(net(ACTIVATIONS[3]), tmp_path))
    assert found.verdict is Verdict.DIFFERENT
    assert [(each.kind, each.what) for each in found.causes] == [(CauseKind.ATTRIBUTE, "alpha")]


BLOCK = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 5, 8] x) => (float[N, 5, 8] y) {
    a = MatMul(x, w)
    b = Add(a, b0)
    c = Div(b, root)
    d = Erf(c)
    e = Add(d, one)
    f = Mul(b, e)
    g = Mul(f, half)
    h = MatMul(g, v)
    i = Add(h, b1)
    j = Add(i, x)
    k = LayerNormalization<axis = -1, epsilon = 1.0e-5>(j, s, t)
    l = Sigmoid(k)
    m = Mul(k, l)
    n = Div(m, root)
    o = Erf(n)
    p = Add(o, one)
    q = Mul(m, p)
    r = Mul(q, half)
    y = Add(r, x)
}"""


def block(**other: np.ndarray) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    model = onnx.parser.parse_model(BLOCK)
    stored = {name: rng.standard_normal((8, 8), np.float32) for name in "wv"}
    stored |= {name: rng.standard_normal(8, np.float32) for name in ("b0", "b1", "s", "t")}
    stored |= {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    for name, values in {**stored, **other}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return model


def test_a_fused_block_of_a_transformer_is_the_same_function_part_by_part(
    compare: Compare, tmp_path: Path
) -> None:
    made = fused(block(), tmp_path, "BiasGelu", "Gelu", "QuickGelu", "SkipLayerNormalization")
    found = compare(block(), made)
    assert found.verdict is Verdict.EQUIVALENT
    found = compare(made, block(t=np.zeros(8, np.float32)))
    assert found.verdict is Verdict.DIFFERENT
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert found.localisation.first.right == "k"


def test_an_activation_that_is_not_known_is_left_as_it_is(tmp_path: Path) -> None:
    node = helper.make_node("FusedConv", ["x", "k"], ["y"], domain="com.microsoft")
    node.attribute.append(helper.make_attribute("activation", "Softsign"))
    dims = ["N", 3, 6, 6], ["N", 4, 4, 4]
    x, y = (helper.make_tensor_value_info(n, 1, d) for n, d in zip("xy", dims, strict=True))
    stored = numpy_helper.from_array(STORED["k"], "k")
    graph = helper.make_graph([node], "g", [x], [y], [stored])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    assert with_fused_apart(open_model(path)) is None


def test_names_that_a_fused_node_is_written_out_with_may_be_there_already(
    compare: Compare,
) -> None:
    """Of two values of one name, the wrong one would be held together."""

    def hidden(of: str, activation: str) -> onnx.ModelProto:
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[N, 3, 6, 6] x) => (float[N, 4, 6, 6] z) {{
                q = Conv<pads = [1, 1, 1, 1]>(x, k)
                {activation}
                e = Sub(x, far)
                f = Relu(e)
                h = Conv<pads = [1, 1, 1, 1]>(f, o)
                i = Mul(h, {of})
                z = Add(y, i)
            }}"""
        )
        stored = {
            "k": STORED["k"],
            "o": STORED["k"][::-1],
            "b": STORED["b"],
            "far": np.float32(1e3),
        }
        model.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(each), name)
            for name, each in stored.items()
        )
        return model

    one = 'com.microsoft.FusedConv<activation = "Relu", pads = [1, 1, 1, 1]>(x, o, b)'
    apart = "a = Conv<pads = [1, 1, 1, 1]>(x, o, b)\ny = Relu(a)"
    together = hidden("q", f"y = {one}")
    for node in together.graph.node:
        for names in (node.input, node.output):
            names[:] = ["y/apart" if each == "q" else each for each in names]
    assert compare(hidden("q", apart), together).verdict is Verdict.EQUIVALENT
    assert compare(hidden("a", apart), together).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("FusedConv", ["x", "k", "b"], ["y"], activation=3),
        helper.make_node("FusedConv", ["x", "k", "b"], ["y"], activation=b"\xff\xfe"),
        helper.make_node("FusedMatMul", ["x"], ["y"]),
        helper.make_node("QuickGelu", ["x"], ["y"], alpha="one"),
        helper.make_node("SkipLayerNormalization", ["x"], ["y"]),
        helper.make_node("Gelu", [], ["y"]),
    ],
    ids=lambda node: node.op_type,
)
def test_fused_nodes_that_are_not_well_formed_stay(compare: Compare, node: onnx.NodeProto) -> None:
    model = net()
    node.domain = "com.microsoft"
    del model.graph.node[:]
    model.graph.node.append(node)
    model.opset_import.add(domain="com.microsoft", version=1)
    assert compare(model, model).verdict is Verdict.UNDECIDED
