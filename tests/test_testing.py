from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from inspector.errors import UnreadableError
from inspector.facts.comparison import Verdict
from inspector.testing import assert_equivalent
from tests.compare import branches
from tests.compare.branches import attribute, behind, changed, network


def test_equivalent_models_pass_in_every_form(tmp_path: Path) -> None:
    folded = changed(network(), branches.folded)
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    for left in (path, str(path), network(), network().SerializeToString()):
        assert assert_equivalent(left, folded).verdict is Verdict.EQUIVALENT


def test_a_difference_fails_with_a_message_worth_reading() -> None:
    wrong = changed(network(), attribute("bn2", "epsilon", 1e-3))
    with pytest.raises(AssertionError) as caught:
        assert_equivalent(network(), wrong)
    message = str(caught.value)
    assert message.startswith("the models are not equivalent\n")
    assert "epsilon 1e-05 against 0.001 in bn2" in message
    assert "different: outputs differ by up to" in message
    assert "\x1b" not in message


def test_agreement_is_enough_only_where_that_is_asked_for() -> None:
    other = changed(network(), behind("sigmoid", "Relu"))  # a Sigmoid is positive
    with pytest.raises(AssertionError, match="agrees"):
        assert_equivalent(network(), other)
    assert assert_equivalent(network(), other, allow_agrees=True).verdict is Verdict.AGREES


def test_what_cannot_be_told_fails() -> None:
    endless = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,3] x) => (float[N,3] y) <int64 n = {4611686018427387904}, bool c = {1}> {
        y = Loop(n, c, x) <body = b (int64 i, bool go, float[N,3] s) => (bool on, float[N,3] t) {
            on = Identity(go)
            t = Relu(s)
        }>
    }"""
    model = onnx.parser.parse_model(endless)
    with pytest.raises(AssertionError, match="undecided"):
        assert_equivalent(model, model, timeout=2.0)


def test_options_are_passed_on() -> None:
    wrong = changed(network(), attribute("bn2", "epsilon", 1e-3))
    assert_equivalent(network(), wrong, atol=1.0, allow_agrees=True)
    with pytest.raises(TypeError, match="tolerance"):
        assert_equivalent(network(), wrong, tolerance=1.0)  # type: ignore[call-arg]  # no option


def test_broken_files_are_errors_and_no_assertions(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError):
        assert_equivalent(tmp_path / "none.onnx", network())
