"""Rules about a layer's values: BN010 to BN019."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_text import parsed

from inspector.check.rules import RULES
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import CheckedFile, CheckSettings, Finding, Severity
from inspector.flows.check import check_one

CODES = tuple(rule.info.code for rule in RULES if "BN010" <= rule.info.code < "BN020")


def checked(
    model: str | onnx.ModelProto, *codes: str, folder: Path, **thresholds: float
) -> CheckedFile:
    """What some rules find in a model, by other thresholds where given."""
    proto = parsed(model) if isinstance(model, str) else model
    onnx.save(proto, folder / "model.onnx")
    settings = CheckSettings(select=codes, thresholds={codes[0]: thresholds} if thresholds else {})
    file = check_one(folder / "model.onnx", settings)
    assert not file.unreadable
    return file


def found(
    model: str | onnx.ModelProto, code: str, folder: Path, **thresholds: float
) -> tuple[Finding, ...]:
    return checked(model, code, folder=folder, **thresholds).findings


def one(model: str | onnx.ModelProto, code: str, folder: Path, **thresholds: float) -> Finding:
    (finding,) = found(model, code, folder, **thresholds)
    return finding


def text(
    s: str = "1, 2",
    b: str = "0.5, -0.5",
    m: str = "0.25, -4",
    v: str = "1, 9",
    attributes: str = "",
) -> str:
    """One layer with these values."""
    n = s.count(",") + 1
    return f"""
agraph (float[N, {n}] x) => (float[N, {n}] y)
<float[{n}] s = {{{s}}}, float[{n}] b = {{{b}}}, float[{n}] m = {{{m}}}, float[{v.count(",") + 1}] v
 = {{{v}}}>
{{ [bn] y = BatchNormalization {attributes} (x, s, b, m, v) }}
"""


def of_type(dtype: int, **values: list[float]) -> onnx.ModelProto:
    """One layer whose data and parameters are of a type that ONNX's text form cannot write."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    given_values = {"s": [1, 2], "b": [0.5, -0.5], "m": [0.25, -4], "v": [1, 9], **values}
    n = len(given_values["s"])
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], "bn")],
        "agraph",
        [helper.make_tensor_value_info("x", dtype, ["N", n])],
        [helper.make_tensor_value_info("y", dtype, ["N", n])],
        [
            numpy_helper.from_array(np.array(numbers, dtype=kind), name)
            for name, numbers in given_values.items()
        ],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def ran(model: str | onnx.ModelProto, x: list[list[float]]) -> NDArray[Any]:
    """What ONNX Runtime gives."""
    proto = parsed(model) if isinstance(model, str) else model
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return np.asarray(session.run(None, {"x": np.array(x, np.float32)})[0])


def test_a_sound_layer_has_no_findings(tmp_path: Path) -> None:
    assert not checked(text(), *CODES, folder=tmp_path).findings


@pytest.mark.parametrize("role", ["s", "b", "m", "v"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_bn010_finds_what_the_runtime_makes_no_number_of(
    role: str, value: str, tmp_path: Path
) -> None:
    model = text(**{role: f"1, {value}"})

    y = ran(model, [[1.0, 2.0]])[0]

    finding = one(model, "BN010", tmp_path)
    names = {"s": "scale", "b": "B", "m": "mean", "v": "var"}
    assert finding.message.startswith(
        f"bn: {names[role]} is {value.replace('nan', 'NaN')} in channel 1"
    )
    assert finding.channels == (1,)
    assert np.isfinite(y[0])
    if (role, value) == ("v", "inf"):
        assert y[1] == np.float32(-0.5)  # nothing but the bias is left
    else:
        assert not np.isfinite(y[1])


def test_bn010_tells_nan_from_infinity_and_counts_both(tmp_path: Path) -> None:
    finding = one(
        text(s="nan, inf, -inf", b="0, 0, 0", m="0, 0, 0", v="1, 1, 1"), "BN010", tmp_path
    )

    assert "NaN in channel 0 of 3 and inf or -inf in 2 of 3 channels (1, 2)" in finding.message
    assert finding.evidence == {"parameter": "scale", "nan": 1, "infinite": 2}


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_rules_read_other_types(dtype: int, tmp_path: Path) -> None:
    assert not checked(of_type(dtype), *CODES, folder=tmp_path).findings
    damaged = of_type(dtype, s=[1, float("nan")], b=[float("inf"), 0], m=[0, 0], v=[1, -1])
    assert Counter(each.rule for each in checked(damaged, *CODES, folder=tmp_path).findings) == {
        "BN010": 2,
        "BN011": 1,
    }
    fresh = of_type(dtype, s=[0, 0], m=[0, 0], v=[1, 1])
    rules = [each.rule for each in checked(fresh, *CODES, folder=tmp_path).findings]
    assert rules == ["BN015", "BN017"]


def test_bn010_finds_an_overflow_of_a_cast_to_float16(tmp_path: Path) -> None:
    with np.errstate(over="ignore"):
        var = np.array([70000.0, 9.0]).astype(np.float16)

    assert np.isinf(var[0])
    finding = one(of_type(TensorProto.FLOAT16, v=var.tolist()), "BN010", tmp_path)
    assert finding.evidence["parameter"] == "var"
    assert finding.channels == (0,)


def test_bn010_looks_at_the_slope_where_nothing_else_is_left(tmp_path: Path) -> None:
    proto = parsed("""
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[1, 2, 1, 1] "net/batch_normalization/mul" = {1.5, nan},
 float[1, 2, 1, 1] "net/batch_normalization/sub" = {0.5, -0.5}>
{ [scale] h = Mul(x, "net/batch_normalization/mul")
  [shift] y = Add(h, "net/batch_normalization/sub") }
""")
    proto.graph.node[0].name = "net/batch_normalization/batchnorm/mul_1"
    proto.graph.node[1].name = "net/batch_normalization/batchnorm/add_1"

    slope, intercept = found(proto, "BN010", tmp_path)

    assert "slope is NaN in channel 1 of 2" in slope.message
    assert intercept.evidence["parameter"] in ("slope", "intercept")
    assert {each.rule for each in checked(proto, *CODES, folder=tmp_path).findings} == {"BN010"}


@pytest.mark.parametrize(
    ("var", "finite", "severity"),
    [
        ("-0.5", False, Severity.ERROR),
        ("-0.00001", False, Severity.ERROR),  # just epsilon: a division by zero
        ("-0.000001", True, Severity.WARNING),  # rounding may leave this
    ],
)
def test_bn011_is_an_error_where_the_output_is_no_number(
    var: str, finite: bool, severity: Severity, tmp_path: Path
) -> None:
    model = text(v=f"1, {var}")

    assert np.isfinite(ran(model, [[1.0, 2.0]])[0, 1]) == finite
    finding = one(model, "BN011", tmp_path)
    assert finding.severity is severity
    assert finding.channels == (1,)
    assert ("no finite inverse root" in finding.message) is not finite


def test_bn011_finds_the_least_beside_a_nan(tmp_path: Path) -> None:
    finding = one(text(s="1,1,1", b="0,0,0", m="0,0,0", v="nan, -1, -4"), "BN011", tmp_path)

    assert finding.evidence["least"] == -4.0
    assert finding.channels == (1, 2)


def test_bn011_and_bn012_take_minus_zero_for_zero(tmp_path: Path) -> None:
    model = text(v="1, -0.0")

    assert not found(model, "BN011", tmp_path)
    assert one(model, "BN012", tmp_path).channels == (1,)


def test_bn012_tells_how_much_is_amplified_as_the_runtime_does(tmp_path: Path) -> None:
    model = text(v="1, 0")

    finding = one(model, "BN012", tmp_path)
    low, high = ran(model, [[0.0, 0.0], [0.0, 1.0]])[:, 1]

    assert finding.severity is Severity.WARNING
    assert f"{high - low:.3g}" == "632"
    assert "632.5" in finding.message  # 2 / sqrt(1e-5)


def test_bn012_is_an_error_where_epsilon_is_zero_too(tmp_path: Path) -> None:
    for scale in ("1, 2", "1, 0"):
        model = text(s=scale, v="1, 0", attributes="<epsilon = 0.0>")

        assert not np.isfinite(ran(model, [[1.0, 2.0]])[0, 1])
        finding = one(model, "BN012", tmp_path)
        assert finding.severity is Severity.ERROR
        assert "divides by zero" in finding.message


@pytest.mark.parametrize(
    ("scale", "var", "channels"),
    [
        ("1, 0.001", "1, 0", ()),  # dead: its slope is 0.3
        ("1, 0.01", "1, 0", (1,)),
        ("0.001, 0.001", "0, 0", (0, 1)),  # no layer is without any variance
        ("0, 0", "0, 0", ()),  # unless it passes nothing on
        ("1, 1", "1, 5.6e-45", (1,)),  # what is left of a decay by a factor
        ("1, 1", "1, 0.0000000001", ()),  # not zero: BN013 tells
    ],
)
def test_bn012_is_about_channels_that_pass_something_on(
    scale: str, var: str, channels: tuple[int, ...], tmp_path: Path
) -> None:
    findings = found(text(s=scale, v=var), "BN012", tmp_path)

    assert tuple(c for each in findings for c in each.channels) == channels


def test_a_variance_that_decays_ends_in_a_denormal_and_not_at_zero() -> None:
    """As BN012 says of its threshold: `var = momentum * var + (1 - momentum) * 0`."""
    var = np.float32(1.0)
    for _ in range(2000):
        var = np.float32(0.9) * var

    assert 0 < var < np.finfo(np.float32).smallest_normal


def test_bn012_and_bn013_go_by_the_thresholds_that_are_asked_for(tmp_path: Path) -> None:
    model = text(s="1, 0.001", v="1, 0")
    tiny = text(v="0.0001, 0.00000005")

    assert one(model, "BN012", tmp_path, slope=0.1).channels == (1,)
    assert one(tiny, "BN012", tmp_path, var=1e-6).channels == (1,)
    assert one(tiny, "BN013", tmp_path).channels == (1,)
    assert not found(tiny, "BN013", tmp_path, slope=1e6)
    assert not found(tiny, "BN013", tmp_path, share=1e-6)


def test_bn013_says_what_another_epsilon_would_change(tmp_path: Path) -> None:
    model = text(v="1, 0.000000001")
    other = text(v="1, 0.000000001", attributes="<epsilon = 0.001>")

    finding = one(model, "BN013", tmp_path)

    a, b = (ran(each, [[0.0, 0.0], [0.0, 1.0]])[:, 1] for each in (model, other))
    assert 9 < (a[1] - a[0]) / (b[1] - b[0]) < 11
    assert finding.channels == (1,)
    assert "1e-09" in finding.message
    assert "632.4" in finding.message
    assert not found(other, "BN013", tmp_path)  # its slope is 63


@pytest.mark.parametrize(
    ("scale", "channels"), [("1, 2000", (1,)), ("1, -2000", (1,)), ("1, 2", ())]
)
def test_bn014_goes_by_the_size_of_slope_and_intercept(
    scale: str, channels: tuple[int, ...], tmp_path: Path
) -> None:
    findings = found(text(s=scale, m="0.25, 0", v="1, 1"), "BN014", tmp_path)

    assert tuple(c for each in findings for c in each.channels) == channels


def test_bn014_tells_slope_and_intercept_apart(tmp_path: Path) -> None:
    finding = one(text(m="0.25, -100000"), "BN014", tmp_path)
    y = ran(text(m="0.25, -100000"), [[0.0, 0.0]])[0, 1]

    assert finding.evidence["value"] == "intercept"
    assert finding.evidence["most"] == pytest.approx(abs(y), rel=1e-5)
    assert not found(text(m="0.25, -100000"), "BN014", tmp_path, intercept=1e6)


def test_bn014_leaves_what_is_not_finite_to_others(tmp_path: Path) -> None:
    for values in ({"s": "1, inf"}, {"v": "1, -1"}, {"v": "nan, nan"}):
        assert not found(text(**values), "BN014", tmp_path)


FRESH = {"s": "1, 1", "b": "0, 0", "m": "0, 0", "v": "1, 1"}


@pytest.mark.parametrize(
    ("values", "untouched"),
    [
        (FRESH, True),
        ({"m": "0, 0", "v": "1, 1"}, True),
        ({"m": "0, -0.0", "v": "1, 1"}, True),
        ({"s": "2", "b": "1", "m": "0", "v": "1"}, True),
        ({"m": "0, 0.000001", "v": "1, 1"}, False),
        ({"m": "0, 0", "v": "1, 1.0000001"}, False),
        ({"m": "0, 0", "v": "1, nan"}, False),
        ({"m": "1, 1", "v": "0, 0"}, False),
    ],
)
def test_bn015_goes_by_every_channel(
    values: dict[str, str], untouched: bool, tmp_path: Path
) -> None:
    findings = found(text(**values), "BN015", tmp_path)

    assert len(findings) == untouched
    assert all(len(each.channels) == values["m"].count(",") + 1 for each in findings)


def test_bn015_means_what_frameworks_begin_with() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra to ask it")
    layer = torch.nn.BatchNorm2d(3)

    assert layer.running_mean.tolist() == [0, 0, 0]
    assert layer.running_var.tolist() == [1, 1, 1]
    layer(torch.randn(2, 3, 4, 4))
    assert 1 not in layer.running_var.tolist()


def several(*layers: dict[str, str]) -> str:
    """Layers in a row, each with values of its own."""
    stored, nodes, value = [], [], "x"
    for at, values in enumerate(layers):
        four = {
            "s": "1.5, 2",
            "b": "0.5, -0.5",
            "m": f"0.{at + 1}, -4",
            "v": f"1, {at + 2}",
            **values,
        }
        stored += [f"float[2] {role}{at} = {{{numbers}}}" for role, numbers in four.items()]
        after = "y" if at == len(layers) - 1 else f"h{at}"
        nodes.append(f"[n{at}] {after} = BatchNormalization({value}, s{at}, b{at}, m{at}, v{at})")
        value = after
    return (
        f"agraph (float[N, 2] x) => (float[N, 2] y)\n<{', '.join(stored)}>\n{{ {' '.join(nodes)} }}"
    )


def test_bn015_says_of_a_net_that_was_never_trained_once(tmp_path: Path) -> None:
    finding = one(several(FRESH, FRESH, FRESH), "BN015", tmp_path)

    assert finding.layer == ""
    assert "n0, n1, n2" in finding.message
    some = found(several(FRESH, {}, FRESH), "BN015", tmp_path)
    assert [each.layer for each in some] == ["n0", "n2"]


RESET = {"s": "1, 1", "b": "0, 0"}


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (({}, RESET), ["n1"]),
        (({}, {}, RESET, {}), ["n2"]),
        ((RESET, RESET), []),  # made without scale and bias
        ((RESET, RESET, {}), []),  # most are made so
        (({}, FRESH), []),  # a new layer: BN015 tells
        (({}, {"s": "1, 1"}), []),  # scale=False in Keras
        (({}, {"b": "0, 0"}), []),  # center=False
        (({"b": "0, 0"}, {"s": "1, 1"}, RESET), []),  # nobody has learned both
    ],
)
def test_bn016_goes_by_the_other_layers(
    layers: tuple[dict[str, str], ...], told: list[str], tmp_path: Path
) -> None:
    findings = found(several(*layers), "BN016", tmp_path)

    assert [each.layer for each in findings] == told


def test_bn016_goes_by_the_share_that_is_asked_for(tmp_path: Path) -> None:
    model = several(RESET, RESET, {})

    assert len(found(model, "BN016", tmp_path, share=1.0)) == 2


def test_bn016_leaves_a_scale_that_follows_as_caffe_writes_it(tmp_path: Path) -> None:
    model = """
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2] s = {1.5, 2}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4}, float[2] v = {1, 9},
 float[2] ones = {1, 1}, float[2] zeros = {0, 0}, float[2, 1, 1] gamma = {2, 3},
 float[2, 1, 1] beta = {1, -1}>
{ [bn1] h = BatchNormalization(x, s, b, m, v)
  [bn2] i = BatchNormalization(h, ones, zeros, m, v)
  j = Mul(i, gamma)
  y = Add(j, beta) }
"""
    assert not found(model, "BN016", tmp_path)


def test_bn017_says_that_the_output_never_changes_as_the_runtime_shows(tmp_path: Path) -> None:
    model = text(s="0, -0.0")

    y = ran(model, [[1.0, 2.0], [-30.0, 400.0]])

    assert (y[0] == y[1]).all()
    finding = one(model, "BN017", tmp_path)
    assert finding.channels == (0, 1)
    assert not found(model, "BN018", tmp_path)
    assert not found(text(s="0, nan"), "BN017", tmp_path)


def test_bn017_counts_what_is_next_to_zero_by_its_threshold(tmp_path: Path) -> None:
    model = text(s="0, 1e-10")

    assert "at most 1e-10" in one(model, "BN017", tmp_path).message
    assert not found(model, "BN017", tmp_path, scale=0.0)
    assert one(text(s="0.01, 0.02"), "BN017", tmp_path, scale=0.1).rule == "BN017"


CONV = """
agraph (float[N, 3, 8, 8] x) => (float[N, 4, H, W] y%s)
<float[4, 3, 3, 3] w, float[4] s = {1, 0, 0.5, 0.00001}, float[4] b = {0.5, -0.5, 1, 2},
 float[4] m = {0.25, -4, 1, 1}, float[4] v = {1, 9, 1, 1}>
{ [conv] h = Conv(x, w)
  %s
  [bn] y = BatchNormalization(%s, s, b, m, v) }
"""


@pytest.mark.parametrize(
    ("outputs", "between", "taken", "filters"),
    [
        ("", "", "h", 2),
        ("", "r = Relu(h)", "r", 2),
        ("", "r = Relu(h) p = MaxPool <kernel_shape = [2, 2]> (r)", "p", 2),
        (", float[N, 4, 6, 6] h", "", "h", 0),  # others get what the filters give
        (", float[N, 4, 6, 6] z", "z = Relu(h)", "h", 0),
        ("", "r = Softmax <axis = 1> (h)", "r", 0),  # it mixes channels
    ],
)
def test_bn018_counts_filters_that_nobody_else_needs(
    outputs: str, between: str, taken: str, filters: int, tmp_path: Path
) -> None:
    finding = one(CONV % (outputs, between, taken), "BN018", tmp_path)

    assert finding.channels == (1, 3)
    assert finding.evidence["filters"] == filters
    assert finding.evidence["weights"] == filters * 27
    assert ("2 filters of Conv conv (54 weights) could be pruned" in finding.message) is (
        filters > 0
    )


def test_bn018_means_filters_that_change_nothing_when_they_go(tmp_path: Path) -> None:
    """ONNX Runtime gives the same with the weights of the filters told set to anything."""
    proto = parsed((CONV % ("", "r = Relu(h)", "r")).replace("0.00001", "0"))
    (weight,) = [each for each in proto.graph.initializer if each.name == "w"]
    draw = np.random.default_rng(3)
    values = draw.normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(values, "w"))
    dead = one(proto, "BN018", tmp_path).channels
    x = draw.normal(size=(2, 3, 8, 8)).tolist()
    before = ran(proto, x)

    values[list(dead)] = 7.0
    weight.CopyFrom(numpy_helper.from_array(values, "w"))

    assert (ran(proto, x) == before).all()


def test_bn018_goes_by_the_share_that_is_asked_for(tmp_path: Path) -> None:
    model = CONV % ("", "", "h")

    assert one(model, "BN018", tmp_path, share=0.0).channels == (1,)
    assert one(model, "BN018", tmp_path, share=0.6).channels == (1, 2, 3)
    assert not found(text(s="0.00001, 0.00001"), "BN018", tmp_path)  # all alike are not dead


def two(first: str, second: str, more: str = "", between: str = "h") -> str:
    return f"""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {{1, 2}}, float[2] b = {{0.5, -0.5}}, float[2] m = {{0.25, -4}},
 float[2] v = {{1, 9}}, float[2] s2 = {{3, 4}}, float[2] b2 = {{1.5, 2.5}},
 float[2] m2 = {{0.25, -4}}, float[2] v2 = {{1, 9}}, float[2] ones = {{1, 1}},
 float[2] zeros = {{0, 0}}{more}>
{{ [bn1] h = BatchNormalization(x, {first})
  [bn2] k = BatchNormalization({between}, {second})
  y = Add(h, k) }}
"""


@pytest.mark.parametrize(
    ("second", "severity", "what"),
    [
        ("s2, b2, m, v", Severity.WARNING, "its mean and var"),
        ("s2, b2, m2, v2", Severity.WARNING, "its mean and var"),  # equal, and stored twice
        ("s, b, m2, v2", Severity.WARNING, "all four of its parameters"),
        ("s, b, m, v", Severity.INFO, "all four of its parameters"),  # called twice
    ],
)
def test_bn019_compares_statistics_bit_for_bit(
    second: str, severity: Severity, what: str, tmp_path: Path
) -> None:
    finding = one(two("s, b, m, v", second), "BN019", tmp_path)

    assert finding.severity is severity
    assert finding.message == f"bn1: {what} are bit for bit those of bn2 in all 2 channels"


def test_bn019_leaves_layers_that_read_the_same_value(tmp_path: Path) -> None:
    """Torch gives such layers equal statistics: they have seen the same data."""
    torch = pytest.importorskip("torch", reason="needs the torch extra to ask it")
    one_layer, other = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    x = torch.randn(5, 2)
    one_layer(x), other(x)

    assert torch.equal(one_layer.running_var, other.running_var)
    assert not found(two("s, b, m, v", "s2, b2, m2, v2", between="x"), "BN019", tmp_path)


@pytest.mark.parametrize("statistics", ["zeros, ones", "ones, ones", "nans, nans"])
def test_bn019_leaves_constants_and_damaged_values_to_others(
    statistics: str, tmp_path: Path
) -> None:
    model = two(f"s, b, {statistics}", f"s2, b2, {statistics}", more=", float[2] nans = {nan, 1}")
    findings = found(model, "BN019", tmp_path)

    assert not [each for each in findings if "bit for bit" in each.message]


def test_bn019_leaves_the_two_branches_of_an_if(tmp_path: Path) -> None:
    model = """
agraph (float[N, 2] x, bool which) => (float[N, 2] y)
<float[2] s = {1, 2}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4}, float[2] v = {1, 9}>
{ [if] y = If (which) <
    then_branch = yes () => (float[N, 2] t) {
      a = Relu(x)
      [one] t = BatchNormalization(a, s, b, m, v)
    },
    else_branch = no () => (float[N, 2] e) {
      c = Tanh(x)
      [other] e = BatchNormalization(c, s, b, m, v)
    }
  > }
"""
    file = checked(model, "BN019", folder=tmp_path)

    assert file.layers == 2
    assert not file.findings


@pytest.mark.parametrize(
    ("four", "roles"),
    [
        ("s, b, m, s", ["scale, var"]),
        ("s, b, b, v", ["B, mean"]),
        ("s, b, v, v", ["mean, var"]),
        ("s, b, m2, m", ["mean, var"]),  # stored twice
        ("ones, b, ones, ones", ["scale, mean", "mean, var"]),
        # What torch's exporter merges in a new layer, and in one of a residual block.
        ("ones, zeros, zeros, ones", []),
        ("zeros, zeros, zeros, ones", []),
        ("s, b, m, v", []),
    ],
)
def test_bn019_finds_one_tensor_in_two_roles(four: str, roles: list[str], tmp_path: Path) -> None:
    model = two(four, "s2, b2, zeros, ones", more=", float[2] o = {1, 1}")

    told = [each.evidence.get("roles") for each in found(model, "BN019", tmp_path)]

    assert [each for each in told if each] == roles


def test_bn019_shows_that_a_shared_tensor_changes_the_output(tmp_path: Path) -> None:
    """One tensor as mean and var: what was the other's is lost."""
    sound = text(m="0.25, -4")
    merged = sound.replace("b, m, v)", "b, v, v)")

    assert not np.allclose(ran(sound, [[1.0, 2.0]]), ran(merged, [[1.0, 2.0]]))
    finding = one(merged, "BN019", tmp_path)
    assert "mean and var are one tensor (v) in all 2 channels, from 1 to 9" in finding.message
    assert finding.confidence is Confidence.CERTAIN


def test_a_new_layer_with_merged_initializers_is_told_once(tmp_path: Path) -> None:
    model = text(**FRESH).replace("(x, s, b, m, v)", "(x, s, b, b, s)")

    rules = [each.rule for each in checked(model, *CODES, folder=tmp_path).findings]

    assert rules == ["BN015"]


def test_nothing_is_said_of_a_layer_without_channels(tmp_path: Path) -> None:
    proto = parsed(text())
    for each in proto.graph.initializer:
        each.CopyFrom(numpy_helper.from_array(np.zeros(0, np.float32), each.name))

    assert not checked(proto, *CODES, folder=tmp_path).findings


def test_what_is_not_in_the_file_is_not_judged(tmp_path: Path) -> None:
    model = """
agraph (float[N, 2] x, float[2] m, float[2] v) => (float[N, 2] y)
<float[2] s = {1, nan}, float[2] b = {0.5, -0.5}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
"""
    assert [each.rule for each in checked(model, *CODES, folder=tmp_path).findings] == ["BN010"]


def test_lengths_that_disagree_are_left_to_their_own_rule(tmp_path: Path) -> None:
    model = text(v="0, 0, 0")

    # Without a slope nothing speaks against telling a variance of zero.
    assert [each.rule for each in checked(model, *CODES, folder=tmp_path).findings] == ["BN012"]


def test_training_mode_is_not_told_what_it_does_not_go_by(tmp_path: Path) -> None:
    model = (
        text(s="5000, 1", v="0, 0.000000001")
        .replace("y = B", "y, rm, rv = B")
        .replace("BatchNormalization ", "BatchNormalization <training_mode = 1>")
    )

    assert not checked(model, "BN012", "BN013", "BN014", folder=tmp_path).findings


NUMBERS = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"), 0.5]
)
FOUR = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=3)


@given(channels=FOUR, epsilon=st.sampled_from([0.0, 1e-5, float("nan"), -1.0, float("inf")]))
def test_no_values_stop_a_rule_and_errors_mean_no_number(
    channels: list[tuple[float, ...]], epsilon: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where the reference implementation gives no number, there is an error, and a way back."""
    s, b, m, v = ([each[at] for each in channels] for at in range(4))
    proto = of_type(TensorProto.FLOAT, s=s, b=b, m=m, v=v)
    proto.graph.node[0].attribute.append(helper.make_attribute("epsilon", epsilon))
    x = np.full((1, len(s)), 0.25, np.float32)
    with np.errstate(all="ignore"):
        y = np.asarray(ReferenceEvaluator(proto).run(None, {"x": x})[0])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        findings = checked(proto, *CODES, folder=tmp_path_factory.mktemp("model")).findings

    assert all(0 <= each < len(s) for one_of in findings for each in one_of.channels)
    errors = {c for each in findings if each.severity is Severity.ERROR for c in each.channels}
    # 1e30 may be too large for what it is multiplied by; epsilon has a rule of its own.
    if np.isfinite(epsilon) and epsilon >= 0 and 1e30 not in (*s, *b, *m, *v):
        broken = set(np.flatnonzero(~np.isfinite(y[0])).tolist())
        assert broken <= errors


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_a_nan_of_any_kind_is_read_without_a_warning(kind: type, tmp_path: Path) -> None:
    """A signalling NaN makes numpy warn where it is cast."""
    proto = parsed(text())
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[np.dtype(kind).itemsize]
    raw = np.array([1, 1], dtype=kind).view(bits)
    infinity = np.array([np.inf], dtype=kind).view(bits)[0]
    raw[1] = infinity + bits(1)
    for at, each in enumerate(proto.graph.initializer):
        values = raw.view(kind) if at == 3 else np.ones(2, dtype=kind)
        each.CopyFrom(numpy_helper.from_array(values, each.name))

    finding = one(proto, "BN010", tmp_path)

    assert finding.channels == (1,)


def test_the_corpus_has_what_was_looked_at_and_no_more(corpus: Path) -> None:
    """No rule about values finds an error in it, and warnings are in these files alone."""
    told: dict[str, set[str]] = {}
    settings = CheckSettings(select=CODES)
    for path in sorted((corpus / "models").rglob("*.onnx")):
        for each in check_one(path, settings).findings:
            assert each.severity is not Severity.ERROR, (path, each.message)
            if each.severity is Severity.WARNING:
                told.setdefault(each.rule, set()).add(path.name.split("__")[-1].split(".")[0])

    # Two channels of DenseNet's first layers never varied; so did one of a net that was made to
    # be small. Both were trained with the default epsilon.
    assert told.pop("BN012") == {"light_densenet121"}
    assert told.pop("BN013") == {
        "light_densenet121",
        "fuse-conv-bn-no-bias",
        "fuse-conv-bn-mul-add-unsqueeze",
        "fuse-conv-bn-mul-add-unsqueeze-no-bias",
        "mnist",
    }
    assert told.keys() == {"BN015"}
