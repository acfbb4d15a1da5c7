"""Rules about narrower types, beside real casts and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_text import parsed

from inspector.check.precision import CAST, halved, is_sound, rounded
from inspector.facts.arrays import Arrays
from inspector.facts.finding import CheckSettings, Finding, Severity
from inspector.flows.check import check_one

Write = Callable[..., Path]

CONV_BN = """
agraph (float[N, 2, 1, 1] x) => (float[N, 2, 1, 1] y)
<float[2, 2, 1, 1] w = {1.0, 0.0, 0.0, 1.0}, float[2] s = {1.0, 2.0},
 float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0}, float[2] v = {1.0, VAR}>
{ [conv] h = Conv(x, w)
  [bn] y = BatchNormalization <epsilon = EPSILON> (h, s, b, m, v) }
"""


def conv_bn(var: str, epsilon: str = "0.00001") -> str:
    return CONV_BN.replace("VAR", var).replace("EPSILON", epsilon)


def layer(
    scale: str = "1.0, 2.0",
    bias: str = "0.5, -0.5",
    mean: str = "0.25, -4.0",
    var: str = "1.0, 9.0",
    epsilon: str = "0.00001",
) -> str:
    channels = scale.count(",") + 1 if scale else 0
    return f"""
agraph (float[N, {channels}] x) => (float[N, {channels}] y)
<float[{channels}] s = {{{scale}}}, float[{channels}] b = {{{bias}}},
 float[{channels}] m = {{{mean}}}, float[{channels}] v = {{{var}}}>
{{ [bn] y = BatchNormalization <epsilon = {epsilon}> (x, s, b, m, v) }}
"""


def found(path: Path, *codes: str, **numbers: float) -> tuple[Finding, ...]:
    """What the rules find; the numbers are options of the first."""
    settings = CheckSettings(select=codes, thresholds={codes[0]: numbers} if numbers else {})
    file = check_one(path, settings)
    assert not file.unreadable
    return file.findings


def cast(model: onnx.ModelProto, dtype: type, but: Sequence[str] = ()) -> onnx.ModelProto:
    """The model as a plain converter casts it: all that is stored, and inputs and outputs."""
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for tensor in model.graph.initializer:
        if tensor.name not in but:
            with np.errstate(over="ignore"):
                values = onnx.numpy_helper.to_array(tensor).astype(dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = number
    return model


def ran(model: onnx.ModelProto, x: np.ndarray, *, fused: bool) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if fused else levels.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"x": x})[0].astype(np.float64).reshape(-1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_that_of_the_type(dtype: str) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 100_000, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    edges = np.array([0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, 1e-45, 3.4e38], "f")
    values = np.concatenate([values, edges])
    real = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    with np.errstate(all="ignore"):
        expected = values.astype(real).astype(np.float64)

    np.testing.assert_array_equal(rounded(values, dtype), expected)


def test_a_variance_beyond_float16_makes_the_channel_a_constant(onnx_file: Write) -> None:
    text = conv_bn("150000.0")
    x = np.array([[0.25], [380.0]], "f").reshape(1, 2, 1, 1)
    sound = ran(parsed(text), x, fused=False)
    half = ran(cast(parsed(text), np.float16), x.astype(np.float16), fused=False)

    # What ONNX Runtime does with the cast model: the bias is all that is left of channel 1.
    assert sound[1] == pytest.approx(1.483, abs=1e-3)
    assert half[1] == -0.5

    (finding,) = found(onnx_file(text), "BN020")
    assert finding.channels == (1,)
    assert "var is up to 1.5e+05, beyond 65504" in finding.message
    assert finding.evidence["cause"] == "var overflows"
    # Folded first, nothing is lost; and the remedy says so.
    assert finding.evidence["loss_folded"] < 0.01
    assert finding.remedy.startswith("fold it into conv in float32")


def test_var_and_epsilon_that_vanish_divide_by_zero_where_runtimes_fuse(onnx_file: Write) -> None:
    text = conv_bn("0.000000001", "0.00000001")
    x = np.array([[0.25], [-4.0]], "f").reshape(1, 2, 1, 1)
    half = cast(parsed(text), np.float16)

    assert ran(parsed(text), x, fused=True)[1] == pytest.approx(-0.5, abs=1e-3)
    assert not np.isfinite(ran(half, x.astype(np.float16), fused=True)[1])

    (finding,) = found(onnx_file(text), "BN020")
    assert finding.channels == (1,)
    assert "vanishes in float16" in finding.message
    assert finding.evidence["loss_computed"] == np.inf


def test_epsilon_that_vanishes_beside_a_sound_variance_is_no_finding(onnx_file: Write) -> None:
    assert not found(onnx_file(layer(epsilon="0.000000001")), "BN020", "BN021")


def test_a_dead_channel_that_vanishes_is_no_finding(onnx_file: Write) -> None:
    # As weight decay leaves them: scale and variance next to nothing, and nothing comes through.
    dead = layer(scale="1.0, 1e-12", bias="0.5, -1e-10", mean="0.25, 0.0", var="1.0, 1e-20")
    assert not found(onnx_file(dead), "BN020", "BN021")


@pytest.mark.parametrize(
    ("parameters", "cause"),
    [
        ({"mean": "0.25, 100000.0"}, "mean overflows"),
        ({"scale": "1.0, 100000.0"}, "scale overflows"),
        ({"bias": "0.5, 100000.0"}, "B overflows"),
        (
            {"var": "1.0, 0.0", "scale": "1.0, 1000.0", "epsilon": "0.0000001"},
            "slope or intercept overflows",
        ),
        ({"mean": "0.25, 1000.3", "var": "1.0, 0.01"}, "rounding"),
        ({"scale": "0.00000001, 0.00000001", "bias": "0.0, 0.0"}, "the slope vanishes"),
    ],
)
def test_each_cause_is_named(onnx_file: Write, parameters: dict[str, str], cause: str) -> None:
    findings = found(onnx_file(layer(**parameters)), "BN020")

    assert [each.evidence["cause"] for each in findings] == [cause]
    assert findings[0].severity is Severity.WARNING
    assert findings[0].layer == "bn"


def test_the_bound_is_an_option(onnx_file: Write) -> None:
    path = onnx_file(layer(mean="0.25, 300.7", var="1.0, 4.0"))

    assert found(path, "BN021", loss=0.01)
    assert not found(path, "BN021", loss=5.0)
    assert not found(path, "BN020")


def test_bfloat16_loses_what_it_rounds_away(onnx_file: Write) -> None:
    text = layer(mean="0.25, 300.7", var="1.0, 1.0")
    # The three digits of bfloat16: nothing between 300 and 302.
    assert float(ml_dtypes.bfloat16(300.7)) == 300.0

    (finding,) = found(onnx_file(text), "BN021")
    assert finding.channels == (1,)
    # The mean as bfloat16 has it, taken from data as bfloat16 has it; of an output of 2 · 1 + 0.5.
    points = np.array([-1, -0.5, 0, 0.5, 1])
    halves = (points + 300.7).astype(ml_dtypes.bfloat16).astype(float) - 300.0
    expected = np.abs(halves - points).max() * 2 / 2.5
    assert finding.evidence["loss_cast"] == pytest.approx(expected, rel=1e-3)


def test_a_float16_file_is_checked_as_it_is(onnx_file: Write) -> None:
    text = layer(var="1.0, 0.0000001", epsilon="0.00000001")
    path = onnx_file(cast(parsed(text), np.float16))

    # Stored, the variance is 1.2e-7 and no longer what it was: that is not to be seen here.
    assert not found(path, "BN021")
    tiny = layer(var="1.0, 0.0", epsilon="0.00000001")
    (finding,) = found(onnx_file(cast(parsed(tiny), np.float16)), "BN020")
    assert finding.evidence["cause"] == "var + epsilon vanishes"


def test_parameters_kept_in_float32_beside_half_data_are_fine(onnx_file: Write) -> None:
    model = cast(parsed(layer(var="1.0, 150000.0")), np.float16, but="sbmv")

    assert not found(onnx_file(model), "BN020", "BN021", "BN041")


def test_a_bfloat16_file_is_read(onnx_file: Write) -> None:
    model = cast(parsed(layer(scale="1.0, 3e38", var="1.0, 0.0001")), ml_dtypes.bfloat16)
    path = onnx_file(model)

    assert not found(path, "BN020")
    assert [each.evidence["cause"] for each in found(path, "BN021")] == [
        "slope or intercept overflows"
    ]


@pytest.mark.parametrize(
    "parameters",
    [
        {"scale": "nan, 1.0"},
        {"var": "-1.0, inf"},
        {"mean": "inf, -inf"},
        {"scale": "0.0, 0.0", "bias": "0.0, 0.0"},
        {"scale": "", "bias": "", "mean": "", "var": ""},
        {"scale": "3e38, 3e38", "var": "0.0, 0.0", "epsilon": "0.0"},
    ],
)
@pytest.mark.filterwarnings("error")
def test_broken_values_break_nothing(onnx_file: Write, parameters: dict[str, str]) -> None:
    path = onnx_file(layer(**parameters))

    for each in found(path, "BN02"):
        assert set(each.channels) <= {0, 1}


def test_parameters_that_are_fed_are_not_judged(onnx_file: Write) -> None:
    fed = """
agraph (float[N, 2] x, float[2] s, float[2] v) => (float[N, 2] y)
<float[2] b = {1e30, -0.5}, float[2] m = {0.25, -4.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
"""
    assert not found(onnx_file(fed), "BN02")


DEPTHWISE = """
agraph (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {0.5, 0.5}, float[2] s = {1.0, 1.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.0, 0.0}, float[2] v = {0.0001, 4.0}>
{ [conv] h = Conv <group = 2> (x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }
"""


def test_int8_loses_the_channels_that_are_named(onnx_file: Write) -> None:
    (finding,) = found(onnx_file(DEPTHWISE), "BN022")
    assert finding.channels == (1,)
    assert finding.evidence["octaves"] == pytest.approx(np.log2(np.sqrt(4.00001 / 0.00011)))

    # What a per-tensor scale does to the folded weights, done here.
    weights = 0.5 * np.array([1 / np.sqrt(0.00011), 1 / np.sqrt(4.00001)])
    steps = np.round(weights / (weights.max() / 127))
    assert steps.tolist() == [127, 1]
    assert abs(steps[1] * weights.max() / 127 - weights[1]) > 0.3 * weights[1]


def test_int8_steps_and_output_are_options(onnx_file: Write) -> None:
    path = onnx_file(DEPTHWISE)

    assert not found(path, "BN022", steps=0.5)
    assert not found(path, "BN022", output=2.0)


def test_a_channel_that_gives_next_to_nothing_may_be_lost(onnx_file: Write) -> None:
    # Two live channels and a pruned one.
    text = """
agraph (float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y)
<float[3, 1, 1, 1] w = {0.5, 0.5, 0.5}, float[3] s = {1.0, 1.0, 0.0001},
 float[3] b = {0.5, -0.5, 0.0}, float[3] m = {0.0, 0.0, 0.0}, float[3] v = {1.0, 1.0, 1.0}>
{ [conv] h = Conv <group = 3> (x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }
"""
    assert not found(onnx_file(text), "BN022")


def test_weights_of_a_transposed_conv_are_taken_by_their_output_channels(onnx_file: Write) -> None:
    # [inputs, outputs / group, 1, 1] with two groups: output 1 of group 0 has the small weight.
    text = """
agraph (float[1, 2, 4, 4] x) => (float[1, 4, 4, 4] y)
<float[2, 2, 1, 1] w = {1.0, 0.001, 1.0, 1.0}, float[4] s = {1.0, 1.0, 1.0, 1.0},
 float[4] b = {0.5, -0.5, 0.0, 0.0}, float[4] m = {0.0, 0.0, 0.0, 0.0},
 float[4] v = {1.0, 1.0, 1.0, 1.0}>
{ [up] h = ConvTranspose <group = 2> (x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }
"""
    (finding,) = found(onnx_file(text), "BN022")
    assert finding.channels == (1,)
    assert "folded into ConvTranspose up" in finding.message


@pytest.mark.parametrize("turned", [0, 1])
def test_weights_of_a_gemm_are_taken_by_their_output_channels(
    onnx_file: Write, turned: int
) -> None:
    weights = "1.0, 1.0, 0.001, 0.001" if turned else "1.0, 0.001, 1.0, 0.001"
    text = f"""
agraph (float[1, 2] x) => (float[1, 2] y)
<float[2, 2] w = {{{weights}}}, float[2] s = {{1.0, 1.0}},
 float[2] b = {{0.5, -0.5}}, float[2] m = {{0.0, 0.0}}, float[2] v = {{1.0, 1.0}}>
{{ [fc] h = Gemm <transB = {turned}> (x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }}
"""
    (finding,) = found(onnx_file(text), "BN022")
    assert finding.channels == (1,)


def test_layers_of_subgraphs_and_functions_are_looked_at_where_they_stand(onnx_file: Write) -> None:
    text = """
<ir_version: 8, opset_import: ["": 17, "local": 1]>
agraph (float[1, 2, 4, 4] x, bool c) => (float[1, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {0.5, 0.5}, float[2] s = {1.0, 1.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.0, 0.0}, float[2] v = {0.0001, 4.0}>
{ t = If (c) <then_branch = then () => (float[1, 2, 4, 4] o)
    { [ci] hi = Conv <group = 2> (x, w)
      [inner] o = BatchNormalization(hi, s, b, m, v) },
    else_branch = other () => (float[1, 2, 4, 4] p) { p = Identity(x) }>
  [call] y = local.block (t, w, s, b, m, v) }
<domain: "local", opset_import: ["": 17]>
block (fx, fw, fs, fb, fm, fv) => (fy)
{ [cf] fh = Conv <group = 2> (fx, fw)
  [within] fy = BatchNormalization(fh, fs, fb, fm, fv) }
"""
    findings = found(onnx_file(text), "BN022")

    assert {each.layer for each in findings} == {"inner", "within"}
    assert all(each.scope for each in findings)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_predicted_is_what_onnx_runtime_does_to_a_cast_layer(seed: int) -> None:
    """Without fusion it casts back to float32: the first of the three ways, and rounded data."""
    draw = np.random.default_rng(seed)
    channels = 64
    sizes = 10.0 ** draw.uniform(-4, 4, (4, channels))
    signs = draw.choice([-1.0, 1.0], (3, channels))
    scale, bias, mean = (sizes[:3] * signs).astype("f")
    var = (sizes[3] ** 1.4).astype("f")
    names = {"s": scale, "b": bias, "m": mean, "v": var}
    model = parsed(
        f"agraph (float[N, {channels}] x) => (float[N, {channels}] y)\n"
        f"<{', '.join(f'float[{channels}] {name}' for name in names)}>\n"
        "{ [bn] y = BatchNormalization(x, s, b, m, v) }"
    )
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(names[tensor.name], tensor.name))
    wide = var.astype(np.float64)
    slope = scale / np.sqrt(wide + 1e-5)
    arrays = Arrays(
        scale=scale, bias=bias, mean=mean, var=var, slope=slope, intercept=bias - mean * slope
    )
    result = halved(arrays, float(np.float32(1e-5)), "float16")
    assert result is not None

    x = np.stack([mean + sign * np.sqrt(wide) for sign in (-1, 1)])
    y = slope * x + arrays.intercept
    with np.errstate(over="ignore"):
        half = ran(cast(model, np.float16), x.astype(np.float16), fused=False).reshape(y.shape)
    # What float16 cannot give is not the layer's doing.
    fits = (np.abs(x) < 60000).all(axis=0) & (np.abs(y) < 60000).all(axis=0)
    output = np.abs(slope) * np.sqrt(wide) + np.abs(bias)
    measure = np.maximum(output, np.sqrt(np.mean(output**2)) / 8)
    off = np.abs(half - y).max(axis=0)
    # Half a step of what comes out; and what float32 loses of a difference of large numbers.
    step = 2.0**-11 * (np.abs(y).max(axis=0) + off) + 2.0**-21 * np.abs(slope * mean) + 1e-7
    told = result.losses[CAST] * measure

    assert fits.any()
    assert (off[fits] <= 1.01 * told[fits] + step[fits]).all()
    loud = fits & (result.losses[CAST] > 0.25)
    assert loud.any()
    # Looked at in two of the points, where the worst may be another.
    assert (off[loud] > 0.25 * told[loud]).all()


def test_a_variance_that_vanishes_beside_epsilon_does_no_harm(onnx_file: Write) -> None:
    far = conv_bn("0.00000001")
    near = far.replace("-4.0", "0.0")
    half = cast(parsed(near), np.float16)
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in half.graph.initializer}
    assert stored["v"][1] == 0.0

    x = np.array([[0.25], [0.0001]], "f").reshape(1, 2, 1, 1)
    for fused in (True, False):
        told = ran(half, x.astype(np.float16), fused=fused)
        np.testing.assert_allclose(told, ran(parsed(near), x, fused=fused), rtol=2e-3)
    assert not found(onnx_file(near), "BN020")
    # Of data far from zero, float16 does not even keep what varies; that is told.
    assert found(onnx_file(far), "BN020")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("epsilon", [float("inf"), float("-inf"), float("nan")])
def test_an_epsilon_that_is_no_number_breaks_nothing(onnx_file: Write, epsilon: float) -> None:
    model = parsed(layer(var="inf, -inf"))
    model.graph.node[0].attribute[0].f = epsilon

    assert not found(onnx_file(model), "BN020", "BN021")


def some_layer(rng: np.random.Generator, *, dtype: type) -> tuple[Arrays, float]:
    """A layer of a few channels, from ordinary ones to such as no network has."""
    channels, wide = int(rng.integers(1, 5)), rng.uniform(0, 6)

    def size(low: float, high: float) -> np.ndarray:
        return 10 ** rng.uniform(low, high, channels)

    def sign() -> np.ndarray:
        return rng.choice([-1.0, 1.0], channels)

    var = size(-wide, wide)
    scale = size(-wide / 2, wide / 2) * sign()
    mean = np.sqrt(var) * size(-3, 1.5) * sign()
    bias = scale * size(-4, 2) * rng.choice([-1.0, 0.0, 1.0], channels)
    scale, bias, mean, var = (each.astype(dtype) for each in (scale, bias, mean, var))
    epsilon = float(10 ** rng.uniform(-12, -1))
    slope = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + epsilon)
    intercept = bias.astype(np.float64) - mean.astype(np.float64) * slope
    arrays = Arrays(scale=scale, bias=bias, mean=mean, var=var, slope=slope, intercept=intercept)
    return arrays, epsilon


@pytest.mark.parametrize("most", [0.25, 0.03])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_is_sound_at_a_glance_is_sound_by_each_way(dtype: str, most: float) -> None:
    rng = np.random.default_rng(20)
    sound = []
    for _ in range(2000):
        arrays, epsilon = some_layer(rng, dtype=rng.choice([np.float32, np.float64]))
        if is_sound(arrays, epsilon, dtype, most):
            result = halved(arrays, epsilon, dtype)
            assert result is not None
            sound.append(float(result.losses.max()))

    assert len(sound) > (200 if dtype == "float16" or most > 0.1 else 0)
    assert max(sound, default=0.0) <= most


@pytest.mark.parametrize(
    "change",
    [
        {"var": "1.0, nan"},
        {"var": "1.0, -0.000009999"},  # beside an epsilon of 1e-5 next to nothing is left
        {"var": "1.0, 0.0"},
        {"mean": "0.25, inf"},
        {"scale": "1.0, 0.0"},
        {"bias": "nan, 0.0"},
    ],
)
def test_what_is_odd_is_looked_at_with_care(change: dict[str, str]) -> None:
    plain = {"scale": "1.0, 2.0", "bias": "0.5, -0.5", "mean": "0.25, -4.0", "var": "1.0, 9.0"}

    def vectors(values: dict[str, str]) -> Arrays:
        four = {name: np.array(text.split(","), np.float32) for name, text in values.items()}
        with np.errstate(all="ignore"):
            slope = four["scale"].astype(np.float64) / np.sqrt(four["var"] + 1e-5)
            intercept = four["bias"] - four["mean"] * slope
        return Arrays(**four, slope=slope, intercept=intercept)

    assert is_sound(vectors(plain), 1e-5, "float16", 0.25)
    assert not is_sound(vectors({**plain, **change}), 1e-5, "float16", 0.25)
