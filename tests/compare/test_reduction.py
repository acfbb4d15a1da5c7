"""One mean over height and width, in all the ways exporters write it."""

import numpy as np
import onnx.parser
import pytest

from inspector.facts.comparison import Verdict
from inspector.flows import compare_files

FIRST = "ReduceMean <keepdims = 0> (y, axes)"
SPELLINGS = {
    "kept, from the back": "m = ReduceMean <keepdims = 1> (y, back)\n o = Flatten (m)",
    "a pool": "m = GlobalAveragePool (y)\n o = Flatten (m)",
    "another order": "o = ReduceMean <keepdims = 0, noop_with_empty_axes = 1> (y, turned)",
}


def written(reduction: str, tmp_path, name: str) -> str:
    text = f"""
    <ir_version: 8, opset_import: ["" : 18]>
    agraph (float[N, 3, 8, 6] x) => (float[N, 4] o)
    <int64[2] axes = {{2, 3}}, int64[2] back = {{-2, -1}}, int64[2] turned = {{3, 2}},
     int64[2] others = {{1, 2}}>
    {{
        y = Conv (x, w)
        {reduction}
    }}
    """
    model = onnx.parser.parse_model(text)
    kernel = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "w"))
    path = tmp_path / f"{name}.onnx"
    onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_one_mean_is_equivalent_however_it_is_written(spelling, tmp_path):
    left = written(f"o = {FIRST}", tmp_path, "left")
    right = written(spelling, tmp_path, "right")
    found = compare_files(left, right)
    assert found.verdict is Verdict.EQUIVALENT, (found.reason, found.harmless)


def test_a_sum_is_no_mean(tmp_path):
    left = written(f"o = {FIRST}", tmp_path, "left")
    right = written("o = ReduceSum <keepdims = 0> (y, axes)", tmp_path, "right")
    assert compare_files(left, right).verdict is Verdict.DIFFERENT


def test_another_reduction_of_a_pool_is_named(tmp_path):
    left = written("m = GlobalAveragePool (y)\n o = Flatten (m)", tmp_path, "left")
    right = written("m = GlobalMaxPool (y)\n o = Flatten (m)", tmp_path, "right")
    found = compare_files(left, right)
    assert found.verdict is Verdict.DIFFERENT
    assert [cause.what for cause in found.causes] == ["GlobalAveragePool against GlobalMaxPool"]
