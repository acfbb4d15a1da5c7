"""Rules about BatchNorms that are lost, ground down, folded or not to be folded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from onnx_text import FEW

from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import CheckSettings, Finding, Severity
from inspector.flows.check import check_one

Write = Callable[..., Path]


def found(path: Path, *codes: str) -> tuple[Finding, ...]:
    file = check_one(path, CheckSettings(select=codes))
    assert not file.unreadable
    return file.findings


def net(body: str, extra: str = "", shape: str = "[1, 2, 6, 6]") -> str:
    tensors = FEW.replace(">", f", float[2, 3, 3, 3] w, float[2] c = {{0.5, -0.5}}{extra}>")
    return f"agraph (float[1, 3, 8, 8] x) => (float{shape} y)\n{tensors}\n{{ {body} }}"


def test_layers_of_one_cause_are_one_finding(onnx_file: Write) -> None:
    body = "[conv] h0 = Conv(x, w)"
    for at in range(6):
        body += f"\n[bn{at}] r{at} = BatchNormalization(h{at}, s, b, m, v)"
        body += f"\n[conv{at}] h{at + 1} = Conv(r{at}, k)"
    body += "\n[last] y = Identity(h6)"
    path = onnx_file(net(body, ", float[2, 2, 1, 1] k"))

    (finding,) = found(path, "BN033")
    assert finding.layer == ""
    assert finding.message.startswith("6 BatchNorms (bn0, bn1, bn2, bn3, …): could be folded")
    # Four parameters of two channels each; two channels of six by six for each of them.
    assert finding.evidence["stored"] == 6 * 8
    assert finding.evidence["multiplications"] == 6 * 2 * 6 * 6
    assert finding.evidence["names"] == "bn0, bn1, bn2, bn3, bn4, bn5"
    assert finding.severity is Severity.INFO
    assert finding.fixable


def test_a_cost_that_is_not_known_is_not_told(onnx_file: Write) -> None:
    text = net("[conv] h = Conv(x, w)\n[bn] y = BatchNormalization(h, s, b, m, v)")
    text = text.replace("float[1, 3, 8, 8] x", "float[N, 3, H, W] x")
    text = text.replace("[1, 2, 6, 6] y", "[N, 2, P, Q] y")

    (finding,) = found(onnx_file(text), "BN033")
    assert "multiplications" not in finding.message
    assert finding.evidence["sizes_known"] == 0


OBSTACLES = {
    "[conv] h = Conv(x, w)\n[relu] r = Relu(h)\n[bn] y = BatchNormalization(r, s, b, m, v)": (
        "Relu stands between it and Conv 'conv'"
    ),
    "[conv] h = Conv(x, w)\n[bn] n = BatchNormalization(h, s, b, m, v)\n[a] y = Add(n, h)": (
        "others read the output of Conv 'conv' too"
    ),
    "[d] k = Mul(w, w2)\n[conv] h = Conv(x, k)\n[bn] y = BatchNormalization(h, s, b, m, v)": (
        "the weights of Conv 'conv' are not fixed in the file"
    ),
}


@pytest.mark.parametrize("body", OBSTACLES)
def test_what_keeps_a_layer_from_being_folded_is_told(onnx_file: Write, body: str) -> None:
    text = net(body)
    if "w2" in body:
        text = text.replace("x) =>", "x, float[2, 3, 3, 3] w2) =>")

    (finding,) = found(onnx_file(text), "BN034")
    assert finding.layer == "bn"
    assert finding.message == f"bn: cannot be folded: {OBSTACLES[body]}"


def test_a_bias_that_is_added_behind_is_an_obstacle(onnx_file: Write) -> None:
    tensors = FEW.replace(">", ", float[3, 2] w, float[2] c = {0.5, -0.5}>")
    text = f"""agraph (float[N, 3] x) => (float[N, 2] y)
{tensors}
{{ [fc] h = MatMul(x, w)
  [bias] k = Add(h, c)
  [bn] y = BatchNormalization(k, s, b, m, v) }}"""

    (finding,) = found(onnx_file(text), "BN034")
    assert finding.message == "bn: cannot be folded: it follows MatMul and the Add of its bias"


@pytest.mark.parametrize(
    "body",
    [
        # The designs in which nobody expects it to fold.
        "[bn0] r = BatchNormalization(x2, s, b, m, v)\n[conv] y = Conv(r, k)",
        "[j] r = Concat <axis = 1> (x1, x1)\n[bn] y = BatchNormalization(r, s, b, m, v)",
        "[p] r = MaxPool <kernel_shape = [1, 1]> (x2)\n[bn] y = BatchNormalization(r, s, b, m, v)",
        "[p] r = Add(x2, x2)\n[bn] y = BatchNormalization(r, s, b, m, v)",
    ],
)
def test_what_stands_behind_no_linear_operator_is_no_surprise(onnx_file: Write, body: str) -> None:
    tensors = FEW.replace(">", ", float[2, 2, 1, 1] k>")
    inputs = "float[1, 1, 6, 6] x1, float[1, 2, 6, 6] x2"
    text = f"agraph ({inputs}) => (float[1, 2, 6, 6] y)\n{tensors}\n{{ {body} }}"

    assert not found(onnx_file(text), "BN034", "BN033")


def test_what_other_rules_tell_is_not_told_again(onnx_file: Write) -> None:
    # Training, fed and mismatched layers cannot be folded either; that is not what is wrong there.
    training = net(
        "[conv] h = Conv(x, w)\n[bn] y, rm, rv = BatchNormalization <training_mode = 1> "
        "(h, s, b, m, v)"
    )
    fed = net("[conv] h = Conv(x, w)\n[bn] y = BatchNormalization(h, s2, b, m, v)").replace(
        "x) =>", "x, float[2] s2) =>"
    )
    for at, text in enumerate((training, fed)):
        assert not found(onnx_file(text, f"{at}.onnx"), "BN033", "BN034")


def test_a_layer_written_out_is_found_by_itself(onnx_file: Write) -> None:
    text = """
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}, float e = {0.001}>
{ [sub] c = Sub(x, m)
  [eps] ve = Add(v, e)
  [sqrt] d = Sqrt(ve)
  [div] n = Div(c, d)
  [mul] sn = Mul(n, s)
  [add] y = Add(sn, b) }
"""
    (finding,) = found(onnx_file(text), "BN03")
    assert finding.rule == "BN032"
    assert finding.fixable
    assert finding.evidence["epsilon"] == pytest.approx(0.001)
    assert "2 channels" in finding.message


AFFINE = """
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[1, 2, 1, 1] "NAME/mul" = {1.5, 0.5}, float[1, 2, 1, 1] "NAME/sub" = {0.5, -0.5}>
{ ["NAME/mul_1"] h = Mul(x, "NAME/mul")
  ["NAME/add_1"] y = Add(h, "NAME/sub") }
"""


def test_an_affine_map_is_a_lost_layer_by_its_name_alone(onnx_file: Write) -> None:
    lost = onnx_file(AFFINE.replace("NAME", "net/batch_normalization"), "lost.onnx")
    plain = onnx_file(AFFINE.replace("NAME", "net/rescale"), "plain.onnx")

    (finding,) = found(lost, "BN030")
    assert finding.confidence is Confidence.LIKELY
    assert "scale, B, mean and var are lost" in finding.message
    assert not found(plain, "BN030")


def test_several_affine_maps_are_one_finding(onnx_file: Write) -> None:
    text = """
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[1, 2, 1, 1] f = {1.5, 0.5}, float[1, 2, 1, 1] g = {0.5, -0.5}>
{ ["a/batch_normalization/mul_1"] h = Mul(x, f)
  ["a/batch_normalization/add_1"] i = Add(h, g)
  [relu] r = Relu(i)
  ["b/batch_normalization/mul_1"] j = Mul(r, f)
  ["b/batch_normalization/add_1"] y = Add(j, g) }
"""
    (finding,) = found(onnx_file(text), "BN030")
    assert finding.evidence["layers"] == 2
    assert finding.message.startswith("2 BatchNorms (")


def test_a_trace_that_may_have_another_reason_is_information(onnx_file: Write) -> None:
    # Renumbered weights as torch leaves them, where all other names are kept: one hint, no more.
    text = """
agraph (float[1, 3, 8, 8] x) => (float[1, 2, 6, 6] y)
<float[2, 3, 3, 3] "onnx::Conv_11", float[2] "onnx::Conv_12" = {0.5, -0.5},
 float[2, 2, 1, 1] "head.weight", float[2] "head.bias" = {0.0, 1.0}>
{ [conv] "10" = Conv(x, "onnx::Conv_11", "onnx::Conv_12")
  [head] y = Conv("10", "head.weight", "head.bias") }
"""
    (finding,) = found(onnx_file(text), "BN031")
    assert finding.severity is Severity.INFO
    assert finding.confidence is Confidence.POSSIBLE
    assert finding.layer == "conv"
    assert "may have been folded" in finding.message


def test_the_name_of_a_folded_layer_is_told(onnx_file: Write) -> None:
    text = """
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] b = {0.5, -0.5}>
{ ["layer1/bn1/FusedBatchNormV3"] y = Conv(x, w, b) }
"""
    (finding,) = found(onnx_file(text), "BN031")
    assert finding.severity is Severity.WARNING
    assert finding.layer == "layer1/bn1/FusedBatchNormV3"
    assert "'layer1/bn1'" in finding.message


def test_long_names_do_not_fill_a_message(onnx_file: Write) -> None:
    # TensorFlow Lite's converter joins the names of all that it fuses.
    name = ";".join(f"model/batch_normalization_{at}/FusedBatchNormV3" for at in range(50))
    text = f"""
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y, float[N, 2, 6, 6] z)
<float[2, 3, 3, 3] w, float[2] b = {{0.5, -0.5}}>
{{ ["{name}"] y = Conv(x, w, b)
  ["{name}2"] z = Conv(x, w, b) }}
"""
    (finding,) = found(onnx_file(text), "BN031")
    assert len(finding.message) < 700


def test_names_from_files_stay_as_they_are(onnx_file: Write) -> None:
    # They are made harmless where they are shown; a rule must not stumble over them.
    import onnx
    from onnx_text import parsed

    model = parsed(net("[conv] h = Conv(x, w)\n[bn] y = BatchNormalization(h, s, b, m, v)"))
    name = "\x1b[31mbn\n::error::<b>"
    model.graph.node[1].name = name
    path = onnx_file(model)
    assert onnx.load(path).graph.node[1].name == name

    (finding,) = found(path, "BN033")
    assert finding.layer == name


def test_a_model_without_layers_has_nothing(onnx_file: Write) -> None:
    text = "agraph (float[N, 2] x) => (float[N, 2] y) { [r] y = Relu(x) }"

    assert not found(onnx_file(text), "BN02", "BN03", "BN04", "BN05")


CONVS = "\n".join(
    f"[conv{at}] h{at} = Conv(r{at}, k)\n[bn{at}] r{at + 1} = BatchNormalization(h{at}, s, b, m, v)"
    for at in range(4)
)


@pytest.mark.parametrize(
    ("last", "count"),
    [
        # A gate, with the bias in it or behind it; and what the model gives.
        ("[gate] g = Conv(r4, k, c)\n[sigmoid] a = Sigmoid(g)\ny = Mul(r4, a)", 0),
        ("[gate] g = Conv(r4, k)\ne = Add(g, d)\na = HardSigmoid(e)\ny = Mul(r4, a)", 0),
        ("[head] g = Conv(r4, k, c)\n[relu] y = Relu(g)", 0),
        # x · sigmoid(x) stands behind layers, and what is read on is none that the model gives.
        ("[odd] g = Conv(r4, k, c)\na = Sigmoid(g)\nu = Mul(g, a)\ny = Conv(u, k)", 1),
        ("[odd] g = Conv(r4, k, c)\nu = Relu(g)\ny = Conv(u, k)", 1),
    ],
)
def test_gates_and_heads_have_no_layer_to_lose(onnx_file: Write, last: str, count: int) -> None:
    more = ", float[2, 2, 1, 1] k, float[1, 2, 1, 1] d = {0.5, 1.0}"
    path = onnx_file(net(f"r0 = Conv(x, w)\n{CONVS}\n{last}", more))

    assert len(found(path, "BN031")) == count
