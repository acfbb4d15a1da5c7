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
