"""Ignoring one of several layers that a finding is about, whichever rule has found them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx_text import FEW, parsed

from inspector.facts.finding import CheckedFile, CheckSettings, Ignore
from inspector.flows.check import check_one

STILL = "float[2] m = {0.0, 0.0}, float[2] v = {1.0, 1.0}"


def checked(
    text: str, folder: Path, code: str, *layers: str, before: str = "", names: str = "model"
) -> CheckedFile:
    """What a rule finds where some layers are ignored."""
    path = folder / f"{names}.onnx"
    onnx.save(parsed(text), path)
    baseline = None
    if before:
        baseline = folder / "before.onnx"
        onnx.save(parsed(before), baseline)
    ignores = tuple(
        Ignore(rules=(code,), layers=each, reason=f"{each} is known") for each in layers
    )
    return check_one(path, CheckSettings(select=(code,), ignores=ignores), baseline=baseline)


def row(names: str, attributes: str = "", values: str = FEW) -> str:
    """BatchNorms one behind the other."""
    layers, data = [], "x"
    for at, name in enumerate(names):
        out = "y" if at == len(names) - 1 else f"h{at}"
        layers.append(f"[{name}] {out} = BatchNormalization {attributes} ({data}, s, b, m, v)")
        data = out
    body = "\n".join(layers)
    return f"agraph (float[N, 2] x) => (float[N, 2] y)\n{values}\n{{ {body} }}"


BEHIND_CONVS = f"""
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2, 2, 1, 1] w, {FEW[1:]}
{{ [c1] h1 = Conv(x, w)
  [a] h2 = BatchNormalization(h1, s, b, m, v)
  [c2] h3 = Conv(h2, w)
  [b] h4 = BatchNormalization(h3, s, b, m, v)
  [c3] h5 = Conv(h4, w)
  [c] y = BatchNormalization(h5, s, b, m, v) }}
"""
BEHIND_RELUS = BEHIND_CONVS.replace("BatchNormalization(h1", "BatchNormalization(r1").replace(
    "[a]", "r1 = Relu(h1)\n[a]"
)
BEHIND_RELUS = BEHIND_RELUS.replace("[b]", "r3 = Relu(h3)\n[b]").replace("tion(h3", "tion(r3")
BEHIND_RELUS = BEHIND_RELUS.replace("[c]", "r5 = Relu(h5)\n[c]").replace("tion(h5", "tion(r5")
UNTOUCHED = row("abc", values=f"<float[2] s = {{1.0, 2.0}}, float[2] b = {{0.5, -0.5}}, {STILL}>")
OTHERS = FEW.replace("0.25, -4.0", "9.25, -40.0")

GROUPED = [
    pytest.param("BN015", UNTOUCHED, "", id="BN015"),
    pytest.param("BN033", BEHIND_CONVS, "", id="BN033"),
    pytest.param("BN034", BEHIND_RELUS, "", id="BN034"),
    pytest.param("BN043", row("abc", "<epsilon = 0.9>"), "", id="BN043"),
    pytest.param("BN045", row("abc", "<momentum = 0.1>"), "", id="BN045"),
    pytest.param("BN019", row("abc"), "", id="BN019"),
    pytest.param("BN050", row("abcdefghij", values=OTHERS), row("abcdefghij"), id="BN050"),
    pytest.param("BN051", row("abc", "<epsilon = 0.001>"), row("abc"), id="BN051"),
    pytest.param("BN052", row("zy"), row("zyabc"), id="BN052"),
]


@pytest.mark.parametrize(("code", "text", "before"), GROUPED)
def test_a_layer_can_be_taken_out_of_what_many_have_in_common(
    code: str, text: str, before: str, tmp_path: Path
) -> None:
    whole = checked(text, tmp_path, code, before=before)
    (one,) = whole.findings
    count = one.evidence["layers"]
    assert isinstance(count, int)

    file = checked(text, tmp_path, code, "b", before=before)

    (left,) = file.findings
    assert left.evidence["layers"] == count - 1
    assert len(left.layers) == count - 1
    assert "b" not in left.layers
    assert {each.reason for each in file.ignored} <= {"b is known"}
    assert "b" not in str(left.evidence.get("names", "")).split(", ")


@pytest.mark.parametrize(("code", "text", "before"), GROUPED)
def test_with_all_of_them_ignored_nothing_is_left(
    code: str, text: str, before: str, tmp_path: Path
) -> None:
    file = checked(text, tmp_path, code, "?", before=before)

    assert not file.findings
    (each,) = file.ignored
    assert each.reason == "? is known"


def test_what_is_said_is_said_of_those_that_are_left(tmp_path: Path) -> None:
    (finding,) = checked(BEHIND_CONVS, tmp_path, "BN033", "a", "c").findings

    assert finding.layer == "b"
    assert "could be folded into c2, which would save 8 stored numbers" in finding.message


def test_each_reason_keeps_its_layers(tmp_path: Path) -> None:
    file = checked(BEHIND_CONVS, tmp_path, "BN033", "a", "c")

    assert [(each.finding.layer, each.reason) for each in file.ignored] == [
        ("a", "a is known"),
        ("c", "c is known"),
    ]


def test_of_two_alike_with_one_ignored_nothing_is_left_to_say(tmp_path: Path) -> None:
    file = checked(row("ab"), tmp_path, "BN019", "b")

    assert not file.findings
    assert [each.reason for each in file.ignored] == ["b is known"]


def test_mixed_modes_are_told_of_the_layers_that_are_not_ignored(tmp_path: Path) -> None:
    text = (
        row("abc")
        .replace("[c] y =", "[c] y, rm, rv =")
        .replace("(h1, s, b, m, v)", "<training_mode = 1> (h1, s, b, m, v)")
    )
    (finding,) = checked(text, tmp_path, "BN004", "a").findings
    assert "1 of 2 BatchNorms" in finding.message

    file = checked(text, tmp_path, "BN004", "c")
    assert not file.findings
    assert len(file.ignored) == 1


def test_another_layers_name_changes_nothing(tmp_path: Path) -> None:
    file = checked(BEHIND_CONVS, tmp_path, "BN033", "c1")

    assert file.findings == checked(BEHIND_CONVS, tmp_path, "BN033").findings
    assert not file.ignored
