"""Rules about shapes, types and attributes, beside onnx.checker and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_text import FEW, parsed

from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import CheckSettings, Finding, Severity
from inspector.flows.check import check_one

Write = Callable[..., Path]


def found(path: Path, *codes: str, **numbers: float) -> tuple[Finding, ...]:
    settings = CheckSettings(select=codes, thresholds={codes[0]: numbers} if numbers else {})
    file = check_one(path, settings)
    assert not file.unreadable
    return file.findings


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def is_refused(model: onnx.ModelProto, shape: tuple[int, ...]) -> str:
    """Why ONNX Runtime does not run a model; empty where it does."""
    try:
        made = session(model)
        kind = np.float16 if "float16" in made.get_inputs()[0].type else np.float32
        made.run(None, {"x": np.zeros(shape, kind)})
    except Exception as error:  # noqa: BLE001  # ONNX Runtime's share no base below
        return str(error)
    return ""


# Lengths


def layer(s: str, b: str, m: str, v: str, shape: str = "[N, 2]") -> str:
    return f"""
agraph (float{shape} x) => (float{shape} y)
<float{s}, float{b}, float{m}, float{v}>
{{ [bn] y = BatchNormalization(x, s, b, m, v) }}
"""


TWO = ("[2] s = {1.0, 2.0}", "[2] b = {0.5, 0.5}", "[2] m = {0.0, 1.0}", "[2] v = {1.0, 9.0}")


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("length", [0, 1, 3])
def test_one_of_another_length_is_an_error(onnx_file: Write, at: int, length: int) -> None:
    parts = list(TWO)
    values = ", ".join(["1.0"] * length)
    parts[at] = f"[{length}] {'sbmv'[at]} = {{{values}}}"
    model = parsed(layer(*parts))

    onnx.checker.check_model(model)  # takes it without a word
    assert is_refused(model, (1, 2))
    (finding,) = found(onnx_file(model), "BN040")
    assert finding.severity is Severity.ERROR
    assert f"{length} in {('scale', 'B', 'mean', 'var')[at]}" in finding.message


def test_data_of_another_number_of_channels_is_an_error(onnx_file: Write) -> None:
    model = parsed(layer(*TWO, shape="[N, 3]"))

    assert is_refused(model, (1, 3))
    (finding,) = found(onnx_file(model), "BN040")
    assert finding.message == "bn: the data has 3 channels and the parameters have 2"
    assert finding.confidence is Confidence.CERTAIN


def test_parameters_that_are_no_vectors_are_an_error(onnx_file: Write) -> None:
    model = parsed(layer("[1, 2, 1, 1] s = {1.0, 2.0}", *TWO[1:], shape="[N, 2, 3, 3]"))

    assert is_refused(model, (1, 2, 3, 3))
    (finding,) = found(onnx_file(model), "BN040")
    assert "scale is [1, 2, 1, 1]" in finding.message


def test_a_parameter_that_is_reshaped_on_the_way_is_a_vector(onnx_file: Write) -> None:
    text = """
agraph (float[N, 2] x) => (float[N, 2] y)
<float[1, 2, 1, 1] w = {1.0, 2.0}, int64[1] flat = {-1}, float[2] b = {0.5, 0.5},
 float[2] m = {0.0, 1.0}, float[2] v = {1.0, 9.0}>
{ s = Reshape(w, flat)
  [bn] y = BatchNormalization(x, s, b, m, v) }
"""
    assert not is_refused(parsed(text), (1, 2))
    assert not found(onnx_file(text), "BN04")


def test_fed_parameters_are_held_against_the_data_by_their_declaration(onnx_file: Write) -> None:
    text = """
agraph (float[N, 2] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[N, 2] y)
{ [bn] y = BatchNormalization(x, s, b, m, v) }
"""
    assert found(onnx_file(text), "BN040")
    assert not found(onnx_file(text.replace("[3]", "[2]")), "BN040")
    assert not found(onnx_file(text.replace("[3]", "[C]")), "BN040")


def test_weights_are_believed_before_what_the_file_says_of_a_value(onnx_file: Write) -> None:
    # A stale value_info, as model surgery leaves it: the Conv gives two channels, not five.
    model = parsed(f"""
agraph (float[1, 3, 8, 8] x) => (float[1, 2, 6, 6] y)
{FEW.replace(">", ", float[2, 3, 3, 3] w>")}
{{ [conv] h = Conv(x, w)
  [relu] r = Relu(h)
  [bn] y = BatchNormalization(h, s, b, m, v)
  [bn2] z = BatchNormalization(r, s, b, m, v) }}
""")
    for name in ("h", "r"):
        stale = onnx.helper.make_tensor_value_info(name, 1, [1, 5, 6, 6])
        model.graph.value_info.append(stale)

    (finding,) = found(onnx_file(model), "BN040")
    assert finding.layer == "bn2"
    assert finding.confidence is Confidence.LIKELY


@pytest.mark.parametrize("shape", ["", "[]", "[N]", "[N, C]", "[N, C, H, W]"])
def test_dims_that_are_not_known_say_nothing(onnx_file: Write, shape: str) -> None:
    text = layer(*TWO, shape=shape) if shape else layer(*TWO, shape="[N, 2]")
    model = parsed(text)
    if not shape:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.ClearField("shape")

    assert not found(onnx_file(model), "BN040", "BN041", "BN046")


def test_one_statistic_for_each_place_has_other_lengths(onnx_file: Write) -> None:
    text = """
<ir_version: 3, opset_import: ["": 8]>
agraph (float[N, 2, 1] x) => (float[N, 2, 1] y)
<float[2, 1] s = {1.0, 2.0}, float[2, 1] b = {0.5, 0.5}, float[2, 1] m = {0.0, 1.0},
 float[2, 1] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization <spatial = 0> (x, s, b, m, v) }
"""
    assert not found(onnx_file(text), "BN040")
    (finding,) = found(onnx_file(text), "BN042")
    assert "spatial = 0" in finding.message


# Types

TYPES = {"h": np.float16, "f": np.float32, "d": np.float64}


def typed(opset: int, data: str, learned: str, statistics: str) -> onnx.ModelProto:
    body = "{ [bn] y = BatchNormalization(x, s, b, m, v) }"
    model = parsed(
        f'<ir_version: 8, opset_import: ["": {opset}]>\n'
        f"agraph (float[N, 2] x) => (float[N, 2] y)\n{FEW}\n{body}"
    )
    kinds = (learned, learned, statistics, statistics)
    for tensor, kind in zip(model.graph.initializer, kinds, strict=True):
        values = onnx.numpy_helper.to_array(tensor).astype(TYPES[kind])
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        dtype = np.dtype(TYPES[data])
        value.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return model


@pytest.mark.parametrize("opset", [9, 13, 14, 15, 20])
@pytest.mark.parametrize("kinds", [a + b + c for a in "hfd" for b in "hfd" for c in "hfd"])
def test_types_are_judged_as_onnx_runtime_does(onnx_file: Write, opset: int, kinds: str) -> None:
    """An error is what it refuses for its types, a warning what it has no kernel for."""
    model = typed(opset, *kinds)
    refused = ""
    try:
        session(model)
    except Exception as error:  # noqa: BLE001  # ONNX Runtime's share no base below
        refused = str(error)

    severities = [each.severity for each in found(onnx_file(model), "BN041")]
    if "bound to different types" in refused:
        assert severities == [Severity.ERROR]
    elif refused:
        assert "NOT_IMPLEMENTED" in refused
        assert severities == [Severity.WARNING]
    else:
        assert severities == []


def test_integers_are_no_parameters(onnx_file: Write) -> None:
    text = layer("[2] s = {1.0, 2.0}", *TWO[1:]).replace(
        "float[2] s = {1.0, 2.0}", "int64[2] s = {1, 2}"
    )

    assert "Type" in is_refused(parsed(text), (1, 2))
    (finding,) = found(onnx_file(text), "BN041")
    assert "scale int64" in finding.message


# Forms

OLD = {
    (6, "<is_test = 1>"): ["the operator is of opset 6"],
    (1, "<is_test = 1, consumed_inputs = [0, 0, 0, 1, 1]>"): ["the operator is of opset 1"],
    (6, "<is_test = 1, consumed_inputs = [0, 0, 0, 1, 1]>"): [
        "the operator is of opset 6",
        "the attribute consumed_inputs is gone since opset 6",
    ],
    (7, "<is_test = 1>"): ["the attribute is_test is gone since opset 7"],
    (9, "<spatial = 1>"): ["the attribute spatial is gone since opset 9"],
    (8, "<spatial = 0>"): ["spatial = 0, one statistic for each place"],
    (8, "<spatial = 1>"): [],
    (7, ""): [],
    (9, ""): [],
    (14, "<training_mode = 0>"): [],
    (15, ""): [],
}


@pytest.mark.parametrize(("opset", "attributes"), OLD)
def test_forms_that_runtimes_refuse_are_told(onnx_file: Write, opset: int, attributes: str) -> None:
    text = f"""
<ir_version: 8, opset_import: ["": {opset}]>
agraph (float[N, 2] x) => (float[N, 2] y)
{FEW}
{{ [bn] y = BatchNormalization {attributes} (x, s, b, m, v) }}
"""
    messages = [each.message for each in found(onnx_file(text), "BN042")]

    assert len(messages) == len(OLD[opset, attributes])
    for message, expected in zip(messages, OLD[opset, attributes], strict=True):
        assert message.startswith(f"bn: {expected}")
    if "spatial = 0" not in attributes:  # that one this runtime still takes, where it is allowed
        assert bool(is_refused(parsed(text), (1, 2))) is bool(messages)


def test_drafts_are_told(onnx_file: Write) -> None:
    text = f"""
<ir_version: 7, opset_import: ["": 14]>
agraph (float[N, 2] x, bool t) => (float[N, 2] y)
{FEW}
{{ [bn] y = BatchNormalization(x, s, b, m, v, t) }}
"""
    (finding,) = found(onnx_file(text), "BN042")
    assert "sixth input" in finding.message


def test_an_old_file_is_one_finding(onnx_file: Write) -> None:
    body = "".join(
        f"[bn{at}] h{at + 1} = BatchNormalization <is_test = 1> (h{at}, s, b, m, v)\n"
        for at in range(7)
    )
    text = f"""
<ir_version: 3, opset_import: ["": 6]>
agraph (float[N, 2] h0) => (float[N, 2] h7)
{FEW}
{{ {body} }}
"""
    (finding,) = found(onnx_file(text), "BN042")
    assert finding.evidence["layers"] == 7
    assert finding.message.startswith("7 BatchNorms (bn0, bn1, bn2, bn3, …): ")


# Epsilon and momentum


def chain(*attributes: str, var: str = "0.01, 0.09") -> str:
    body = ""
    for at, each in enumerate(attributes):
        taken, given = f"h{at}" if at else "x", f"h{at + 1}" if at + 1 < len(attributes) else "y"
        body += f"[bn{at}] {given} = BatchNormalization <{each}> ({taken}, s, b, m, v)\n"
    few = FEW.replace("1.0, 9.0", var)
    return f"agraph (float[N, 2] x) => (float[N, 2] y)\n{few}\n{{ {body} }}"


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1.001e-5, 1e-6, 1e-8, 0.01, 0.05])
def test_what_frameworks_write_is_an_epsilon(onnx_file: Write, epsilon: float) -> None:
    assert not found(onnx_file(chain(f"epsilon = {epsilon:.9f}")), "BN043")


@pytest.mark.parametrize(
    ("epsilon", "what"),
    [
        (0.0, "keeps no channel from a division by zero"),
        (-1e-3, "keeps no channel from a division by zero"),
        (1e-12, "less than 1e-08"),
        (0.9, "more than 0.05"),
        (float("inf"), "more than 0.05"),
        (float("nan"), "keeps no channel"),
    ],
)
def test_what_is_no_epsilon_is_told(onnx_file: Write, epsilon: float, what: str) -> None:
    model = parsed(chain("epsilon = 1.0"))
    model.graph.node[0].attribute[0].f = epsilon

    (finding,) = found(onnx_file(model), "BN043")
    assert what in finding.message
    assert not finding.fixable


def test_zero_epsilon_divides_by_zero(onnx_file: Write) -> None:
    text = chain("epsilon = 0.0", var="1.0, 0.0")
    y = session(parsed(text)).run(None, {"x": np.ones((1, 2), "f")})[0]

    assert not np.isfinite(y).all()
    assert found(onnx_file(text), "BN043")
    assert not found(onnx_file(text), "BN043", least=0.0)


def test_one_epsilon_among_many_is_told_with_its_effect(onnx_file: Write) -> None:
    usual, odd = "epsilon = 0.001", "epsilon = 0.00001"
    (finding,) = found(onnx_file(chain(usual, usual, odd, usual, usual)), "BN044")

    assert finding.layer == "bn2"
    # sqrt((0.01 + 1e-5) / (0.01 + 1e-3)) − 1, of the smaller of the two variances.
    assert finding.evidence["effect"] == pytest.approx(1 - (0.01001 / 0.011) ** 0.5, rel=1e-3)
    assert finding.severity is Severity.WARNING


def test_one_epsilon_without_an_effect_is_information(onnx_file: Write) -> None:
    usual, odd = "epsilon = 0.00001", "epsilon = 0.000001"
    path = onnx_file(chain(usual, usual, odd, usual, usual, var="1.0, 9.0"))

    (finding,) = found(path, "BN044")
    assert finding.severity is Severity.INFO
    assert found(path, "BN044", effect=0.0)[0].severity is Severity.WARNING


@pytest.mark.parametrize(
    "epsilons",
    [
        "aaabbb",  # two networks in one
        "aaaaaaaaaaaaaaabbb",  # a part with settings of its own
        "ab",  # nothing that is usual
        "aaa",
    ],
)
def test_epsilons_that_are_meant_are_not_told(onnx_file: Write, epsilons: str) -> None:
    written = {"a": "epsilon = 0.001", "b": "epsilon = 0.00001"}

    assert not found(onnx_file(chain(*(written[each] for each in epsilons))), "BN044")


@pytest.mark.parametrize(
    ("momentum", "severity", "confidence", "what"),
    [
        (0.1, Severity.WARNING, Confidence.LIKELY, "0.9 may be meant"),
        (0.01, Severity.WARNING, Confidence.LIKELY, "0.99 may be meant"),
        (0.0, Severity.WARNING, Confidence.LIKELY, "nothing of the old statistic is kept"),
        (1.5, Severity.WARNING, Confidence.CERTAIN, "no share"),
        (-0.1, Severity.WARNING, Confidence.CERTAIN, "no share"),
        (float("nan"), Severity.WARNING, Confidence.CERTAIN, "no share"),
    ],
)
def test_momentum_that_looks_wrong_is_told(
    onnx_file: Write, momentum: float, severity: Severity, confidence: Confidence, what: str
) -> None:
    model = parsed(chain("momentum = 0.5"))
    model.graph.node[0].attribute[0].f = momentum

    (finding,) = found(onnx_file(model), "BN045")
    assert what in finding.message
    assert "matters where training goes on" in finding.message
    assert (finding.severity, finding.confidence) == (severity, confidence)


# 1 is what PyTorch's exporter makes of momentum=None, a plain average over all batches.
@pytest.mark.parametrize("momentum", [0.9, 0.99, 0.999, 0.9997, 0.97, 0.5, 0.2, 1.0])
def test_momentum_that_frameworks_write_is_fine(onnx_file: Write, momentum: float) -> None:
    # PyTorch's 0.8 is 0.2 here: unusual, and written down in ONNX's own tests.
    assert not found(onnx_file(chain(f"momentum = {momentum}")), "BN045")


def test_a_momentum_of_one_is_told_where_it_is_not_the_networks_way(onnx_file: Write) -> None:
    mixed = onnx_file(chain(*["momentum = 0.9"] * 3, "momentum = 1.0"))
    (finding,) = found(mixed, "BN045")
    assert "never change" in finding.message
    assert finding.severity is Severity.INFO

    (finding,) = found(onnx_file(chain("momentum = 1.0, training_mode = 1")), "BN045")
    assert "never change" in finding.message


def test_the_least_momentum_is_an_option(onnx_file: Write) -> None:
    assert found(onnx_file(chain("momentum = 0.2")), "BN045", least=0.5)


def test_one_momentum_among_many_is_told(onnx_file: Write) -> None:
    usual = ["momentum = 0.9"] * 5
    (finding,) = found(onnx_file(chain(*usual, "momentum = 0.99", *usual)), "BN045")

    assert finding.layer == "bn5"
    assert "where 10 other BatchNorms have 0.9" in finding.message


# Axes

NHWC = """
agraph (float[1, 3, 4, W] x) => (float Y)
<float[4, 3, 1, 1] w, float[4] s = {1.0, 2.0, 1.0, 2.0}, float[4] b = {0.5, -0.5, 0.5, 0.5},
 float[4] m = {0.25, -4.0, 0.5, 0.0}, float[4] v = {1.0, 9.0, 1.0, 4.0}>
{ [conv] h = Conv(x, w)
  BODY }
""".replace("float Y", "float[A, B, C, D] y")


@pytest.mark.parametrize(
    ("body", "is_told"),
    [
        # The way there, an activation on it, and two turns that do not undo each other.
        (
            "t = Transpose <perm = [0, 2, 3, 1]> (h) [bn] y = BatchNormalization(t, s, b, m, v)",
            True,
        ),
        (
            "t = Transpose <perm = [0, 2, 3, 1]> (h) r = Relu(t) "
            "[bn] y = BatchNormalization(r, s, b, m, v)",
            True,
        ),
        (
            "t = Transpose <perm = [0, 2, 3, 1]> (h) u = Transpose <perm = [0, 2, 1, 3]> (t) "
            "[bn] y = BatchNormalization(u, s, b, m, v)",
            True,
        ),
        # There and back, and rows and columns changed: the channels are on axis 1.
        (
            "t = Transpose <perm = [0, 2, 3, 1]> (h) u = Transpose <perm = [0, 3, 1, 2]> (t) "
            "[bn] y = BatchNormalization(u, s, b, m, v)",
            False,
        ),
        (
            "t = Transpose <perm = [0, 1, 3, 2]> (h) [bn] y = BatchNormalization(t, s, b, m, v)",
            False,
        ),
        ("[bn] y = BatchNormalization(h, s, b, m, v)", False),
    ],
)
def test_transposes_in_front_tell_where_the_channels_are(
    onnx_file: Write, body: str, is_told: bool
) -> None:
    text = NHWC.replace("BODY", body)

    # The height equals the number of channels: it runs, and is wrong without a word.
    assert not is_refused(parsed(text), (1, 3, 4, 4))
    assert bool(found(onnx_file(text), "BN046")) is is_told
    assert not found(onnx_file(text), "BN040")


def test_the_numbers_are_wrong_where_it_is_told(onnx_file: Write) -> None:
    wrong = NHWC.replace(
        "BODY", "t = Transpose <perm = [0, 2, 3, 1]> (h) [bn] y = BatchNormalization(t, s, b, m, v)"
    )
    right = NHWC.replace(
        "BODY", "n = BatchNormalization(h, s, b, m, v) y = Transpose <perm = [0, 2, 3, 1]> (n)"
    )
    x = {"x": np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype("f")}
    one, other = (session(parsed(text)).run(None, x)[0] for text in (wrong, right))

    assert one.shape == other.shape
    assert np.abs(one - other).max() > 0.1


def test_a_layer_of_as_many_numbers_as_rows_is_meant(onnx_file: Write) -> None:
    # Four rows of five channels, and four numbers: nobody made those for the channels.
    text = NHWC.replace("[4, 3, 1, 1] w", "[5, 3, 1, 1] w").replace(
        "BODY", "t = Transpose <perm = [0, 2, 3, 1]> (h) [bn] y = BatchNormalization(t, s, b, m, v)"
    )
    assert not found(onnx_file(text), "BN046")


def test_sequences_that_are_turned_for_the_layer_are_right(onnx_file: Write) -> None:
    # BatchNorm1d over [N, T, C], as PyTorch users write it, with T equal to C.
    text = """
agraph (float[N, 4, 3] x) => (float[N, 4, 4] y)
<float[3, 4] w, float[4] s = {1.0, 2.0, 1.0, 2.0}, float[4] b = {0.5, -0.5, 0.5, 0.5},
 float[4] m = {0.25, -4.0, 0.5, 0.0}, float[4] v = {1.0, 9.0, 1.0, 4.0}>
{ h = MatMul(x, w)
  t = Transpose <perm = [0, 2, 1]> (h)
  [bn] n = BatchNormalization(t, s, b, m, v)
  y = Transpose <perm = [0, 2, 1]> (n) }
"""
    assert not found(onnx_file(text), "BN04")


def test_lengths_tell_an_input_with_channels_last(onnx_file: Write) -> None:
    parts = [f"[3] {name} = {{1.0, 1.0, 1.0}}" for name in "sbmv"]
    path = onnx_file(layer(*parts, shape="[N, 224, 224, 3]"))

    (finding,) = found(path, "BN046")
    assert "the length of the data's last axis; axis 1 has 224" in finding.message
    assert found(path, "BN040")
    rows = [f"[4] {name} = {{1.0, 1.0, 1.0, 1.0}}" for name in "sbmv"]
    (finding,) = found(onnx_file(layer(*rows, shape="[N, 4, 4, 3]")), "BN046")
    assert finding.confidence is Confidence.POSSIBLE
    assert not found(onnx_file(layer(*rows, shape="[N, 4, 4, 4]"), "same.onnx"), "BN046")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("x, s", "bn0: B, mean and var are missing: not given"),
        ("x, s, b, m, gone", "bn0: var is missing: nothing computes 'gone'"),
    ],
)
def test_a_parameter_that_is_not_there_is_told(onnx_file: Write, given: str, what: str) -> None:
    (finding,) = found(onnx_file(chain("momentum = 0.9").replace("x, s, b, m, v", given)), "BN040")

    assert finding.message == what
    assert finding.severity is Severity.ERROR
