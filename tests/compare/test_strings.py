"""Outputs that are no numbers: class names, and text that is passed on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from inspector.compare.measuring.difference import difference
from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare

ONE = (Verdict.IDENTICAL, Verdict.EQUIVALENT)


def labels(text: str, names: str = "abcd", *, ranks: str = "") -> onnx.ModelProto:
    """The name of the class whose score is largest, of scores that `text` computes from x."""
    stored = np.random.default_rng(3).standard_normal((4, 4)).astype(np.float32)
    words = ", ".join(f'"{each}"' for each in names)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        g (float[N, 4] x) => (string[{ranks or "N"}] y) {{
            {text}
            q = ArgMax <axis = 1, keepdims = {int(bool(ranks))}> (s)
            y = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1, 2, 3], values_strings = [{words}],
                default_string = "none"> (q)
        }}"""
    )
    for name, values in (("w", stored), ("wt", stored.T.copy()), ("b", stored[0].copy())):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


GEMM, PRODUCT = "s = Gemm <transB = 1> (x, wt, b)", "t = MatMul (x, w) s = Add (t, b)"


@pytest.mark.parametrize("ranks", ["", "N, 1"])
def test_one_network_of_two_exporters_gives_the_same_names(compare: Compare, ranks: str) -> None:
    assert compare(labels(GEMM, ranks=ranks), labels(PRODUCT, ranks=ranks)).verdict in ONE


@pytest.mark.parametrize("ranks", ["", "N, 1"])
def test_other_names_differ(compare: Compare, ranks: str) -> None:
    found = compare(labels(GEMM, ranks=ranks), labels(GEMM, "abdc", ranks=ranks))
    assert found.verdict is Verdict.DIFFERENT
    assert found.causes[0].what == "values_strings"
    assert found.outputs[0].difference.top1 is None


def test_a_name_that_no_input_gives_is_listed(compare: Compare) -> None:
    # The last class is never the largest.
    never = GEMM.replace("s =", "r =") + " s = Min (r, most)"
    pair = [labels(never, names) for names in ("abcd", "abce")]
    for model in pair:
        most = np.array([9, 9, 9, -1e30], np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(most, "most"))
    found = compare(*pair)
    assert found.verdict is Verdict.AGREES
    assert [each.what for each in found.harmless] == ["values_strings"]


def test_text_is_passed_on(compare: Compare) -> None:
    def passed(*stop: str) -> str:
        words = ", ".join(f'"{each}"' for each in stop)
        return f"""<ir_version: 10, opset_import: ["" : 21]> g (string[N] x) => (string[M] y) {{
            y = StringNormalizer <case_change_action = "NONE", is_case_sensitive = 1,
                stopwords = [{words}]> (x) }}"""

    # Nothing that is fed is among them; what is written alike is not what is meant.
    found = compare(passed("never, fed"), passed("never", "fed"))
    assert found.verdict is Verdict.AGREES
    assert [each.what for each in found.harmless] == ["stopwords"]
    assert compare(passed("never"), passed("never")).verdict is Verdict.IDENTICAL


def test_of_names_none_is_the_largest() -> None:
    left, right = np.array([["a", "b"]], object), np.array([["a", "c"]], object)
    assert difference(left, right).top1 is None
    assert difference(left, right).max_abs == 1.0


def test_bytes_that_are_no_text_differ(compare: Compare) -> None:
    def named(what: bytes) -> onnx.ModelProto:
        model = labels(GEMM)
        (encoder,) = (each for each in model.graph.node if each.op_type == "LabelEncoder")
        (default,) = (each for each in encoder.attribute if each.name == "default_string")
        default.s = what
        return model

    found = compare(named(b"\xff"), named(b"\xfe"))
    assert found.verdict is Verdict.AGREES
    assert [(each.left, each.right) for each in found.harmless] == [("\\udcff", "\\udcfe")]
    assert compare(named(b"\xff"), named(b"\xff")).verdict is Verdict.IDENTICAL
