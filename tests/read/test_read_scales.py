"""Scales of which onnx's shape inference makes negative lengths, and ends the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import onnx.parser
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("scale", ["nan", "inf", "1.7e38"])
@pytest.mark.parametrize("kept", ["initializer", "Constant"])
def test_a_scale_beyond_sense(tmp_path: Path, scale: str, kept: str) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 8, 8] x) => (float[N, C, H, W] y)
        <int64[1] from = {1}, int64[1] to = {5}, int64[1] axes = {2}, int64[1] step = {1}>
        { z = Resize (x, "", s) y = Slice (z, from, to, axes, step) }"""
    )
    scales = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, [4], [1.0, 1.0, 1.0, 1.0])
    scales.float_data[:] = [float(scale)] * 4
    if kept == "initializer":
        model.graph.initializer.append(scales)
    else:
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["s"], value=scales))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    # In a process of its own: what it is about ends one.
    code = (
        "import sys; from inspector.read.open import open_model; "
        "from inspector.read.shapes import with_inferred_shapes; "
        "print(len(with_inferred_shapes(open_model(sys.argv[1])).graph.nodes))"
    )
    found = subprocess.run(  # noqa: S603  # our own interpreter and code
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert found.returncode == 0, found.stderr
