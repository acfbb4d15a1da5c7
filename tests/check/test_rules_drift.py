"""Rules that hold a release against the one before."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from inspector.facts.finding import CheckSettings, Finding, Severity
from inspector.flows.check import check_one

Write = Callable[..., Path]
CODES = ("BN050", "BN051", "BN052")


def found(path: Path, before: Path, *codes: str, **numbers: float) -> tuple[Finding, ...]:
    codes = codes or CODES
    settings = CheckSettings(select=codes, thresholds={codes[0]: numbers} if numbers else {})
    file = check_one(path, settings, baseline=before)
    assert not file.unreadable
    return file.findings


def release(
    names: Sequence[str] = ("bn",),
    *,
    scale: str = "1.0, 2.0",
    bias: str = "0.5, -0.5",
    mean: str = "0.25, -4.0",
    var: str = "1.0, 9.0",
    attributes: str = "",
) -> str:
    """Layers one behind the other, all of the same parameters."""
    channels = scale.count(",") + 1
    body = ""
    for at, name in enumerate(names):
        taken, given = f"h{at}" if at else "x", f"h{at + 1}" if at + 1 < len(names) else "y"
        body += f'["{name}"] {given} = BatchNormalization {attributes} ({taken}, s, b, m, v)\n'
    return f"""
agraph (float[N, {channels}] x) => (float[N, {channels}] y)
<float[{channels}] s = {{{scale}}}, float[{channels}] b = {{{bias}}},
 float[{channels}] m = {{{mean}}}, float[{channels}] v = {{{var}}}>
{{ {body} }}
"""


@pytest.fixture
def compared(onnx_file: Write) -> Callable[..., tuple[Finding, ...]]:
    def compare(now: str, before: str, *codes: str, **numbers: float) -> tuple[Finding, ...]:
        paths = onnx_file(now, "now.onnx"), onnx_file(before, "before.onnx")
        return found(*paths, *codes, **numbers)

    return compare


Compare = Callable[..., tuple[Finding, ...]]


def test_without_a_baseline_nothing_is_told(onnx_file: Write) -> None:
    path = onnx_file(release(mean="1e6, nan"))

    assert not check_one(path, CheckSettings(select=CODES)).findings


def test_a_release_does_not_differ_from_itself(compared: Compare) -> None:
    for text in (
        release(["a", "b"]),
        release(mean="nan, inf", var="-1.0, 0.0", scale="inf, nan"),
        release(attributes="<epsilon = 0.0>", var="0.0, 0.0"),
    ):
        assert not compared(text, text)


def test_distances_are_in_the_units_that_are_told(compared: Compare) -> None:
    now = release(mean="0.25, 2.0", var="8.0, 9.0", scale="1.0, 4.0", bias="0.5, -0.5")
    (finding,) = compared(now, release())

    assert finding.rule == "BN050"
    assert finding.layer == "bn"
    assert finding.channels == (0, 1)
    # Six over a standard deviation of three; eight times; two over the root mean square of 1, 2.
    assert finding.evidence["mean"] == pytest.approx(2.0, rel=1e-4)
    assert finding.evidence["var"] == pytest.approx(3.0, rel=1e-4)
    assert finding.evidence["scale"] == pytest.approx(2 / 2.5**0.5)
    assert "B" not in finding.evidence
    assert "mean has moved by up to 2 standard deviations in channel 1 of 2" in finding.message
    assert "var has moved by up to 3 octaves in channel 0 of 2" in finding.message


def test_bounds_are_options(compared: Compare) -> None:
    now = release(mean="0.25, 2.0")

    assert not compared(now, release(), "BN050", mean=3.0)
    assert compared(release(mean="0.25, -4.1"), release(), "BN050", mean=0.01)


def test_dead_channels_do_not_drift(compared: Compare) -> None:
    # A variance of nothing that became another nothing: epsilon is what divides, then and now.
    before = release(var="1.0, 1e-30", mean="0.25, 1e-9")
    assert not compared(release(var="1.0, 1e-20", mean="0.25, -1e-9"), before)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("parameter", ["scale", "bias", "mean", "var"])
def test_what_is_no_number_on_one_side_has_moved(
    compared: Compare, parameter: str, value: str
) -> None:
    broken = release(**{parameter: f"1.0, {value}"})
    sound = release(**{parameter: "1.0, 1.0"})

    (finding,) = compared(broken, sound)
    assert finding.channels == (1,)


def test_lengths_that_differ_are_a_matter_of_form(compared: Compare) -> None:
    three = release(
        scale="1.0, 2.0, 1.0", bias="0.5, 0.5, 0.5", mean="0., 0., 0.", var="1., 1., 1."
    )
    (finding,) = compared(three, release())

    assert finding.rule == "BN052"
    assert finding.message == "bn: the number of channels was 2 in the baseline and is 3"


def test_a_network_trained_anew_is_one_finding(compared: Compare) -> None:
    names = [f"block{at}/bn" for at in range(12)]
    (finding,) = compared(release(names, mean="0.25, 5.0"), release(names))

    assert finding.layer == ""
    assert finding.message.startswith("12 of 12 BatchNorms (block0/bn, ")
    assert finding.evidence["layers"] == 12


def test_renumbered_layers_are_paired_by_their_order(compared: Compare) -> None:
    before = release(["BatchNormalization_4", "BatchNormalization_7"])
    now = release(["BatchNormalization_7", "BatchNormalization_10"])

    assert not compared(now, before)
    (finding,) = compared(now.replace("-4.0", "40.0"), before, "BN052", "BN050")[:1]
    assert finding.rule == "BN050"


def test_numbers_of_another_count_are_not_paired(compared: Compare) -> None:
    before = release(["bn_4", "bn_7", "bn_9"])
    now = release(["bn_5", "bn_7"], mean="100.0, 100.0")

    # Nobody can tell whether bn_7 is bn_7.
    findings = compared(now, before)
    assert {each.rule for each in findings} == {"BN052"}
    assert {each.evidence["change"] for each in findings} == {"lost", "added"}


def test_names_that_say_something_are_paired_by_name(compared: Compare) -> None:
    before = release(["stem", "left", "right"])
    now = release(["left", "stem"])

    (finding,) = compared(now, before)
    assert finding.rule == "BN052"
    assert finding.message == "1 of the baseline's BatchNorms is not here: right"


def test_epsilon_and_mode_are_warnings_and_momentum_is_none(compared: Compare) -> None:
    names = ["a", "b", "c"]
    before = release(names, attributes="<epsilon = 0.001, momentum = 0.99>")
    now = release(names, attributes="<epsilon = 0.00001, momentum = 0.9>")
    told = {each.evidence["before"]: each for each in compared(now, before, "BN051")}

    assert set(told) == {"0.001", "0.99"}
    assert told["0.001"].severity is Severity.WARNING
    assert told["0.99"].severity is Severity.INFO
    # One change of the whole network is one finding.
    assert told["0.001"].message.startswith("3 BatchNorms (a, b, c): epsilon was 0.001")


def test_a_mode_that_changes_is_told(compared: Compare) -> None:
    before = release()
    now = before.replace("y = BatchNormalization", "y, n, w = BatchNormalization")
    now = now.replace("BatchNormalization  (", "BatchNormalization <training_mode = 1> (")

    (finding,) = compared(now, before, "BN051")
    assert finding.message == "bn: the mode was inference in the baseline and is training"


def test_an_epsilon_of_rounding_is_the_same(compared: Compare) -> None:
    # Keras' ResNets have 1.001e-5.
    before, now = (release(attributes=f"<epsilon = {each}>") for each in (1e-5, 1.001e-5))

    assert not compared(now, before)
    assert compared(now, before, "BN051", relative=0.0001)


def test_a_layer_that_was_folded_is_told_to_have_been(compared: Compare) -> None:
    layer = """
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>
{ [conv] h = Conv(x, w)
  ["net/bn1"] y = BatchNormalization(h, s, b, m, v) }
"""
    folded = """
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] b = {0.5, -0.5}>
{ ["net/bn1/FusedBatchNormV3"] y = Conv(x, w, b) }
"""
    (finding,) = compared(folded, layer)
    assert finding.rule == "BN052"
    assert "net/bn1; 1 of them left traces of having been folded" in finding.message


def test_a_layer_of_another_form_is_compared_by_slope_and_intercept(compared: Compare) -> None:
    layer = """
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2] s = {3.0, 1.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.0, 0.0},
 float[2] v = {4.0, 4.0}>
{ ["net/batch_normalization"] y = BatchNormalization <epsilon = 0.0> (x, s, b, m, v) }
"""
    affine = """
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[1, 2, 1, 1] f = {1.5, 0.5}, float[1, 2, 1, 1] g = {0.5, -0.5}>
{ ["net/batch_normalization/mul_1"] h = Mul(x, f)
  ["net/batch_normalization/add_1"] y = Add(h, g) }
"""
    (form,) = compared(affine, layer)
    assert form.rule == "BN052"
    assert "its form was native in the baseline and is affine" in form.message
    told = compared(affine.replace("1.5, 0.5", "-1.5, 0.5"), layer)
    assert [each.rule for each in told] == ["BN050", "BN052"]
    assert "slope has moved" in told[0].message


def test_the_corpus_pairs(corpus: Path) -> None:
    """Two exports of one network do not drift; a trained and an untrained one do."""
    with (corpus / "pairs.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["bn_a"])]
    assert len(rows) > 8
    for row in rows:
        findings = found(corpus / row["a"], corpus / row["b"])
        different = "statistics differ" in row["evidence"] or "outputs differ" in row["evidence"]
        different = different or "random dummy nets" in row["evidence"]
        assert bool(findings) is different, row["relation"]
