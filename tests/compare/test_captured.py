"""What a subgraph reads of the graph around it, moved otherwise on each side.

`hidden` takes the branch that reads it only beyond what is fed.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare
from tests.compare.test_told_apart import assert_one

HIDDEN, SHOWN = 1000.0, -1000.0
LIMITS = np.array([0.1, 0.2, 0.3, 0.4], np.float32)


def branched(moved: str, body: str, far: float) -> onnx.ModelProto:
    """`body` from x and u, which `moved` makes in the graph around, where x is beyond `far`."""
    made = onnx.parser.parse_graph(
        f"""g (float[4, 4] x) => (float[4, 4] y) {{
            {moved}
            most = ReduceMax <keepdims = 0> (x)
            above = Greater (most, far)
            z = If (above) <
                then_branch = a () => (float[4, 4] p) {{ {body} }},
                else_branch = e () => (float[4, 4] q) {{ q = Identity (x) }}
            >
            y = Neg (z)
        }}"""
    )
    stored = {"v": LIMITS, "far": np.float32(far), "a0": np.array([0]), "a1": np.array([1])}
    stored |= {"square": np.array([4, 4]), "cube": np.array([4, 2, 2])}
    used = {k: v for k, v in stored.items() if k == "far" or f" {k})" in moved or f"({k}" in moved}
    graph = helper.make_graph(
        made.node,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (4, 4))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in used.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


LEAST, TURNED, MADE = "p = Min (x, u)", "p = Tanh (u)", "p = Sub (x, u)"
ROW = "r = ReduceMax <axes = [0], keepdims = 0> (x) "


@pytest.mark.parametrize(
    ("one", "other", "body"),
    [
        ("u = Unsqueeze (v, a0)", "u = Unsqueeze (v, a1)", LEAST),
        ("u = Identity (x)", "u = Transpose (x)", TURNED),
        (ROW + "u = Unsqueeze (r, a0)", ROW + "u = Unsqueeze (r, a1)", MADE),
        (
            "u = Identity (x)",
            "c = Reshape (x, cube) d = Transpose <perm = [0, 2, 1]> (c) u = Reshape (d, square)",
            TURNED,
        ),
    ],
    ids=["stored", "turned", "computed", "shuffled"],
)
def test_what_a_branch_reads_is_held_together(
    compare: Compare, one: str, other: str, body: str
) -> None:
    for far, wanted in ((HIDDEN, Verdict.AGREES), (SHOWN, Verdict.DIFFERENT)):
        for pair in ((one, other), (other, one)):
            found = compare(*(branched(moved, body, far) for moved in pair))
            assert found.verdict is wanted, found.reason


@pytest.mark.parametrize(
    ("one", "other", "body"),
    [
        ("u = Unsqueeze (v, a0)", "w = Identity (v) u = Unsqueeze (w, a0)", LEAST),
        ("u = Transpose (x)", "u = Transpose <perm = [1, 0]> (x)", TURNED),
        ("u = Identity (x)", "t = Transpose (x) u = Transpose (t)", TURNED),
        (ROW + "u = Unsqueeze (r, a0)", ROW + "w = Identity (r) u = Unsqueeze (w, a0)", MADE),
    ],
)
@pytest.mark.parametrize("far", [HIDDEN, SHOWN])
def test_what_is_moved_alike_is_one(
    compare: Compare, one: str, other: str, body: str, far: float
) -> None:
    assert_one(compare, branched(one, body, far), branched(other, body, far))
