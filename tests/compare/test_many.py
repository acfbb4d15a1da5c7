"""Other values in most layers: one difference for each parameter, and each one proved."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from inspector.compare.causes.many import MOST_LAYERS
from inspector.facts.comparison import OTHERS, VALUES, CauseKind, Proof, Verdict
from tests.compare.conftest import Compare

WIDE = 4


def deep(seed: int, layers: int) -> onnx.ModelProto:
    """Dense layers with a BatchNorm behind each, of weights that keep the scale."""
    rng = np.random.default_rng(seed)
    nodes, values, last = [], {}, "x"
    for at in range(layers):
        turned, _ = np.linalg.qr(rng.normal(size=(WIDE, WIDE)))
        values[f"k{at}"], values[f"b{at}"] = turned, rng.normal(0.0, 0.3, WIDE)
        for name in ("s", "v"):
            values[f"{name}{at}"] = rng.uniform(0.8, 1.2, WIDE)
        for name in ("z", "m"):
            values[f"{name}{at}"] = rng.normal(0.0, 0.1, WIDE)
        nodes.append(f"d{at} = Gemm ({last}, k{at}, b{at})")
        last = f"n{at}" if at < layers - 1 else "y"
        nodes.append(f"{last} = BatchNormalization (d{at}, s{at}, z{at}, m{at}, v{at})")
    body = "\n".join(nodes)
    model = onnx.parser.parse_model(f"""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[N, {WIDE}] x) => (float[N, {WIDE}] y)
    {{
        {body}
    }}
    """)
    for key, each in values.items():
        tensor = onnx.numpy_helper.from_array(each.astype(np.float32), key)
        model.graph.initializer.append(tensor)
    return model


def moved(model: onnx.ModelProto, *letters: str) -> onnx.ModelProto:
    """The same with a tenth added to every tensor whose name begins so."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for each in copy.graph.initializer:
        if each.name[0] in letters:
            values = onnx.numpy_helper.to_array(each) * np.float32(1.1)
            each.CopyFrom(onnx.numpy_helper.from_array(values, each.name))
    return copy


ROLES = {"k": "kernel", "b": "bias", "s": "scale", "z": "B", "m": "mean", "v": "var"}


@pytest.mark.parametrize("letters", ["v", "mv", "kbszmv"])
def test_another_training_is_a_cause_for_each_parameter(compare: Compare, letters: str) -> None:
    layers = MOST_LAYERS + 1
    plain = deep(0, layers)

    found = compare(plain, moved(plain, *letters))

    assert found.verdict is Verdict.DIFFERENT
    assert {each.what for each in found.causes} == {ROLES[each] for each in letters}
    assert len(found.causes) == len(letters)
    for each in found.causes:
        assert (each.left, each.right, each.proof) == (VALUES, OTHERS, Proof.NECESSARY)
        assert each.right_where.startswith(f"{layers} layers, from ")


def test_few_layers_are_told_one_by_one(compare: Compare) -> None:
    plain = deep(0, 5)

    found = compare(plain, moved(plain, "v"))

    assert [each.what for each in found.causes] == ["var"] * 5
    assert all(each.proof is Proof.NECESSARY for each in found.causes)


def test_a_fault_beside_another_training_is_its_own_cause(compare: Compare) -> None:
    plain = deep(0, MOST_LAYERS + 1)
    other = moved(plain, "v")
    norm = [each for each in other.graph.node if each.op_type == "BatchNormalization"][7]
    norm.attribute.append(onnx.helper.make_attribute("epsilon", 0.1))

    found = compare(plain, other)

    assert {(each.kind, each.what) for each in found.causes} == {
        (CauseKind.PARAMETER, "var"),
        (CauseKind.EPSILON, "epsilon"),
    }
    assert all(each.proof is Proof.NECESSARY for each in found.causes)


def filled(value: float) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[N, 2] x) => (float[N, 2] y)
    <int64[1] two = {{2}}>
    {{
        c = ConstantOfShape <value = float[1] {{{value}}}> (two)
        y = Mul (x, c)
    }}
    """)


def test_a_tensor_in_an_attribute_is_shown_and_proved(compare: Compare) -> None:
    found = compare(filled(0.5), filled(0.75))

    (cause,) = found.causes
    assert (cause.kind, cause.what) == (CauseKind.ATTRIBUTE, "value")
    assert (cause.left, cause.right) == ("float32 [1] of 0.5", "float32 [1] of 0.75")
    assert cause.proof is Proof.NECESSARY
