"""Attributes that hold more than is shown of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from inspector.compare.graphs import attributes
from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare


def encoded(last: float, *, taken: bool = False) -> onnx.ModelProto:
    """What a table says of x where s is beyond 1000, or everywhere; `last` is its last value."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 4]>
        g (int64[N] x, float[1] s) => (float[N] y, float[N] z)
        <float far = {{{-1000000 if taken else 1000}}}, float none = {{0}}> {{
            t = ai.onnx.ml.LabelEncoder (x)
            c = Greater (s, far)
            y = Where (c, t, none)
            z = Cast <to = 1> (x)
        }}"""
    )
    (encoder,) = (each for each in model.graph.node if each.op_type == "LabelEncoder")
    for name, values in (
        ("keys_tensor", np.arange(1, 7)),
        ("values_tensor", np.array([1, 2, 3, 4, 5, last], np.float32)),
        ("default_tensor", np.zeros(1, np.float32)),
    ):
        encoder.attribute.append(
            onnx.helper.make_attribute(name, onnx.numpy_helper.from_array(values))
        )
    return model


@pytest.mark.parametrize("characters", [0, 8])
def test_tensors_are_told_apart_by_all_of_their_digest(
    compare: Compare, monkeypatch: pytest.MonkeyPatch, characters: int
) -> None:
    monkeypatch.setattr(attributes, "_SHOWN", characters)
    found = compare(encoded(6), encoded(7))
    assert found.verdict is Verdict.AGREES
    (cause,) = found.harmless
    assert cause.what == "values_tensor"
    assert cause.left != cause.right
    assert len(cause.left) < 40 or not characters
    assert compare(encoded(6), encoded(6)).verdict is Verdict.IDENTICAL


def test_they_are_the_cause_where_inputs_show_it(compare: Compare) -> None:
    found = compare(encoded(6, taken=True), encoded(7, taken=True))
    assert found.verdict is Verdict.DIFFERENT
    assert [each.what for each in found.causes] == ["values_tensor"]
