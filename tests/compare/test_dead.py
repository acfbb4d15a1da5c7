"""A network whose outputs never move shows nothing of what lies in front of them."""

import numpy as np
import onnx
import onnx.parser
import pytest

from inspector.facts.comparison import Verdict
from inspector.flows import compare_files


def net(tmp_path, name: str, *, turned: bool, gain: float) -> str:
    """Square images through an optional transpose of height and width, and a dense layer."""
    turn = "t = Transpose <perm = [0, 1, 3, 2]> (y)" if turned else "t = Identity (y)"
    model = onnx.parser.parse_model(f"""
    <ir_version: 8, opset_import: ["" : 18]>
    agraph (float[N, 2, 4, 4] x) => (float[N, 3] o)
    {{
        y = Conv (x, w)
        {turn}
        f = Flatten (t)
        o = Gemm (f, k, b)
    }}
    """)
    rng = np.random.default_rng(3)
    values = {
        "w": rng.standard_normal((2, 2, 1, 1)),
        "k": rng.standard_normal((32, 3)) * gain,
        "b": rng.standard_normal(3),
    }
    for key, each in values.items():
        tensor = onnx.numpy_helper.from_array(each.astype(np.float32), key)
        model.graph.initializer.append(tensor)
    path = tmp_path / f"{name}.onnx"
    onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.0, Verdict.AGREES), (1.0, Verdict.DIFFERENT)], ids=["dead", "alive"]
)
def test_a_hidden_transpose_is_never_equivalent(gain, verdict, tmp_path):
    plain = net(tmp_path, "plain", turned=False, gain=gain)
    turned = net(tmp_path, "turned", turned=True, gain=gain)
    assert compare_files(plain, turned).verdict is verdict


def test_a_dead_model_is_identical_to_itself(tmp_path):
    dead = net(tmp_path, "dead", turned=False, gain=0.0)
    assert compare_files(dead, dead).verdict is Verdict.IDENTICAL


def folded_or_not(seed: int, *, folded: bool) -> onnx.ModelProto:
    """Dense layers and BatchNorms behind a ReLU that never fires: numbers made of weights alone."""
    rng = np.random.default_rng(seed)
    nodes = ["low = Add (x, far)", "h = Relu (low)"]
    values = {"far": np.full(1, -1e4, np.float32)}
    wide, depth = 24, 6
    for at in range(depth):
        columns = wide if at < depth - 1 else 3
        drawn = (
            rng.normal(0.0, wide**-0.5, (wide, columns)),
            rng.normal(0.0, 0.3, columns),
            rng.uniform(0.5, 1.5, columns),
            rng.normal(0.0, 0.3, columns),
            rng.normal(0.0, 0.3, columns),
            rng.uniform(0.4, 2.0, columns),
        )
        kernel, bias, scale, shift, mean, var = (each.astype(np.float32) for each in drawn)
        if folded:
            slope = scale / np.sqrt(var + np.float32(1e-5))
            kernel, bias = kernel * slope, (bias - mean) * slope + shift
        values |= {f"k{at}": kernel, f"b{at}": bias}
        nodes.append(f"d{at} = Gemm (h{at - 1 if at else ''}, k{at}, b{at})")
        if not folded:
            values |= {f"s{at}": scale, f"z{at}": shift, f"m{at}": mean, f"v{at}": var}
            nodes.append(
                f"n{at} = BatchNormalization <epsilon = 1.0e-5> (d{at}, s{at}, z{at}, m{at}, v{at})"
            )
        last = "o" if at == depth - 1 else f"h{at}"
        op = "Identity" if at == depth - 1 else "Relu"
        nodes.append(f"{last} = {op} ({'d' if folded else 'n'}{at})")
    body = "\n".join(nodes)
    model = onnx.parser.parse_model(f"""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[2, {wide}] x) => (float[2, 3] o)
    {{
        {body}
    }}
    """)
    for key, each in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(each, key))
    return model


@pytest.mark.parametrize("seed", [3, 5, 14, 16, 24, 28])
def test_outputs_that_inputs_hardly_move_have_the_rounding_of_weights(seed, tmp_path):
    paths = tmp_path / "kept.onnx", tmp_path / "folded.onnx"
    for path, folded in zip(paths, (False, True), strict=True):
        onnx.save(folded_or_not(seed, folded=folded), path)
    assert compare_files(*paths).verdict is Verdict.AGREES
    assert compare_files(*reversed(paths)).verdict is Verdict.AGREES


@pytest.mark.parametrize("seed", [3, 5])
def test_they_are_still_told_from_other_weights(seed, tmp_path):
    kept, moved = (folded_or_not(seed, folded=False) for _ in range(2))
    for each in moved.graph.initializer:
        if each.name == "s3":
            values = onnx.numpy_helper.to_array(each) * np.float32(1.0001)
            each.CopyFrom(onnx.numpy_helper.from_array(values, each.name))
    paths = tmp_path / "kept.onnx", tmp_path / "moved.onnx"
    for path, model in zip(paths, (kept, moved), strict=True):
        onnx.save(model, path)
    found = compare_files(*paths)
    assert found.verdict is Verdict.DIFFERENT
    assert [each.what for each in found.causes] == ["scale"]
