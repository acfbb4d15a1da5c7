"""BatchNormalization nodes in every place and spelling."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_text import FEW, parsed

from inspector.facts.batchnorm import BatchNorm, Certainty, Form, Origin
from inspector.read.open import open_model
from inspector.recognise import find_batchnorms, load_values, measure


@pytest.fixture
def norms(onnx_file):
    def find(model) -> tuple[BatchNorm, ...]:
        return find_batchnorms(open_model(onnx_file(model))).batchnorms

    return find


def header(opset: int, ir: int = 8, extra: str = "") -> str:
    return f'<ir_version: {ir}, opset_import: ["": {opset}{extra}]>\n'


def one(opset: int, *, attributes: str = "", outputs: str = "y", inputs: str = "") -> str:
    return header(opset) + (
        f"agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y) {FEW}"
        f"{{ {outputs} = BatchNormalization {attributes} (x, s, b, m, v{inputs}) }}"
    )


MODES = [
    (1, "<is_test = 1>", "y", "", False),
    (1, "", "y", "", True),
    (1, "<is_test = 0>", "y, a, c, d, e", "", True),
    (6, "<is_test = 1>", "y", "", False),
    (6, "<spatial = 0>", "y", "", True),
    (7, "", "y", "", False),
    (7, "<is_test = 0>", "y", "", False),
    (7, "", "y, a, c, d, e", "", True),
    (9, "", "y", "", False),
    (9, "", "y, a, c", "", True),
    (13, "<training_mode = 1>", "y", "", False),
    (14, "", "y", "", False),
    (14, "<training_mode = 1>", "y, a, c", "", True),
    (15, "<training_mode = 0>", "y", "", False),
    (15, "<training_mode = 1>", "y", "", True),
    (12, "", "y", ", s", False),
    (14, "", "y", ", s", False),
    (14, "", "y, a, c, d, e", ", s", True),
]


@pytest.mark.parametrize(("opset", "attributes", "outputs", "inputs", "training"), MODES)
def test_training_by_the_rules_of_each_opset(opset, attributes, outputs, inputs, training, norms):
    (norm,) = norms(one(opset, attributes=attributes, outputs=outputs, inputs=inputs))
    assert norm.training is training


def test_no_operator_set_at_all_is_opset_1(norms):
    proto = parsed(one(17))
    del proto.opset_import[:]
    (norm,) = norms(proto)
    assert norm.training


def test_defaults_are_the_specifications(norms):
    (norm,) = norms(one(17))
    assert norm.epsilon == float(np.float32(1e-5))
    assert norm.momentum == float(np.float32(0.9))
    assert not norm.momentum_stated
    assert norm.torch_momentum == 0.1
    (norm,) = norms(one(17, attributes="<epsilon = 0.25, momentum = 0.15>"))
    assert (norm.epsilon, norm.torch_momentum, norm.momentum_stated) == (0.25, 0.85, True)


def test_a_norm_of_initializers(norms):
    (norm,) = norms(one(17))
    assert norm.form is Form.NATIVE
    assert norm.channels == 2
    assert norm.name == "y"
    assert norm.scope == ()
    assert norm.after == ("input",)
    assert norm.before == ("output",)
    for name, parameter in norm.parameters:
        assert parameter.certainty is Certainty.EXACT, name
        assert parameter.origin is Origin.INITIALIZER
        assert parameter.tensor is not None
        assert parameter.tensor.dtype == "float32"


CONSTANTS = """agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] b = {0.5, -0.5}, float[2] v = {1.0, 9.0}>
{ s = Constant <value = float[2] {1.0, 2.0}> ()
  m = Constant <value_floats = [0.25, -4.0]> ()
  y = BatchNormalization (x, s, b, m, v) }"""


def test_constant_nodes(norms, onnx_file):
    (norm,) = norms(CONSTANTS)
    origins = [parameter.origin for _, parameter in norm.parameters]
    assert origins == [Origin.CONSTANT, Origin.INITIALIZER, Origin.CONSTANT, Origin.INITIALIZER]
    values = load_values(norm, open_model(onnx_file(CONSTANTS)))
    assert values.mean.tolist() == [0.25, -4.0]


def test_chains_of_identity(norms):
    (norm,) = norms(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
        {{ s1 = Identity (s)
           s2 = Identity (s1)
           y = BatchNormalization (x, s2, b, m, v) }}"""
    )
    assert norm.scale.value == "s2"
    assert norm.scale.tensor is not None
    assert norm.scale.tensor.name == "s"


def test_identity_in_a_circle_ends(norms):
    (norm,) = norms(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
        {{ s1 = Identity (s2)
           s2 = Identity (s1)
           y = BatchNormalization (x, s2, b, m, v) }}"""
    )
    assert norm.scale.certainty is Certainty.LOST


@pytest.mark.parametrize(
    ("ir", "origin"), [(3, Origin.INITIALIZER), (4, Origin.OVERRIDABLE), (8, Origin.OVERRIDABLE)]
)
def test_initializers_that_are_inputs(ir, origin, norms):
    proto = parsed(header(9, ir) + one(9).split("\n", 1)[1])
    proto.graph.input.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [2]))
    (norm,) = norms(proto)
    assert norm.mean.origin is origin
    assert norm.mean.certainty is Certainty.EXACT


def test_parameters_that_are_fed_or_computed_or_absent(norms):
    (norm,) = norms(
        """agraph (float[N, 2] x, float[2] s) => (float[N, 2] y) <float[2] b = {1.0, 2.0}>
        { m = Exp (s)
          y = BatchNormalization (x, s, b, m, nowhere) }"""
    )
    assert norm.form is Form.RUNTIME
    assert norm.channels == 2
    origins = [parameter.origin for _, parameter in norm.parameters]
    assert origins == [
        Origin.GRAPH_INPUT,
        Origin.INITIALIZER,
        Origin.COMPUTED,
        Origin.ABSENT,
    ]
    reasons = [parameter.reason for _, parameter in norm.parameters]
    assert reasons == [
        "fed as an input",
        "",
        "computed by Exp at run time",
        "nothing computes 'nowhere'",
    ]


def test_a_node_of_too_few_inputs(norms):
    (norm,) = norms(
        """agraph (float[N, 2] x) => (float[N, 2] y) <float[2] s = {1.0, 2.0}>
        { y = BatchNormalization (x, s) }"""
    )
    assert norm.mean.reason == "not given"
    assert norm.mean.origin is Origin.ABSENT


def test_numbers_that_are_no_floats_are_no_parameters(norms):
    (norm,) = norms(
        """agraph (float[N, 2] x) => (float[N, 2] y)
        <int64[2] s = {1, 2}, float[2] b = {1.0, 2.0}>
        { y = BatchNormalization (x, s, b, b, b) }"""
    )
    assert norm.form is Form.NATIVE
    assert norm.scale.tensor is None
    assert norm.scale.reason == "stored as int64, which no BatchNormalization takes"


SUBGRAPH = f"""agraph (float[N, 2] x, bool c) => (float[N, 2] y) {FEW}
{{ r = Relu (x)
   y = If (c) <
     then_branch = yes () => (float[N, 2] t) <float[2] v = {{4.0, 4.0}}>
       {{ t = BatchNormalization (r, s, b, m, v) }},
     else_branch = no () => (float[N, 2] e)
       {{ own = Constant <value_floats = [1.0, 1.0]> ()
          e = BatchNormalization (r, own, b, m, v) }}
   > }}"""


def test_bodies_of_if_see_what_is_around_them(norms, onnx_file):
    yes, no = norms(SUBGRAPH)
    assert [yes.scope, no.scope] == [("y.then_branch",), ("y.else_branch",)]
    assert yes.form is no.form is Form.NATIVE
    assert yes.after == no.after == ("Relu",)
    assert no.scale.origin is Origin.CONSTANT
    model = open_model(onnx_file(SUBGRAPH))
    # The inner `v` of one branch hides the outer one.
    assert load_values(yes, model).var.tolist() == [4.0, 4.0]
    assert load_values(no, model).var.tolist() == [1.0, 9.0]


FUNCTIONS = """<ir_version: 8, opset_import: ["": 17, "my": 1]>
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}, float[2] v2 = {16.0, 25.0}>
{ h = my.norm <eps = 0.5, keep = 0.25> (x, s, b, m, v)
  y = my.norm <eps = 0.125> (h, s, b, m, v2) }
<domain: "my", opset_import: ["": 17], overload: "">
norm <eps, keep: float = 0.75> (x, s, b, m, v) => (y)
{ one = Constant <value_float = 1.0> ()
  y = BatchNormalization <epsilon: float = @eps, momentum: float = @keep> (x, s, b, m, v) }
"""


def test_a_function_called_twice_is_two_norms_with_their_own_arguments(norms, onnx_file):
    first, second = norms(FUNCTIONS)
    assert (first.scope, second.scope) == (("h",), ("y",))
    assert (first.name, second.name) == ("y", "y")
    assert (first.epsilon, second.epsilon) == (0.5, 0.125)
    assert (first.momentum, second.momentum) == (0.25, 0.75)
    assert first.scale.origin is Origin.FUNCTION_ARGUMENT
    model = open_model(onnx_file(FUNCTIONS))
    assert load_values(first, model).var.tolist() == [1.0, 9.0]
    assert load_values(second, model).var.tolist() == [16.0, 25.0]


def test_calls_of_one_name_are_two_scopes(norms):
    proto = parsed(FUNCTIONS)
    for node in proto.graph.node:
        node.name = "same"
    first, second = norms(proto)
    assert first.scope != second.scope


def test_a_function_that_calls_itself_is_an_error(onnx_file):
    from inspector.errors import UnreadableError

    proto = parsed(FUNCTIONS)
    proto.functions[0].node.append(helper.make_node("norm", list("xsbmv"), ["again"], domain="my"))
    model = open_model(onnx_file(proto))
    with pytest.raises(UnreadableError, match="in a circle, "):
        find_batchnorms(model)


def test_overloads_are_functions_of_their_own(norms):
    proto = parsed(FUNCTIONS)
    other = proto.functions.add()
    other.CopyFrom(proto.functions[0])
    other.overload = "empty"
    del other.node[1:]
    proto.graph.node[1].overload = "empty"
    (norm,) = norms(proto)
    assert norm.scope == ("h",)


def test_nodes_without_names_take_their_outputs(norms):
    proto = parsed(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
        {{ h = BatchNormalization (x, s, b, m, v)
           y = BatchNormalization (h, s, b, m, v) }}"""
    )
    first, second = norms(proto)
    assert (first.name, second.name) == ("h", "y")
    assert first.before == second.after == ("BatchNormalization",)
    for node in proto.graph.node:
        node.name = "bn"
    assert [each.name for each in norms(proto)] == ["bn (h)", "bn (y)"]
    proto.graph.node[1].output[0] = "h"
    assert [each.name for each in norms(proto)] == ["bn (h)", "bn (h) #2"]
    for node in proto.graph.node:
        node.name = ""
        del node.output[:]
    names = {each.name for each in norms(proto)}
    assert len(names) == 2
    assert all(names)


def test_the_same_operator_of_another_domain_is_another_operator(norms):
    proto = parsed(one(17))
    proto.graph.node[0].domain = "com.example"
    assert norms(proto) == ()
    proto.graph.node[0].domain = "ai.onnx"
    assert len(norms(proto)) == 1


CONV = f"""agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)
<float[2, 2, 1, 1] w = {{1.0, 2.0, 3.0, 4.0}}, {FEW[1:-1]}>
{{ c = Conv (x, w)
   y = BatchNormalization (c, s, b, m, v) }}"""


def test_a_convolution_in_front_could_take_it_in(norms):
    assert norms(CONV)[0].foldable_into == "c"


@pytest.mark.parametrize(
    "change",
    [
        ("y = Batch", "z = Relu (c) y = Batch"),
        ("(c, s, b", "<training_mode = 1> (c, s, b"),
        ("Conv (x, w)", "Conv (x, x)"),
        ("Conv (x, w)", "Conv (x, w, x)"),
        ("Conv", "MaxPool"),
        ("float[2] v = {1.0, 9.0}", "float[3] v = {1.0, 9.0, 1.0}"),
        ("=> (float[N, 2, H, W] y)", "=> (float[N, 2, H, W] y, float[N, 2, H, W] c)"),
    ],
    ids=["read twice", "training", "weight", "bias", "pool", "channels disagree", "an output"],
)
def test_what_cannot_be_folded(change, norms):
    assert change[0] in CONV
    assert norms(CONV.replace(*change))[0].foldable_into is None


def test_an_output_that_a_subgraph_reads_is_read(norms):
    text = CONV.replace("=> (", "=> (float[N] z, ").replace(
        "y = Batch",
        """k = Constant <value = bool {1}> ()
           z = If (k) <then_branch = g () => (float[N] t) { t = Relu (c) },
                       else_branch = g () => (float[N] t) { t = Exp (c) }>
           y = Batch""",
    )
    assert norms(text)[0].foldable_into is None


def of(dtype: int, scale, bias, mean, var) -> onnx.ModelProto:
    stored = [
        helper.make_tensor(name, dtype, [len(values)], values)
        for name, values in zip("sbmv", (scale, bias, mean, var), strict=True)
    ]
    node = helper.make_node("BatchNormalization", list("xsbmv"), ["y"], epsilon=0.001)
    x, y = (helper.make_tensor_value_info(n, dtype, ["N", len(scale)]) for n in "xy")
    graph = helper.make_graph([node], "g", [x], [y], initializer=stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("dtype", "rtol"), [("FLOAT", 1e-5), ("DOUBLE", 1e-7), ("FLOAT16", 1e-2)])
def test_slope_and_intercept_are_what_the_operator_does(dtype, rtol, norms, onnx_file):
    dice = np.random.default_rng(1)
    channels = 5
    scale, bias, mean = dice.normal(size=(3, channels))
    proto = of(TensorProto.DataType.Value(dtype), scale, bias, mean, dice.uniform(0.1, 4, channels))
    (norm,) = norms(proto)
    values = load_values(norm, open_model(onnx_file(proto)))
    ramp = np.linspace(-2, 2, 9)[:, None] * np.ones(channels)
    given = ramp.astype(helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(dtype)))
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": given})
    assert values.slope.dtype == np.float64
    mine = values.slope * given.astype(np.float64) + values.intercept
    np.testing.assert_allclose(mine, expected, rtol=rtol, atol=rtol)


def test_values_of_known_numbers(norms, onnx_file):
    (norm,) = norms(one(17, attributes="<epsilon = 0.0>"))
    values = load_values(norm, open_model(onnx_file(one(17, attributes="<epsilon = 0.0>"))))
    assert values.slope.tolist() == [1.0, 2.0 / 3.0]
    assert values.intercept.tolist() == [0.25, -0.5 + 8.0 / 3.0]


def test_numbers_that_are_not_finite_are_counted(onnx_file):
    inf, nan = float("inf"), float("nan")
    proto = of(1, [1, 1, 0, nan], [0, inf, 0, 0], [0, 0, 0, 0], [-4.0, 1, 1, 1])
    model = open_model(onnx_file(proto))
    values = measure(find_batchnorms(model).batchnorms[0], model)
    assert (values.scale.low, values.scale.high, values.scale.non_finite) == (0, 1, 1)
    assert values.var.low == -4.0
    assert values.slope.non_finite == 2  # the root of a negative variance, and NaN
    assert values.intercept.non_finite == 3


def test_nothing_but_nan(onnx_file):
    proto = of(1, [float("nan")], [0.0], [0.0], [1.0])
    model = open_model(onnx_file(proto))
    scale = measure(find_batchnorms(model).batchnorms[0], model).scale
    assert np.isnan([scale.low, scale.high]).all()
    assert scale.non_finite == 1


def test_no_channels(onnx_file):
    model = open_model(onnx_file(of(1, [], [], [], [])))
    (norm,) = find_batchnorms(model).batchnorms
    assert norm.channels == 0
    assert measure(norm, model).scale is None


def test_lengths_that_disagree(onnx_file):
    model = open_model(onnx_file(of(1, [1, 2], [1, 2], [1, 2], [1, 2, 3])))
    (norm,) = find_batchnorms(model).batchnorms
    assert norm.channels is None
    values = measure(norm, model)
    assert values.slope is None
    assert values.var.high == 3


def test_one_tensor_in_two_roles(norms):
    (norm,) = norms(one(17).replace("s, b, m, v)", "s, b, b, s)"))
    assert norm.scale.tensor == norm.var.tensor


def test_the_internals_of_onnxruntimes_training_graphs(norms, onnx_file):
    text = header(17, extra=', "com.microsoft": 1') + (
        f"agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y) {FEW}"
        "{ y, a, c, d, e = com.microsoft.BatchNormInternal <epsilon = 0.25> (x, s, b, m, v)"
        "  g, h, i = com.microsoft.BatchNormalizationGrad (y, x, s, d, e) }"
    )
    (norm,) = norms(text)
    assert norm.op_type == "BatchNormInternal"
    assert norm.training
    assert norm.epsilon == 0.25
    assert norm.obstacle == "it normalises by the batch"
    (gradient,) = find_batchnorms(open_model(onnx_file(text))).lookalikes
    assert gradient.kind == "gradient of a BatchNorm"


def test_statistics_for_each_place(norms):
    (norm,) = norms(one(7, attributes="<spatial = 0>"))
    assert norm.remarks == (
        "spatial = 0: it normalises each place of the input by itself, not each channel",
    )
    assert norm.foldable_into is None
    # From opset 9 on there is no such attribute.
    (norm,) = norms(one(9, attributes="<spatial = 0>"))
    assert norm.remarks == ()


FOLDS = [
    ("c = Conv (x, w)", "c", "c", ""),
    ("c = Conv (x, w) i = Identity (c)", "i", "c", ""),
    ("c = Conv (x, w) r = Relu (c)", "r", None, "Relu stands between it and Conv 'c'"),
    (
        "c = Conv (x, w) r = Relu (c) p = MaxPool <kernel_shape = [1, 1]> (r)",
        "p",
        None,
        "Relu and MaxPool stand between it and Conv 'c'",
    ),
    ("c = Conv (x, x)", "c", None, "the weights of Conv 'c' are not fixed in the file"),
    ("c = Conv (x, w) r = Relu (c) z = Add (c, r)", "c", None, "others read the output"),
    # Who asks for the dims alone would not see other numbers.
    ("c = Conv (x, w) z = Shape (c)", "c", "c", ""),
    ("c = Add (x, x)", "c", None, "it follows Add"),
    ("", "x", None, "nothing stands between it and the input"),
]


@pytest.mark.parametrize(("nodes", "value", "into", "obstacle"), FOLDS)
def test_what_it_could_be_folded_into_or_why_not(nodes, value, into, obstacle, norms):
    (norm,) = norms(
        "agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] y)"
        f"<float[2, 2, 1, 1] w = {{1.0, 2.0, 3.0, 4.0}}, {FEW[1:-1]}>"
        f"{{ {nodes} y = BatchNormalization ({value}, s, b, m, v) }}"
    )
    assert norm.foldable_into == into
    assert norm.obstacle.startswith(obstacle)
    assert bool(norm.obstacle) == bool(obstacle)


def test_neighbours_are_seen_through_what_moves_values(norms):
    (norm,) = norms(
        f"""agraph (float[N, 2, H, W] x) => (float[N, 2, H, W] z) {FEW}
        {{ r = Sigmoid (x)
           i = Identity (r)
           t = Transpose <perm = [0, 1, 3, 2]> (i)
           c = Cast <to = 1> (t)
           y = BatchNormalization (c, s, b, m, v)
           u = Transpose <perm = [0, 1, 3, 2]> (y)
           k = Shape (u)
           z = Tanh (u) }}"""
    )
    assert norm.after == ("Sigmoid",)
    assert norm.before == ("Tanh",)


def test_what_a_chain_would_take_is_found_out_first(norms):
    (norm,) = norms(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) <{FEW[1:-1]}, int64[1] many = {{900000000}}>
        {{ huge = ConstantOfShape (many)
           y = BatchNormalization (x, huge, b, m, v) }}"""
    )
    assert norm.form is Form.NATIVE
    assert norm.scale.certainty is Certainty.LOST
    assert norm.scale.origin is Origin.CHAIN
    assert "makes 900,000,000 elements of constants: too many" in norm.scale.reason


def test_a_chain_with_an_overridable_end_may_be_fed(norms):
    proto = parsed(
        f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
        {{ t = Neg (m)
           y = BatchNormalization (x, s, b, t, v) }}"""
    )
    proto.graph.input.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [2]))
    (norm,) = norms(proto)
    assert norm.mean.origin is Origin.OVERRIDABLE
    assert norm.mean.certainty is Certainty.RECOVERED
    assert norm.obstacle == "its parameters may be fed as inputs"
